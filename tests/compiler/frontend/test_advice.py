"""What `check` says that could be cheaper: differences of estimates of the back end."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import onnx
import pytest

from compiler import advice
from compiler.__main__ import main
from compiler.onnx_import import import_onnx
from compiler.pipeline import back_end_accepts, build, optimize
from hw.arch.config import AcceleratorConfig
from tests.compiler.backend.test_attention_pool import apart, joined
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


def told(path, capsys, config="base"):
    """The hints of a file."""
    assert main(["check", path, "--config", config, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["hints"]


def cycles(path, folder):
    """What the back end estimates for a whole network."""
    return build(path, AcceleratorConfig.load("base"), folder).cycles_estimated


def test_a_first_layer_of_three_channels(tmp_path, capsys):
    path = network(tmp_path / "a.onnx", (3, 16, 16))
    (hint,) = told(path, capsys)
    single = network(tmp_path / "single.onnx", (3, 16))
    alone = cycles(Path(single), tmp_path / "b")  # its Relu is a clamp of the convolution
    assert hint["cycles"] == alone, "as the back end packs it, not three lanes of sixteen"
    assert hint["better"] == 16 * 16 * 9 * 3 // 16, "pixels × taps, 3 of 16 rows of all columns"
    assert main(["check", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "3 → 16 channels do not fill lanes of 16 → 16" in lines[0]
    assert lines[0].endswith(f"about {hint['better']:,} cycles in place of {hint['cycles']:,}")
    assert lines[-1].endswith("0 findings") and len(lines) == 2


def pooled(path, *, kernel=2, function="", separable=False):
    """A convolution, a function, a pool; or a separable block with a pool inside."""
    net = Net()
    x = net.start((1, 16, 32, 32))
    groups = 16 if separable else 1
    weight = net.weight((16, 16 // groups, 3, 3))
    x = net.through(net.op("Conv", [x, weight], pads=[1, 1, 1, 1], group=groups))
    if function:
        x = net.through(net.op(function, [x]))
    pads = [kernel // 2 if kernel > 2 else 0] * 4
    x = net.op("MaxPool", [x], kernel_shape=[kernel] * 2, strides=[2, 2], pads=pads)
    x = net.through(x) if separable else x
    if separable:
        x = net.op("Conv", [x, net.weight((16, 16, 1, 1))])
    net.end(x)
    onnx.save(net.model(), path)
    return str(path)


@pytest.mark.parametrize(
    ("changed", "better", "words"),
    [
        ({"kernel": 3}, {"kernel": 2}, "a pool of 1×2×2 without padding is free behind"),
        ({"function": "Sigmoid"}, None, "a pool behind Sigmoid; between"),
    ],
)
def test_pools_that_cost(tmp_path, capsys, changed, better, words):
    path = pooled(tmp_path / "a.onnx", **changed)
    (hint,) = told(path, capsys)
    assert words in hint["words"] and hint["better"] < hint["cycles"]
    assert hint["cycles"] == cycles(Path(path), tmp_path / "a"), "the whole network is these"
    if better is not None:
        other = pooled(tmp_path / "b.onnx", **better)
        assert hint["better"] == cycles(Path(other), tmp_path / "b"), "as it is when it is changed"
        assert told(other, capsys) == []


def test_a_pool_that_keeps_a_chain_from_forming(tmp_path, capsys, monkeypatch):
    path = pooled(tmp_path / "a.onnx", separable=True)
    found = []
    monkeypatch.setattr("compiler.advice.LEAST", 0.0)
    config = AcceleratorConfig.load("base")
    graph = import_onnx(Path(path)).graph
    graph = optimize(graph, True, back_end_accepts(config))
    assert [type(op).__name__ for op in graph.ops] == ["Convolution", "Convolution"]
    for op in graph.ops:
        found += advice._pool_last(graph, op, config, back_end_accepts(config))
    (hint,) = found
    assert "keeps it and" in hint.words and "from being one chain" in hint.words
    assert hint.cycles == cycles(Path(path), tmp_path / "a")
    said = told(path, capsys)
    assert bool(said) == (hint.gain > 0), "and it is said where it gains"


def test_full_lanes_have_no_hint(tmp_path, capsys):
    assert main(["check", network(tmp_path / "a.onnx", (16, 32)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hints"] == []
    small = network(tmp_path / "b.onnx", (4, 4))
    assert main(["check", small, "--config", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hints"] == [], "on an array of 4 × 4 they are full"


def test_attention_pools_are_no_pools():
    config = AcceleratorConfig.load("base")
    graph = joined(apart((40, 4, 14, 14)))
    assert [type(op).__name__ for op in graph.ops] == ["AttentionPool"]
    assert advice.hints(graph, config, back_end_accepts(config)) == ()
