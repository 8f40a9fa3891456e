"""The sequencer: takes instructions one by one, executes control flow, dispatches the rest."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    INSTRUCTION_BYTES,
    LOOP_LEVELS,
    OPCODE_BITS,
    REGISTERS,
    WAIT_BITS,
    Add,
    Begin,
    Branch,
    Condition,
    ErrorCode,
    Fence,
    Halt,
    Loop,
    Next,
    Scalar,
    Set,
    Unit,
)
from hw.arch.timing import ACTIVATION_READ_LATENCY
from hw.common.layouts import queue_layout, target_layout, unit_classes, unit_layout
from hw.common.ports import activation_read
from hw.common.queue import waits_over
from hw.control.decode import SLOTS, operands, view, with_fields
from hw.control.decoder import Decoder
from hw.control.fetch import INDEX_BITS

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Three cycles per instruction: take, check, act.

    Rules
    -----
    1. TAKE: the next instruction leaves the prefetch as soon as it is there (cycle t). If its index
       is not inside the program, FETCH_RANGE. What the word alone tells is known in t + 1: class,
       fields, registers, faults (`Decoder`).
    2. CHECK, cycle t + 1: registers are added, distances become completion counts, and the gravest
       fault is chosen: OPCODE, FINGERPRINT (also for a first instruction that is not BEGIN),
       UNSUPPORTED, BAD_WAIT, FIELD, ADDRESS.
    3. ACT, from cycle t + 2 on (`timing.TAKE_TO_DISPATCH`): a unit instruction goes to its queue
       in the first cycle in which there is room; SET, ADD, LOOP, NEXT, BRANCH and BEGIN take one
       cycle; FENCE and HALT stay until every instruction dispatched to its units has completed
       (`timing.TOKEN_LATENCY` (2) after the last `done` at the earliest); SCALAR is
       released `timing.SCALAR_RELEASE` (1) cycle later at the earliest, as long after the awaited
       `done` as an instruction in a queue, and ends `timing.SCALAR_LATENCY` cycles after that.
    4. TAKE follows in the cycle after the last one of ACT. A taken branch or loop flushes the
       prefetch `timing.JUMP_LATENCY` (1) cycle after its ACT; nothing is taken in that cycle.
    5. A loop runs max(count + register, 1) times. Registers and loops are clear at the start.

    Members
    -------
    run: In; while low nothing is taken or executed.
    length: In, instructions in the program.
    fetch: In(stream) of instruction words. jump, target: Out, to the fetch.
    queue_<unit>: Out(stream) of `queue_layout(unit_layout(unit))`; the payload stays for one cycle
        longer (`UnitQueue`): nothing that it comes from changes in TAKE.
    completed: In, completion counters of the units.
    scalar: Out(activation_read).
    halt: Out, HALT executed (one cycle). halt_code: Out, its code, from then on.
    error: Out, ErrorCode, not zero for one cycle; then the sequencer stands still. A register.
    index: Out, index of the instruction in hand. dispatched_index: of the latest dispatch.
    retired: Out, an instruction was dispatched or executed two cycles before.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "run": In(1),
                "length": In(INDEX_BITS),
                "fetch": In(stream.Signature(8 * INSTRUCTION_BYTES)),
                "jump": Out(1),
                "target": Out(INDEX_BITS),
                **{
                    f"queue_{unit.name.lower()}": Out(
                        stream.Signature(queue_layout(unit_layout(unit)))
                    )
                    for unit in Unit
                },
                "completed": In(data.ArrayLayout(16, len(Unit))),
                "scalar": Out(activation_read(config)),
                "halt": Out(1),
                "halt_code": Out(4),
                "error": Out(6),
                "index": Out(INDEX_BITS),
                "dispatched_index": Out(INDEX_BITS),
                "retired": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._word = Signal(8 * INSTRUCTION_BYTES, reset_less=True)
        self._decoder = Decoder(self._config)
        self._sums = [Signal(32, name=f"sum{k}", reset_less=True) for k in range(SLOTS)]
        self._targets = Signal(target_layout(), reset_less=True)
        self._dispatched = Signal(data.ArrayLayout(16, len(Unit)))
        self._over = Signal(len(Unit))  # per unit: nothing dispatched is left
        self._all_done = Signal()
        self._fenced = Signal()  # the units that FENCE names have nothing left
        self._finish = Signal()  # ACT ends in this cycle
        self._leaves = Signal()  # BRANCH beyond the program, in the cycle before
        self._closed = Signal()  # NEXT of a loop that is not open, in the cycle before
        self._write = Signal()  # a register is written with `_value`
        self._value = Signal(32)
        following = Signal(INDEX_BITS)
        begun = Signal()
        running = Signal()  # beside the sequencer
        over = Signal()
        finished = Signal()
        failed = self._leaves | self._closed
        self._operands(m)
        self._loops(m)
        self._waits(m)
        for unit in Unit:
            self._payload(m, unit)
        seen = self._seen(m)
        past = self._past_end(m, following)
        byte, arrived = self._scalar_byte(m)
        m.d.sync += [
            running.eq(self.run),
            self._over.eq(Cat(self._dispatched[u] == self.completed[u] for u in Unit)),
            over.eq(waits_over(self._targets, self.completed)),
            self.error.eq(ErrorCode.NONE),
            self.jump.eq(0),
            self._leaves.eq(0),
            self._closed.eq(0),
            self.scalar.enable.eq(0),
            self.scalar.address.eq(self._sums[0]),
            finished.eq(self._finish),
            self.retired.eq(finished & ~failed),
        ]
        m.d.comb += [
            self.halt_code.eq(view(Halt, self._word).code),
            self._all_done.eq(self._over.all()),
            self._fenced.eq((self._over | ~view(Fence, self._word).units).all()),
        ]
        with m.If(self._finish):
            m.d.sync += begun.eq(1)

        with m.FSM(name="step"):
            with m.State("TAKE"):
                # The word is loaded until it is valid: few signals decide on many registers.
                m.d.sync += self._word.eq(self.fetch.payload)
                self._decoder.take(m, self.fetch.payload, seen)
                with m.If(failed):
                    code = Mux(self._leaves, ErrorCode.FETCH_RANGE, ErrorCode.LOOP)
                    m.d.sync += self.error.eq(code)
                    m.next = "STOPPED"
                with m.Elif(running & ~self.jump):
                    m.d.comb += self.fetch.ready.eq(1)
                    with m.If(self.fetch.valid):
                        m.d.sync += [self.index.eq(following), following.eq(following + 1)]
                        m.next = "CHECK"
                    with m.Elif(past):
                        m.d.sync += self.index.eq(following)
                        m.next = "PAST_END"
            with m.State("CHECK"):
                m.next = "ACT"
            with m.State("ACT"), m.If(running):
                with m.If(~self._decoder.sound):
                    m.d.sync += self.error.eq(self._decoder.fault)
                    m.next = "STOPPED"
                with m.Else():
                    self._act(m, following)
                with m.If(self._finish):
                    m.next = "TAKE"
                with m.If(self.halt):
                    m.next = "STOPPED"
            with m.State("SCALAR_HELD"), m.If(over):
                m.d.sync += self.scalar.enable.eq(1)
                m.next = "SCALAR_READ"
            with m.State("SCALAR_READ"), m.If(arrived):
                m.next = "SCALAR_WRITE"
            with m.State("SCALAR_WRITE"):
                self._set(m, byte)
                m.d.comb += self._finish.eq(1)
                m.next = "TAKE"
            with m.State("PAST_END"):
                m.d.sync += self.error.eq(ErrorCode.FETCH_RANGE)
                m.next = "STOPPED"
            with m.State("STOPPED"):
                pass
        self._decoder.check(m, begun)
        return m

    def _past_end(self, m: Module, following: Signal) -> Signal:
        """Whether the next instruction lies beyond the program.

        Comparisons with the program's length are made one cycle before they matter.
        """
        past = Signal()  # not yet known in the cycle after a jump, whose target lies inside
        self._beyond = Signal()  # in ACT: a branch would leave the program
        m.d.sync += [
            self._beyond.eq(view(Branch, self._word).target >= self.length),
            past.eq((following >= self.length) & ~self.jump),
        ]
        with m.If(self.jump):
            m.d.sync += following.eq(self.target)
        return past

    def _operands(self, m: Module) -> None:
        """Rule 2: field + register for every operand; scalar registers with a port for each.

        The file lies in distributed RAM, which a start cannot clear; `written` says which
        registers hold a value, the others read as zero.
        """
        m.submodules.registers = file = memory.Memory(shape=32, depth=REGISTERS, init=[])
        written = Signal(REGISTERS)
        port = file.write_port()
        m.d.comb += [
            port.data.eq(self._value),
            port.addr.eq(self._decoder.destination),
            port.en.eq(self._write & (port.addr != 0)),
        ]
        with m.If(port.en):
            m.d.sync += written.bit_select(port.addr, 1).eq(1)
        decoder = self._decoder
        for total, field, number in zip(self._sums, decoder.fields, decoder.numbers, strict=True):
            read = file.read_port(domain="comb")
            m.d.comb += read.addr.eq(number)
            value = Mux(written.bit_select(number, 1), read.data, 0)
            m.d.sync += total.eq(field + value)

    def _waits(self, m: Module) -> None:
        """Rule 2: distances to completion counts. Every class with waits has them first."""
        waits = view(Scalar, self._word).waits
        for unit in Unit:
            m.d.sync += [
                self._targets[unit].enable.eq(waits[unit] != 0),
                self._targets[unit].count.eq(self._dispatched[unit] - waits[unit] + 1),
            ]

    def _seen(self, m: Module) -> dict[Unit, Signal]:
        """Instructions of each unit so far, as far as a distance can reach."""
        most = (1 << WAIT_BITS) - 1
        counts = {}
        for unit in Unit:
            seen = counts[unit] = Signal(WAIT_BITS, name=f"seen_{unit.name.lower()}")
            queue = self._queue(unit)
            with m.If(queue.valid & queue.ready & (seen != most)):
                m.d.sync += seen.eq(seen + 1)
        return counts

    def _queue(self, unit: Unit) -> stream.Interface:
        return getattr(self, f"queue_{unit.name.lower()}")

    def _act(self, m: Module, following: Signal) -> None:
        """Rule 3."""
        kinds = self._decoder.kinds
        ends: list[Value] = [kinds[kind] for kind in (Begin, Set, Add, Loop, Next, Branch)]
        ends += [kinds[Fence] & self._fenced, kinds[Halt] & self._all_done]
        ends.extend(self._dispatch(m, unit) for unit in Unit)
        m.d.comb += self._finish.eq(Cat(*ends).any())
        with m.If(kinds[Set]):
            self._set(m, self._sums[0])
        with m.If(kinds[Add]):
            self._set(m, self._sums[0] + self._sums[1])
        with m.If(kinds[Loop] | kinds[Next]):
            self._loop(m, following)
        with m.If(kinds[Branch]):
            self._branch(m)
        with m.If(kinds[Scalar]):
            m.next = "SCALAR_HELD"
        m.d.comb += self.halt.eq(kinds[Halt] & self._all_done)

    def _payload(self, m: Module, unit: Unit) -> None:
        """Give the queue the instruction with its sums and targets."""
        queue = self._queue(unit)
        kinds = unit_classes(unit, self._config.features)
        m.d.comb += queue.payload.targets.eq(self._targets)
        for kind in kinds:
            values = {str(operand.field): self._sums[k] for k, operand in enumerate(operands(kind))}
            word = with_fields(kind, self._word, values)
            target = queue.payload.instruction.as_value()
            if unit is not Unit.VECTOR:
                m.d.comb += target.eq(word)
            elif kind is kinds[0]:
                m.d.comb += target.eq(Cat(self._word[:OPCODE_BITS], word))
            else:
                # Most bits are the same ones; nothing chooses between them.
                with m.If(self._decoder.kinds[kind]):
                    m.d.comb += target.eq(Cat(self._word[:OPCODE_BITS], word))

    def _dispatch(self, m: Module, unit: Unit) -> Value:
        """Offer the instruction to the queue of its unit; whether that takes it."""
        queue = self._queue(unit)
        kinds = unit_classes(unit, self._config.features)
        m.d.comb += queue.valid.eq(Cat(self._decoder.kinds[k] for k in kinds).any())
        with m.If(queue.valid & queue.ready):
            m.d.sync += [
                self._dispatched[unit].eq(self._dispatched[unit] + 1),
                self.dispatched_index.eq(self.index),
            ]
        return queue.valid & queue.ready

    def _set(self, m: Module, value: Value) -> None:
        m.d.comb += [self._write.eq(1), self._value.eq(value)]

    def _loops(self, m: Module) -> None:
        """State of the loops. Zero trips left means that a loop is not open."""
        self._trips = Array(Signal(32, name=f"trips{k}") for k in range(LOOP_LEVELS))
        self._starts = Array(
            Signal(INDEX_BITS, name=f"loop_start{k}", reset_less=True) for k in range(LOOP_LEVELS)
        )
        self._opened = Signal()  # in ACT: what NEXT will find
        self._again = Signal()
        trips = self._trips[view(Next, self._word).level]
        m.d.sync += [self._opened.eq(trips != 0), self._again.eq(trips > 1)]

    def _loop(self, m: Module, following: Signal) -> None:
        """Rule 5; `following` is the index after the instruction in hand."""
        level = view(Next, self._word).level
        with m.If(self._decoder.kinds[Loop]):
            wanted = self._sums[0]
            m.d.sync += [
                self._trips[level].eq(Mux(wanted[31] | (wanted == 0), 1, wanted)),
                self._starts[level].eq(following),
            ]
        with m.Else():
            m.d.sync += [
                self.target.eq(self._starts[level]),
                self.jump.eq(self._again),
                self._closed.eq(~self._opened),
            ]
            with m.If(self._opened):
                m.d.sync += self._trips[level].eq(self._trips[level] - 1)

    def _branch(self, m: Module) -> None:
        branch = view(Branch, self._word)
        left, right = self._sums[0].as_signed(), self._sums[1].as_signed()
        taken = Signal()
        with m.Switch(branch.condition):
            for condition, holds in (
                (Condition.ALWAYS, Const(1)),
                (Condition.EQUAL, left == right),
                (Condition.NOT_EQUAL, left != right),
                (Condition.LESS, left < right),
                (Condition.GREATER_EQUAL, left >= right),
            ):
                with m.Case(condition):
                    m.d.comb += taken.eq(holds)
        m.d.sync += [
            self.target.eq(branch.target),
            self.jump.eq(taken & ~self._beyond),
            self._leaves.eq(taken & self._beyond),
        ]

    def _scalar_byte(self, m: Module) -> tuple[Value, Signal]:
        """Rule 3: the byte that SCALAR chooses from its row, one cycle after `arrived`."""
        scalar = view(Scalar, self._word)
        byte = Signal(8, reset_less=True)
        reading = Signal(ACTIVATION_READ_LATENCY)
        m.d.sync += [
            reading.eq(Cat(self.scalar.enable, reading)),
            byte.eq(self.scalar.data.word_select(scalar.lane, 8)),
        ]
        return Cat(byte, (byte[7] & scalar.signed).replicate(24)), reading[-1]
