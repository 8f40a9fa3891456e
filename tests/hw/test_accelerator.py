"""The whole core with stand-in compute units: programs, control flow, errors, the host's view."""

import dataclasses

import numpy as np
import pytest

from hw.accelerator import Accelerator, verilog
from hw.arch.config import AcceleratorConfig, ConfigError
from hw.arch.isa import (
    MAX_WAIT,
    Add,
    Array,
    ArrayMode,
    Begin,
    Branch,
    Condition,
    Drain,
    Elementwise,
    ErrorCode,
    Fence,
    Halt,
    Load,
    Loop,
    Next,
    Reduce,
    Scalar,
    Set,
    Sfu,
    Space,
    Store,
    Unit,
    deltas,
    encode,
    strides,
)
from hw.arch.registers import (
    COUNTERS,
    ID_VALUE,
    SEQUENCER_UNIT,
    VERSION_VALUE,
    Control,
    Register,
    Status,
    counter_offset,
)
from tests.hw.bench import HALT, PROGRAM_BASE, Bench, run

pytestmark = pytest.mark.rtl
TINY = AcceleratorConfig.load("tiny")
BYTES = TINY.port.bytes
BANK = TINY.memory.activation_bank_rows
STALLS = pytest.mark.parametrize("stall", [0.0, 0.4])
ENDED = Status.DONE | Status.IRQ


def waits(**distances):
    return tuple(distances.get(unit.name.lower(), 0) for unit in Unit)


def bytes_of(seed, count):
    return np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)


def copied(memory, instruction):
    """Bytes of a transfer, by strides and loops over its runs."""
    steps = strides(instruction.counts, instruction.dram_deltas)
    x, y, z = instruction.counts
    parts = []
    for k in range(z):
        for j in range(y):
            for i in range(x):
                start = instruction.dram + i * steps[0] + j * steps[1] + k * steps[2]
                parts.append(memory[start : start + instruction.beats * BYTES])
    return np.concatenate(parts)


@STALLS
def test_load_and_store_copy(stall):
    content = bytes_of(0, 40 * BYTES)
    program = [
        Load(dram=0x100, local=4, beats=40),
        Store(waits=waits(load=1), dram=0x1000, local=4, beats=40),
        HALT,
    ]
    result = run(program, data=[(0x100, content)], stall=stall)
    assert result.status == ENDED and result.error == 0 and result.halt == 0
    assert np.array_equal(result.memory[0x1000 : 0x1000 + content.size], content)
    assert not np.array_equal(result.memory[0x1000 : 0x1000 + content.size], content[::-1])
    assert result.counters["read_beats"] == result.counters["write_beats"] == 40
    assert result.counters["instructions"] == 4
    assert [unit for _, unit in result.done] == [Unit.LOAD, Unit.STORE]


@STALLS
@pytest.mark.parametrize("seed", range(2))
def test_nests_of_runs_across_pages(seed, stall):
    """Gather with a strided LOAD, scatter with a strided STORE, three of each, overlapping."""
    generator = np.random.default_rng(seed)
    content = bytes_of(seed, 0x4000)
    program, pairs = [], []
    for k in range(3):
        counts = tuple(int(c) for c in generator.integers(1, 4, 3))
        beats = int(generator.choice([1, 3, 17, 33]))
        runs = int(np.prod(counts))
        local = 2 * BANK * k + int(generator.integers(0, 10))
        step = tuple(int(s) * BYTES for s in generator.integers(-40, 60, 3))
        # Runs follow one another on chip; in DRAM the load's may overlap, the store's may not.
        rows = deltas(counts, (beats, beats * counts[0], beats * counts[0] * counts[1]))
        load = Load(
            dram=0x1FE0 + 4 * k,
            local=local,
            beats=beats,
            counts=counts,
            dram_deltas=deltas(counts, step),
            local_deltas=rows,
        )
        gap = (beats + 1) * BYTES
        spread = (gap, gap * counts[0], gap * counts[0] * counts[1])
        store = Store(
            waits=waits(load=3),
            dram=0x4F00 + 0x1000 * k,
            local=local,
            beats=beats,
            counts=counts,
            dram_deltas=deltas(counts, spread),
            local_deltas=rows,
        )
        if runs * beats > 2 * BANK:
            continue
        pairs.append((load, store))
    program = [load for load, _ in pairs]
    for k, (_, store) in enumerate(pairs):
        program.append(dataclasses.replace(store, waits=waits(load=len(pairs) - k)))
    result = run([*program, HALT], data=[(0, content)], seed=seed, stall=stall)
    assert result.error == 0 and result.halt == 0, result
    for load, store in pairs:
        assert np.array_equal(copied(result.memory, store), copied(result.memory, load))
    moved = sum(load.beats * int(np.prod(load.counts)) for load, _ in pairs)
    assert result.counters["write_beats"] == moved > 0


