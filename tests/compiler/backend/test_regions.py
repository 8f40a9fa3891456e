"""Regions: a convolution whose results are joined with a stored tensor on chip."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler.backend.build import generate
from compiler.emit.dependencies import DependencyTracker
from compiler.emit.emitter import Emitter
from compiler.ir import GraphError, Pairwise, PairwiseKind, Region, verify
from compiler.lower import refusal, region
from compiler.passes.region import FUSE_REGIONS
from compiler.policy import Policy
from compiler.tensor import CompilerError
from hw.arch.isa import Array, ArrayMode, Elementwise, Load, Space, Store, Unit
from hw.arch.numerics import Affine, Product
from sim.backend import Options
from sim.backends import make_backend
from sim.functional.backend import dynamic_trace
from sim.functional.errors import MachineError
from sim.functional.hazards import HazardError, check_hazards
from sim.host import start_image
from tests.compiler.backend.harness import (
    CONFIGS,
    convolution,
    execute,
    feeds_of,
    kind,
    network,
)
from tests.compiler.backend.hfa_cases import CONFIGS as HFA
from tests.compiler.backend.hfa_cases import FULL, SAME, TEMPORAL
from tests.compiler.backend.test_chains import chain
from tests.ladder.compare import differences

EVERYWHERE = {name: CONFIGS[name] for name in CONFIGS} | {f"{name}, hfa": HFA[name] for name in HFA}
MACHINES = ["tiny", *(pytest.param(n, marks=pytest.mark.large) for n in EVERYWHERE if n != "tiny")]


def pairwise(op_kind, a, b, y, names):
    """The operator on two tensors of these types."""
    scales = (a.scale, a.zero_point, b.scale, b.zero_point, y.scale, y.zero_point)
    makers = {
        PairwiseKind.ADD: Affine.add,
        PairwiseKind.SUBTRACT: Affine.subtract,
        PairwiseKind.MULTIPLY: Product.of,
    }
    maker = makers.get(op_kind)
    return Pairwise(
        name="op",
        inputs=names,
        output="y",
        kind=op_kind,
        arithmetic=None if maker is None else maker(*scales),
        low=-100,
        high=120,
    )


def apart(shape, out, kernel, op_kind=PairwiseKind.ADD, *, leads=True, own=False, **attributes):
    """x to a convolution, and what joins its result with z (or x itself)."""
    rng = np.random.default_rng(0)
    x = kind(shape, 0.05, 9)
    conv, made = convolution(rng, x, out, kernel, output="c", signed=True, **attributes)
    z = x if own else kind(made.shape, 0.05, 70)
    extremum = op_kind in (PairwiseKind.MAXIMUM, PairwiseKind.MINIMUM)
    y = kind(made.shape, 0.09, -7, True)
    if extremum:
        z, y = made, made
    other = "x" if own else "z"
    names, kinds = (("c", other), (made, z)) if leads else ((other, "c"), (z, made))
    op = pairwise(op_kind, *kinds, y, names)
    inputs = {"x": x} | ({} if own else {"z": z})
    return network(inputs, [conv, op], {"c": made, "y": y})


def joined(graph):
    """That as one region."""
    outcome = FUSE_REGIONS.run(graph, lambda op, inputs, output: None)
    assert [type(op) for op in outcome.graph.ops] == [Region]
    verify(outcome.graph)
    return outcome.graph


CASES = {
    "pointwise": ((20, 2, 9, 7), 24, (1, 1, 1), {}),
    "one operand": ((20, 1, 9, 7), 20, (1, 1, 1), {"own": True}),
    "operands the other way round": ((20, 2, 9, 7), 24, (1, 1, 1), {"leads": False}),
    "3x3": ((9, 2, 9, 8), 10, (1, 3, 3), SAME),
    "stride": ((9, 1, 9, 8), 10, (1, 3, 3), {**SAME, "stride": (1, 2, 2)}),
    "temporal": ((9, 7, 5, 6), 10, (3, 1, 1), TEMPORAL),
    "3x3x3": ((6, 5, 6, 7), 9, (3, 3, 3), FULL),
    "packed": ((3, 2, 12, 12), 20, (1, 3, 3), SAME),
    "grouped": ((16, 1, 8, 7), 32, (1, 3, 3), {**SAME, "groups": 4}),
    "many tiles": ((8, 1, 40, 40), 40, (1, 1, 1), {}),
    "one position": ((96, 1, 1, 1), 80, (1, 1, 1), {}),
    "streamed weights": ((96, 1, 5, 5), 40, (1, 3, 3), SAME),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("machine", MACHINES)
def test_equal_to_its_parts(machine, name):
    shape, out, kernel, attributes = CASES[name]
    graph = joined(apart(shape, out, kernel, **attributes))
    run = execute(graph, EVERYWHERE[machine])
    assert run.differing() == [] and "c" not in {t.name for t in run.program.tensors}
    first = execute(apart(shape, out, kernel, **attributes), EVERYWHERE[machine])
    assert np.array_equal(run.reference["y"], first.reference["y"])


@pytest.mark.parametrize("op_kind", PairwiseKind)
@pytest.mark.parametrize("leads", [True, False])
def test_every_function_of_two(op_kind, leads):
    graph = joined(apart((9, 1, 6, 7), 10, (1, 1, 1), op_kind, leads=leads))
    assert execute(graph, CONFIGS["tiny"]).differing() == []


@pytest.mark.parametrize("asked", ["F(2x2,3x3)", "F(4x4,3x3)"])
@pytest.mark.parametrize("machine", HFA)
def test_transformed(machine, asked):
    graph = joined(apart((20, 2, 14, 14), 24, (1, 3, 3), **SAME))
    program = generate(graph, HFA[machine], policy=Policy(asked))
    modes = {i.mode for i in program.instructions if isinstance(i, Array)}
    assert modes == {ArrayMode.HFA}
    assert execute(graph, HFA[machine], program).differing() == []


CHAINS = {
    "expand, depthwise, project": ((6, 1, 9, 10), {"taps": 1}),
    "depthwise, project": ((6, 2, 9, 10), {"temporal": False}),
    "frames and a pool": ((6, 4, 9, 10), {"pool": (1, 2, 2)}),
    "temporal residual": ((6, 4, 9, 10), {"trg": True}),
    "strips": ((8, 1, 30, 24), {"taps": 1, "mid": 24, "out": 12}),
}


DO_NOT_FIT = {("wide", "strips"), ("wide_hfa, hfa", "strips")}
"""Their banks are too small; the pass asks `refusal` before it joins."""


def behind_a_chain(shape, own=False, leads=True, **attributes):
    """A chain, and what joins its result with z or with the chain's operand."""
    graph = chain(shape, **attributes)
    (op,) = graph.ops
    x, made = graph.type("x"), graph.type("y")
    op = dataclasses.replace(op, output="c")
    other = "x" if own else "z"
    z = x if own else kind(made.shape, 0.05, 70)
    y = kind(made.shape, 0.09, -7, True)
    names, kinds = (("c", other), (made, z)) if leads else ((other, "c"), (z, made))
    last = pairwise(PairwiseKind.ADD, *kinds, y, names)
    inputs = {"x": x} | ({} if own else {"z": z})
    return network(inputs, [op, last], {"c": made, "y": y})


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("machine", MACHINES)
def test_a_chain_is_joined_with_a_tensor(machine, name):
    shape, attributes = CHAINS[name]
    for leads in (True, False):
        graph = joined(behind_a_chain(shape, leads=leads, **attributes))
        if (machine, name) in DO_NOT_FIT:
            with pytest.raises(CompilerError, match="no strip of its 3 operators fits"):
                execute(graph, EVERYWHERE[machine])
            continue
        run = execute(graph, EVERYWHERE[machine])
        assert run.differing() == [] and "c" not in {t.name for t in run.program.tensors}


