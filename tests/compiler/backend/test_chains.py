"""Chains of [temporal residual,] temporal, depthwise and pointwise convolution in strips on chip.

The interpreter's result is the reference here; whole networks are compared with the PyTorch
oracle in test_networks.py.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from compiler.backend.build import generate
from compiler.emit.transfers import tensor_of
from compiler.ir import Chain, CompilerError, Graph
from compiler.passes.chain import FUSE_CHAINS
from compiler.policy import Policy
from compiler.regions.choice import best
from compiler.regions.plan import Links
from compiler.regions.window import window_strips
from compiler.tile.geometry import Axis, cuts
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Load, Store
from sim.backend import Options
from sim.cycle.backend import CycleBackend
from sim.functional import FunctionalMachine, MachineError
from sim.host import start_image
from tests.compiler.backend.harness import (
    CONFIGS,
    convolution,
    execute,
    feeds_of,
    kind,
    network,
)
from tests.compiler.backend.test_vector import residual

COMMON = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def chain(
    shape,
    mid: int = 8,
    out: int = 8,
    *,
    temporal: bool = True,
    trg: bool = False,
    pool=None,
    signed: bool = False,
    window=(3, 3),
    pads=((1, 1), (1, 1)),
    stride=(1, 1),
    taps: int = 3,
    seed: int = 0,
) -> Graph:
    """A graph of one chain; `pads` are (begin, end) along h and w, `stride` the window's."""
    rng = np.random.default_rng(seed)
    source = kind(shape, 0.05, 7 if trg else 11, signed)
    stages, between, current = [], [], source
    if trg:
        graph = residual(shape, signed, tables=bool(seed % 2))
        (op,) = graph.ops
        stages.append(op)
        current = graph.type("y")
        between.append(current)
    if temporal:
        half = taps // 2
        op, current = convolution(
            rng, current, mid, (taps, 1, 1), name="t", pad_begin=(half, 0, 0),
            pad_end=(taps - 1 - half, 0, 0), signed=not signed,
        )  # fmt: skip
        stages.append(op)
        between.append(current)
    channels = current.shape[0]
    op, current = convolution(
        rng, current, channels, (1, *window), name="s", groups=channels,
        pad_begin=(0, pads[0][0], pads[1][0]), pad_end=(0, pads[0][1], pads[1][1]),
        stride=(1, *stride),
    )  # fmt: skip
    stages.append(op)
    between.append(current)
    op, current = convolution(rng, current, out, (1, 1, 1), name="p", pool=pool)
    stages.append(op)
    joined = Chain(
        name="chain", inputs=("x",), output="y", stages=tuple(stages), between=tuple(between)
    )
    return network({"x": source}, [joined], {"y": current})


@st.composite
def chains(draw) -> Graph:
    """Random chains, residual included."""
    trg = draw(st.booleans())
    shape = (
        draw(st.sampled_from([1, 3, 4, 6, 17])),
        draw(st.integers(2, 7)),
        draw(st.integers(3, 9)),
        draw(st.integers(3, 10)),
    )
    window = draw(st.sampled_from([(3, 3), (3, 3), (2, 3), (3, 1), (1, 3)]))
    pads = tuple((draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))) for k in window)
    temporal = trg or draw(st.booleans())
    channels = draw(st.sampled_from([2, 5, 8, 19]))
    if not temporal and shape[0] == 1:
        shape = (2, *shape[1:])
    try:
        return chain(
            shape,
            channels,
            draw(st.sampled_from([1, 7, 20])),
            temporal=temporal,
            trg=trg,
            pool=draw(st.sampled_from([None, (1, 2, 2), (2, 2, 2), (1, 1, 2)])),
            signed=draw(st.booleans()),
            window=window,
            pads=pads,
            stride=draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (2, 1), (1, 2), (3, 3)])),
            taps=draw(st.sampled_from([1, 3])),
            seed=draw(st.integers(0, 1 << 16)),
        )
    except CompilerError as error:
        assume("does not fit" not in str(error))
        raise


TRANSFORMS = AcceleratorConfig.load("base")
MACHINES = {**CONFIGS, "transforms": TRANSFORMS}


@COMMON
@given(chains(), st.sampled_from(sorted(MACHINES)))
def test_random_chains(graph, name):
    try:
        run = execute(graph, MACHINES[name])
    except CompilerError as error:
        assume("no strip of" not in str(error))
        raise
    assert run.differing() == []


