"""The instruction queue in front of a unit: holds instructions back until their waits are over."""

from amaranth.hdl import Cat, Module, ResetInserter, ShapeCastable, Signal, Value, ValueLike
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
    held = [targets[unit].enable & _behind(completed[unit], targets[unit].count) for unit in Unit]
    return ~Cat(*held).any()


def _behind(completed: Value, count: Value) -> Value:
    """Whether a counter has not reached a target."""
    return (completed - count)[15]


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

    With `deferred` the wait for that unit does not hold an instruction whose field `late` is set:
    `arrived` says whether it is over, of the instruction taken last. A counter that reaches the
    target in cycle t makes `arrived` high in t + 2; so does no such wait, if it was taken in t.

    Only the fields that a unit needs are stored (`kept` of `queue_layout`): waits have become
    targets and register fields have been added to their addresses.

    `run` and `clear` reach the unit through registers here, so that no net spans the device.

    Parameters
    ----------
    payload: shape of the unit's instruction.
    kept: bit ranges of the payload that are stored; the others read as zero.
    depth: instructions, a power of two.
    deferred: the unit whose wait `late` defers; None: there is no such field.

    Members
    -------
    i: In(stream), `queue_layout(payload)`: instruction and targets.
    o: Out(stream), the instruction.
    completed: In, the units' completion counters.
    waiting: Out, the head was held back by a wait in the cycle before.
    arrived: Out, with `deferred`: see above; what it says in the cycle behind a take is of no use.
    run, clear: In, of the core.
    abort, reset: Out, for the unit, one cycle later; `reset` is for the queue, too.
    """

    def __init__(
        self,
        payload: ShapeCastable,
        kept: list[range],
        depth: int,
        deferred: Unit | None = None,
    ):
        self._deferred = deferred
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
                **({} if deferred is None else {"arrived": Out(1)}),
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
        deferred = self._deferred
        layout = data.StructLayout({"held": target_layout(), "late": int(deferred is not None)})
        m.submodules.targets = targets = memory.Memory(shape=layout, depth=self._depth, init=[])
        write = targets.write_port()
        read = targets.read_port(domain="comb")
        head = Signal(range(self._depth), init=self._depth - 1)
        tail = Signal(range(self._depth), init=self._depth - 1)
        released = Signal()
        m.d.comb += [
            write.en.eq(write_enable),
            write.addr.eq(tail),
            write.data.held.eq(self.i.payload.targets),
            read.addr.eq(head),
            released.eq(waits_over(read.data.held, self.completed)),
        ]
        pop = self.o.valid & self.o.ready
        if deferred is not None:
            own, late = self.i.payload.targets[deferred], self.i.payload.instruction.late
            m.d.comb += [
                write.data.held[deferred].enable.eq(own.enable & ~late),
                write.data.late.eq(own.enable & late),
            ]
            count = read.data.held[deferred].count
            self._arrival(m, pop, read.data.late, count, self.completed[deferred])
        with m.If(write_enable):
            m.d.sync += tail.eq(tail - 1)
        with m.If(pop):
            m.d.sync += head.eq(head - 1)
        return released

    def _arrival(self, m: Module, pop: Value, late: Value, count: Value, completed: Value) -> None:
        """Keep the deferred wait of what is taken, and compare it until it is over."""
        awaits = Signal()
        target = Signal.like(count, reset_less=True)
        with m.If(pop):
            m.d.sync += [awaits.eq(late), target.eq(count), self.arrived.eq(0)]
        with m.Elif(~awaits | ~_behind(completed, target)):
            m.d.sync += self.arrived.eq(1)
