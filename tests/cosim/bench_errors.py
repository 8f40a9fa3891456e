"""cocotb: every error code is provoked and reported, and the core starts again afterwards.

Runs inside the simulator; tests/cosim/test_cocotb.py starts it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    INSTRUCTION_BYTES,
    Array,
    Begin,
    Branch,
    Condition,
    Drain,
    Elementwise,
    ErrorCode,
    Fold,
    Instruction,
    Load,
    Next,
    Permute,
    Space,
    Store,
    Unit,
)
from hw.arch.registers import SEQUENCER_UNIT, Control, Status
from sim.cosim.bench import Bench
from sim.cosim.job import Job
from tests.ladder.control import looped
from tests.ladder.linking import CODE, DATA, OUTPUT, TOTAL, begin, halt, link
from tests.ladder.programs import RandomProgram

CONFIG = AcceleratorConfig.load("tiny")
ROWS = CONFIG.memory.activation_rows
DATA_IMAGE = RandomProgram(CONFIG, 0).data()


@dataclasses.dataclass(frozen=True)
class Fault:
    """A program and the error that it must end with.

    `pc` None: several instructions may be the latest dispatched, or the fault has none.
    """

    name: str
    code: ErrorCode
    unit: int
    pc: int | None
    body: Sequence[Instruction]
    first: Instruction | None = None
    patch: tuple[int, bytes] | None = None
    """Instruction index and raw bytes that replace it."""
    watchdog: int = 5000
    length: int | None = None


ROW = dict(counts=(8, 1, 1, 1), source0_deltas=(1, 0, 0, 0), destination_deltas=(1, 0, 0, 0))
LONG = Elementwise(
    counts=(200, 10, 1, 1),
    source0=0,
    source0_deltas=(1, -199, 0, 0),
    destination=512,
    destination_deltas=(1, -199, 0, 0),
)

FAULTS = [
    Fault("cleared memory", ErrorCode.OPCODE, SEQUENCER_UNIT, 1, [], patch=(1, bytes(64))),
    Fault(
        "unknown opcode", ErrorCode.OPCODE, SEQUENCER_UNIT, 1, [], patch=(1, b"\x3f" + bytes(63))
    ),
    Fault("no BEGIN", ErrorCode.FINGERPRINT, SEQUENCER_UNIT, 0, [], first=halt()),
    Fault(
        "another configuration",
        ErrorCode.FINGERPRINT,
        SEQUENCER_UNIT,
        0,
        [],
        first=Begin(fingerprint=CONFIG.fingerprint ^ 1 << 63),
    ),
    Fault(
        "missing feature",
        ErrorCode.UNSUPPORTED,
        SEQUENCER_UNIT,
        0,
        [],
        first=Begin(fingerprint=CONFIG.fingerprint, features=0x8000),
    ),
    Fault(
        "two sources in one bank",
        ErrorCode.BANK_CONFLICT,
        Unit.VECTOR,
        1,
        [Fold(source1=1)],
    ),
    Fault(
        "weights of the vector unit beyond their scratchpad",
        ErrorCode.ADDRESS,
        Unit.VECTOR,
        1,
        [Permute(space=1, destination=CONFIG.weight_beats)],
    ),
    Fault(
        "two writers in one bank of weights",
        ErrorCode.BANK_CONFLICT,
        Unit.VECTOR,
        2,
        [
            Load(dram=DATA, space=Space.WEIGHT, local=3 * CONFIG.weight_bank_beats, beats=200),
            Permute(
                counts=(250, 1, 1, 1),
                space=1,
                destination=3 * CONFIG.weight_bank_beats,
                destination_deltas=(1, 0, 0, 0),
            ),
        ],
    ),
    Fault(
        "wait before the first",
        ErrorCode.BAD_WAIT,
        SEQUENCER_UNIT,
        2,
        [Load(dram=DATA), Load(dram=DATA, waits=(2, 0, 0, 0, 0))],
    ),
    Fault(
        "load beyond the scratchpad",
        ErrorCode.ADDRESS,
        Unit.LOAD,
        1,
        [Load(dram=DATA, space=Space.ACTIVATION, local=ROWS - 4, beats=8)],
    ),
    Fault(
        "store from beyond the scratchpad",
        ErrorCode.ADDRESS,
        Unit.STORE,
        1,
        [Store(dram=OUTPUT, local=ROWS - 4, beats=8)],
    ),
    Fault(
        "weights beyond their scratchpad",
        ErrorCode.ADDRESS,
        Unit.LOAD,
        1,
        [Load(dram=DATA, space=Space.WEIGHT, local=CONFIG.weight_beats - 2, beats=4)],
    ),
    Fault(
        "unaligned load",
        ErrorCode.ADDRESS,
        Unit.LOAD,
        1,
        [Load(dram=DATA + 1, space=Space.ACTIVATION, beats=4)],
    ),
    Fault(
        "vector source beyond the scratchpad",
        ErrorCode.ADDRESS,
        Unit.VECTOR,
        1,
        [Elementwise(source0=ROWS - 4, destination=0, **ROW)],
    ),
    Fault(
        "drain beyond the scratchpad",
        ErrorCode.ADDRESS,
        Unit.DRAIN,
        1,
        [
            Drain(
                counts=(8, 1, 1, 1),
                accumulator_deltas=(0, 0, 0, 1, 0, 0, 0),
                destination=ROWS - 4,
                destination_deltas=(0, 1, 0, 0, 0),
            )
        ],
    ),
    Fault(
        "array activations beyond the scratchpad",
        ErrorCode.ADDRESS,
        Unit.ARRAY,
        1,
        [
            Array(
                activation=ROWS - 4,
                counts=(8, 1, 1, 1, 1, 1, 1, 1),
                deltas=(1, 0, 0, 0, 0, 0, 0, 0),
                bounds=(8, 1, 1),
            )
        ],
    ),
    Fault(
        "two units read a bank",
        ErrorCode.BANK_CONFLICT,
        Unit.STORE,
        None,
        [LONG, Store(dram=OUTPUT, local=0, beats=200)],
    ),
    Fault(
        "two units write a bank",
        ErrorCode.BANK_CONFLICT,
        Unit.VECTOR,
        None,
        [LONG, Load(dram=DATA, space=Space.ACTIVATION, local=512, beats=200)],
    ),
    Fault(
        "store below the window",
        ErrorCode.STORE_WINDOW,
        Unit.STORE,
        1,
        [Store(dram=OUTPUT - 4, local=0, beats=4)],
    ),
    Fault(
        "store beyond the window",
        ErrorCode.STORE_WINDOW,
        Unit.STORE,
        1,
        [Store(dram=TOTAL - 12, local=0, beats=4)],
    ),
    Fault(
        "watchdog",
        ErrorCode.WATCHDOG,
        SEQUENCER_UNIT,
        None,
        [Branch(condition=Condition.ALWAYS, target=1)],
        watchdog=600,
    ),
    Fault("NEXT without LOOP", ErrorCode.LOOP, SEQUENCER_UNIT, 1, [Next(level=2)]),
    Fault(
        "jump beyond the program",
        ErrorCode.FETCH_RANGE,
        SEQUENCER_UNIT,
        1,
        [Branch(condition=Condition.ALWAYS, target=100)],
    ),
    Fault("no HALT", ErrorCode.FETCH_RANGE, SEQUENCER_UNIT, 2, [Load(dram=DATA)], length=2),
    Fault("no such condition", ErrorCode.FIELD, SEQUENCER_UNIT, 1, [Branch(condition=7)]),
]
"""Which unit notices is part of the contract: addresses are checked where they are used."""


def program_of(fault: Fault) -> tuple[bytes, int]:
    first = fault.first or begin(CONFIG)
    program = link(CONFIG, [first, *fault.body, halt()], DATA_IMAGE)
    memory = program.memory()
    if fault.patch is not None:
        index, data = fault.patch
        start = CODE + index * INSTRUCTION_BYTES
        memory[start : start + INSTRUCTION_BYTES] = np.frombuffer(data, np.uint8)
    return memory.tobytes(), fault.length or len(program.instructions)


async def run_good(bench: Bench, seed: int) -> None:
    """A correct program must still run (the error left nothing behind)."""
    program = looped(CONFIG, trips=2)
    bench.ram.write(0, program.memory().tobytes())
    job = Job(program.code_address, len(program.instructions), program.store_window)
    assert await bench.run(job) == (ErrorCode.NONE, 0, 0, 0), f"after fault {seed}"
    data = bench.ram.read(DATA, 24 * CONFIG.port.bytes)
    assert bench.ram.read(OUTPUT, 24 * CONFIG.port.bytes) == data


@cocotb.test()
async def every_fault(dut: Any) -> None:
    bench = Bench(dut, TOTAL)
    await bench.reset()
    failures = []
    for index, fault in enumerate(FAULTS):
        bench.stall(index, (0, 30)[index % 2])
        memory, length = program_of(fault)
        bench.ram.write(0, memory)
        code, unit, pc, halted = await bench.run(
            Job(CODE, length, (OUTPUT, TOTAL), fault.watchdog), 20_000
        )
        wanted = (fault.code, fault.unit, pc if fault.pc is None else fault.pc, 0)
        if (code, unit, pc, halted) != wanted:
            failures.append(f"{fault.name}: {(code, unit, pc, halted)}, expected {wanted}")
        after = bench.ram.read(0, TOTAL)
        if after[:OUTPUT] != memory[:OUTPUT]:
            failures.append(f"{fault.name}: wrote outside the store window")
        await run_good(bench, index)
    assert not failures, "\n".join(failures)


@cocotb.test()
async def program_codes(dut: Any) -> None:
    """HALT with a code is the program's own error."""
    bench = Bench(dut, TOTAL)
    await bench.reset()
    for code in (1, 15):
        program = link(CONFIG, [begin(CONFIG), halt(code)], DATA_IMAGE)
        bench.ram.write(0, program.memory().tobytes())
        assert (await bench.run(Job(CODE, 2, (OUTPUT, TOTAL))))[3] == code


