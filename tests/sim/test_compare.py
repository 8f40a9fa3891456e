"""Host image, comparison, timeline and layer figures; each equality with a corrupted twin."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.axes import standard, transposed
from hw.arch.isa import Begin, Drain, Halt, Load, Space, Store, Unit
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.numerics import pack_parameters
from hw.arch.program import Block, Layer, Program, Tensor
from sim import host
from sim.backend import BackendResult, Options, timeline
from sim.backends import make_backend
from sim.compare import compare, difference, storing_instruction
from sim.energy import EnergyTable
from sim.errors import InputError
from sim.functional import FunctionalMachine
from sim.functional.backend import dynamic_trace
from sim.image import Image, overwritten
from sim.tally import collect


@pytest.fixture
def relu(tiny, relu_build):
    return Program.load(relu_build() / "program.bin")


def tensor(signed=False, order=(0, 1, 2, 3, 4), segments=(6,)):
    """A tensor whose file has its axes in another order."""
    lane_map = LaneMap.joined([LaneMap.dense(size, 4) for size in segments])
    layout = TensorLayout(lane_map, 2, 1, 3)
    shape = (1, sum(segments), 2, 1, 3)
    axes = transposed(standard(shape), shape, order)
    seen = tuple(shape[k] for k in order)
    return Tensor("t", 32, layout, signed, 0.5, -3 if signed else 7, seen, axes)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (0, 2, 3, 4, 1), (4, 1, 3, 0, 2)])
@pytest.mark.parametrize("segments", [(6,), (1, 5)])
def test_tensors_go_in_and_come_out(signed, order, segments):
    t = tensor(signed, order, segments)
    memory = np.zeros(256, np.uint8)
    limits = np.iinfo(host.dtype(t))
    value = np.random.default_rng(0).integers(limits.min, limits.max + 1, t.shape)
    value = value.astype(host.dtype(t))
    host.place(memory, t, value)
    assert np.array_equal(host.read(memory, t), value)
    assert not memory[:32].any()
    for plain in [(0, 0, 0, 0, 0), (0, 5, 1, 0, 2), (0, 2, 0, 0, 1)]:
        index = tuple(plain[k] for k in order)
        assert memory[host.byte_of(t, index)] == value[index].astype(np.uint8)
    real = host.dequantize(t, value)
    host.place(memory, t, host.codes(t, real))
    assert np.array_equal(host.read(memory, t), value)
    damaged = [(0, 4, 1, 0, 0)[k] for k in order]
    memory[host.byte_of(t, tuple(damaged))] ^= 0x40
    wrong = np.argwhere(host.read(memory, t) != value)
    assert wrong.tolist() == [damaged]


def test_inputs_that_do_not_fit(relu):
    shape = (1, 8, 2, 3, 4)
    for inputs, message in (
        ({}, "input 'clip_q' is missing"),
        ({"clip_q": np.zeros((1, 2), np.uint8)}, r"shape \[1, 8, 2, 3, 4\], not \[1, 2\]"),
        ({"clip_q": np.zeros(shape, np.int8)}, "float32 or uint8, not int8"),
        ({"clip_q": np.zeros(shape, np.uint8), "b": np.zeros(1)}, "no input 'b'"),
    ):
        with pytest.raises(InputError, match=message):
            host.start_image(relu, inputs)


def run(program, config, **changes):
    codes = np.random.default_rng(1).integers(0, 256, (1, 8, 2, 3, 4)).astype(np.uint8)
    memory = host.start_image(program, {"clip_q": codes})
    result = make_backend("functional").run(program, config, memory, changes.get("options"))
    return codes, result


@pytest.fixture
def options():
    return Options(check_reads=True)


def test_compare_names_the_first_difference(relu, tiny, options):
    codes, result = run(relu, tiny, options=options)
    reference = {"clip_q": codes, "relu_q": np.maximum(codes, 100)}
    found = compare(relu, result.image, reference, result.trace)
    assert found.equal
    assert found.compared == 2

    memory = result.memory.copy()
    output = relu.tensor("relu_q")
    for index in ((0, 3, 1, 2, 0), (0, 7, 0, 0, 0)):
        memory[host.byte_of(output, index)] ^= 1
    found = compare(relu, Image(memory), reference, result.trace)
    assert not found.equal
    assert found.differing == ("relu_q",)
    first = found.first
    assert (first.tensor, first.index, first.layer) == ("relu_q", (0, 3, 1, 2, 0), "relu")
    assert (first.differences, first.elements, first.instruction) == (2, 192, 3)
    assert abs(first.expected - first.got) == 1
    assert "relu_q" in str(first)
    with pytest.raises(KeyError, match="relu_q"):
        compare(relu, Image(memory), {"clip_q": codes})
    with pytest.raises(ValueError, match="has shape"):
        compare(relu, Image(memory), {**reference, "clip_q": codes[:, :4]})
    assert not compare(dataclasses.replace(relu, tensors=()), Image(memory), {}).equal


def test_difference_counts():
    a = np.arange(12).reshape(3, 4)
    assert difference("a", a, a.copy()) is None
    b = a.copy()
    b[1, 2:] = 0
    found = difference("a", a, b)
    assert (found.index, found.expected, found.got) == ((1, 2), 6, 0)
    assert (found.differences, found.elements) == (2, 12)


def run_over(relu, tiny):
    """A program whose second layer stores where the first one's operand lay; and its run."""
    first, second = relu.tensors
    body = relu.instructions[1:-1]
    back = [dataclasses.replace(i, dram=first.address) for i in body if isinstance(i, Store)]
    begin, halt = relu.instructions[0], relu.instructions[-1]
    last = 1 + len(body)
    later = dataclasses.replace(second, name="later", address=first.address)
    program = dataclasses.replace(
        relu,
        instructions=(begin, *body, *back, halt),
        store_window=(0, relu.memory_bytes),
        tensors=(first, second, later),
        layers=(*relu.layers, Layer("l", "l", last, last + len(back), 0, 0, ("later",))),
    )
    return program, *run(program, tiny, options=Options(check_reads=True))