def test_spaces_other_than_activation_do_not_touch_it():
    program = [
        Load(dram=0x100, local=0, beats=8),
        Load(dram=0x200, space=Space.WEIGHT, local=0, beats=8),
        Load(dram=0x200, space=Space.PARAMETER, local=0, beats=8),
        Load(dram=0x200, space=Space.TABLE, local=0, beats=8),
        Store(waits=waits(load=1), dram=0x1000, local=0, beats=8),
        HALT,
    ]
    content = bytes_of(3, 32)
    result = run(program, data=[(0x100, content), (0x200, 255 - content)])
    assert result.error == 0 and np.array_equal(result.memory[0x1000:0x1020], content)


def numbers(*values):
    """Store programs leave numbers in DRAM by way of the address: here, loads of one beat each."""
    return [(0x2000 + BYTES * k, value.to_bytes(BYTES, "little")) for k, value in enumerate(values)]


def trail(result, count):
    """What `leave` wrote, one number per trip."""
    return [int(v) for v in result.memory[0x1000 : 0x1000 + count * BYTES].view("<u4")]


def leave(register, position):
    """Copy number[register] to place `position` (a register): one LOAD, one STORE."""
    return [
        Load(waits=waits(store=0), dram=0x2000, dram_register=register, local=0, beats=1),
        Store(waits=waits(load=1), dram=0x1000, dram_register=position, local=0, beats=1),
        Fence(),
        Add(rd=position, rs=position, immediate=BYTES),
    ]


@STALLS
def test_nested_loops_and_registers(stall):
    program = [
        Set(rd=1, immediate=0),  # source
        Set(rd=2, immediate=0),  # destination
        Set(rd=5, immediate=1),
        Loop(level=0, count=3),
        Loop(level=3, count=1, count_register=5),  # twice
        *leave(1, 2),
        Next(level=3),
        Add(rd=1, rs=1, immediate=BYTES),
        Next(level=0),
        HALT,
    ]
    result = run(program, data=numbers(10, 20, 30, 40), stall=stall)
    assert result.error == 0
    assert trail(result, 7) == [10, 10, 20, 20, 30, 30, 0]


def test_a_loop_runs_at_least_once_and_register_zero_is_zero():
    program = [
        Set(rd=0, immediate=BYTES),  # discarded
        Set(rd=3, immediate=-7),
        Loop(level=1, count=2, count_register=3),
        *leave(0, 2),
        Next(level=1),
        HALT,
    ]
    result = run(program, data=numbers(10, 20))
    assert result.error == 0 and trail(result, 2) == [10, 0]


def test_branches():
    bench = Bench()

    async def scenario(ctx):
        for condition, left, right, taken in (
            (Condition.ALWAYS, 0, 0, True),
            (Condition.EQUAL, 5, 5, True),
            (Condition.EQUAL, 5, -5, False),
            (Condition.NOT_EQUAL, 5, -5, True),
            (Condition.NOT_EQUAL, 5, 5, False),
            (Condition.LESS, -1, 0, True),
            (Condition.LESS, 0, 0, False),
            (Condition.GREATER_EQUAL, 0, -(1 << 31), True),
            (Condition.GREATER_EQUAL, -1, 0, False),
        ):
            program = [
                Set(rd=1, immediate=left),
                Set(rd=2, immediate=right),
                Branch(condition=condition, rs=1, rt=2, target=5),
                Halt(1),
                Halt(2),
            ]
            result = await bench.run(ctx, program)
            assert result.halt == (2 if taken else 1), (condition, left, right)

    bench.simulate(scenario)


def test_add_and_backward_branch():
    program = [
        Set(rd=1, immediate=3),
        Add(rd=4, rs=4, rt=1, immediate=100),  # 103, 205, 306
        Add(rd=1, rs=1, immediate=-1),
        Branch(condition=Condition.NOT_EQUAL, rs=1, rt=0, target=2),
        Set(rd=5, immediate=306),
        Branch(condition=Condition.EQUAL, rs=4, rt=5, target=8),
        Halt(9),
        HALT,
    ]
    result = run(program)
    assert (result.error, result.halt) == (0, 0)
    assert result.counters["instructions"] == 1 + 1 + 3 * 3 + 2 + 1


