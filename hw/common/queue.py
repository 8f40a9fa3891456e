"""The instruction queue in front of a unit: holds instructions back until their waits are over."""

from amaranth.hdl import Cat, Module, ResetInserter, ShapeCastable, Signal, ValueLike
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.isa import Unit
from hw.common.layouts import queue_layout, target_layout

__all__ = ["UnitQueue", "waits_over"]


def waits_over(targets: data.View, completed: data.View) -> ValueLike:
    """Whether every awaited unit has completed as many instructions as its target says.

    Counts are modulo 2^16: a target lies at most 2^15 instructions away from the counter.

    Parameters
    ----------
    targets: view of `target_layout`.
    completed: per unit, instructions completed since the start.
    """
    held = []
    for unit in Unit:
        behind = (completed[unit] - targets[unit].count)[15]
        held.append(targets[unit].enable & behind)
    return ~Cat(*held).any()


class UnitQueue(wiring.Component):
    """FIFO whose head is offered only when its waits are over; a unit's side of the core's control.

    Handshake: `i` takes an instruction while there is room, and never in two cycles running; its
    payload is written one cycle after it was taken, so the sender keeps it for that cycle. `o`
    holds its instruction until taken.

    Latency: taken in cycle t, offered in cycle t + `timing.QUEUE_LATENCY` (3) at the earliest:
    written in t + 1, its waits are compared in t + 2, and what the unit sees are registers. A
    counter that reaches the target in cycle t releases the head in t + 1 (counters only grow, so a
    released head stays released), and the head behind one taken in t is offered in
    t + `timing.QUEUE_INTERVAL` (2).

    Only the fields that a unit needs are stored (`kept` of `queue_layout`): waits have become
    targets and register fields have been added to their addresses.

    `run` and `clear` reach the unit through registers here, so that no net spans the device.

    Parameters
    ----------
    payload: shape of the unit's instruction.
    kept: bit ranges of the payload that are stored; the others read as zero.
    depth: instructions, a power of two.

    Members
    -------
    i: In(stream), `queue_layout(payload)`: instruction and targets.
    o: Out(stream), the instruction.
    completed: In, the units' completion counters.
    waiting: Out, the head was held back by a wait in the cycle before.
    run, clear: In, of the core.
    abort, reset: Out, for the unit, one cycle later; `reset` is for the queue, too.
    """

    def __init__(self, payload: ShapeCastable, kept: list[range], depth: int):
        self._payload = payload
        self._kept = kept
        self._depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(queue_layout(payload))),
                "o": Out(stream.Signature(payload)),
                "completed": In(data.ArrayLayout(16, len(Unit))),
                "waiting": Out(1),
                "run": In(1),
                "clear": In(1),
                "abort": Out(1, init=1),
                "reset": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += [self.abort.eq(~self.run), self.reset.eq(self.clear)]
        m.submodules.fifo = ResetInserter(self.reset)(self._fifo())
        return m

    def _fifo(self) -> Module:
        m = Module()
        bits = sum(len(part) for part in self._kept)
        m.submodules.storage = storage = memory.Memory(shape=bits, depth=self._depth, init=[])
        write = storage.write_port()
        read = storage.read_port(domain="comb")
        released = self._released(m, write.en)

        level = Signal(range(self._depth + 1))  # taken, not yet issued
        stored = Signal(range(self._depth + 1))  # of these, written
        written = Signal()
        head = Signal(range(self._depth))
        tail = Signal(range(self._depth))
        push = self.i.valid & self.i.ready
        pop = self.o.valid & self.o.ready
        source = self.i.payload.instruction.as_value()
        m.d.comb += [
            self.i.ready.eq((level != self._depth) & ~written),
            write.en.eq(written),
            write.addr.eq(tail),
            write.data.eq(Cat(source[part.start : part.stop] for part in self._kept)),
            read.addr.eq(head),
        ]
        m.d.sync += [
            written.eq(push),
            level.eq(level + push - pop),
            stored.eq(stored + written - pop),
        ]
        with m.If(written):
            m.d.sync += tail.eq(tail + 1)

        bits_out = Signal(bits, reset_less=True)
        m.d.sync += self.waiting.eq(0)
        with m.If(self.o.valid):
            with m.If(self.o.ready):
                m.d.sync += [self.o.valid.eq(0), head.eq(head + 1)]
        with m.Else():
            m.d.sync += [
                self.o.valid.eq((stored != 0) & released),
                self.waiting.eq((stored != 0) & ~released),
                bits_out.eq(read.data),
            ]
        position = 0
        for part in self._kept:
            m.d.comb += self.o.payload.as_value()[part.start : part.stop].eq(
                bits_out[position : position + len(part)]
            )
            position += len(part)
        return m

    def _released(self, m: Module, write_enable: Signal) -> Signal:
        """Whether the head's waits are over.

        Targets lie in a memory of their own, which is filled downwards: its addresses are registers
        apart from those of the instructions, which have many more bits to reach.
        """
        m.submodules.targets = targets = memory.Memory(
            shape=target_layout(), depth=self._depth, init=[]
        )
        write = targets.write_port()
        read = targets.read_port(domain="comb")
        head = Signal(range(self._depth), init=self._depth - 1)
        tail = Signal(range(self._depth), init=self._depth - 1)
        released = Signal()
        m.d.comb += [
            write.en.eq(write_enable),
            write.addr.eq(tail),
            write.data.eq(self.i.payload.targets),
            read.addr.eq(head),
            released.eq(waits_over(read.data, self.completed)),
        ]
        with m.If(write_enable):
            m.d.sync += tail.eq(tail - 1)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += head.eq(head - 1)
        return released