def test_what_a_run_writes_over_is_compared_as_it_was(relu, tiny):
    program, codes, result = run_over(relu, tiny)
    ceiling = np.maximum(codes, 100)
    reference = {"clip_q": codes, "relu_q": ceiling, "later": ceiling}
    assert set(result.image.copies) == {("clip_q", 0)}
    assert not np.array_equal(host.read(result.memory, program.tensor("clip_q")), codes)
    found = compare(program, result.image, reference, result.trace)
    assert (found.equal, found.compared) == (True, 3)
    lost, keeper = overwritten(program, result.trace, tiny.port.bytes)
    assert [(c.tensor, c.execution, c.stores) for c in lost] == [("clip_q", 0, 0)]
    assert keeper.made["relu_q"] == keeper.made["later"] == 1
    # The twins: the copy differs, and the layer before is blamed, not what wrote over it.
    wrong = {**reference, "clip_q": codes ^ 1}
    found = compare(program, result.image, wrong, result.trace)
    assert found.differing == ("clip_q",) and found.first.instruction == -1
    plain = Image(result.memory)
    assert compare(program, plain, reference, result.trace).differing == ("clip_q",)


def test_each_execution_has_a_copy_of_its_own(relu, tiny):
    """A layer that runs twice: its first result is kept, its second one is in memory."""
    program, _, result = run_over(relu, tiny)
    trace = [step for step in result.trace if step.pc < relu.layers[0].last]
    blocks = (Block(0, relu.layers[0].last, "trip"),)
    looped = dataclasses.replace(program, layers=relu.layers, blocks=blocks)
    lost, keeper = overwritten(looped, [*trace, *trace, result.trace[-1]], tiny.port.bytes)
    stores = sum(isinstance(step.instruction, Store) for step in trace)
    assert [(c.tensor, c.execution, c.stores) for c in lost] == [("relu_q", 0, stores)]
    assert lost[0].steps == len(trace) and keeper.made["relu_q"] == 2


def test_storing_instruction_is_the_last(relu, tiny):
    trace = dynamic_trace(relu, tiny, relu.memory())
    assert storing_instruction(trace, 0x2000 + 191, 4) == 3
    assert storing_instruction(trace, 0x2000 + 192, 4) == -1
    assert storing_instruction(trace, 0x1000, 4) == -1
    again = [*trace, trace[3]._replace(pc=9)]
    assert storing_instruction(again, 0x2000, 4) == 9