@pytest.mark.parametrize("signed, expected", [(0, 0x91), (1, 0x91 - 256)])
def test_scalar_waits_and_extends(signed, expected):
    program = [
        Set(rd=6, immediate=2),
        Load(dram=0x100, local=BANK, beats=4),
        Scalar(waits=waits(load=1), rd=1, row=BANK + 1, row_register=6, lane=2, signed=signed),
        Set(rd=2, immediate=expected),
        Branch(condition=Condition.EQUAL, rs=1, rt=2, target=7),
        Halt(1),
        HALT,
    ]
    content = bytearray(16)
    content[3 * BYTES + 2] = 0x91
    result = run(program, data=[(0x100, content)])
    assert (result.error, result.halt) == (0, 0)
    assert run(program, data=[(0x100, bytes(16))]).halt == 1


def test_waits_order_units_and_distances_count_back():
    program = [
        Array(),
        Array(),
        Drain(waits=waits(array=2)),
        Drain(waits=waits(array=1)),
        Elementwise(waits=waits(drain=1)),
        Fence(),
        HALT,
    ]
    result = run(program)
    assert result.error == 0
    issue = {}
    done = {}
    for log, times in ((result.issue, issue), (result.done, done)):
        for cycle, unit in log:
            times.setdefault(unit, []).append(cycle)
    assert issue[Unit.DRAIN][0] == done[Unit.ARRAY][0] + 1
    assert issue[Unit.DRAIN][1] > done[Unit.ARRAY][1]
    assert issue[Unit.VECTOR][0] == done[Unit.DRAIN][1] + 1


FAULTS = {
    "unknown opcode": (ErrorCode.OPCODE, [bytes(64)]),
    "bits behind the last field": (ErrorCode.OPCODE, [encode(Fence())[:-1] + b"\x80"]),
    "fingerprint": (ErrorCode.FINGERPRINT, [Begin(TINY.fingerprint ^ 1 << 63, 0)]),
    "feature of BEGIN": (ErrorCode.UNSUPPORTED, [Begin(TINY.fingerprint, 1 << 15)]),
    "SFU": (ErrorCode.UNSUPPORTED, [Sfu()]),
    "hFA": (ErrorCode.UNSUPPORTED, [Array(mode=ArrayMode.HFA)]),
    "attention": (ErrorCode.UNSUPPORTED, [Array(weights_from_activation=1)]),
    "residual": (ErrorCode.UNSUPPORTED, [Drain(residual=1)]),
    "table in DRAIN": (ErrorCode.UNSUPPORTED, [Drain(table=1)]),
    "transform": (ErrorCode.UNSUPPORTED, [Drain(transform_t=1)]),
    "zero trips": (ErrorCode.FIELD, [Load(counts=(1, 0, 1))]),
    "zero beats": (ErrorCode.FIELD, [Store(beats=0)]),
    "zero window": (ErrorCode.FIELD, [Drain(window=(1, 1, 0))]),
    "array count": (ErrorCode.FIELD, [Array(counts=(1, 1, 1, 1, 1, 1, 1, 0))]),
    "operation": (ErrorCode.FIELD, [Elementwise(op=5)]),
    "reduction": (ErrorCode.FIELD, [Reduce(op=3)]),
    "table": (ErrorCode.FIELD, [Elementwise(table=TINY.memory.tables + 1)]),
    "condition": (ErrorCode.FIELD, [Branch(condition=5)]),
    "lane": (ErrorCode.ADDRESS, [Scalar(lane=TINY.lane_block)]),
    "wait before the first": (ErrorCode.BAD_WAIT, [Array(), Array(waits=waits(array=2))]),
    "wait of SCALAR": (ErrorCode.BAD_WAIT, [Scalar(waits=waits(load=1))]),
    "wait for SFU": (ErrorCode.BAD_WAIT, [Array(waits=waits(sfu=1))]),
    "NEXT without LOOP": (ErrorCode.LOOP, [Next(level=2)]),
    "closed loop": (ErrorCode.LOOP, [Loop(level=2, count=1), Next(level=2), Next(level=2)]),
    "past the end": (ErrorCode.FETCH_RANGE, [Fence()]),
    "branch beyond the end": (ErrorCode.FETCH_RANGE, [Branch(target=2)]),
}


def test_faults_of_the_sequencer():
    """All in one simulation: a start after an error must find a clean core."""
    bench = Bench()

    async def scenario(ctx):
        for name, (code, program) in FAULTS.items():
            result = await bench.run(ctx, program)
            assert (result.error, result.unit) == (code, SEQUENCER_UNIT), name
            last = len(program) - isinstance(program[0], Begin)
            assert result.pc == (last + 1 if name == "past the end" else last), name
            assert result.status == ENDED | Status.ERROR
            result = await bench.run(ctx, [HALT])
            assert (result.error, result.pc, result.status) == (0, 0, ENDED), name

    bench.simulate(scenario)


