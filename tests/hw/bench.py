"""The accelerator under Amaranth's simulator: host, memory behind the AXI4 port, event trace.

The memory follows hw/arch/timing.py MemoryTiming. Only control and memory are under test here, so
that the compute units are stand-ins: they accept an instruction and report it done some cycles
later.
"""

import dataclasses
import random
from collections import deque

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw.accelerator import Accelerator
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import LOCAL_BITS, Begin, Halt, Unit, encode
from hw.arch.registers import Control, Register, Status, counter_offset
from hw.arch.timing import MemoryTiming
from hw.common.layouts import unit_layout
from hw.common.ports import (
    UnitSignature,
    WriteSignature,
    accumulator_read,
    activation_read,
    activation_write,
    parameter_read,
    weight_read,
)

PROGRAM_BASE = 0x8000
CLOCK = 1e-6


class _StandIn(wiring.Component):
    """Done CYCLES after the issue; one instruction at a time."""

    UNIT: Unit
    CYCLES = 5

    def __init__(self, config):
        self.config = config
        super().__init__({"unit": Out(UnitSignature(unit_layout(self.UNIT))), **self.ports(config)})

    def elaborate(self, platform):
        m = Module()
        left = Signal(range(self.CYCLES + 1))
        unit = self.unit
        m.d.comb += [
            unit.instruction.ready.eq((left == 0) & ~unit.abort),
            unit.busy.eq(left != 0),
            unit.done.eq(left == 1),
        ]
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.If(unit.instruction.valid & unit.instruction.ready):
            m.d.sync += left.eq(self.CYCLES)
            self.at_issue(m)
        return m

    def at_issue(self, m):
        """What the unit does in the cycle of the issue."""


class ArrayStandIn(_StandIn):
    """Reads the activation row and the weight group that its instruction starts with."""

    UNIT = Unit.ARRAY
    CYCLES = 100  # longer than the fetch of the next instruction, so that waits matter

    @staticmethod
    def ports(config):
        return {
            "activation": Out(activation_read(config)),
            "weight": Out(weight_read(config)),
            "drain_read": In(accumulator_read(config)),
            "vectors": Out(1),
        }

    def at_issue(self, m):
        m.d.comb += [
            self.activation.enable.eq(1),
            self.activation.address.eq(self.unit.instruction.payload.activation),
            self.weight.enable.eq(1),
            self.weight.address.eq(self.unit.instruction.payload.weight),
        ]


class DrainStandIn(_StandIn):
    """Does nothing."""

    UNIT = Unit.DRAIN

    @staticmethod
    def ports(config):
        return {
            "accumulator": Out(accumulator_read(config)),
            "parameter": Out(parameter_read(config)),
            "write": Out(activation_write(config)),
        }


class VectorStandIn(_StandIn):
    """Does nothing."""

    UNIT = Unit.VECTOR

    @staticmethod
    def ports(config):
        return {
            "source0": Out(activation_read(config)),
            "source1": Out(activation_read(config)),
            "write": Out(activation_write(config)),
            "table_write": In(WriteSignature(LOCAL_BITS, 8 * config.port.bytes)),
        }


@dataclasses.dataclass
class _Burst:
    write: bool
    address: int
    beats: int
    accepted: int
    done: int = 0


