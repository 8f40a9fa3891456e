"""Two depthwise convolutions, of frames and over time, in strips on chip.

The interpreter's result is the reference here; whole networks are compared with the PyTorch
oracle in test_networks.py.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from compiler import interpreter
from compiler.backend.build import generate
from compiler.emit.transfers import tensor_of
from compiler.ir import Chain, CompilerError, Convolution, Graph, verify
from compiler.lower import compare, refusal
from compiler.passes.chain import FUSE_CHAINS
from compiler.policy import Policy
from compiler.regions import choice
from compiler.regions.plan import Links
from compiler.regions.sizing import candidates
from hw.arch.isa import Array, ArrayMode, Load, Store
from reports.tables import described
from sim.functional import MachineError
from sim.functional.hazards import HazardError
from tests.compiler.backend.harness import (
    CONFIGS,
    convolution,
    execute,
    feeds_of,
    kind,
    network,
)
from tests.compiler.backend.test_rates import cycles

BASE = CONFIGS["base"]


def stages(
    shape,
    *,
    window=(3, 3),
    pads=((1, 1), (1, 1)),
    stride=(1, 1),
    taps=3,
    time=(1, 1),
    time_stride=1,
    signed=False,
    seed=0,
):
    """Both convolutions, and the types of x, what lies between, and y."""
    rng = np.random.default_rng(seed)
    source, channels = kind(shape, 0.05, 11, signed), shape[0]
    first, inner = convolution(
        rng, source, channels, (1, *window), name="s", output="i", groups=channels,
        pad_begin=(0, pads[0][0], pads[1][0]), pad_end=(0, pads[0][1], pads[1][1]),
        stride=(1, *stride), signed=not signed,
    )  # fmt: skip
    second, result = convolution(
        rng, inner, channels, (taps, 1, 1), name="t", inputs=("i",), groups=channels,
        pad_begin=(time[0], 0, 0), pad_end=(time[1], 0, 0), stride=(time_stride, 1, 1),
    )  # fmt: skip
    return (first, second), (source, inner, result)


def apart(shape, **options) -> Graph:
    ops, (source, inner, result) = stages(shape, **options)
    return network({"x": source}, ops, {"i": inner, "y": result})


def joined(shape, **options) -> Graph:
    """A graph of one pair."""
    ops, (source, inner, result) = stages(shape, **options)
    op = Chain(name="pair", inputs=("x",), output="y", stages=ops, between=(inner,))
    return network({"x": source}, [op], {"y": result})


CASES = {
    "strips": ("tiny", (10, 4, 9, 8), {}),
    "passes and chunks": ("tiny", (13, 4, 7, 9), {"signed": True}),
    "strided": ("tiny", (9, 5, 8, 7), {"stride": (2, 2), "time_stride": 2}),
    "causal": ("tiny", (5, 3, 7, 9), {"taps": 2, "time": (1, 0)}),
    "unpadded": ("tiny", (5, 5, 7, 9), {"time": (0, 0), "pads": ((0, 0), (0, 0))}),
    "lines alone": ("tiny", (7, 5, 6, 5), {"window": (1, 3), "pads": ((0, 0), (1, 1))}),
    "columns alone": ("tiny", (7, 5, 6, 5), {"window": (3, 1), "pads": ((1, 1), (0, 0))}),
    "cols beyond rows": ("wide", (40, 4, 9, 8), {}),
    "cols beyond rows, strided": ("wide", (20, 8, 14, 14), {"stride": (2, 2), "time_stride": 2}),
    "many blocks": ("base", (88, 4, 7, 7), {}),
    "many blocks, strided": ("base", (88, 4, 14, 14), {"stride": (2, 2), "time_stride": 2}),
    "one strip": ("base", (20, 2, 3, 3), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_pairs(case):
    name, shape, options = CASES[case]
    run = execute(joined(shape, **options), CONFIGS[name])
    assert run.differing() == []
    # The map between is not stored.
    target = next(t for t in run.program.tensors if t.name == "y")
    ends = range(target.address, target.address + target.layout.nbytes)
    assert all(i.dram in ends for i in run.program.instructions if isinstance(i, Store))


def every_plan(op, graph, config):
    lanes = config.lane_block
    links = Links.of(op, *(tensor_of(graph.type(name), lanes) for name in "xy"))
    return list(candidates(links, config, Policy()))


def take(monkeypatch, plan):
    """Let this plan be the only one, of tensors wherever they lie."""

    def ranked(links, config, policy):
        return [dataclasses.replace(plan, links=links)]

    monkeypatch.setattr(choice, "ranked", ranked)


@pytest.mark.parametrize("name", ["tiny", "wide", "base"])
def test_every_plan_is_right(name, monkeypatch):
    graph = joined((36, 3, 7, 6), stride=(2, 1))
    (op,) = graph.ops
    config = CONFIGS[name]
    plans = every_plan(op, graph, config)
    assert len({(plan.lines, plan.chunks) for plan in plans}) == len(plans) > 5
    assert any(len(plan.chunks) == 1 for plan in plans) or name == "tiny"
    assert any(len(plan.chunks) > 1 for plan in plans)
    for plan in plans:
        take(monkeypatch, plan)
        assert execute(graph, config).differing() == [], plan.describe()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(sorted(CONFIGS)))
def test_random_pairs(data, name):
    draw = data.draw
    window = draw(st.sampled_from([(3, 3), (3, 3), (2, 3), (3, 1), (1, 3)]))
    pads = tuple((draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))) for k in window)
    taps = draw(st.sampled_from([2, 3]))
    time = (draw(st.integers(0, taps - 1)), draw(st.integers(0, taps - 1)))
    shape = (
        draw(st.sampled_from([2, 5, 17, 40])),
        draw(st.integers(max(2, taps - sum(time)), 6)),
        draw(st.integers(3, 9)),
        draw(st.integers(3, 9)),
    )
    options = {
        "window": window, "pads": pads, "taps": taps, "time": time,
        "stride": draw(st.sampled_from([(1, 1), (2, 2), (2, 1), (1, 2), (3, 3)])),
        "time_stride": draw(st.sampled_from([1, 2])),
        "signed": draw(st.booleans()), "seed": draw(st.integers(0, 1 << 16)),
    }  # fmt: skip
    try:
        run = execute(joined(shape, **options), CONFIGS[name])
    except CompilerError as error:
        assume("no strip of" not in str(error))
        raise
    assert run.differing() == []


# Twins: what makes a pair right, taken away.


def changed(graph, config, change):
    """The program of a graph with every ARRAY changed."""
    program = generate(graph, config)
    found = tuple(change(i) if isinstance(i, Array) else i for i in program.instructions)
    assert found != program.instructions
    return dataclasses.replace(program, instructions=found)


def test_weights_of_the_other_stage_show():
    graph, config = joined((8, 4, 9, 8)), CONFIGS["tiny"]
    beats = config.weight_block_beats

    def change(i: Array) -> Array:
        assert i.mode == ArrayMode.DEPTHWISE
        return i if i.window_y > 1 else dataclasses.replace(i, weight=i.weight - beats)

    assert execute(graph, config, changed(graph, config, change)).differing() == ["y"]


def test_lines_that_are_not_kept_show():
    graph, config = joined((8, 4, 9, 8)), CONFIGS["tiny"]

    def change(i: Array) -> Array:
        return i if i.resume or i.window_y == 1 else dataclasses.replace(i, keep=0, line=0)

    with pytest.raises(MachineError, match="line-buffer entry"):
        execute(graph, config, changed(graph, config, change))


def test_positions_of_the_next_strip_are_waited_for():
    """The second stage of a strip comes behind the first stage of the next one, in other rows."""
    graph, config = joined((8, 4, 9, 8)), CONFIGS["tiny"]
    program = generate(graph, config)
    arrays = [i for i in program.instructions if isinstance(i, Array)]
    order = [i.window_y == 1 for i in arrays]
    assert order.index(True) > 1 and order[-1], "S, S, T, S, T ... T"
    moved = next(i for i in arrays if i.window_y == 1)
    rows = {i.activation for i in arrays if i.window_y == 1}
    assert len(rows) > 1

    def change(i: Array) -> Array:
        return dataclasses.replace(i, activation=moved.activation) if i.window_y == 1 else i

    try:
        found = execute(graph, config, changed(graph, config, change)).differing()
    except (MachineError, HazardError):
        return
    assert found == ["y"]


# What is joined, and what it costs


def test_the_pass_joins_what_it_may():
    graph = apart((6, 4, 9, 10))
    outcome = FUSE_CHAINS.run(graph, lambda *_: None)
    verify(outcome.graph)
    (op,) = outcome.graph.ops
    assert isinstance(op, Chain) and op.by_block and set(outcome.graph.values) == {"x", "y"}
    assert op.macs([graph.type("x")]) == graph.macs()
    feeds = feeds_of(graph)
    before = interpreter.run(graph, feeds)["y"]
    assert np.array_equal(interpreter.run(outcome.graph, feeds)["y"], before)


def test_what_the_pass_leaves():
    def ops(graph, accept=lambda *_: None):
        return FUSE_CHAINS.run(graph, accept).graph.ops

    graph = apart((6, 4, 9, 10))
    shown = dataclasses.replace(graph.outputs[0], value="i", onnx_name="i")
    both = dataclasses.replace(graph, outputs=(*graph.outputs, shown))
    assert ops(both) == both.ops, "the map between is an output"
    assert ops(graph, lambda *_: "no") == graph.ops
    dense, (source, inner, _) = stages((6, 4, 9, 10))
    op, result = convolution(np.random.default_rng(1), inner, 6, (3, 1, 1), inputs=("i",))
    other = network({"x": source}, [dense[0], op], {"i": inner, "y": result})
    assert ops(other) == other.ops, "the second one is dense"


def test_refused_where_it_does_not_fit_or_is_slower(monkeypatch):
    def why(graph, config, policy):
        (op,) = graph.ops
        return refusal(op, graph.input_types(op), graph.type("y"), config, policy)

    large = joined((44, 16, 28, 28))
    assert why(large, CONFIGS["tiny"], Policy()) == "no strip of its 2 operators fits tiny_direct"
    small = joined((44, 4, 7, 7))
    assert why(small, BASE, Policy()) is None
    slow = joined((4, 4, 7, 7), taps=5, time=(2, 2))
    assert why(slow, BASE, None) == "t does not run in mode DEPTHWISE"
    right = choice.cost

    def dear(*arguments):
        return dataclasses.replace(right(*arguments), cycles=10**9)

    monkeypatch.setattr(compare, "region_cost", dear)
    compare._part_cost.cache_clear()
    assert "one after another" in why(small, BASE, Policy())
    assert why(small, BASE, None) is None
    compare._part_cost.cache_clear()


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((44, 16, 28, 28), {}),
        ((88, 8, 14, 14), {}),
        ((88, 16, 28, 28), {"stride": (2, 2), "time_stride": 2}),
        ((352, 2, 4, 4), {}),
    ],
)
def test_faster_than_both_apart(shape, options):
    pair, both = joined(shape, **options), apart(shape, **options)
    program = generate(pair, BASE)
    found, before = cycles(program), cycles(generate(both, BASE))
    assert found < before
    estimate = program.layers[0].tiling["estimate"]
    assert abs(estimate - found) <= 0.07 * found
    bytes_of = {
        name: sum(
            i.beats * int(np.prod(i.counts)) for i in each.instructions if isinstance(i, Load)
        )
        for name, each in (("pair", program), ("both", generate(both, BASE)))
    }
    assert bytes_of["pair"] < bytes_of["both"]
    assert isinstance(both.ops[0], Convolution)


def test_estimates_rank_plans(monkeypatch):
    """Of the best ten, each is near what it takes, and so is the first to the best of them."""
    graph = joined((176, 4, 7, 7))
    (op,) = graph.ops
    ranked = sorted(every_plan(op, graph, BASE), key=lambda plan: plan.cost.merit("cycles"))
    found = []
    for plan in ranked[:10]:
        take(monkeypatch, plan)
        found.append(cycles(generate(graph, BASE)))
        assert abs(plan.cost.cycles - found[-1]) <= 0.08 * found[-1], plan.describe()
    assert found[0] <= 1.02 * min(found)


def test_constants_of_three_chunks_are_on_chip(monkeypatch):
    """Where a chunk is one strip: with two, the next operand comes late."""
    graph = joined((176, 8, 14, 14), stride=(2, 2), time_stride=2)
    (op,) = graph.ops
    whole = next(p for p in every_plan(op, graph, BASE) if len(p.strips) == p.chunks[0][1] == 1)
    assert whole.held == (3,)
    taken = []
    for held in (3, 2):
        plan = dataclasses.replace(whole, held=(held,))
        take(monkeypatch, plan)
        taken.append(cycles(generate(graph, BASE)))
    assert taken[0] < 0.8 * taken[1]
    assert all(p.held <= (2,) for p in every_plan(op, graph, BASE) if len(p.strips) > 1)


def test_a_report_shows_its_tiling():
    """Sizes that are no box of results have names of their own."""
    (layer,) = generate(joined((44, 4, 9, 9)), BASE).layers
    assert "accumulator" not in layer.tiling
    text = described({key: layer.tiling[key] for key in layer.tiling if key != "hfa"})
    assert re.search(r"group s \d+ · t \d+", text) and re.search(r"blocks \d+", text), text