def test_the_first_instruction_must_be_begin():
    bench = Bench()
    results = []

    async def scenario(ctx):
        bench.place = lambda program: Bench.place(bench, program)
        code = encode(Fence()) + encode(HALT)
        bench.data[PROGRAM_BASE : PROGRAM_BASE + len(code)] = np.frombuffer(code, np.uint8)
        bench.place = lambda program: 2
        results.append(await bench.run(ctx, []))

    bench.simulate(scenario)
    assert (results[0].error, results[0].pc) == (ErrorCode.FINGERPRINT, 0)


def test_the_farthest_wait_is_legal_after_as_many_dispatches():
    bench = Bench()
    farthest = [Drain(waits=waits(drain=MAX_WAIT)), HALT]

    async def scenario(ctx):
        result = await bench.run(ctx, [Drain()] * MAX_WAIT + farthest)
        assert result.error == 0 and len(result.done) == MAX_WAIT + 1
        result = await bench.run(ctx, [Drain()] * (MAX_WAIT - 1) + farthest)
        assert (result.error, result.pc) == (ErrorCode.BAD_WAIT, MAX_WAIT)

    bench.simulate(scenario)


UNIT_FAULTS = {
    "load beyond the scratchpad": (
        Unit.LOAD,
        ErrorCode.ADDRESS,
        [Load(local=8 * BANK - 1, beats=2), Fence()],
    ),
    "load beyond the weights": (
        Unit.LOAD,
        ErrorCode.ADDRESS,
        [Load(space=Space.WEIGHT, local=TINY.weight_beats, beats=1), Fence()],
    ),
    "load between beats": (Unit.LOAD, ErrorCode.ADDRESS, [Load(dram=2), Fence()]),
    "store beyond the scratchpad": (
        Unit.STORE,
        ErrorCode.ADDRESS,
        [Store(dram=0x1000, local=8 * BANK - 2, beats=4), Fence()],
    ),
    "array row": (Unit.ARRAY, ErrorCode.ADDRESS, [Array(activation=8 * BANK), Fence()]),
    "weight group": (Unit.ARRAY, ErrorCode.ADDRESS, [Array(weight=TINY.weight_beats), Fence()]),
    "scalar row": (SEQUENCER_UNIT, ErrorCode.ADDRESS, [Scalar(row=8 * BANK), Fence()]),
    "store below the window": (
        Unit.STORE,
        ErrorCode.STORE_WINDOW,
        [Store(dram=0x1000 - BYTES, beats=2), Fence()],
    ),
    "store above the window": (
        Unit.STORE,
        ErrorCode.STORE_WINDOW,
        [Store(dram=0x2000 - BYTES, beats=2), Fence()],
    ),
}


@STALLS
def test_faults_of_units(stall):
    before = bytes_of(5, 0x3000)
    bench = Bench(stall=stall)
    bench.data[: before.size] = before

    async def scenario(ctx):
        for name, (unit, code, program) in UNIT_FAULTS.items():
            result = await bench.run(ctx, [*program, HALT], window=(0x1000, 0x2000))
            assert (result.error, result.unit) == (code, unit), name
            assert result.status == ENDED | Status.ERROR
            if unit != SEQUENCER_UNIT:
                assert result.pc == 1, "the latest dispatch"
            assert np.array_equal(result.memory[: before.size], before), f"{name}: memory changed"

    bench.simulate(scenario)


def test_a_store_that_fills_its_window_is_legal():
    program = [Store(dram=0x1000, beats=4), Store(dram=0x2000 - 4 * BYTES, beats=4), HALT]
    assert run(program, window=(0x1000, 0x2000)).error == 0


def test_two_units_on_one_bank_port_are_an_error():
    program = [
        Store(dram=0x1000, local=0, beats=200),
        Loop(level=0, count=20),
        Array(activation=BANK - 1),
        Next(level=0),
        HALT,
    ]
    result = run(program)
    assert (result.error, result.unit) == (ErrorCode.BANK_CONFLICT, Unit.STORE)
    program[2] = Array(activation=BANK)
    assert run(program).error == 0


@pytest.mark.parametrize(
    "failing, unit",
    [
        (range(0x180, 0x184), Unit.LOAD),
        (range(0x1000, 0x1004), Unit.STORE),
        (range(PROGRAM_BASE + 64, PROGRAM_BASE + 68), SEQUENCER_UNIT),
    ],
)
def test_failed_responses(failing, unit):
    program = [
        Load(dram=0x100, beats=64),
        Store(waits=waits(load=1), dram=0x1000, beats=64),
        Fence(),
        HALT,
    ]
    result = run(program, failing=failing)
    assert (result.error, result.unit) == (ErrorCode.AXI_RESPONSE, unit)
    assert run(program, failing=range(0x6000, 0x6004)).error == 0