class AxiMemory:
    """Same rules as the harness of sim/cosim; with `stall` > 0, every channel pauses at random."""

    def __init__(self, dut, data, seed, stall):
        self.dut, self.data = dut, data
        self.random, self.stall = random.Random(seed), stall
        self.timing = MemoryTiming()
        self.bytes = len(dut.m_axi_wdata) // 8
        self.bursts, self.responses = deque(), deque()
        self.r_held = self.b_held = False
        self.last_write, self.free = None, 0
        self.failing = range(0)
        self.log = []
        self.held = {}

    def _pause(self):
        return self.stall and self.random.random() < self.stall

    def _start(self):
        head = self.bursts[0]
        if head.done:
            return 0
        latency = self.timing.write_latency if head.write else self.timing.read_latency
        free = self.free
        if self.last_write is not None and self.last_write != head.write:
            free += self.timing.turnaround
        return max(free, head.accepted + latency)

    def drive(self, ctx, now):
        dut = self.dut
        ctx.set(dut.m_axi_arready, not self._pause())
        ctx.set(dut.m_axi_awready, not self._pause())
        slot = bool(self.bursts) and now >= self._start()
        write = slot and self.bursts[0].write
        ctx.set(dut.m_axi_wready, bool(write and not self._pause()))
        if not self.r_held:
            self.r_held = slot and not write and not self._pause()
        ctx.set(dut.m_axi_rvalid, bool(self.r_held))
        if self.r_held:
            burst = self.bursts[0]
            address = burst.address + burst.done * self.bytes
            beat = self.data[address : address + self.bytes].tobytes()
            ctx.set(dut.m_axi_rdata, int.from_bytes(beat, "little"))
            ctx.set(dut.m_axi_rlast, burst.done + 1 == burst.beats)
            ctx.set(dut.m_axi_rresp, 2 if address in self.failing else 0)
        if not self.b_held:
            self.b_held = bool(self.responses) and now >= self.responses[0][0] and not self._pause()
        ctx.set(dut.m_axi_bvalid, bool(self.b_held))
        if self.b_held:
            ctx.set(dut.m_axi_bresp, self.responses[0][1])

    def sample(self, ctx, now):
        dut = self.dut
        self._check_held(ctx)
        assert ctx.get(dut.m_axi_rready) and ctx.get(dut.m_axi_bready)
        if self.r_held:
            self.r_held = False
            self.log.append((now, "R", self.bursts[0].address))
            self._beat(now)
        if ctx.get(dut.m_axi_wvalid) and ctx.get(dut.m_axi_wready):
            self._write(ctx)
            self.log.append((now, "W", self.bursts[0].address))
            self._beat(now)
        if self.b_held:
            self.b_held = False
            self.log.append((now, "B", self.responses.popleft()[2]))
        for name, write in (("ar", False), ("aw", True)):
            valid, ready = (getattr(dut, f"m_axi_{name}{k}") for k in ("valid", "ready"))
            if ctx.get(valid) and ctx.get(ready):
                self._accept(ctx, name, write, now)

    def _check_held(self, ctx):
        """A payload that was offered and not taken must be offered again, unchanged."""
        for name, signals in {
            "aw": ("awaddr", "awlen"),
            "ar": ("araddr", "arlen"),
            "w": ("wdata", "wlast"),
        }.items():
            now = None
            if ctx.get(getattr(self.dut, f"m_axi_{name}valid")):
                now = [ctx.get(getattr(self.dut, f"m_axi_{s}")) for s in signals]
            before = self.held.get(name)
            assert before is None or now == before, (name, before, now)
            taken = ctx.get(getattr(self.dut, f"m_axi_{name}ready"))
            self.held[name] = None if taken else now

    def _accept(self, ctx, name, write, now):
        get = lambda field: ctx.get(getattr(self.dut, f"m_axi_{name}{field}"))  # noqa: E731
        address, beats = get("addr"), get("len") + 1
        assert 1 << get("size") == self.bytes and get("burst") == 1
        assert address % self.bytes == 0
        assert address // 4096 == (address + beats * self.bytes - 1) // 4096, (address, beats)
        self.bursts.append(_Burst(write, address, beats, now))
        self.log.append((now, name.upper(), address))

    def _write(self, ctx):
        burst = self.bursts[0]
        assert burst.write
        assert ctx.get(self.dut.m_axi_wlast) == (burst.done + 1 == burst.beats)
        assert ctx.get(self.dut.m_axi_wstrb) == (1 << self.bytes) - 1
        address = burst.address + burst.done * self.bytes
        beat = ctx.get(self.dut.m_axi_wdata).to_bytes(self.bytes, "little")
        self.data[address : address + self.bytes] = np.frombuffer(beat, np.uint8)

    def _beat(self, now):
        head = self.bursts[0]
        head.done += 1
        if head.done == head.beats:
            if head.write:
                code = 2 if head.address in self.failing else 0
                self.responses.append((now + self.timing.write_response, code, head.address))
            self.last_write, self.free = head.write, now + 1
            self.bursts.popleft()


@dataclasses.dataclass
class Result:
    """What a run left behind; `issue` and `done` are (cycle, Unit), cycle 0 the START write."""

    memory: np.ndarray
    status: Status
    error: int
    unit: int
    pc: int
    halt: int
    counters: dict[str, int]
    issue: list
    done: list
    bus: list
    end: int

    def cycles_of(self, kind):
        return [cycle for cycle, name, _ in self.bus if name == kind]


