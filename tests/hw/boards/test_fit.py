"""What `hw fit` proposes fits, and nothing of it can be doubled."""

from __future__ import annotations

import json

import pytest

from hw.__main__ import main
from hw.arch.boards import BOARDS
from hw.arch.config import AcceleratorConfig, ConfigError
from hw.boards.fit import propose, steps
from hw.boards.resources import KINDS, predict, total
from hw.synthesis import ECP5_85F

BOARD = BOARDS["ulx3s_85f"]


def fits(config, share):
    used = total(predict(config, BOARD.name).values())
    return all(getattr(used, kind) <= share * getattr(ECP5_85F, kind) for kind in KINDS)


@pytest.mark.parametrize("name", ["ecp5_85k", "ecp5_85k_direct", "tiny"])
@pytest.mark.parametrize("share", [0.7, 0.8])
def test_a_proposal_fits_and_its_double_does_not(name, share):
    base = AcceleratorConfig.load(name)
    config = propose(BOARD, base, share).config
    assert fits(config, share)
    larger = list(steps(config))
    assert len(larger) > 3 and not any(fits(other, share) for other in larger)
    assert config.features == base.features
    assert config.array.activation_bits == base.array.activation_bits


def test_multipliers_come_first():
    """No array of more multipliers fits, whatever lanes and memories; less room, fewer of them."""
    base = AcceleratorConfig.load("ecp5_85k_direct")
    shares = (0.45, 0.7, 0.95)
    sizes = [propose(BOARD, base, share).config.array.multipliers for share in shares]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    # A multiplier of the array is a block of the part, and some more are used elsewhere.
    assert all(size < share * 156 for size, share in zip(sizes, shares, strict=True))


def test_nothing_fits_into_a_tenth():
    with pytest.raises(ConfigError, match="nothing with the features of tiny fits ulx3s_85f"):
        propose(BOARD, AcceleratorConfig.load("tiny"), 0.1)


def test_the_command_writes_a_configuration(tmp_path, capsys):
    out = tmp_path / "largest.yaml"
    assert main(["fit", "--board", "ulx3s_85f", "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(BOARD.title) and "around" in said
    expected = propose(BOARD, AcceleratorConfig.load("ecp5_85k"))
    assert AcceleratorConfig.load(out) == expected.config
    assert main(["fit", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert AcceleratorConfig.from_mapping(content["config"]) == expected.config
    assert content["used"]["lut"] == sum(cells["lut"] for cells in content["units"].values())
    assert main(["fit", "--share", "1.5"]) == 2
    assert "--share is 1.5; it must lie in 0..1" in capsys.readouterr().err