def test_watchdog_ends_a_run_without_progress():
    result = run([Branch(target=1)], watchdog=300)
    assert (result.error, result.unit) == (ErrorCode.WATCHDOG, SEQUENCER_UNIT)
    assert 300 <= result.end < 450


@STALLS
def test_abort_lets_open_bursts_end_and_a_start_after_it_works(stall):
    content = bytes_of(1, 1024)
    program = [
        Loop(level=0, count=50),
        Load(dram=0x100, local=0, beats=200),
        Store(waits=waits(load=1), dram=0x1000, local=0, beats=200),
        Next(level=0),
        HALT,
    ]
    copy = [
        Load(dram=0x100, local=4, beats=100),
        Store(waits=waits(load=1), dram=0x3000, local=4, beats=100),
        HALT,
    ]
    bench = Bench(stall=stall, seed=4)
    bench.data[0x100 : 0x100 + 1024] = content
    results = []

    async def scenario(ctx):
        for abort_at in (3, 150, 400):
            result = await bench.run(ctx, program, abort_at=abort_at)
            assert (result.error, result.unit) == (ErrorCode.ABORTED, SEQUENCER_UNIT)
            assert not bench.memory.bursts and not bench.memory.responses
            bench.data[0x3000:0x4000] = 0
            results.append(await bench.run(ctx, copy))
        results.append(await bench.run(ctx, [Next(level=0)]))
        results.append(await bench.run(ctx, copy))

    bench.simulate(scenario)
    assert results[-2].error == ErrorCode.LOOP
    for result in (*results[:-2], results[-1]):
        assert (result.error, result.halt, result.status) == (0, 0, ENDED)
        assert np.array_equal(result.memory[0x3000 : 0x3000 + 400], content[:400])
        assert result.counters["read_beats"] == 100 and result.pc == 0


def test_registers():
    bench = Bench()

    async def scenario(ctx):
        for register, value in (
            (Register.ID, ID_VALUE),
            (Register.VERSION, VERSION_VALUE),
            (Register.FINGERPRINT_LOW, TINY.fingerprint & 0xFFFFFFFF),
            (Register.FINGERPRINT_HIGH, TINY.fingerprint >> 32),
            (Register.FEATURES, TINY.feature_mask),
            (Register.STATUS, 0),
        ):
            assert await bench.read(ctx, register) == value and bench.response == 0
        assert await bench.write(ctx, Register.ID, 0) == 2, "read-only"
        assert await bench.write(ctx, 0x3FC, 0) == 2, "no such register"
        assert await bench.read(ctx, 0x3FC) == 0 and bench.response == 2
        assert await bench.read(ctx, counter_offset(COUNTERS[-1]) + 4) == 0
        assert bench.response == 0
        assert await bench.read(ctx, counter_offset(COUNTERS[-1]) + 8) == 0
        assert bench.response == 2
        await bench.run(ctx, [Halt(5)])
        assert await bench.read(ctx, Register.HALT_CODE) == 5
        assert ctx.get(bench.dut.irq)
        await bench.write(ctx, Register.CONTROL, Control.CLEAR_IRQ)
        assert not ctx.get(bench.dut.irq)
        assert await bench.read(ctx, Register.STATUS) == Status.DONE
        # While the core is busy, settings are locked and a second start is ignored.
        bench.place([Branch(target=1)])
        await bench.write(ctx, Register.CONTROL, Control.START)
        assert await bench.read(ctx, Register.STATUS) == Status.BUSY
        assert await bench.write(ctx, Register.PROGRAM_BASE, 0) == 2
        assert await bench.read(ctx, Register.PROGRAM_BASE) == PROGRAM_BASE
        await bench.write(ctx, Register.CONTROL, Control.START)
        cycles = [await bench.read(ctx, counter_offset("cycles")) for _ in range(2)]
        assert cycles[1] == cycles[0] + 2 > 4
        await bench.write(ctx, Register.CONTROL, Control.ABORT)

    bench.simulate(scenario)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_features_that_the_circuit_lacks_are_refused():
    config = dataclasses.replace(TINY, features=("depthwise", "hfa"))
    with pytest.raises(ConfigError, match="feature 'hfa' of configuration 'tiny'"):
        verilog(config)
    assert Accelerator is not None
