# amaranth: UnusedElaboratable=no
"""The memory port: addresses stay until taken, and no more bursts are open than there may be."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import In

from hw.arch.config import AcceleratorConfig
from hw.memory import arbiter
from tests.formal.engine import Harness, mutant, prove, refute

pytestmark = pytest.mark.formal


class Bursts(Harness):
    """LOAD, STORE and FETCH ask as they like; the memory ends accepted bursts at any pace."""

    def __init__(self, module=arbiter):
        self._module = module
        self._port = AcceleratorConfig.load("tiny").port
        names = ("load", "store", "fetch", "arready", "awready", "ends_read", "ends_write")
        names = (*names, "urgent")
        super().__init__(
            {name: In(1) for name in (*names, "enable")}
            | {f"{name}_address": In(4) for name in ("load", "store", "fetch")}
        )

    def names(self):
        claims = ["reads_stay", "writes_stay", "not_too_many", "idle_is_true", "one_grant"]
        return [*claims, "urgent_first", "address_is_its_own", "enabled", "all_open"]

    def build(self, m: Module):
        m.submodules.dut = dut = self._module.MemoryPort(self._port)
        limit = self._port.outstanding
        requests = {"load": dut.load, "store": dut.store, "fetch": dut.fetch}
        for name, request in requests.items():
            m.d.comb += [
                request.valid.eq(getattr(self, name)),
                request.payload.address.eq(getattr(self, f"{name}_address")),
            ]
        reads, writes = Signal(range(2 * limit)), Signal(range(2 * limit))
        accepted = dut.ar.valid & dut.ar.ready, dut.aw.valid & dut.aw.ready
        m.d.comb += [
            dut.enable.eq(self.enable),
            dut.urgent.eq(self.urgent & self.fetch),
            dut.ar.ready.eq(self.arready),
            dut.aw.ready.eq(self.awready),
            dut.r_valid.eq(self.ends_read & (reads != 0)),
            dut.r_last.eq(1),
            dut.b_valid.eq(self.ends_write & (writes != 0)),
        ]
        m.d.sync += [
            reads.eq(reads + accepted[0] - dut.r_valid),
            writes.eq(writes + accepted[1] - dut.b_valid),
        ]
        for name, channel in (("reads", dut.ar), ("writes", dut.aw)):
            held, address = Signal(name=f"{name}_held"), Signal(32, name=f"{name}_address")
            m.d.sync += [
                held.eq(channel.valid & ~channel.ready),
                address.eq(channel.payload.address),
            ]
            same = channel.valid & (channel.payload.address == address)
            self.claim(f"{name}_stay", ~held | same)
        opened = reads + writes + dut.ar.valid + dut.aw.valid
        self.claim("not_too_many", opened <= limit)
        self.claim("idle_is_true", dut.idle == (opened == 0))
        load, store, fetch = (requests[name].ready for name in ("load", "store", "fetch"))
        self.claim("one_grant", ~((load & store) | (load & fetch) | (store & fetch)))
        was_enabled = Signal()
        m.d.sync += was_enabled.eq(self.enable)
        self.claim("enabled", was_enabled | ~(load | store | fetch))
        # Who is granted a read in one cycle has its address on AR in the next one.
        read, asked = Signal(), Signal(32)
        m.d.sync += [
            read.eq(load | fetch),
            asked.eq(Mux(load, self.load_address, self.fetch_address)),
        ]
        possible = dut.urgent & (~dut.ar.valid | dut.ar.ready)
        self.claim("urgent_first", ~possible | ~(load | store))
        self.claim("address_is_its_own", ~read | (dut.ar.payload.address == asked))
        self.cover("all_open", (opened == limit) & (reads != 0) & (writes != 0))


def test_the_port_keeps_the_protocol(tmp_path):
    prove(Bursts(), tmp_path, covers=("all_open",))


MUTANTS = [
    ("reads_stay", "with m.If(ar_free):", "with m.If(1):"),
    ("writes_stay", "with m.If(aw_free):", "with m.If(1):"),
    (
        "not_too_many",
        "Mux(granted, kept + 1 == self._port.outstanding,",
        "Mux(granted, kept == self._port.outstanding,",
    ),
    ("idle_is_true", "self.idle.eq(Mux(granted, 0, kept == 0))", "self.idle.eq(kept == 0)"),
    ("urgent_first", "stores & ~hurries & ", "stores & "),
    ("address_is_its_own", "loading = self.load.valid & ~self.urgent", "loading = self.load.valid"),
    ("enabled", "room.eq(self.enable & ~full)", "room.eq(~full)"),
    ("one_grant", "~hurries & (~store_was_last | ~loads)", "~hurries"),
]


@pytest.mark.parametrize("claim, old, new", MUTANTS, ids=[claim for claim, _, _ in MUTANTS])
def test_a_wrong_port_is_found(tmp_path, claim, old, new):
    refute(Bursts(mutant(arbiter, old, new)), tmp_path, claim)