def test_a_block_adds_its_own_operand():
    """An inverted residual: expand, depthwise, project, and the block's operand."""
    graph = joined(behind_a_chain((8, 1, 12, 10), own=True, taps=1, mid=24, out=8))
    assert graph.ops[0].inputs == ("x",)
    for config in (CONFIGS["tiny"], HFA["base"]):
        assert execute(graph, config).differing() == []


def test_a_chain_in_which_another_tensor_is_joined_shows(monkeypatch):
    graph, config = joined(behind_a_chain((6, 2, 9, 10), temporal=False)), CONFIGS["tiny"]
    plain = region._tail

    def elsewhere(*args):
        tail = plain(*args)
        return dataclasses.replace(tail, offset=tail.offset + config.lane_block)

    monkeypatch.setattr(region, "_tail", elsewhere)
    assert execute(graph, config).differing() == ["y"]


# Twins ---------------------------------------------------------------------------------------


def changed(program, kind_, change):
    """The program with some instructions changed."""
    found = tuple(change(i) if isinstance(i, kind_) else i for i in program.instructions)
    assert found != program.instructions
    return dataclasses.replace(program, instructions=found)


def test_what_is_joined_wrongly_shows():
    graph, config = joined(apart((20, 2, 9, 7), 24, (1, 1, 1))), CONFIGS["tiny"]
    program = generate(graph, config)

    def turned(i):
        return dataclasses.replace(i, source0=i.source1, source1=i.source0)

    def other_row(i):
        return dataclasses.replace(i, source1=i.source1 + 1)

    assert execute(graph, config, changed(program, Elementwise, turned)).differing() == ["y"]
    with pytest.raises(MachineError, match="nothing has written"):
        execute(graph, config, changed(program, Elementwise, other_row))


