"""The accelerator under Amaranth's simulator: host, memory behind the AXI4 port, event trace.

The memory follows hw/arch/timing.py MemoryTiming. Only control and memory are under test here, so
that the compute units are stand-ins: they accept an instruction and report it done some cycles
later.
"""

import dataclasses

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.accelerator import Accelerator
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import LOCAL_BITS, Begin, Halt, Unit, encode
from hw.arch.registers import Control, Register, Status, counter_offset
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
from hw.control.registers import READ_LATENCY
from tests.hw.axi_memory import AxiMemory
from tests.hw.simulation import compiled

PROGRAM_BASE = 0x8000


def waits(**distances):
    """The `waits` field, by unit name."""
    return tuple(distances.get(unit.name.lower(), 0) for unit in Unit)


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
            "products": Out(1),
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


def _accelerator(config):
    return Accelerator(config, array=ArrayStandIn, drain=DrainStandIn, vector=VectorStandIn)


class Bench:
    """One accelerator with memory; `run` may be called several times by one `scenario`."""

    def __init__(self, config="tiny_direct", *, seed=0, stall=0.0):
        self.config = AcceleratorConfig.load(config) if isinstance(config, str) else config
        self._simulation = compiled(_accelerator, self.config)
        self.dut = self._simulation.dut
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
        while not ctx.get(dut.s_axi_bvalid):
            await self.cycle(ctx)
        ctx.set(dut.s_axi_bready, 1)
        response = ctx.get(dut.s_axi_bresp)
        await self.cycle(ctx)
        ctx.set(dut.s_axi_bready, 0)
        return response

    async def read(self, ctx, register):
        dut = self.dut
        ctx.set(dut.s_axi_araddr, int(register))
        ctx.set(dut.s_axi_arvalid, 1)
        assert ctx.get(dut.s_axi_arready)
        await self.cycle(ctx)
        ctx.set(dut.s_axi_arvalid, 0)
        for _ in range(READ_LATENCY - 1):
            assert not ctx.get(dut.s_axi_rvalid)
            await self.cycle(ctx)
        ctx.set(dut.s_axi_rready, 1)
        assert ctx.get(dut.s_axi_rvalid)
        value, self.response = ctx.get(dut.s_axi_rdata), ctx.get(dut.s_axi_rresp)
        await self.cycle(ctx)
        ctx.set(dut.s_axi_rready, 0)
        return value

    def place(self, program, begin=True):
        """Write a program to DRAM; with `begin`, BEGIN is put first unless it is there."""
        if begin and not isinstance(program[0], Begin):
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
        begin=True,
        limit=20000,
        base=0,
    ):
        """Place a program, run it to its end, read everything back."""
        count = self.place(program, begin)
        for register, value in (
            (Register.PROGRAM_BASE, PROGRAM_BASE),
            (Register.PROGRAM_LENGTH, count if length is None else length),
            (Register.STORE_BASE, window[0]),
            (Register.STORE_LIMIT, window[1]),
            (Register.WATCHDOG, watchdog),
            (Register.DRAM_BASE, base),
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
        self._simulation.run(scenario)


def run(
    program, *, config="tiny_direct", data=None, seed=0, stall=0.0, failing=range(0), **options
):
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
