"""The memory port: grants bursts to LOAD, STORE and FETCH, and routes what comes back."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import PortConfig
from hw.memory.walker import LOCAL_WIDTH, burst_layout

__all__ = ["MemoryPort", "address_layout", "beat_layout"]

OWNERS = 16
"""Read bursts whose owner can be remembered; at least the largest `port.outstanding`."""


def address_layout() -> data.StructLayout:
    """Payload of AR and AW that varies: byte address and beats − 1."""
    return data.StructLayout({"address": 32, "length": 8})


def beat_layout(port: PortConfig) -> data.StructLayout:
    """One read beat on its way to its owner: `last` marks the end of a LOAD instruction."""
    return data.StructLayout(
        {"data": 8 * port.bytes, "space": 2, "local": LOCAL_WIDTH, "last": 1, "failed": 1}
    )


class MemoryPort(wiring.Component):
    """Arbiter and read router of the AXI4 master.

    Rules
    -----
    1. At most one burst is granted per cycle, behind a cycle with `enable`, and while fewer than
       `outstanding` granted bursts are open. A burst is open from its grant to its last R beat or
       its B response; a slot that is freed in cycle t can be granted in cycle t + 1.
    2. A read burst needs the AR register, a write burst the AW register, empty or being emptied.
    3. Of LOAD and STORE, if both can be granted, the one that was not granted last of the two is
       (LOAD after a start). FETCH is granted if neither can be, for what it takes ahead of need
       keeps their data waiting; but before both while `urgent`, for then nothing is left that
       could ask for more data (decision 0042).
    4. A burst granted in cycle t is valid on AR or AW in cycle t + 1 (`timing.GRANT_LATENCY`) and
       held until accepted.
    5. R and B are always ready. A beat accepted in cycle t is handed to its owner in cycle t + 1
       (`timing.BEAT_LATENCY`). Owners follow from the order of the read grants (one AXI ID).

    Handshake: request streams; the ready of a request is its grant. AR and AW are streams whose
    valid does not depend on ready.

    Members
    -------
    load, store: In(stream) of `burst_layout`; fetch: In(stream) of `address_layout`.
    ar, aw: Out(stream) of `address_layout`.
    urgent: FETCH asks, and is to be granted first.
    r_valid, r_data, r_response, r_last: the R channel; its ready is constantly 1.
    b_valid: a write response arrives.
    enable: bursts may be granted in the next cycle.
    load_beat, fetch_beat: Out, a beat for LOAD or FETCH is in `beat` in this cycle.
    beat: Out, `beat_layout`.
    idle: Out, no burst is open.
    """

    def __init__(self, port: PortConfig):
        self._port = port
        super().__init__(
            {
                "load": In(stream.Signature(burst_layout())),
                "store": In(stream.Signature(burst_layout())),
                "fetch": In(stream.Signature(address_layout())),
                "urgent": In(1),
                "ar": Out(stream.Signature(address_layout())),
                "aw": Out(stream.Signature(address_layout())),
                "r_valid": In(1),
                "r_data": In(8 * port.bytes),
                "r_response": In(2),
                "r_last": In(1),
                "b_valid": In(1),
                "enable": In(1),
                "load_beat": Out(1),
                "fetch_beat": Out(1),
                "beat": Out(beat_layout(port)),
                "idle": Out(1, init=1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        opened = Signal(range(self._port.outstanding + 1))
        room = Signal()
        store_was_last = Signal(init=1)
        # What asks and has its channel; one of them is granted if there is room.
        loads, stores, hurries = Signal(), Signal(), Signal()
        ar_free = ~self.ar.valid | self.ar.ready
        aw_free = ~self.aw.valid | self.aw.ready
        m.d.comb += [
            loads.eq(self.load.valid & ~self.urgent & ar_free),
            stores.eq(self.store.valid & aw_free),
            hurries.eq(self.urgent & ar_free),
            self.load.ready.eq(room & loads & (store_was_last | ~stores)),
            self.store.ready.eq(room & stores & ~hurries & (~store_was_last | ~loads)),
            self.fetch.ready.eq(room & self.fetch.valid & ar_free & (hurries | ~(loads | stores))),
        ]
        granted = self.load.ready | self.store.ready | self.fetch.ready
        read_ends = Signal()
        m.d.comb += read_ends.eq(self.r_valid & self.r_last)
        # What ends in this cycle is known early, the grant late.
        kept = opened - read_ends - self.b_valid
        full = Mux(granted, kept + 1 == self._port.outstanding, kept == self._port.outstanding)
        m.d.sync += [
            opened.eq(Mux(granted, kept + 1, kept)),
            room.eq(self.enable & ~full),
            self.idle.eq(Mux(granted, 0, kept == 0)),
        ]

        # Addresses are taken before it is known whether they are granted; then they count. FETCH is
        # granted only when it is urgent or LOAD does not ask.
        loading = self.load.valid & ~self.urgent
        reading = Mux(loading, self.load.payload.address, self.fetch.payload.address)
        beats = Mux(loading, self.load.payload.length, self.fetch.payload.length)
        with m.If(ar_free):
            m.d.sync += [
                self.ar.valid.eq(self.load.ready | self.fetch.ready),
                self.ar.payload.address.eq(reading),
                self.ar.payload.length.eq(beats),
            ]
        with m.If(aw_free):
            m.d.sync += [
                self.aw.valid.eq(self.store.ready),
                self.aw.payload.address.eq(self.store.payload.address),
                self.aw.payload.length.eq(self.store.payload.length),
            ]
        with m.If(self.load.ready):
            m.d.sync += store_was_last.eq(0)
        with m.Elif(self.store.ready):
            m.d.sync += store_was_last.eq(1)
        self._route(m, read_ends)
        return m

    def _route(self, m: Module, read_ends: Signal) -> None:
        """Remember the owner of every open read burst, in order, and hand beats to it."""
        owner_layout = data.StructLayout({"load": 1, "space": 2, "local": LOCAL_WIDTH, "last": 1})
        m.submodules.owners = owners = memory.Memory(shape=owner_layout, depth=OWNERS, init=[])
        write = owners.write_port()
        read = owners.read_port(domain="comb")
        head = Signal(range(OWNERS))
        tail = Signal(range(OWNERS))
        request = self.load.payload
        m.d.comb += [
            write.en.eq(self.load.ready | self.fetch.ready),
            write.addr.eq(tail),
            write.data.load.eq(self.load.ready),
            write.data.space.eq(request.space),
            write.data.local.eq(request.local),
            write.data.last.eq(request.last),
            read.addr.eq(head),
        ]
        with m.If(write.en):
            m.d.sync += tail.eq(tail + 1)

        offset = Signal(8)
        with m.If(self.r_valid):
            m.d.sync += offset.eq(offset + 1)
        with m.If(read_ends):
            m.d.sync += [head.eq(head + 1), offset.eq(0)]
        m.d.sync += [
            self.load_beat.eq(self.r_valid & read.data.load),
            self.fetch_beat.eq(self.r_valid & ~read.data.load),
        ]
        with m.If(self.r_valid):
            m.d.sync += [
                self.beat.data.eq(self.r_data),
                self.beat.space.eq(read.data.space),
                self.beat.local.eq(read.data.local + offset),
                self.beat.last.eq(read.data.last & self.r_last),
                self.beat.failed.eq(self.r_response.any()),
            ]