@pytest.mark.parametrize("unit", [Unit.LOAD, Unit.DRAIN, Unit.STORE])
def test_a_wait_of_the_tail_left_out_is_a_race(unit):
    graph, config = joined(apart((8, 1, 40, 40), 40, (1, 1, 1))), CONFIGS["tiny"]

    def without(i):
        waits = list(i.waits)
        waits[unit] = 0
        return dataclasses.replace(i, waits=tuple(waits))

    program = generate(graph, config)
    check_hazards(dynamic_trace(program, config, program.memory()), config, program.memory_bytes)
    broken = changed(program, Elementwise, without)
    with pytest.raises(HazardError, match="activation"):
        check_hazards(dynamic_trace(broken, config, broken.memory()), config, broken.memory_bytes)


def test_a_tensor_from_elsewhere_shows(monkeypatch):
    graph, config = joined(apart((20, 2, 9, 7), 24, (1, 1, 1))), CONFIGS["tiny"]
    plain = region._tail

    def elsewhere(*args):
        tail = plain(*args)
        return dataclasses.replace(tail, offset=tail.offset + config.lane_block)

    monkeypatch.setattr(region, "_tail", elsewhere)
    assert execute(graph, config).differing() == ["y"]


# What it saves -------------------------------------------------------------------------------


def test_only_operands_and_result_pass_the_port(monkeypatch):
    # As lowerings emit them: the pass of decision 0038 leaves out some LOADs of either.
    monkeypatch.setattr(Emitter, "end_layer", lambda *_: None)
    config = HFA["base"]
    graph = apart((64, 1, 28, 28), 64, (1, 3, 3), **SAME)
    moved = []
    for each in (graph, joined(graph)):
        program = generate(each, config)
        assert execute(each, config, program).differing() == []
        transfers = [i for i in program.instructions if isinstance(i, Load | Store)]
        moved.append(
            sum(
                i.beats * int(np.prod(i.counts))
                for i in transfers
                if isinstance(i, Store) or i.space == Space.ACTIVATION
            )
        )
    rows = 4 * 28 * 28
    assert moved[0] - moved[1] == 2 * rows, "the map between is neither stored nor loaded"


# Which are joined ------------------------------------------------------------------------------


def test_the_later_of_two_convolutions_is_joined():
    rng = np.random.default_rng(1)
    x = kind((8, 1, 6, 6), 0.05, 9)
    a, made = convolution(rng, x, 8, (1, 1, 1), name="a", output="a")
    b, other = convolution(rng, x, 8, (1, 1, 1), name="b", output="b")
    y = kind(made.shape, 0.09, 3, True)
    op = pairwise(PairwiseKind.ADD, made, other, y, ("a", "b"))
    graph = network({"x": x}, [a, b, op], {"a": made, "b": other, "y": y})
    outcome = FUSE_REGIONS.run(graph, lambda op, inputs, output: None)
    assert [op.name for op in outcome.graph.ops] == ["a", "op"]
    assert [part.name for part in outcome.graph.ops[1].parts] == ["b", "op"]
    assert execute(outcome.graph, CONFIGS["tiny"]).differing() == []
    # One that the back end does not take gives way to the other one.

    def accept(region_, inputs, output):
        return "no" if region_.parts[0].name == "b" else None

    outcome = FUSE_REGIONS.run(graph, accept)
    assert [part.name for part in outcome.graph.ops[1].parts] == ["a", "op"]
    assert outcome.refused == (("b, op", "no"),)
    assert execute(outcome.graph, CONFIGS["tiny"]).differing() == []


