"""cocotb: whole jobs on the core under random stalls, against the functional machine.

Runs inside the simulator; tests/cosim/test_cocotb.py starts it.
"""

from __future__ import annotations

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ErrorCode, Load, Space, Store, deltas
from hw.arch.program import Program
from hw.arch.registers import (
    COUNTER_BASE,
    COUNTERS,
    ID_VALUE,
    VERSION_VALUE,
    Control,
    Register,
    Status,
)
from sim.cosim.bench import Bench
from sim.cosim.job import Job
from sim.functional import FunctionalMachine
from tests.ladder.control import looped
from tests.ladder.linking import DATA, OUTPUT, TOTAL, begin, halt, link, place_waits
from tests.ladder.programs import RandomProgram

CONFIG = AcceleratorConfig.load("tiny")


def job_of(program: Program) -> Job:
    return Job(program.code_address, len(program.instructions), program.store_window)


def expected(program: Program) -> np.ndarray:
    memory = program.memory()
    machine = FunctionalMachine(CONFIG, memory, program.store_window)
    machine.run(program.code())
    return memory


async def check(bench: Bench, program: Program) -> dict[str, int]:
    """Run a program; all of DRAM must be what the functional machine leaves."""
    bench.ram.write(0, program.memory().tobytes())
    assert await bench.run(job_of(program)) == (ErrorCode.NONE, 0, 0, 0)
    after = np.frombuffer(bench.ram.read(0, program.memory_bytes), np.uint8)
    wrong = np.flatnonzero(after != expected(program))
    assert wrong.size == 0, f"{wrong.size} bytes differ, the first at {int(wrong[0]):#x}"
    return await bench.counters()


def copies(seed: int) -> Program:
    """Only LOAD and STORE: every space of addresses and strides that a transfer has."""
    random = RandomProgram(CONFIG, seed)
    random.load_banks()
    for _ in range(30):
        random.transfer()
    beats = 700  # several bursts, several 4 KiB pages, twice over
    size = CONFIG.port.bytes
    random.code += [
        Load(
            dram=DATA + 4096 - 3 * size,
            space=Space.ACTIVATION,
            local=0,
            beats=beats,
            counts=(2, 1, 1),
            dram_deltas=deltas((2, 1, 1), (4096 + size, 0, 0)),
            local_deltas=deltas((2, 1, 1), (beats, 0, 0)),
        ),
        Store(
            dram=OUTPUT + 4096 - 5 * size,
            local=0,
            beats=beats,
            counts=(2, 1, 1),
            dram_deltas=deltas((2, 1, 1), (4096 - size, 0, 0)),
            local_deltas=deltas((2, 1, 1), (beats, 0, 0)),
        ),
    ]
    body = place_waits(random.code, CONFIG)
    return link(CONFIG, [begin(CONFIG), *body, halt()], random.data())


@cocotb.test()
async def random_programs(dut) -> None:
    bench = Bench(dut, TOTAL)
    await bench.reset()
    for seed in range(6):
        bench.stall(seed, (0, 20, 50)[seed % 3])
        await check(bench, RandomProgram(CONFIG, seed).build())


@cocotb.test()
async def loops(dut) -> None:
    bench = Bench(dut, TOTAL)
    await bench.reset()
    await check(bench, looped(CONFIG, trips=5))


@cocotb.test()
async def transfers(dut) -> None:
    bench = Bench(dut, TOTAL)
    await bench.reset()
    for seed, percent in ((0, 0), (1, 30), (2, 60)):
        bench.stall(seed, percent)
        counters = await check(bench, copies(seed))
        assert counters["read_beats"] >= 1400 and counters["write_beats"] >= 1400


@cocotb.test()
async def registers(dut) -> None:
    """The register port under back-pressure: identity, read-back, unknown offsets, counters."""
    bench = Bench(dut, TOTAL)
    await bench.reset()
    for percent in (0, 50):
        bench.stall(7, percent)
        assert await bench.read(Register.ID) == ID_VALUE
        assert await bench.read(Register.VERSION) == VERSION_VALUE
        low = await bench.read(Register.FINGERPRINT_LOW)
        high = await bench.read(Register.FINGERPRINT_HIGH)
        assert low | high << 32 == CONFIG.fingerprint
        assert await bench.read(Register.FEATURES) == CONFIG.feature_mask
        for register, value in (
            (Register.PROGRAM_BASE, 0x12345640),
            (Register.PROGRAM_LENGTH, 77),
            (Register.STORE_BASE, 0xABCDE000),
            (Register.STORE_LIMIT, 0xABCDF000),
            (Register.WATCHDOG, 0x5555),
        ):
            await bench.write(register, value)
            assert await bench.read(register) == value, register.name
        await bench.write(Register.ID, 1)
        assert await bench.read(Register.ID) == ID_VALUE, "ID must not be writable"
        assert await bench.read(COUNTER_BASE + 8 * len(COUNTERS)) == 0
        assert not await bench.read(Register.STATUS) & Status.BUSY


@cocotb.test()
async def interrupt_can_be_masked(dut) -> None:
    bench = Bench(dut, TOTAL)
    await bench.reset()
    program = looped(CONFIG)
    bench.ram.write(0, program.memory().tobytes())
    await bench.start(job_of(program))
    await bench.write(Register.IRQ_ENABLE, 0)
    for _ in range(2000):
        assert not int(dut.irq.value)
        if not await bench.read(Register.STATUS) & Status.BUSY:
            break
    else:
        raise AssertionError("the program did not end")
    assert await bench.read(Register.STATUS) & Status.DONE


@cocotb.test()
async def abort_lets_bursts_end(dut) -> None:
    bench = Bench(dut, TOTAL)
    await bench.reset()
    program = RandomProgram(CONFIG, 3).build()
    before = program.memory()
    for wait in (40, 200, 777):
        bench.stall(wait, 20)
        bench.ram.write(0, before.tobytes())
        await bench.start(job_of(program))
        await ClockCycles(dut.clk, wait)
        await bench.write(Register.CONTROL, Control.ABORT)
        await bench.finish(5000)
        assert (await bench.outcome())[0] == ErrorCode.ABORTED
        assert idle(bench), "a burst was still open when the core stopped"
        after = np.frombuffer(bench.ram.read(0, TOTAL), np.uint8)
        assert (after[:OUTPUT] == before[:OUTPUT]).all(), "wrote outside the store window"
        await check(bench, looped(CONFIG))  # the core starts again


def idle(bench: Bench) -> bool:
    """Whether no burst is open: neither accepted nor still asked for."""
    read, write = bench.ram.read_if, bench.ram.write_if
    asking = (bench.dut.m_axi_arvalid, bench.dut.m_axi_awvalid, bench.dut.m_axi_wvalid)
    channels = (read.ar_channel, read.r_channel, write.aw_channel, write.w_channel)
    return (
        not any(int(signal.value) for signal in asking)
        and all(channel.empty() for channel in (*channels, write.b_channel))
        and not int(bench.dut.m_axi_rvalid.value)
        and not int(bench.dut.m_axi_bvalid.value)
    )


@cocotb.test(skip="corrupt" not in cocotb.plusargs)
async def corrupted_memory_is_seen(dut) -> None:
    """Twin of the equality checks: must fail (one byte of the result is flipped)."""
    bench = Bench(dut, TOTAL)
    await bench.reset()
    program = looped(CONFIG)
    original = bench.ram.read
    bench.ram.read = lambda address, length: (
        bytes([original(0, 1)[0] ^ 1]) + original(address + 1, length - 1)
    )
    await check(bench, program)
