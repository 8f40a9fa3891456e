"""Chains of stages that no pattern names: the engine takes what its stages do not refuse.

The interpreter's result is the reference here, as in test_chains.py.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from compiler.backend.build import generate
from compiler.emit.transfers import tensor_of
from compiler.ir import Chain, Graph
from compiler.lower import refusal
from compiler.ops.chain import PATTERNS, kinds
from compiler.passes import chain as passes
from compiler.passes.chain import FUSE_CHAINS
from compiler.policy import Policy
from compiler.regions.plan import Links
from compiler.regions.sizing import candidates
from compiler.regions.suits import unsuitable
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Store
from sim.backend import Options
from sim.backends import make_backend
from sim.functional import MachineError
from sim.functional.hazards import HazardError
from sim.host import start_image
from tests.compiler.backend.harness import CONFIGS, convolution, execute, feeds_of, kind, network
from tests.compiler.backend.hfa_cases import CONFIGS as HFA
from tests.compiler.backend.test_chains import separate
from tests.compiler.backend.test_depthwise_pairs import take
from tests.ladder.compare import differences

MACHINES = {**CONFIGS, "transforms": AcceleratorConfig.load("base"), "rtl": HFA["tiny"]}
P, S, T, D, X = "pointwise", "window", "along time", "dense", "temporal"
KERNELS = {P: (1, 1, 1), S: (1, 3, 3), T: (3, 1, 1), D: (1, 3, 3), X: (3, 1, 1)}


def region(shape, names, *, out=None, pool=None, stride=(1, 1), seed=0) -> Graph:
    """A graph of one chain: `out` channels of dense stages, in turn; `pool` of the last one.

    `stride` is that of the first window.
    """
    rng = np.random.default_rng(seed)
    source = current = kind(shape, 0.05, 11, bool(seed % 2))
    stages, between = [], []
    widths = iter(out or [current.shape[0]] * len(names))
    windows = 0
    for number, name in enumerate(names):
        kernel = KERNELS[name]
        half = tuple(n // 2 for n in kernel)
        channels, groups = current.shape[0], 1
        if name in (S, T):
            groups = channels
        else:
            channels = next(widths)
        strides = (1, *stride) if name == S and not windows else (1, 1, 1)
        windows += name == S
        last = number == len(names) - 1
        op, current = convolution(
            rng, current, channels, kernel, name=f"{number}", groups=groups, pad_begin=half,
            pad_end=half, stride=strides, pool=pool if last else None,
            signed=bool((seed + number) % 2),
        )  # fmt: skip
        stages.append(op)
        between.append(current)
    joined = Chain(
        name="region", inputs=("x",), output="y", stages=tuple(stages), between=tuple(between[:-1])
    )
    return network({"x": source}, [joined], {"y": current})


CASES = {
    "two windows": ("tiny", (6, 2, 17, 9), (S, S), {}),
    "two windows, strided": ("base", (20, 2, 20, 12), (S, S), {"stride": (2, 2)}),
    "two windows, pointwise": ("tiny", (6, 2, 17, 9), (S, S, P), {"out": [8]}),
    "two windows, along time": ("tiny", (5, 3, 9, 6), (S, S, T), {}),
    "expanded, over frames and time": ("tiny", (4, 4, 12, 6), (P, S, T), {"out": [8]}),
    "the same, wide": ("base", (40, 4, 14, 14), (P, S, T), {"out": [40]}),
    "X-convolution": ("tiny", (6, 4, 12, 6), (S, T, P), {"out": [12]}),
    "X-convolution, pooled": ("base", (40, 4, 14, 14), (S, T, P), {"out": [40], "pool": (2, 2, 2)}),
    "expanded X-convolution": ("base", (20, 4, 12, 12), (P, S, T, P), {"out": [40, 20]}),
    "four stages": ("tiny", (6, 2, 17, 9), (P, S, P, S), {"out": [8, 6]}),
    "five stages": ("base", (20, 2, 20, 20), (P, S, P, S, P), {"out": [40, 24, 40]}),
    "dense, pointwise": ("tiny", (6, 2, 17, 9), (D, P), {"out": [8, 12]}),
    "dense, pointwise, wide": ("base", (40, 2, 28, 28), (D, P), {"out": [40, 20]}),
    "dense, pointwise, transformed": ("transforms", (40, 2, 28, 28), (D, P), {"out": [40, 20]}),
    "dense, dense": ("tiny", (6, 2, 17, 9), (D, D), {"out": [6, 8]}),
    "dense, window": ("tiny", (6, 2, 17, 9), (D, S), {"out": [8]}),
    "pointwise, temporal": ("tiny", (6, 4, 9, 9), (P, X), {"out": [6, 8]}),
    "window, temporal": ("tiny", (6, 4, 17, 9), (S, X), {"out": [8]}),
}


@pytest.mark.parametrize("case", CASES)
def test_regions(case):
    name, shape, stages, options = CASES[case]
    graph = region(shape, stages, **options)
    assert kinds(graph.ops[0].stages) not in PATTERNS
    run = execute(graph, MACHINES[name])
    assert run.differing() == []
    # Maps between are not stored.
    target = next(t for t in run.program.tensors if t.name == "y")
    ends = range(target.address, target.address + target.layout.nbytes)
    assert all(i.dram in ends for i in run.program.instructions if isinstance(i, Store))


def every_plan(graph: Graph, config: AcceleratorConfig):
    (op,), lanes = graph.ops, config.lane_block
    links = Links.of(op, *(tensor_of(graph.type(name), lanes) for name in "xy"))
    return list(candidates(links, config, Policy()))


@pytest.mark.parametrize("case", ["two windows", "X-convolution", "four stages", "dense, dense"])
def test_every_plan_is_right(case, monkeypatch):
    """All strips, groups of frames, chunks and parts, not only the best ones."""
    name, shape, stages, options = CASES[case]
    graph, config = region(shape, stages, **options), MACHINES[name]
    plans = every_plan(graph, config)
    assert max(len(plan.strips) for plan in plans) > 4
    for plan in plans[:: max(len(plans) // 12, 1)]:
        take(monkeypatch, plan)
        assert execute(graph, config).differing() == [], plan.describe()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(sorted(MACHINES)))
def test_random_regions(data, name):
    draw = data.draw
    names = draw(st.lists(st.sampled_from([P, S, S, T, D, X]), min_size=2, max_size=4))
    shape = (
        draw(st.sampled_from([3, 6, 17])),
        draw(st.integers(2, 5)),
        draw(st.integers(3, 14)),
        draw(st.integers(3, 9)),
    )
    graph = region(
        shape, names, out=draw(st.lists(st.sampled_from([3, 8, 20]), min_size=4, max_size=4)),
        pool=draw(st.sampled_from([None, None, (1, 2, 2)])) if names[-1] in (P, D, X) else None,
        stride=draw(st.sampled_from([(1, 1), (2, 2), (1, 2)])), seed=draw(st.integers(0, 1 << 16)),
    )  # fmt: skip
    (op,) = graph.ops
    why = refusal(op, graph.input_types(op), graph.type("y"), MACHINES[name], None)
    assume(why is None)
    assert execute(graph, MACHINES[name]).differing() == []


# What is refused, in words


def test_what_stages_do_not_do():
    def why(names, **options):
        graph = region((6, 4, 9, 8), names, **options)
        (op,) = graph.ops
        return refusal(op, graph.input_types(op), graph.type("y"), CONFIGS["tiny"], None)

    assert why((S, P)) is why((P, D)) is None
    assert "skips lines or reads them again, which 0 makes once" in why((S, D))
    assert "no strip of its 2 operators fits" in region_too_large()
    pooled = region((6, 4, 9, 8), (P, S))
    (op,) = pooled.ops
    first = region((6, 4, 18, 16), (P, P), pool=(1, 2, 2)).ops[0].stages[-1]
    assert first.pool is not None
    stages = (dataclasses.replace(first, inputs=op.stages[0].inputs), op.stages[1])
    assert "has a fused pool, and others behind it" in unsuitable(stages, CONFIGS["tiny"])


def region_too_large() -> str:
    graph = region((44, 16, 28, 28), (S, T))
    (op,) = graph.ops
    found = refusal(op, graph.input_types(op), graph.type("y"), CONFIGS["tiny"], None)
    assert found is not None
    return found


def test_what_does_not_pay_stays_apart():
    """Two dense convolutions, of which strips compute lines again."""
    graph = region((20, 2, 56, 56), (D, D), out=[40, 20])
    (op,) = graph.ops
    why = refusal(op, graph.input_types(op), graph.type("y"), MACHINES["transforms"], Policy())
    assert why is not None and "one after another" in why


# The pass


def test_a_new_pattern_is_a_line(monkeypatch):
    """Nothing but the set of patterns has to know it."""
    joined = region((6, 4, 12, 6), (S, T, P), out=[12])
    apart = separate(joined)
    accept = lambda *_: None  # noqa: E731
    assert [len(op.stages) if isinstance(op, Chain) else 1 for op in run_pass(apart, accept)] == [
        2,
        1,
    ]
    monkeypatch.setattr(passes, "PATTERNS", PATTERNS - {(S, T)} | {(S, T, P)})
    (op,) = run_pass(apart, accept)
    assert isinstance(op, Chain) and kinds(op.stages) == (S, T, P)


def run_pass(graph, accept):
    return FUSE_CHAINS.run(graph, accept).graph.ops


# Twins: what makes such regions right, taken away.


def changed(graph, config, change):
    """The program of a graph with every ARRAY changed."""
    program = generate(graph, config)
    found = tuple(change(i) if isinstance(i, Array) else i for i in program.instructions)
    assert found != program.instructions
    return dataclasses.replace(program, instructions=found)


def wrong(graph, config, change) -> bool:
    """Whether a changed program is noticed."""
    try:
        return execute(graph, config, changed(graph, config, change)).differing() == ["y"]
    except (MachineError, HazardError):
        return True


def test_lines_of_two_windows_lie_apart():
    """The twin: the second one keeps its lines where the first one's are."""
    name, shape, stages, options = CASES["two windows, pointwise"]
    graph, config = region(shape, stages, **options), MACHINES[name]
    windows = [
        i
        for i in generate(graph, config).instructions
        if isinstance(i, Array) and i.mode == ArrayMode.DEPTHWISE
    ]
    assert all(i.keep for i in windows) and sum(i.resume for i in windows) > 2
    entries = sorted({i.line for i in windows})
    assert len(entries) > 1

    def change(i: Array) -> Array:
        return dataclasses.replace(i, line=entries[0]) if i.mode == ArrayMode.DEPTHWISE else i

    assert wrong(graph, config, change)