def test_what_stays_apart():
    graph = apart((8, 1, 6, 6), 8, (1, 1, 1))
    conv, op = graph.ops
    kept = dataclasses.replace(graph, outputs=(*graph.outputs, dataclasses.replace(
        graph.outputs[0], value="c", onnx_name="c")))  # fmt: skip
    assert FUSE_REGIONS.run(kept, lambda *_: None).applied == ()
    arm = dataclasses.replace(graph, paths={"y": (("branch", True),)})
    assert FUSE_REGIONS.run(arm, lambda *_: None).applied == ()
    twice = dataclasses.replace(op, inputs=("c", "c"))
    squared = network({"x": graph.type("x")}, [conv, twice], {n: graph.type(n) for n in ("c", "y")})
    assert FUSE_REGIONS.run(squared, lambda *_: None).applied == ()


def test_refusals():
    config = CONFIGS["tiny"]

    def why(graph, machine=config, policy=None):
        (op,) = joined(graph).ops
        kinds = [graph.type(name) for name in op.inputs]
        return refusal(op, kinds, graph.type("y"), machine, policy)

    assert why(apart((8, 1, 6, 6), 8, (1, 1, 1)), policy=Policy()) is None
    pooled = apart((8, 1, 6, 6), 8, (1, 1, 1), pool=(1, 2, 2))
    assert why(pooled) == "conv has a fused pool"
    depthwise = apart((8, 1, 6, 6), 8, (1, 3, 3), groups=8, **SAME)
    assert why(depthwise) == "conv runs in mode DEPTHWISE"
    plain = dataclasses.replace(config, features=())
    assert "no vector unit" in why(apart((8, 1, 6, 6), 8, (1, 1, 1)), plain)
    banks = dataclasses.replace(config.memory, activation_banks=2)
    few = dataclasses.replace(config, memory=banks)
    assert "no tile fits" in why(apart((8, 1, 6, 6), 8, (1, 1, 1)), few)


def test_a_region_that_is_none():
    graph = joined(apart((8, 1, 6, 6), 8, (1, 1, 1)))
    (op,) = graph.ops
    for wrong, message in (
        (dataclasses.replace(op, parts=op.parts[:1], between=()), "1 parts with 0 types"),
        (dataclasses.replace(op, parts=op.parts[::-1]), "its last part makes c, not y"),
        (dataclasses.replace(op, inputs=("x",)), "op reads z, which is not made before"),
    ):
        with pytest.raises(GraphError, match=message):
            verify(dataclasses.replace(graph, ops=(wrong,)))


def test_the_tracker_is_what_orders_the_tail(monkeypatch):
    """Without it the same program is a race: the check above can fail."""
    monkeypatch.setattr(DependencyTracker, "add", lambda self, instruction, reach=0: instruction)
    graph, config = joined(apart((8, 1, 40, 40), 40, (1, 1, 1))), CONFIGS["tiny"]
    with pytest.raises(HazardError):
        execute(graph, config)


@pytest.mark.cosim
@pytest.mark.parametrize("name", ["conv", "chain"])
def test_on_rtl(name):
    """Values, and the times of every instruction."""
    config = HFA["tiny"]
    apart_ = {
        "conv": apart((8, 1, 24, 20), 40, (1, 3, 3), **SAME),
        "chain": behind_a_chain((8, 1, 12, 10), own=True, taps=1, mid=24, out=8),
    }[name]
    graph = joined(apart_)
    program = generate(graph, config)
    memory = start_image(program, feeds_of(graph))
    rtl, model = (make_backend(b).run(program, config, memory, Options()) for b in ("rtl", "cycle"))
    assert differences(rtl, model) == []
    run = execute(graph, config, program)
    assert run.differing() == []
    y = program.tensor("y")
    assert np.array_equal(rtl.image.read(y), run.reference["y"])
