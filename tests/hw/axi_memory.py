"""The memory behind the AXI4 port, for Amaranth's simulator; checks the protocol as it goes."""

import dataclasses
import math
import random
from collections import deque

import numpy as np

from hw.arch.timing import MemoryTiming


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
        self.base = 0  # where the memory answers; other addresses belong to others
        self.failing = range(0)
        self.dead_from = None  # address from which on reads never answer
        self.log = []
        self.held = {}

    def _pause(self):
        return self.stall and self.random.random() < self.stall

    def _start(self):
        head = self.bursts[0]
        if self.dead_from is not None and head.address >= self.dead_from:
            return math.inf
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
        address, beats = get("addr") - self.base, get("len") + 1
        assert 0 <= address < len(self.data), f"{address + self.base:#x} is another's"
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