class Bench:
    """One accelerator with memory; `run` may be called several times by one `scenario`."""

    def __init__(self, config="tiny", *, seed=0, stall=0.0):
        self.config = AcceleratorConfig.load(config) if isinstance(config, str) else config
        self.dut = Accelerator(
            self.config, array=ArrayStandIn, drain=DrainStandIn, vector=VectorStandIn
        )
        self.data = np.zeros(1 << 16, np.uint8)
        self.memory = AxiMemory(self.dut, self.data, seed, stall)
        self.now = 0
        self.issue, self.done = [], []

    async def cycle(self, ctx):
        self.memory.drive(ctx, self.now)
        self.memory.sample(ctx, self.now)
        for signal, log in ((self.dut.trace_issue, self.issue), (self.dut.trace_done, self.done)):
            bits = ctx.get(signal)
            if bits:
                log += [(self.now, unit) for unit in Unit if bits >> unit & 1]
        await ctx.tick()
        self.now += 1

    async def write(self, ctx, register, value):
        dut = self.dut
        ctx.set(dut.s_axi_awaddr, int(register))
        ctx.set(dut.s_axi_wdata, int(value))
        ctx.set(dut.s_axi_wstrb, 15)
        ctx.set(dut.s_axi_awvalid, 1)
        ctx.set(dut.s_axi_wvalid, 1)
        while not ctx.get(dut.s_axi_awready):
            await self.cycle(ctx)
        await self.cycle(ctx)
        ctx.set(dut.s_axi_awvalid, 0)
        ctx.set(dut.s_axi_wvalid, 0)
        ctx.set(dut.s_axi_bready, 1)
        response = ctx.get(dut.s_axi_bresp)
        await self.cycle(ctx)
        ctx.set(dut.s_axi_bready, 0)
        return response

    async def read(self, ctx, register):
        dut = self.dut
        ctx.set(dut.s_axi_araddr, int(register))
        ctx.set(dut.s_axi_arvalid, 1)
        await self.cycle(ctx)
        ctx.set(dut.s_axi_arvalid, 0)
        ctx.set(dut.s_axi_rready, 1)
        assert ctx.get(dut.s_axi_rvalid)
        value, self.response = ctx.get(dut.s_axi_rdata), ctx.get(dut.s_axi_rresp)
        await self.cycle(ctx)
        ctx.set(dut.s_axi_rready, 0)
        return value

    def place(self, program):
        """Write a program to DRAM; BEGIN and HALT are added unless it has them."""
        if not program or not isinstance(program[0], Begin):
            program = [Begin(self.config.fingerprint, self.config.feature_mask), *program]
        code = b"".join(i if isinstance(i, bytes) else encode(i) for i in program)
        self.data[PROGRAM_BASE : PROGRAM_BASE + len(code)] = np.frombuffer(code, np.uint8)
        return len(program)

    async def run(
        self,
        ctx,
        program,
        *,
        window=(0, 1 << 15),
        watchdog=3000,
        abort_at=None,
        length=None,
        limit=20000,
    ):
        """Place a program, run it to its end, read everything back."""
        count = self.place(program)
        for register, value in (
            (Register.PROGRAM_BASE, PROGRAM_BASE),
            (Register.PROGRAM_LENGTH, count if length is None else length),
            (Register.STORE_BASE, window[0]),
            (Register.STORE_LIMIT, window[1]),
            (Register.WATCHDOG, watchdog),
            (Register.IRQ_ENABLE, 1),
            (Register.CONTROL, Control.CLEAR_IRQ),
        ):
            assert await self.write(ctx, register, value) == 0
        start = self.now
        self.issue.clear(), self.done.clear(), self.memory.log.clear()
        await self.write(ctx, Register.CONTROL, Control.START)
        while not ctx.get(self.dut.irq):
            await self.cycle(ctx)
            if abort_at is not None and self.now - start == abort_at:
                await self.write(ctx, Register.CONTROL, Control.ABORT)
            assert self.now - start < limit, "no interrupt"
        end = self.now - start
        names = ["cycles", "instructions", "read_beats", "write_beats", "fetch_beats"]
        names += ["load_busy", "load_memory", "store_busy", "array_busy", "array_wait"]
        counters = {name: await self.read(ctx, counter_offset(name)) for name in names}
        shift = lambda log: [(entry[0] - start, *entry[1:]) for entry in log]  # noqa: E731
        return Result(
            self.data.copy(),
            Status(await self.read(ctx, Register.STATUS)),
            await self.read(ctx, Register.ERROR_CODE),
            await self.read(ctx, Register.ERROR_UNIT),
            await self.read(ctx, Register.ERROR_PC),
            await self.read(ctx, Register.HALT_CODE),
            counters,
            shift(self.issue),
            shift(self.done),
            shift(self.memory.log),
            end,
        )

    def simulate(self, scenario):
        """Run `scenario(ctx)` as the only testbench."""
        simulator = Simulator(self.dut)
        simulator.add_clock(CLOCK)
        simulator.add_testbench(scenario)
        simulator.run()


def run(program, *, config="tiny", data=None, seed=0, stall=0.0, failing=range(0), **options):
    """Run one program on a fresh accelerator; `data` is (address, bytes) pairs."""
    bench = Bench(config, seed=seed, stall=stall)
    for address, content in data or ():
        bench.data[address : address + len(content)] = np.frombuffer(bytes(content), np.uint8)
    bench.memory.failing = failing
    results = []

    async def scenario(ctx):
        results.append(await bench.run(ctx, program, **options))

    bench.simulate(scenario)
    return results[0]


HALT = Halt(0)