def test_lines_that_a_dense_stage_needs_again_are_loaded_again():
    """The twin: those above a strip are taken for padding."""
    name, shape, stages, options = CASES["dense, pointwise"]
    graph, config = region(shape, stages, **options), MACHINES[name]

    def change(i: Array) -> Array:
        above = i.mode == ArrayMode.GEMM and i.counts[5] > 1 and i.starts[1] > 0
        starts = (i.starts[0], -1, i.starts[2])
        return dataclasses.replace(i, starts=starts) if above else i

    assert wrong(graph, config, change)


def test_stages_of_a_turn_read_what_an_earlier_one_made():
    """The twin: a stage reads the rows of its own operand's other slot."""
    name, shape, stages, options = CASES["two windows"]
    graph, config = region(shape, stages, **options), MACHINES[name]
    arrays = [i for i in generate(graph, config).instructions if isinstance(i, Array)]
    rows = sorted({i.activation for i in arrays})
    assert len(rows) > 4

    def change(i: Array) -> Array:
        return dataclasses.replace(i, activation=rows[0]) if i.activation == rows[-1] else i

    assert wrong(graph, config, change)


# Times


@pytest.mark.parametrize("case", ["X-convolution, pooled", "five stages", "dense, pointwise, wide"])
def test_estimates_are_near_the_cycle_model(case):
    name, shape, stages, options = CASES[case]
    graph, config = region(shape, stages, **options), MACHINES[name]
    program = generate(graph, config)
    memory = start_image(program, feeds_of(graph))
    cycles = make_backend("cycle").run(program, config, memory, Options()).cycles
    estimate = program.layers[0].tiling["estimate"]
    assert 0.85 * cycles <= estimate <= 1.15 * cycles


@pytest.mark.cosim
@pytest.mark.parametrize("case", ["two windows, pointwise", "X-convolution", "dense, pointwise"])
def test_on_rtl(case):
    """Values, and the times of every instruction."""
    _, shape, stages, options = CASES[case]
    graph, config = region(shape, stages, **options), MACHINES["rtl"]
    program = generate(graph, config)
    memory = start_image(program, feeds_of(graph))
    rtl, model = (make_backend(b).run(program, config, memory, Options()) for b in ("rtl", "cycle"))
    assert differences(rtl, model) == []
    run = execute(graph, config, program)
    assert run.differing() == []
    assert np.array_equal(rtl.image.read(program.tensor("y")), run.reference["y"])
