"""Pointwise convolutions that are computed while what they read is still on chip."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.array.follower import Follower
from compiler.backend.build import emit, lay_out
from compiler.cost import NEVER, Cost
from compiler.emit.emitter import RefusedError
from compiler.flow import followers, liveness
from compiler.ir import PairwiseKind, Slice
from compiler.policy import ALL, OBJECTIVES, Policy
from hw.arch.isa import Array, Drain, Load, Space, Store, Unit
from sim.backend import Options
from sim.backends import make_backend
from sim.functional.backend import dynamic_trace
from sim.functional.errors import MachineError
from sim.functional.hazards import HazardError, check_hazards
from sim.host import start_image
from tests.compiler.backend.group_cases import COMMON
from tests.compiler.backend.group_cases import CONFIGS as ATTENTIVE
from tests.compiler.backend.harness import CONFIGS, FOLDING, convolution, execute, feeds_of, kind
from tests.compiler.backend.harness import network as checked
from tests.compiler.backend.test_parted import shuffled
from tests.compiler.backend.test_regions import pairwise
from tests.ladder.compare import differences

MACHINES = {**CONFIGS, **FOLDING}
EIGHT_BANKS = [name for name in MACHINES if MACHINES[name].memory.activation_banks >= 8]


@pytest.fixture
def always(monkeypatch):
    """Whatever fits follows."""
    monkeypatch.setattr(followers, "apart_cost", lambda *_: NEVER)


def both(shape, out, *, context=False, op_kind=PairwiseKind.ADD, signed=False):
    """x and z (of one position, or as large) to y, which is an output, and its convolution."""
    x = kind(shape, 0.05, 9)
    z = kind((*shape[:2], 1, 1) if context else shape, 0.05, 70)
    y = kind(shape, 0.09, -7, True)
    op = pairwise(op_kind, x, z, y, ("x", "z"))
    conv, made = convolution(
        np.random.default_rng(3), y, out, (1, 1, 1), inputs=("y",), output="w", signed=signed
    )
    graph = checked({"x": x, "z": z}, [op, conv], {"y": y, "w": made})
    port = dataclasses.replace(graph.outputs[0], value="y", onnx_name="y")
    return dataclasses.replace(graph, outputs=(*graph.outputs, port))


def followed(graph, config):
    """Its program, and what follows what."""
    settled = lay_out(graph, config, Policy())
    return emit(settled, config), dict(settled.followers)


CASES = {
    "equal maps": ((20, 2, 9, 7), 24, {}),
    "a context": ((20, 3, 5, 7), 24, {"context": True}),
    "a product": ((9, 2, 6, 7), 40, {"op_kind": PairwiseKind.MULTIPLY}),
    "signed": ((12, 1, 8, 8), 9, {"signed": True}),
    "one position": ((40, 1, 1, 1), 20, {}),
    "many tiles": ((8, 1, 40, 40), 12, {}),
    "many results": ((8, 2, 5, 5), 44, {}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("machine", EIGHT_BANKS)
def test_equal_to_both_apart(machine, name, always):
    shape, out, attributes = CASES[name]
    graph = both(shape, out, **attributes)
    program, found = followed(graph, MACHINES[machine])
    assert found == {"w": "y"}
    run = execute(graph, MACHINES[machine], program)
    assert run.differing() == [] and {t.name for t in program.tensors} == {"x", "z", "y", "w"}
    first, second = program.layers
    assert first.tensors == ("y", "w") and second.tensors == () and second.first == second.last


@settings(parent=COMMON, max_examples=30)
@given(
    st.sampled_from([6, 12, 20, 22, 44]),
    st.sampled_from(["channels", "all"]),
    st.booleans(),
    st.sampled_from(EIGHT_BANKS),
)
def test_shuffled_units(channels, gate, multiply, name):
    """The halves of a shuffled sum: blocks that lie anywhere, parted by reader or not."""
    graph, config = shuffled(channels, 3, gate, multiply).graph(), MACHINES[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(followers, "apart_cost", lambda *_: NEVER)
        program, found = followed(graph, config)
    assert len(found) >= 2
    assert execute(graph, config, program).differing() == []


def test_what_both_read_and_write_passes_the_port_once(always):
    config = MACHINES["base"]
    graph = both((64, 4, 14, 14), 48, context=True)
    program, _ = followed(graph, config)
    moved = sum(
        i.beats * int(np.prod(i.counts))
        for i in program.instructions
        if isinstance(i, Store) or (isinstance(i, Load) and i.space == Space.ACTIVATION)
    )
    assert moved == (2 * 4 + 3) * 4 * 14 * 14 + 4 * 4


def stored_beats(program, config):
    """Of the layer that makes two results."""
    layer = next(each for each in program.layers if "+" in each.op)
    code = program.instructions[layer.first : layer.last]
    return sum(i.beats * int(np.prod(i.counts)) for i in code if isinstance(i, Store))


def test_what_is_read_on_chip_only_is_not_stored(always):
    """Neither is it compared; the twin is the same sum with another reader."""
    config, graph = MACHINES["tiny"], both((20, 2, 9, 7), 24)
    positions = 2 * 9 * 7
    program, _ = followed(graph, config)
    assert stored_beats(program, config) == (5 + 6) * positions
    alone = dataclasses.replace(graph, outputs=graph.outputs[:1])
    program, found = followed(alone, config)
    assert found == {"w": "y"} and stored_beats(program, config) == 6 * positions
    run = execute(alone, config, program)
    assert run.differing() == [] and {t.name for t in program.tensors} == {"x", "z", "w"}


def test_of_a_shuffled_sum_the_half_that_others_read_is_stored(always):
    config, graph = MACHINES["tiny"], shuffled(24, 3, "channels", False).graph()
    settled = lay_out(graph, config, Policy())
    missing = followers.unstored(settled)
    sums = set(settled.followers.values())
    assert len(sums) > 1
    assert sums & missing and not set(settled.followers) & missing
    program = emit(settled, config)
    assert not {t.name for t in program.tensors} & missing
    run = execute(graph, config, program)
    assert run.differing() == []
    # The other half is a slice, which is compared.
    slices = [op.output for op in settled.assigned.graph.ops if isinstance(op, Slice)]
    assert set(slices) & missing and set(slices) - missing <= {t.name for t in program.tensors}


def test_what_is_stored_nowhere_cannot_be_read(always, monkeypatch):
    """A twin: the second reader is not asked for."""
    graph, config = _between(), MACHINES["tiny"]
    wider, end = convolution(
        np.random.default_rng(1), graph.type("y"), 8, (1, 3, 3), name="more", inputs=("y",),
        output="u",
    )  # fmt: skip
    ops = (*graph.ops, wider)
    types = {name: graph.type(name) for name in ("a", "b", "y", "w", "v")}
    whole = checked({"x": graph.type("x")}, ops, types | {"u": end})
    program, found = followed(whole, config)
    assert found == {"w": "y"} and execute(whole, config, program).differing() == []
    monkeypatch.setattr(followers, "_read_by_others", lambda *_: ())
    settled = lay_out(whole, config, Policy())
    assert settled.followers == {"w": "y"}
    assert execute(whole, config, emit(settled, config, dram=ALL)).differing() == ["u"]


def test_runs_of_blocks():
    def runs(blocks):
        return Follower(None, blocks, (), None).runs

    assert runs((0, 1, 2)) == [((0, 3), 0)]
    assert runs((4, 5, 1, 3, 2)) == [((0, 2), 4), ((2, 1), 1), ((3, 1), 3), ((4, 1), 2)]
    assert Follower(None, (), (0, 1, 4), None).stores == [(0, 2), (4, 1)]


# Twins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind_of", [Array, Drain])
def test_a_twin_shows(kind_of, always):
    graph, config = both((20, 2, 9, 7), 24), MACHINES["tiny"]
    program, _ = followed(graph, config)
    code = tuple(
        dataclasses.replace(i, zero_point=1) if isinstance(i, kind_of) else i
        for i in program.instructions
    )
    assert code != program.instructions
    wrong = dataclasses.replace(program, instructions=code)
    assert execute(graph, config, wrong).differing() == ["w"]


def test_a_convolution_of_other_rows_shows(always):
    graph, config = both((20, 2, 9, 7), 24), MACHINES["tiny"]
    program, _ = followed(graph, config)
    code = tuple(
        dataclasses.replace(i, activation=i.activation + 1) if isinstance(i, Array) else i
        for i in program.instructions
    )
    with pytest.raises(MachineError, match="nothing has written"):
        execute(graph, config, dataclasses.replace(program, instructions=code))


@pytest.mark.parametrize(
    ("kind_of", "unit"), [(Array, Unit.VECTOR), (Store, Unit.ARRAY), (Store, Unit.DRAIN)]
)
def test_a_wait_left_out_is_a_race(kind_of, unit, always):
    graph, config = both((8, 1, 40, 40), 12), MACHINES["tiny"]
    program, _ = followed(graph, config)

    def without(i):
        waits = list(i.waits)
        waits[unit] = 0
        return dataclasses.replace(i, waits=tuple(waits))

    code = tuple(without(i) if isinstance(i, kind_of) else i for i in program.instructions)
    racing = dataclasses.replace(program, instructions=code)
    with pytest.raises(HazardError):
        check_hazards(dynamic_trace(racing, config, racing.memory()), config, racing.memory_bytes)


def _between(channels=20, made_of_it=44):
    """a and b are made, added to y, and y is convolved: a and b are not needed any more."""
    rng, x = np.random.default_rng(0), kind((8, 2, 9, 7), 0.05, 9)
    a, made = convolution(rng, x, channels, (1, 1, 1), name="a", output="a")
    b, other = convolution(rng, x, channels, (1, 3, 3), name="b", output="b",
                           pad_begin=(0, 1, 1), pad_end=(0, 1, 1))  # fmt: skip
    y = kind(made.shape, 0.09, -7, True)
    op = pairwise(PairwiseKind.ADD, made, other, y, ("a", "b"))
    conv, result = convolution(rng, y, made_of_it, (1, 1, 1), inputs=("y",), output="w")
    last, end = convolution(rng, result, 8, (1, 3, 3), name="last", inputs=("w",), output="v")
    types = {"a": made, "b": other, "y": y, "w": result, "v": end}
    return checked({"x": x}, [a, b, op, conv, last], types)


def test_the_result_takes_memory_from_its_operands_layer_on(always, monkeypatch):
    """While the sum still reads its operands; with memory of theirs it would write over them."""
    graph, config = _between(), MACHINES["tiny"]
    settled = lay_out(graph, config, Policy())
    spans = liveness.intervals(settled)
    assert settled.followers == {"w": "y"}
    assert spans["w"].first == spans["y"].first == spans["a"].last
    assert execute(graph, config, emit(settled, config)).differing() == []

    monkeypatch.setattr(
        "compiler.backend.placement.intervals",
        lambda s: liveness.intervals(dataclasses.replace(s, followers={})),
    )
    assert execute(graph, config, emit(settled, config)).differing() != []


# What follows ---------------------------------------------------------------------------------


def test_what_does_not_follow(always):
    config = MACHINES["tiny"]

    def found(graph):
        return followed(graph, config)[1]

    graph = both((8, 2, 6, 7), 12)
    op, conv = graph.ops
    assert found(graph) == {"w": "y"}
    for other in (
        dataclasses.replace(conv, stride=(1, 2, 2)),
        dataclasses.replace(conv, weight=np.ones((12, 8, 1, 3, 3), np.int8)),
        dataclasses.replace(conv, pad_begin=(0, 1, 1), pad_end=(0, 1, 1)),
        dataclasses.replace(conv, groups=2, weight=np.ones((12, 4, 1, 1, 1), np.int8)),
    ):
        known = {"y": graph.type("y")}
        made = graph.type("w").with_shape((1, *other.infer([known["y"]])))
        inputs = {name: graph.type(name) for name in "xz"}
        assert found(checked(inputs, [op, other], known | {"w": made})) == {}
    # Only one of two.
    twin = dataclasses.replace(conv, name="twin", output="t")
    known = {"y": graph.type("y"), "w": graph.type("w"), "t": graph.type("w")}
    inputs = {name: graph.type(name) for name in "xz"}
    assert found(checked(inputs, [op, conv, twin], known)) == {"w": "y"}
    arm = dataclasses.replace(lay_out(graph, config).assigned.graph, paths={"w": (("b", True),)})
    settled = lay_out(graph, config)
    assigned = dataclasses.replace(settled.assigned, graph=arm)
    elsewhere = dataclasses.replace(settled, assigned=assigned)
    assert followers.follow(elsewhere, config, Policy()).followers == {}


def test_what_both_take_decides(monkeypatch):
    graph, config = both((64, 4, 28, 28), 48, context=True), MACHINES["base"]
    for objective in OBJECTIVES:
        settled = lay_out(graph, config, Policy(objective=objective))
        assert settled.followers == {"w": "y"}
    assert lay_out(graph, config).followers == {}
    monkeypatch.setattr(followers, "apart_cost", lambda *_: Cost(1, 1, 1, 1))
    assert lay_out(graph, config, Policy()).followers == {}


def test_few_banks_hold_no_pair(always):
    assert followed(both((8, 2, 6, 7), 12), MACHINES["folding_ecp5"])[1] == {}


def test_weights_that_do_not_fit_stay_apart(always):
    config = MACHINES["tiny"]
    blocks = config.weight_beats // config.weight_block_beats
    graph = both((4 * blocks + 4, 1, 3, 3), 4)
    assert followed(graph, config)[1] == {}
    settled = dataclasses.replace(lay_out(graph, config), followers={"w": "y"})
    with pytest.raises(Exception, match="they do not fit together") as caught:
        emit(settled, config)
    assert isinstance(caught.value.__cause__, RefusedError)


@pytest.mark.parametrize("machine", ["tiny", "base"])
def test_estimates_are_near(machine, always):
    """Within a fifth of the cycle model where tiles are many."""
    config = ATTENTIVE[machine]
    shape = (12, 2, 20, 18) if machine == "tiny" else (88, 4, 28, 28)
    graph = both(shape, shape[0] // 2, context=True)
    program, _ = followed(graph, config)
    memory = start_image(program, feeds_of(graph))
    cycles = make_backend("cycle").run(program, config, memory, Options()).cycles
    estimate = program.layers[0].tiling["estimate"]
    assert abs(estimate / cycles - 1) < 0.2, (estimate, cycles)


@pytest.mark.cosim
@pytest.mark.parametrize("name", ["sum", "shuffled"])
def test_on_rtl(name, always):
    """Values, and the times of every instruction."""
    config = ATTENTIVE["tiny"]
    graph = {
        "sum": lambda: both((12, 3, 5, 7), 10, context=True),
        "shuffled": lambda: shuffled(12, 2, "channels", False, (2, 4, 5)).graph(),
    }[name]()
    program, found = followed(graph, config)
    assert found
    memory = start_image(program, feeds_of(graph))
    rtl, model = (make_backend(b).run(program, config, memory, Options()) for b in ("rtl", "cycle"))
    assert differences(rtl, model) == []
    run = execute(graph, config, program)
    assert run.differing() == []
    for tensor in program.tensors:
        if tensor.name in found.values() or tensor.name in found:
            assert np.array_equal(rtl.image.read(tensor), run.reference[tensor.name])
