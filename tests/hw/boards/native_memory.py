"""A memory behind a LiteDRAM native port, and a master in front of an AXI4 one, at random pace."""

from __future__ import annotations

import dataclasses
import random
from collections import deque


@dataclasses.dataclass(frozen=True)
class Burst:
    """An AXI4 burst: byte address, beats; data and strobes per beat of a write."""

    write: bool
    address: int
    beats: int
    data: tuple[int, ...] = ()
    strobes: tuple[int, ...] = ()
    size: int | None = None
    kind: int = 1


class NativeMemory:
    """In order; takes and gives data when it likes, as LiteDRAM does. `stall`: share of pauses."""

    DELAY = 6

    def __init__(self, port, content, seed, stall):
        self.port, self.content = port, content
        self.random, self.stall = random.Random(seed), stall
        self.now, self.commands, self.returning = 0, deque(), deque()
        self.order = []  # of commands: whether they write

    def drive(self, ctx):
        """Set what the memory says in this cycle."""
        port, width = self.port, len(self.port.wdata_data) // 8
        self.now += 1
        while self.commands and not self.commands[0][0]:
            _, word, then = self.commands[0]
            if then + self.DELAY > self.now or self._pause():
                break
            self.commands.popleft()
            self.returning.append(bytes(self.content[word * width : (word + 1) * width]))
        takes = self.commands and self.commands[0][0] and self.commands[0][2] + 2 <= self.now
        ctx.set(port.wdata_ready, bool(takes) and not self._pause())
        gives = bool(self.returning) and not self._pause()
        ctx.set(port.rdata_valid, gives)
        if gives:
            ctx.set(port.rdata_data, int.from_bytes(self.returning.popleft(), "little"))
        ctx.set(port.cmd_ready, len(self.commands) < 16 and not self._pause())

    def observe(self, ctx):
        """See what happens in this cycle."""
        port, width = self.port, len(self.port.wdata_data) // 8
        if ctx.get(port.wdata_ready):
            assert ctx.get(port.wdata_valid), "data were taken before they were there"
            address = self.commands.popleft()[1] * width
            data, enable = ctx.get(port.wdata_data), ctx.get(port.wdata_we)
            for k in range(width):
                if enable >> k & 1:
                    self.content[address + k] = data >> 8 * k & 0xFF
        if ctx.get(port.cmd_valid) and ctx.get(port.cmd_ready):
            self.commands.append((ctx.get(port.cmd_we), ctx.get(port.cmd_addr), self.now))
            self.order.append(ctx.get(port.cmd_we))

    def _pause(self):
        return self.stall and self.random.random() < self.stall


class Master:
    """Reads and writes through an AXI4 slave; keeps what came back, in order."""

    def __init__(self, bus, bursts, seed, stall):
        self.bus = bus
        self.random, self.stall = random.Random(seed), stall
        self.addresses = {
            "ar": deque(b for b in bursts if not b.write),
            "aw": deque(b for b in bursts if b.write),
        }
        writes = list(self.addresses["aw"])
        self.beats = deque(
            (b.data[k], b.strobes[k], k == b.beats - 1) for b in writes for k in range(b.beats)
        )
        self.wanted = len(writes), sum(b.beats for b in bursts if not b.write)
        self.responses, self.reads, self.last_cycle = [], [], 0

    @property
    def finished(self):
        return (len(self.responses), len(self.reads)) == self.wanted

    def drive(self, ctx):
        """Set what the master says in this cycle; what it offers stays until it is taken."""
        for name, queue, put in self._channels():
            valid = getattr(self.bus, f"{name}valid")
            if not ctx.get(valid) and queue and not self._pause():
                put(ctx, name, queue[0])
                ctx.set(valid, 1)
        ctx.set(self.bus.bready, not self._pause())
        ctx.set(self.bus.rready, not self._pause())

    def observe(self, ctx, cycle):
        """See what happens in this cycle; returns what is taken, for `after`."""
        bus = self.bus
        if ctx.get(bus.bvalid) and ctx.get(bus.bready):
            self.responses.append(ctx.get(bus.bresp))
            self.last_cycle = cycle
        if ctx.get(bus.rvalid) and ctx.get(bus.rready):
            self.reads.append((ctx.get(bus.rdata), ctx.get(bus.rresp), ctx.get(bus.rlast)))
            self.last_cycle = cycle
        taken = []
        for name, queue, _ in self._channels():
            valid = getattr(bus, f"{name}valid")
            if ctx.get(valid) and ctx.get(getattr(bus, f"{name}ready")):
                queue.popleft()
                taken.append(valid)
        return taken

    def after(self, ctx, taken):
        """Behind the clock's edge: what was taken is offered no longer."""
        for valid in taken:
            ctx.set(valid, 0)

    def _channels(self):
        yield from ((name, queue, self._address) for name, queue in self.addresses.items())
        yield "w", self.beats, self._beat

    def _address(self, ctx, name, burst):
        size = (len(self.bus.wdata) // 8).bit_length() - 1 if burst.size is None else burst.size
        values = {"addr": burst.address, "len": burst.beats - 1, "size": size, "burst": burst.kind}
        for key, value in values.items():
            ctx.set(getattr(self.bus, name + key), value)

    def _beat(self, ctx, name, beat):
        for key, value in zip(("data", "strb", "last"), beat, strict=True):
            ctx.set(getattr(self.bus, name + key), value)

    def _pause(self):
        return self.stall and self.random.random() < self.stall