@cocotb.test()
async def memory_error(dut: Any) -> None:
    """An error response on either side stops the core with AXI_RESPONSE."""
    bench = Bench(dut, TOTAL)
    await bench.reset()

    class BrokenMemoryError(Exception):
        pass

    async def refuse(*_: Any) -> bytes:
        raise BrokenMemoryError

    program = looped(CONFIG, trips=2)
    job = Job(CODE, len(program.instructions), program.store_window)
    for side, name, unit in (
        (bench.ram.write_if, "_write", Unit.STORE),
        (bench.ram.read_if, "_read", SEQUENCER_UNIT),
    ):
        bench.ram.write(0, program.memory().tobytes())
        await bench.start(job)
        if unit == Unit.STORE:
            setattr(side, name, refuse)
        else:
            await bench.finish()
            setattr(side, name, refuse)
            await bench.start(job)
        await bench.finish()
        code, reported, _, _ = await bench.outcome()
        delattr(side, name)
        assert (code, reported) == (ErrorCode.AXI_RESPONSE, unit), (code, reported)
        await run_good(bench, -1)


@cocotb.test()
async def load_error(dut: Any) -> None:
    """An error response to LOAD names the unit."""
    bench = Bench(dut, TOTAL)
    await bench.reset()
    read = bench.ram.read_if

    async def refuse_data(address: int, length: int) -> bytes:
        if address >= DATA:
            raise ValueError("no such memory")
        return bytes(read.read(address, length))

    read._read = refuse_data
    program = looped(CONFIG, trips=2)
    bench.ram.write(0, program.memory().tobytes())
    job = Job(CODE, len(program.instructions), program.store_window)
    code, unit, _, _ = await bench.run(job)
    del read._read
    assert (code, unit) == (ErrorCode.AXI_RESPONSE, Unit.LOAD)
    await run_good(bench, -2)


@cocotb.test()
async def start_while_busy_is_ignored(dut: Any) -> None:
    bench = Bench(dut, TOTAL)
    await bench.reset()
    program = looped(CONFIG, trips=4)
    bench.ram.write(0, program.memory().tobytes())
    job = Job(CODE, len(program.instructions), program.store_window)
    await bench.start(job)
    await ClockCycles(dut.clk, 100)
    assert await bench.read(0x18) & Status.BUSY
    await bench.write(0x14, Control.START)  # type: ignore[arg-type]
    await bench.finish()
    assert (await bench.outcome())[0] == ErrorCode.NONE
    counters = await bench.counters()
    assert counters["write_beats"] == 4 * 24