def times(relu, tiny):
    trace = dynamic_trace(relu, tiny, relu.memory())
    issue = {Unit.LOAD: np.array([5]), Unit.VECTOR: np.array([60]), Unit.STORE: np.array([120])}
    end = {Unit.LOAD: np.array([55]), Unit.VECTOR: np.array([110]), Unit.STORE: np.array([180])}
    return trace, issue, end


def test_timeline_joins_units(relu, tiny):
    trace, issue, end = times(relu, tiny)
    line = timeline(trace, issue, end)
    assert line.pc.tolist() == [1, 2, 3]
    assert line.unit.tolist() == [Unit.LOAD, Unit.VECTOR, Unit.STORE]
    assert line.end.tolist() == [55, 110, 180]
    issue[Unit.LOAD] = np.array([5, 6])
    with pytest.raises(ValueError, match="LOAD has 2 issue times for 1 instructions"):
        timeline(trace, issue, end)


def test_layers_add_up(relu, tiny, options):
    """Cycles of layers add up to the run; traffic and energy add up over layers."""
    half = dataclasses.replace(relu.layers[0], name="second", first=3)
    program = dataclasses.replace(
        relu, layers=(dataclasses.replace(relu.layers[0], last=3, tensors=()), half)
    )
    _, result = run(program, tiny, options=options)
    trace, issue, end = times(program, tiny)
    line = timeline(trace, issue, end)
    timed = BackendResult(result.image, 190, line, {"cycles": 190}, 0.5, 0, trace)
    table = EnergyTable.load("asic_45nm")
    whole = collect(program, tiny, "cycle", timed, trace, None, False, table)
    assert [layer.cycles for layer in whole.layers] == [110, 70]
    assert [layer.first_cycle for layer in whole.layers] == [5, 120]
    assert [layer.last_cycle for layer in whole.layers] == [110, 180]
    assert [layer.read_bytes for layer in whole.layers] == [192, 0]
    assert [layer.write_bytes for layer in whole.layers] == [0, 192]
    assert whole.dram_bytes == 384
    assert whole.sim_khz == pytest.approx(0.38)
    assert whole.mac_per_multiplier_cycle == pytest.approx(2000 / (16 * 190))
    assert whole.energy_j == pytest.approx(sum(whole.energy.values()))
    dram = sum(layer.energy.get("DRAM", 0) for layer in whole.layers)
    assert dram == pytest.approx(whole.energy["DRAM"])
    assert whole.energy["leakage"] > 0
    assert whole.instructions.layer == (0, 0, 1)
    assert whole.instructions.unit == ("LOAD", "VECTOR", "STORE")
    untimed = collect(program, tiny, "functional", result, trace, None, False, table)
    assert untimed.energy["DRAM"] == whole.energy["DRAM"]
    assert untimed.actions == {k: v for k, v in whole.actions.items() if k != "cycle"}
    assert "leakage" not in untimed.energy


def test_saturation_is_reported_per_layer(make_bench, tiny):
    """Counted where DRAIN clamps: an all-zero accumulator saturates at the low limit."""
    parameters = pack_parameters([0, 0, 1000, 1000], [1 << 23] * 4, [30] * 4)
    code = (
        Begin(tiny.fingerprint),
        Load(dram=0x800, space=Space.PARAMETER, beats=8),
        Drain(low=0),
        Store(dram=0x900, local=0),
        Halt(),
    )
    program = Program(
        network="n",
        config="tiny",
        fingerprint=tiny.fingerprint,
        instructions=code,
        code_address=0,
        image=((0x800, parameters),),
        memory_bytes=0x1000,
        store_window=(0x900, 0x1000),
        inputs=(),
        feeds=(),
        outputs=(),
        tensors=(),
        layers=(Layer("a", "a", 1, 2, 0, 0), Layer("b", "b", 2, 3, 0, 0)),
    )
    machine = FunctionalMachine(tiny, program.memory(), program.store_window)
    machine.state.accumulator.write(np.arange(1), np.zeros((1, 4), np.int64))
    assert machine.run(program.code()).saturated == 2
    result = make_backend("functional").run(program, tiny, program.memory(), Options())
    assert set(result.saturation) == {2}
    assert result.saturation[2][1] == 4
    whole = collect(
        program, tiny, "functional", result, result.trace, None, False, EnergyTable.load("asic_7nm")
    )
    assert whole.layers[0].saturation is None
    assert 0 <= whole.layers[1].saturation <= 1
