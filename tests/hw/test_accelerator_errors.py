"""Every error code, who is at fault, and that the core starts again afterwards; the host's view."""

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    MAX_WAIT,
    Array,
    ArrayMode,
    Begin,
    Branch,
    Drain,
    Elementwise,
    ErrorCode,
    Fence,
    Fold,
    Halt,
    Load,
    Loop,
    Next,
    Permute,
    Reduce,
    Scalar,
    Space,
    Store,
    Unit,
    encode,
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
from hw.control.registers import READ_LATENCY
from tests.hw.bench import HALT, PROGRAM_BASE, Bench, run, waits

pytestmark = pytest.mark.rtl
TINY = AcceleratorConfig.load("tiny_direct")
BYTES = TINY.port.bytes
BANK = TINY.memory.activation_bank_rows
STALLS = pytest.mark.parametrize("stall", [0.0, 0.4])
ENDED = Status.DONE | Status.IRQ


def bytes_of(seed, count):
    return np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)


FAULTS = {
    "unknown opcode": (ErrorCode.OPCODE, [bytes(64)]),
    "bits behind the last field": (ErrorCode.OPCODE, [encode(Fence())[:-1] + b"\x80"]),
    "fingerprint": (ErrorCode.FINGERPRINT, [Begin(TINY.fingerprint ^ 1 << 63, 0)]),
    "feature of BEGIN": (ErrorCode.UNSUPPORTED, [Begin(TINY.fingerprint, 1 << 15)]),
    "FOLD": (ErrorCode.UNSUPPORTED, [Fold()]),
    "PERMUTE": (ErrorCode.UNSUPPORTED, [Permute()]),
    "hFA": (ErrorCode.UNSUPPORTED, [Array(mode=ArrayMode.HFA)]),
    "attention": (ErrorCode.UNSUPPORTED, [Array(weight_zero_point=-1)]),
    "spread": (ErrorCode.UNSUPPORTED, [Elementwise(spread=1)]),
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
    "fence of nothing": (ErrorCode.FIELD, [Fence(units=0)]),
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
    result = run([Fence(), HALT], begin=False)
    assert (result.error, result.pc) == (ErrorCode.FINGERPRINT, 0)


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
        [Store(dram=0x1800 - BYTES, beats=2), Fence()],
    ),
}


@STALLS
def test_faults_of_units(stall):
    before = bytes_of(5, 0x3000)
    bench = Bench(stall=stall)
    bench.data[: before.size] = before

    async def scenario(ctx):
        for name, (unit, code, program) in UNIT_FAULTS.items():
            result = await bench.run(ctx, [*program, HALT], window=(0x1000, 0x1800))
            assert (result.error, result.unit) == (code, unit), name
            assert result.status == ENDED | Status.ERROR
            if unit != SEQUENCER_UNIT:
                assert result.pc == 1, "the latest dispatch"
            assert np.array_equal(result.memory[: before.size], before), f"{name}: memory changed"

    bench.simulate(scenario)


@STALLS
def test_only_the_bursts_before_the_one_outside_the_window_are_written(stall):
    """The bursts end at a multiple of 4096: one beat below the limit, one above, one far below."""
    before = bytes_of(6, 0x5000)
    bench = Bench(stall=stall)
    bench.data[: before.size] = before
    store = Store(dram=0x4000 - BYTES, beats=2, counts=(2, 1, 1), dram_deltas=(-0x2000, 0, 0))

    async def scenario(ctx):
        result = await bench.run(ctx, [store, Fence(), HALT], window=(0x1000, 0x4000))
        assert (result.error, result.unit) == (ErrorCode.STORE_WINDOW, Unit.STORE)
        memory = result.memory[: before.size].copy()
        memory[0x4000 - BYTES : 0x4000] = before[0x4000 - BYTES : 0x4000]
        assert np.array_equal(memory, before), "no other burst"

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


def test_a_memory_that_never_answers_ends_in_an_interrupt():
    # The code lies below the dead region, so that only the load hangs.
    bench = Bench()
    program = [Load(dram=0x9000, local=0, beats=4), HALT]

    async def scenario(ctx):
        bench.memory.dead_from = 0x9000
        for abort_at, code in ((None, ErrorCode.WATCHDOG), (250, ErrorCode.ABORTED)):
            bench.memory.bursts.clear()
            result = await bench.run(ctx, program, watchdog=300, abort_at=abort_at)
            assert (result.error, result.unit) == (code, SEQUENCER_UNIT)
            assert Status.DONE | Status.ERROR in result.status
            # At least one more watchdog period was granted to the open burst.
            assert 300 + (abort_at or 300) <= result.end < 900
        bench.memory.bursts.clear()
        bench.memory.dead_from = None
        assert (await bench.run(ctx, program)).error == ErrorCode.NONE

    bench.simulate(scenario)


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
        for abort_at in (4, 150, 400):
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
        assert cycles[1] == cycles[0] + READ_LATENCY + 1 > 4
        await bench.write(ctx, Register.CONTROL, Control.ABORT)

    bench.simulate(scenario)
