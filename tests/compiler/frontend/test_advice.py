"""What `check` says of lanes that stay idle, from the network's own figures."""

from __future__ import annotations

import itertools
import json

import onnx
import pytest

from compiler.__main__ import main
from tests.models.net import Net


def network(path, channels):
    """Convolutions 3×3 one after the other, on 16×16 pixels."""
    net = Net()
    x = net.start((1, channels[0], 16, 16))
    for inner, outer in itertools.pairwise(channels):
        y = net.op("Conv", [x, net.weight((outer, inner, 3, 3))], pads=[1, 1, 1, 1])
        x = net.through(y)
    net.end(net.op("Relu", [x]))
    onnx.save(net.model(), path)
    return str(path)


def test_a_first_layer_of_three_channels(tmp_path, capsys):
    path = network(tmp_path / "a.onnx", (3, 16, 16))
    assert main(["check", path, "--json"]) == 0
    (hint,) = json.loads(capsys.readouterr().out)["hints"]
    assert (hint["channels"], hint["lanes"]) == ([3, 16], [16, 16])
    padded = 16 * 16 * 9  # pixels × taps: blocks of 16 × 16 a cycle, for each of the two layers
    assert hint["cycles"] == round(padded * (1 - 3 / 16))
    assert hint["share"] == pytest.approx((1 - 3 / 16) / 2)
    assert main(["check", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "3 → 16 channels stand in 16 → 16 lanes, so 81% of the multipliers are idle" in lines[0]
    assert lines[-1].endswith("0 findings") and len(lines) == 2


def test_full_lanes_have_no_hint(tmp_path, capsys):
    assert main(["check", network(tmp_path / "a.onnx", (16, 32)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hints"] == []
    small = network(tmp_path / "b.onnx", (4, 4))
    assert main(["check", small, "--config", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hints"] == [], "on an array of 4 × 4 they are full"
