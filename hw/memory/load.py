"""The load unit: DRAM to the on-chip memories."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import LOCAL_BITS, ErrorCode, Space, Unit
from hw.common.layouts import unit_layout
from hw.common.level import count_level
from hw.common.ports import LocalWriteSignature, UnitSignature
from hw.memory.arbiter import beat_layout
from hw.memory.walker import BurstWalker, burst_layout

__all__ = ["LoadUnit", "space_sizes"]


def space_sizes(config: AcceleratorConfig) -> dict[Space, int]:
    """Rows or beats of each space that a load can fill."""
    return {
        Space.ACTIVATION: config.memory.activation_rows,
        Space.WEIGHT: config.weight_beats,
        Space.PARAMETER: config.parameter_rows * config.parameter_row_beats,
        Space.TABLE: config.memory.tables * config.table_beats,
    }


class LoadUnit(wiring.Component):
    """Ask for the bursts of LOAD instructions and write every beat in the cycle it comes.

    Rules
    -----
    1. The next instruction is accepted when the walker has begun the last run of the previous one
       (`BurstWalker`); its bursts may be granted while beats of the previous one still arrive.
    2. A request is the walker's output; the grant is the memory port's.
    3. A beat accepted on R in cycle t is written in cycle t + 1; `done` is high in the cycle in
       which the last beat of an instruction is written (`timing.LOAD_DONE`).
    4. A beat beyond the end of its space is not written: ADDRESS. A failed beat: AXI_RESPONSE. A
       run that does not start on a multiple of the port width: ADDRESS.

    Members
    -------
    unit: UnitSignature. request: Out(stream) of `burst_layout`.
    beat_valid, beat: In, from the memory port.
    write: LocalWriteSignature.
    stalled: Out, an instruction is inside and no beat is written in this cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        port = config.port
        super().__init__(
            {
                "unit": Out(UnitSignature(unit_layout(Unit.LOAD))),
                "request": Out(stream.Signature(burst_layout())),
                "beat_valid": In(1),
                "beat": In(beat_layout(port)),
                "write": Out(LocalWriteSignature(LOCAL_BITS, 8 * port.bytes)),
                "stalled": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.walker = walker = BurstWalker(Unit.LOAD, self._config.port)
        connect(m, walker.o, flipped(self.request))
        m.d.comb += [
            walker.i.payload.eq(self.unit.instruction.payload),
            walker.i.valid.eq(self.unit.instruction.valid & ~self.unit.abort),
            self.unit.instruction.ready.eq(walker.i.ready & ~self.unit.abort),
        ]

        accepted = walker.i.valid & walker.i.ready
        limit = self._config.port.outstanding + 4
        inside = count_level(m, "inside", limit, accepted, self.unit.done)

        # A comparison with each space's constant is a few gates; with a chosen limit it is a chain.
        fits = Signal()
        sizes = space_sizes(self._config)
        within = [
            (self.beat.space == space) & (self.beat.local < size) for space, size in sizes.items()
        ]
        m.d.comb += [
            fits.eq(Cat(within).any()),
            self.write.enable.eq(self.beat_valid & fits),
            self.write.space.eq(self.beat.space),
            self.write.address.eq(self.beat.local),
            self.write.data.eq(self.beat.data),
            self.unit.done.eq(self.beat_valid & self.beat.last),
            self.unit.busy.eq(inside.some),
            self.stalled.eq(self.unit.busy & ~self.beat_valid),
            self.unit.error.eq(walker.error),
        ]
        with m.If(self.beat_valid & ~fits):
            m.d.comb += self.unit.error.eq(ErrorCode.ADDRESS)
        with m.If(self.beat_valid & self.beat.failed):
            m.d.comb += self.unit.error.eq(ErrorCode.AXI_RESPONSE)
        return m
