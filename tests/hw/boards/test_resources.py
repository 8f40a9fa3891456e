"""The model of resources: block RAMs by shape, cells by unit, within 10 % of synthesis."""

from __future__ import annotations

import copy
import json

import pytest

from hw.arch.boards import BOARDS
from hw.arch.config import AcceleratorConfig
from hw.boards.resources import FITTED, KINDS, block_rams, grouped, predict, total
from hw.synthesis import Resources
from scripts import resources

LIMIT = 0.1
KEPT = resources.counted()["configurations"]


def off(name, coefficients=None):
    """The largest error of a configuration's prediction, over the kinds of cells."""
    there = total(resources.units(KEPT[name]).values())
    guess = total(predict(resources.configuration(name), coefficients=coefficients).values())
    return max(abs(getattr(guess, kind) / getattr(there, kind) - 1) for kind in KINDS)


@pytest.mark.parametrize(
    ("width", "depth", "blocks"),
    [
        (36, 512, 1),  # as wide as a block is
        (36, 1024, 2),
        (64, 4096, 16),  # four bits each; 4096 rows of nine bits are no block's shape
        (1, 16384, 1),
        (1, 16385, 2),
        (120, 1024, 7),
        (18, 128, 1),
        (64, 16, 0),  # sixteen memory cells of tables cost less than two blocks
    ],
)
def test_block_rams_follow_from_a_memorys_shape(width, depth, blocks):
    assert block_rams(width, depth) == blocks


@pytest.mark.parametrize("name", resources.HELD_OUT)
def test_what_is_held_out_is_predicted(name):
    """Within 10 % of what synthesis counted, each kind of cell; and not with other coefficients."""
    assert KEPT[name]["fingerprint"] == f"{resources.configuration(name).fingerprint:016x}", (
        f"{name} has changed: python -m scripts.resources {name}"
    )
    assert off(name) <= LIMIT
    wrong = copy.deepcopy(json.loads(FITTED.read_text())["coefficients"])
    for unit in wrong.values():
        unit["lut"] = {term: 1.25 * value for term, value in unit["lut"].items()}
    assert off(name, wrong) > LIMIT


def test_nothing_is_fitted_to_what_is_held_out():
    samples = {resources.configuration(name).fingerprint for name in resources.SAMPLES}
    held = {resources.configuration(name).fingerprint for name in resources.HELD_OUT}
    assert len(held) == 5 and not samples & held


def test_coefficients_are_those_of_the_counts():
    """Fitted anew, and from counts of which one unit is doubled."""
    kept = json.loads(FITTED.read_text())
    content = resources.counted()
    again = resources.fitted(content)
    for name in resources.HELD_OUT:
        assert off(name, again["coefficients"]) == pytest.approx(off(name), abs=1e-3)
    assert again["around"] == kept["around"] and set(again["around"]) == set(BOARDS)
    for name in resources.SAMPLES:
        cells = content["configurations"][name]["units"]["array"]
        cells["lut"] *= 2
    doubled = resources.fitted(content)["coefficients"]
    assert off("wide", doubled) > off("wide") + 0.05


def test_units_add_up_to_the_whole():
    units = {
        "array": Resources(10, 4, 1, 2),
        "queue_load": Resources(3, 2, 0, 0),
        "queue_array": Resources(4, 2, 0, 0),
        "fetch": Resources(5, 1, 0, 0),
    }
    rows = grouped(units, Resources(30, 10, 1, 2))
    assert rows["array"] == units["array"] and rows["queues"] == Resources(7, 4, 0, 0)
    assert rows["rest"] == Resources(13, 2, 0, 0), "fetch, and what lies between units"


def test_the_board_has_a_row():
    config = AcceleratorConfig.load("ecp5_85k")
    rows = predict(config, "ulx3s_85f")
    assert {**predict(config), "around": rows["around"]} == rows and rows["around"].lut > 1000


@pytest.mark.large
def test_a_core_that_was_never_counted(tmp_path):
    """A small one without depthwise windows, mapped now."""
    content = resources.sample(4, 4, (4, 2, 0), ("vector",))
    config = AcceleratorConfig.from_mapping({"name": "small", **content})
    assert f"{config.fingerprint:016x}" not in {entry["fingerprint"] for entry in KEPT.values()}
    there = resources.count(config, tmp_path / "work", tmp_path / "cache")
    guess = predict(config)
    for kind in ("lut", "ff", "bram"):
        whole = sum(cells[kind] for cells in there["units"].values())
        assert sum(getattr(cells, kind) for cells in guess.values()) == pytest.approx(
            whole, rel=LIMIT
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", resources.HELD_OUT)
def test_counts_are_those_of_synthesis(name, tmp_path):
    """Half an hour for all five; units alone and the whole differ by up to a percent."""
    config = resources.configuration(name)
    there = resources.units(resources.count(config, tmp_path / "work", tmp_path / "cache"))
    kept = total(resources.units(KEPT[name]).values())
    for kind in KINDS:
        whole = getattr(total(there.values()), kind)
        assert getattr(kept, kind) == pytest.approx(whole, rel=0.02), kind
