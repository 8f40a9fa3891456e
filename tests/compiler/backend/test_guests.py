"""Classifiers are computed while the layer before them still makes the others of their operands."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.backend import guests
from compiler.backend.build import emit, lay_out
from compiler.emit import weave
from compiler.foreseen import foreseen
from compiler.ir import AxisMean
from compiler.policy import Policy
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array
from hw.arch.numerics import Mean
from tests.compiler.backend.group_cases import COMMON
from tests.compiler.backend.harness import CONFIGS, convolution, execute, kind, network

MACHINES = {**CONFIGS, "hfa": AcceleratorConfig.load("tiny")}
TINY = MACHINES["tiny"]


def classifier(channels=32, features=96, classes=60, shape=(1, 6, 6), kernel=(1, 1, 1), seed=0):
    """A convolution, the mean over its positions, and a product with many weights."""
    rng = np.random.default_rng(seed)
    x = kind((channels, *shape))
    pads = tuple(n // 2 for n in kernel)
    conv, made = convolution(
        rng, x, features, kernel, name="conv", output="map", pad_begin=pads, pad_end=pads
    )
    pooled = kind((features, 1, 1, 1))
    arithmetic = Mean.of(made.scale, pooled.scale, pooled.zero_point, int(np.prod(shape)))
    mean = AxisMean(
        name="mean", inputs=("map",), output="pooled", axes=(1, 2, 3), mean=arithmetic,
        low=0, high=255,
    )  # fmt: skip
    product, scores = convolution(
        rng, pooled, classes, (1, 1, 1), name="product", inputs=("pooled",), output="scores"
    )
    results = {"map": made, "pooled": pooled, "scores": scores}
    return network({"x": x}, [conv, mean, product], results)


def built(graph, config, invited=True):
    """Its program, with or without guests."""
    settled = lay_out(graph, config, Policy())
    return emit(settled if invited else dataclasses.replace(settled, guests=()), config)


CASES = {
    "pointwise": {},
    "tiles of the host": {"kernel": (1, 3, 3), "shape": (2, 9, 7)},
    "lanes that are no whole blocks": {"features": 93, "classes": 58},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("machine", ["tiny", "hfa"])
def test_woven_in(machine, name):
    graph, config = classifier(**CASES[name]), MACHINES[machine]
    program, apart = built(graph, config), built(graph, config, invited=False)
    host, *others = program.layers
    assert host.op.endswith(" + mean + conv") and [*host.tiling["woven in"]] == ["mean", "product"]
    assert all(layer.first == layer.last == host.last for layer in others)
    assert sum(layer.macs for layer in program.layers) == graph.macs()
    assert host.roofline_cycles <= foreseen(program, config).cycles
    assert foreseen(program, config).cycles < foreseen(apart, config).cycles
    assert execute(graph, config, program).differing() == []


def test_of_much_more_weights_than_the_memory_holds():
    """On 256 multipliers the port is at work while the array is: most of the classifier's time."""
    config = MACHINES["base"]
    graph = classifier(320, 1280, 1000, (1, 7, 7))
    program, apart = built(graph, config), built(graph, config, invited=False)
    most = 0.8 * foreseen(apart, config).cycles
    assert foreseen(program, config).cycles < most
    assert execute(graph, config, program).differing() == []


@settings(parent=COMMON, max_examples=25)
@given(
    st.integers(24, 40),
    st.integers(66, 100),
    st.integers(60, 64),
    st.tuples(st.integers(1, 2), st.integers(2, 8), st.integers(2, 8)),
    st.sampled_from([(1, 1, 1), (1, 3, 3), (3, 1, 1)]),
    st.sampled_from(["tiny", "hfa"]),
)
def test_equal_whatever_is_woven(channels, features, classes, shape, kernel, machine):
    graph = classifier(channels, features, classes, shape, kernel)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compiler.backend.build.foreseen", _fewest_first())
        program = built(graph, MACHINES[machine])
    assert execute(graph, MACHINES[machine], program).differing() == []


def _fewest_first():
    """Lets what is woven be taken however long it takes."""
    numbers = iter(range(10, 0, -1))
    return lambda program, config: dataclasses.replace(
        foreseen(program, config), cycles=next(numbers)
    )


def test_a_guest_that_passes_what_it_reads_is_noticed(monkeypatch):
    """The twin: guests meet nothing of the host."""

    def blind(code, begin, config):
        loom = weave._Loom(
            code[:begin], code[begin:], weave.Times([0] * begin, [0] * begin), config
        )
        loom._behind = [each[:0] for each in loom._behind]
        return [code[number] for number in loom.order()]

    monkeypatch.setattr(guests, "_better", blind)
    monkeypatch.setattr("compiler.backend.build.foreseen", _fewest_first())
    graph = classifier()
    assert execute(graph, TINY, built(graph, TINY)).differing() == ["scores"]


def test_an_order_that_is_no_better_is_not_taken(monkeypatch):
    monkeypatch.setattr(guests, "woven", lambda host, rest, *_: [*range(len(host) + len(rest))])
    graph = classifier()
    program = built(graph, TINY)
    assert [layer.op for layer in program.layers] == ["conv", "mean", "conv"]


def test_accumulators_and_weights_are_shared_out():
    """The host's ARRAYs use neither the rows nor the half of the memory that the guest has."""
    program = built(classifier(), TINY)
    rows = TINY.memory.accumulator_rows
    arrays = [i for i in program.instructions if isinstance(i, Array)]
    guest = [i for i in arrays if i.counts[0] == 1]
    host = [i for i in arrays if i.counts[0] > 1]
    least = min(i.accumulator % rows for i in guest)
    assert guest and host
    assert all(i.accumulator % rows + np.prod(i.counts[:4]) <= least for i in host)
    places = [i.weight for i in guest]
    beats = max(places) - min(places) + np.prod(guest[0].counts[3:]) * TINY.weight_block_beats
    assert beats <= TINY.weight_beats // 2
    last = max(n for n, i in enumerate(arrays) if i.counts[0] > 1)
    woven_in = arrays[: last + 1]
    assert any(i in guest for i in woven_in), "products stand between those of the host"


def test_few_weights_stay_apart():
    """They are on chip before the layer before ends."""
    settled = lay_out(classifier(classes=30), TINY, Policy())
    assert settled.guests == ()


def test_nothing_is_invited_where_operators_stay_apart():
    assert lay_out(classifier(), TINY).guests == ()
    assert len(lay_out(classifier(), TINY, Policy()).guests) == 1


def test_a_mean_that_others_read_is_no_matter():
    """Its own STORE stays; what is compared is what it was."""
    graph = classifier()
    port = dataclasses.replace(graph.outputs[0], value="pooled", onnx_name="pooled")
    graph = dataclasses.replace(graph, outputs=(*graph.outputs, port))
    run = execute(graph, TINY, built(graph, TINY))
    assert run.differing() == [] and "pooled" in {t.name for t in run.program.tensors}
