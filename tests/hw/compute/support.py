"""Memories and a queue around one unit in the Amaranth simulator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from amaranth.hdl import Value

from hw.arch.isa import OPCODE_BITS, UnitInstruction, encode
from hw.arch.timing import ACCUMULATOR_READ_LATENCY
from tests.hw.simulation import Routine, compiled


async def read_accumulators(ctx: Any, dut: Any, first: int, result: np.ndarray, bits: int) -> None:
    """Fill `result` [rows, cols] with accumulator rows from `first` on, through the drain port."""
    for row, values in enumerate(result, first):
        ctx.set(dut.drain_read.enable, 1)
        ctx.set(dut.drain_read.address, row)
        await ctx.tick()
        ctx.set(dut.drain_read.enable, 0)
        await ctx.tick().repeat(ACCUMULATOR_READ_LATENCY - 1)
        word = ctx.get(dut.drain_read.data)
        for column in range(len(values)):
            values[column] = signed_field(word >> (bits * column) & ((1 << bits) - 1), bits)


@dataclasses.dataclass
class Trace:
    """What a run showed: cycles of issue and done, first error code, rows written."""

    issue: list[int] = dataclasses.field(default_factory=list)
    done: list[int] = dataclasses.field(default_factory=list)
    error: int = 0
    writes: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
    vectors: int = 0
    products: int = 0

    @property
    def durations(self) -> list[int]:
        return [d - i for i, d in zip(self.issue, self.done, strict=True)]

    @property
    def gaps(self) -> list[int]:
        return [b - a for a, b in zip(self.issue, self.issue[1:], strict=False)]


def words(rows: np.ndarray) -> list[int]:
    """Rows of any dtype as little-endian integers."""
    return [int.from_bytes(np.ascontiguousarray(r).tobytes(), "little") for r in rows]


class Bench:
    """One unit with its memories.

    Parameters
    ----------
    unit, arguments: class with a `unit` port, and what it is made of.
    whole_word: the payload is {opcode, word} instead of the instruction's own layout.
    """

    def __init__(self, unit: type, *arguments: Any, whole_word: bool = False):
        self._simulation = compiled(unit, *arguments)
        self.dut = self._simulation.dut
        self.trace = Trace()
        self._whole_word = whole_word
        self._processes: list[Routine] = []

    def serve(
        self, port: Any, latency: int, fetch: Callable[[int], int], *, held: bool = False
    ) -> None:
        """Answer a read port from `fetch(address)`.

        Where nothing was asked for there is junk or, with `held`, what was read last.
        """

        async def process(ctx: Any) -> None:
            width = len(Value.cast(port.data))
            junk = int("a5" * (width // 8 + 1), 16) & ((1 << width) - 1)
            pending: list[int | None] = [None] * (latency - 1)
            async for _, _, enable, address in ctx.tick().sample(port.enable, port.address):
                pending.append(fetch(address) if enable else None)
                answer = pending.pop(0)
                if answer is not None or not held:
                    ctx.set(Value.cast(port.data), junk if answer is None else answer)

        self._processes.append(process)

    def record(self, port: Any) -> None:
        """Record a write port into trace.writes as (cycle, address, data)."""

        async def process(ctx: Any) -> None:
            cycle = 0
            sampled = ctx.tick().sample(port.enable, port.address, Value.cast(port.data))
            async for _, _, enable, address, row in sampled:
                if enable:
                    self.trace.writes.append((cycle, address, row))
                cycle += 1

        self._processes.append(process)

    def apply(self, port: Any, rows: np.ndarray) -> None:
        """Let a write port change bytes [rows, L]."""

        async def process(ctx: Any) -> None:
            sampled = ctx.tick().sample(port.enable, port.address, Value.cast(port.data))
            async for _, _, enable, address, row in sampled:
                if enable:
                    stored = row.to_bytes(rows.shape[1], "little")
                    rows[address] = np.frombuffer(stored, np.uint8)

        self._processes.append(process)

    def drains(self, delays: Sequence[int]) -> None:
        """Let accumulators be free so many cycles behind the issue of each instruction of ARRAY."""
        stream = self.dut.unit.instruction

        async def process(ctx: Any) -> None:
            left, following = 0, iter(delays)
            async for _, _, issue in ctx.tick().sample(stream.valid & stream.ready):
                left = next(following) if issue else left
                left = max(0, left - 1)
                ctx.set(self.dut.drained, left == 0)

        self._processes.append(process)

    def payload(self, instruction: UnitInstruction) -> int:
        """The instruction as its unit's queue offers it."""
        if self._whole_word:
            return int.from_bytes(encode(instruction), "little")
        return int.from_bytes(encode(instruction), "little") >> OPCODE_BITS

    def run(
        self,
        instructions: Sequence[UnitInstruction],
        after: Callable[[Any], Any] | None = None,
        before: Callable[[Any], Any] | None = None,
        limit: int = 20_000,
    ) -> Trace:
        """Offer the instructions back to back until all are done (or an error shows)."""
        unit, trace = self.dut.unit, self.trace
        counted = [name for name in ("vectors", "products") if hasattr(self.dut, name)]

        async def watch(ctx: Any) -> None:
            cycle = 0
            signals = [unit.instruction.valid & unit.instruction.ready, unit.done, unit.error]
            signals += [getattr(self.dut, name) for name in counted]
            async for _, _, issue, done, error, *rest in ctx.tick().sample(*signals):
                if issue:
                    trace.issue.append(cycle)
                if done:
                    trace.done.append(cycle)
                trace.error = trace.error or error
                for name, strobe in zip(counted, rest, strict=True):
                    setattr(trace, name, getattr(trace, name) + strobe)
                cycle += 1

        async def drive(ctx: Any) -> None:
            if before is not None:
                await before(ctx)
            for instruction in instructions:
                ctx.set(Value.cast(unit.instruction.payload), self.payload(instruction))
                ctx.set(unit.instruction.valid, 1)
                for _ in range(limit):
                    _, _, ready = await ctx.tick().sample(unit.instruction.ready)
                    if ready:
                        break
                else:
                    raise AssertionError(f"not accepted within {limit} cycles")
            ctx.set(unit.instruction.valid, 0)
            for _ in range(limit):
                if len(trace.done) == len(instructions) or trace.error:
                    break
                await ctx.tick()
            else:
                raise AssertionError(f"not done within {limit} cycles")
            await ctx.tick()
            if after is not None:
                await after(ctx)

        self._simulation.run(drive, [*self._processes, watch])
        return trace


def signed_field(value: int, bits: int) -> int:
    """Two's complement of a bit field."""
    return value - (1 << bits) if value >> (bits - 1) else value