CASES = {
    "one strip": ("base", (20, 4, 6, 8), {"pool": (1, 2, 2)}),
    "packed": ("base", (3, 8, 20, 24), {"mid": 32, "out": 40, "pool": (1, 2, 2)}),
    "many blocks": ("base", (20, 8, 20, 24), {"mid": 40, "out": 40, "pool": (2, 2, 2)}),
    "no temporal": ("base", (40, 8, 40, 24), {"temporal": False, "out": 40, "pool": (2, 2, 2)}),
    "passes": ("tiny", (6, 5, 9, 7), {"mid": 6, "out": 10, "pool": (1, 2, 2)}),
    "groups of frames": ("tiny", (4, 4, 16, 30), {"mid": 4}),
    "cols beyond rows": ("wide", (10, 2, 6, 8), {"mid": 12, "out": 40, "pool": (2, 2, 2)}),
    "residual": ("base", (20, 8, 20, 24), {"mid": 32, "trg": True, "pool": (2, 2, 2)}),
    "residual, packed": ("base", (3, 16, 20, 24), {"mid": 32, "trg": True, "seed": 1}),
    "strided": ("base", (20, 2, 20, 24), {"mid": 40, "out": 40, "stride": (2, 2)}),
    "strided, one strip": ("base", (20, 1, 6, 7), {"mid": 40, "out": 24, "stride": (2, 2)}),
    "strided, tiny": ("tiny", (6, 4, 17, 9), {"mid": 6, "stride": (2, 2)}),
    "strided, no temporal": ("tiny", (6, 2, 16, 20), {"temporal": False, "stride": (2, 1)}),
    "streamed": ("tiny", (16, 1, 7, 7), {"mid": 96, "out": 16, "taps": 1}),
    "a window of one line": (
        "wide",
        (17, 6, 3, 10),
        {"mid": 19, "out": 1, "window": (1, 3), "pads": ((0, 0), (0, 1))},
    ),
    "residual, tiny": ("tiny", (6, 4, 9, 10), {"mid": 6, "trg": True}),
    "transformed": ("transforms", (20, 8, 20, 24), {"mid": 32, "out": 40, "pool": (2, 2, 2)}),
    "transformed residual": ("transforms", (20, 16, 20, 24), {"mid": 32, "trg": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_chains(case):
    name, shape, options = CASES[case]
    assert execute(chain(shape, **options), MACHINES[name]).differing() == []


# Twins: what makes a chain right, taken away.


def chunky() -> tuple[Graph, AcceleratorConfig]:
    """Several groups of frames and strips; a residual, a pool."""
    shape, config = (6, 8, 9, 10), CONFIGS["tiny"]
    return chain(shape, mid=6, trg=True, pool=(2, 2, 2)), config


def changed(program, change):
    """The program with every ARRAY DEPTHWISE changed."""
    instructions = tuple(
        change(i) if isinstance(i, Array) and i.mode == ArrayMode.DEPTHWISE else i
        for i in program.instructions
    )
    return dataclasses.replace(program, instructions=instructions)


def test_the_case_resumes_and_stores_a_mean():
    graph, config = chunky()
    run = execute(graph, config)
    assert run.differing() == []
    windows = [i for i in run.program.instructions if getattr(i, "mode", 0) == ArrayMode.DEPTHWISE]
    assert sum(i.resume for i in windows) > 1 < len({i.line for i in windows})
    assert all(i.keep for i in windows)
    y = next(t for t in run.program.tensors if t.name == "y")
    stores = [i for i in run.program.instructions if isinstance(i, Store)]
    beyond = [i for i in stores if not y.address <= i.dram < y.address + y.layout.nbytes]
    assert beyond, "the mean frame is stored beside the result"


@pytest.mark.parametrize("field", ["line", "weight"])
def test_a_changed_field_shows(field):
    graph, config = chunky()
    program = generate(graph, config)
    step = 1 if field == "line" else config.weight_group_beats
    seen: Counter[str] = Counter()

    def change(instruction: Array) -> Array:
        seen["resumed"] += instruction.resume
        # Not the last entries: those behind them hold nothing.
        if not instruction.resume or instruction.line or seen["resumed"] % 3:
            return instruction
        return dataclasses.replace(instruction, **{field: getattr(instruction, field) + step})

    assert execute(graph, config, changed(program, change)).differing() == ["y"]


def test_a_strip_that_does_not_resume_is_refused_or_wrong():
    """Without its lines a strip has too few of them for a window: FIELD."""
    graph, config = chunky()
    program = changed(generate(graph, config), lambda i: dataclasses.replace(i, resume=0, keep=1))
    machine = FunctionalMachine(
        config, start_image(program, feeds_of(graph)), program.store_window, check_reads=True
    )
    with pytest.raises(MachineError, match="at least the window's pixels"):
        machine.run(program.code())


def test_lines_that_are_not_kept_show():
    graph, config = chunky()
    program = changed(
        generate(graph, config),
        lambda i: i if i.resume else dataclasses.replace(i, keep=0, line=0),
    )
    try:
        assert execute(graph, config, program).differing() == ["y"]
    except MachineError as error:
        assert "line-buffer entry" in str(error)


def test_a_mean_frame_loaded_too_early_shows():
    """The order that `Ring.not_before` holds: the load of the mean frame is behind its stores."""
    graph, config = chunky()
    program = generate(graph, config)
    y = next(t for t in program.tensors if t.name == "y")
    x = next(t for t in program.tensors if t.name == "x")
    scratch = range(y.address + y.layout.nbytes, program.store_window[1])
    loads = [
        n for n, i in enumerate(program.instructions) if isinstance(i, Load) and i.dram in scratch
    ]
    stores = [
        n for n, i in enumerate(program.instructions) if isinstance(i, Store) and i.dram in scratch
    ]
    assert stores and loads and max(stores) < min(loads)
    instructions = list(program.instructions)
    for n in loads:
        instructions[n] = dataclasses.replace(instructions[n], dram=x.address)
    wrong = dataclasses.replace(program, instructions=tuple(instructions))
    assert execute(graph, config, wrong).differing() == ["y"]


# Strips


@given(
    st.integers(1, 30), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2),
    st.integers(1, 8), st.integers(1, 3),
)  # fmt: skip
def test_strips_cover_everything_once(size, kernel, stride, begin, end, height, pool):
    begin, end = min(begin, kernel - 1), min(end, kernel - 1)
    out = (size + begin + end - kernel) // stride + 1
    used = out // pool * pool
    if size + begin + end < kernel or used < 1:
        return
    axis = Axis(size, out, kernel, stride, pad=begin)
    wanted = cuts(used, height * pool)
    found = window_strips(axis, wanted)
    coordinate, line, output = -begin, 0, 0
    strips = [strip for some in found for strip in some]
    for number, strip in enumerate(strips):
        assert strip.resume == (number > 0)
        assert (strip.stream[0], strip.operand[0], strip.result[0]) == (coordinate, line, output)
        coordinate += strip.stream[1]
        line += strip.operand[1]
        output += strip.result[1]
        assert strip.result[1] >= 1
        # What is streamed inside the map is there, and a result needs no later line.
        assert line == max(line, min(coordinate, size))
        completing = output * stride - begin + kernel - 1
        # The next stream's first line completes a result.
        assert coordinate == completing or output == used
        assert completing - stride < coordinate
    # What is asked for is complete when its strips are.
    for lines, some in zip(wanted, found, strict=True):
        assert sum(lines) <= sum(some[-1].result)
    assert used == output
    lines = height * pool
    limit = lines * stride + kernel - 1
    if stride == 1 and lines + begin >= kernel:
        limit = max(lines, kernel - 1)
    assert max(strip.operand[1] for strip in strips) <= limit


# What is joined, and what it costs


def separate(joined: Graph) -> Graph:
    """The stages of a graph of one chain as operators of their own."""
    (op,) = joined.ops
    names = ["x", *(f"v{n}" for n in range(1, len(op.stages))), "y"]
    ops, results = [], {}
    for n, (stage, _, result) in enumerate(op.links([joined.type("x")], joined.type("y"))):
        ops.append(dataclasses.replace(stage, inputs=(names[n],), output=names[n + 1]))
        results[names[n + 1]] = result
    return network({"x": joined.type("x")}, ops, results)


def test_the_pass_joins_what_it_may():
    apart = separate(chain((6, 4, 9, 10), trg=True, pool=(1, 2, 2)))
    outcome = FUSE_CHAINS.run(apart, lambda op, inputs, output: None)
    (joined,) = outcome.graph.ops
    assert isinstance(joined, Chain)
    assert [stage.name for stage in joined.stages] == ["trg", "t", "s", "p"]
    assert set(outcome.graph.values) == {"x", "y"}
    assert joined.macs([apart.type("x")]) == apart.macs()


def test_the_longest_chain_that_is_accepted():
    apart = separate(chain((6, 4, 9, 10), trg=True))

    def accept(op, inputs, output):
        return "too long" if len(op.stages) > 2 else None

    outcome = FUSE_CHAINS.run(apart, accept)
    assert [type(op).__name__ for op in outcome.graph.ops] == [
        "TemporalResidual", "Convolution", "Chain",
    ]  # fmt: skip
    assert [why for _, why in outcome.refused] == ["too long", "too long"]


def test_a_value_that_others_read_stays():
    apart = separate(chain((6, 4, 9, 10)))
    shown = dataclasses.replace(
        apart, outputs=(*apart.outputs, dataclasses.replace(apart.outputs[0], value="v2"))
    )
    outcome = FUSE_CHAINS.run(shown, lambda op, inputs, output: None)
    assert outcome.graph.ops == shown.ops
    inner = dataclasses.replace(
        apart, outputs=(*apart.outputs, dataclasses.replace(apart.outputs[0], value="v1"))
    )
    outcome = FUSE_CHAINS.run(inner, lambda op, inputs, output: None)
    assert [len(getattr(op, "stages", ())) for op in outcome.graph.ops] == [0, 2]


@pytest.mark.parametrize(("stride", "joined"), [((1, 2, 2), True), ((2, 1, 1), False)])
def test_strides_along_time_are_not_joined(stride, joined):
    """A depthwise convolution with a stride in front of a pointwise one."""
    rng = np.random.default_rng(0)
    source = kind((8, 2, 9, 10))
    first, middle = convolution(
        rng, source, 8, (1, 3, 3), name="s", groups=8, output="a", stride=stride
    )
    last, result = convolution(rng, middle, 8, (1, 1, 1), name="p", inputs=("a",))
    graph = network({"x": source}, [first, last], {"a": middle, "y": result})
    outcome = FUSE_CHAINS.run(graph, lambda op, inputs, output: None)
    assert [isinstance(op, Chain) for op in outcome.graph.ops] == [joined] * (2 - joined)


def test_lines_between_the_results_of_a_stride_count():
    """The twin: of a strip that resumes, only the line that completes its first result is there."""
    graph, config = chain((6, 2, 17, 9), mid=6, stride=(2, 2)), CONFIGS["tiny"]
    program = generate(graph, config)
    windows = [i for i in program.instructions if getattr(i, "mode", 0) == ArrayMode.DEPTHWISE]
    assert sum(i.resume for i in windows) > 1 and all(i.emit_y == 2 for i in windows)

    def change(instruction: Array) -> Array:
        x, y, t = instruction.bounds
        first = instruction.starts[1] + 1
        return dataclasses.replace(instruction, bounds=(x, first if instruction.resume else y, t))

    assert execute(graph, config, changed(program, change)).differing() == ["y"]


def test_joined_programs_are_equal_to_separate_ones():
    """The same result tensor, fewer bytes."""
    joined = chain((20, 8, 20, 24), mid=32, out=40, pool=(2, 2, 2))
    one, other = (execute(g, CONFIGS["base"]) for g in (joined, separate(joined)))
    assert one.differing() == other.differing() == []
    moved = [
        sum(
            i.beats * int(np.prod(i.counts))
            for i in run.program.instructions
            if isinstance(i, Load | Store)
        )
        for run in (one, other)
    ]
    assert moved[0] < 0.5 * moved[1]


@pytest.mark.parametrize("objective", ["cycles", "energy", "multiplications"])
def test_objectives(objective):
    joined = chain((32, 8, 20, 24), mid=32, out=32)
    (op,) = joined.ops
    config = TRANSFORMS
    links = Links.of(op, tensor_of(joined.type("x"), 16), tensor_of(joined.type("y"), 16))
    found = {o: best(links, config, Policy(objective=o)) for o in ("cycles", objective)}
    direct = best(links, config, Policy(hfa="off"))
    assert direct is not None
    assert [stage.algorithm for stage in direct.array] == ["direct"] * 3
    plan, fastest = found[objective], found["cycles"]
    assert plan is not None and fastest is not None
    match objective:
        case "cycles":
            assert plan.cost.cycles < direct.cost.cycles
        case "energy":
            others = fastest.cost.energy_pj, direct.cost.energy_pj
            assert plan.cost.energy_pj <= min(others)
        case _:
            assert plan.cost.vectors <= fastest.cost.vectors < direct.cost.vectors


def test_estimates_follow_the_cycle_model():
    graph = chain((32, 8, 20, 56), mid=32, out=64, pool=(1, 2, 2))
    for config in (CONFIGS["base"], TRANSFORMS):
        program = generate(graph, config)
        memory = start_image(program, feeds_of(graph))
        cycles = CycleBackend().run(program, config, memory, Options()).cycles
        estimate = program.layers[0].tiling["estimate"]
        assert 0.98 * cycles <= estimate <= 1.02 * cycles


def test_a_chain_says_why_it_is_direct():
    def said(temporal, config):
        graph = chain((16, 1, 6, 6), mid=16, out=16, temporal=temporal)
        return generate(graph, config).layers[0].tiling.get("hfa")

    without, having = said(False, TRANSFORMS), said(True, TRANSFORMS)
    assert without["chosen"] == "direct"
    assert without["candidates"].keys() == {"direct", "F(2×2,3×3)"}
    assert "better chain" in without["reason"]
    assert {"direct", "F(2,3)"} <= having["candidates"].keys()
    assert said(False, CONFIGS["base"]) is said(True, CONFIGS["base"]) is None
