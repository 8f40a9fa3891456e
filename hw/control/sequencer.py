"""The sequencer: takes instructions one by one, executes control flow, dispatches the rest."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    CLASSES,
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
    Halt,
    Next,
    Opcode,
    Scalar,
    Set,
    Unit,
)
from hw.common.layouts import queue_layout, target_layout, unit_classes, unit_layout
from hw.common.ports import activation_read
from hw.common.queue import waits_over
from hw.control.decode import SLOTS, faults, operands, view, with_fields
from hw.control.fetch import INDEX_BITS

__all__ = ["QUEUED_UNITS", "Sequencer"]

QUEUED_UNITS = (Unit.LOAD, Unit.ARRAY, Unit.DRAIN, Unit.VECTOR, Unit.STORE)
"""Units that exist in the circuit; SFU instructions are refused as UNSUPPORTED."""


class Sequencer(wiring.Component):
    """Three cycles per instruction: take, check, act.

    Rules
    -----
    1. TAKE: the next instruction leaves the prefetch FIFO as soon as it is there (cycle t). If
       its index is not inside the program, FETCH_RANGE.
    2. CHECK, cycle t + 1: registers are added, distances become completion counts, faults are
       found: OPCODE, FINGERPRINT (also for a first instruction that is not BEGIN), UNSUPPORTED,
       BAD_WAIT, FIELD.
    3. ACT, from cycle t + 2 on (`timing.TAKE_TO_DISPATCH`): a unit instruction goes to its queue
       in the first cycle in which there is room; SET, ADD, LOOP, NEXT, BRANCH and BEGIN take one
       cycle; FENCE and HALT stay until every dispatched instruction has completed (in the cycle
       after the last `done` at the earliest); SCALAR stays until its waits are over, reads in
       that cycle, and ends `timing.SCALAR_LATENCY` (2) cycles later.
    4. TAKE follows in the cycle after the last one of ACT. A taken branch or loop flushes the
       prefetch FIFO in its ACT cycle.
    5. A loop runs max(count + register, 1) times. Registers and loops are clear at the start.

    Members
    -------
    run: In; while low nothing is taken or executed.
    length: In, instructions in the program.
    fetch: In(stream) of instruction words. jump, target: Out, to the fetch.
    queue_<unit>: Out(stream) of `queue_layout(unit_layout(unit))`.
    completed: In, completion counters of the units.
    scalar: Out(activation_read).
    halt: Out, HALT executed (one cycle). halt_code: Out, its code, from then on.
    error: Out, ErrorCode, not zero for one cycle; then the sequencer stands still.
    index: Out, index of the instruction in hand. dispatched_index: of the latest dispatch.
    retired: Out, an instruction was dispatched or executed in this cycle.
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
                    for unit in QUEUED_UNITS
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
        self._word = Signal(8 * INSTRUCTION_BYTES)
        self._sums = [Signal(32, name=f"sum{k}") for k in range(SLOTS)]
        self._targets = Signal(target_layout())
        self._fault = Signal(6)
        self._dispatched = Signal(data.ArrayLayout(16, len(Unit)))
        self._finish = Signal()  # ACT ends in this cycle
        self._write = Signal()  # a register is written with `_value`
        self._value = Signal(32)
        following = Signal(INDEX_BITS)
        begun = Signal()

        registers = self._registers(m)
        self._operands(m, registers)
        self._waits(m)
        self._faults(m, begun)

        with m.FSM(name="step"):
            with m.State("TAKE"), m.If(self.run):
                with m.If(following >= self.length):
                    m.d.sync += self.index.eq(following)
                    m.next = "PAST_END"
                with m.Elif(self.fetch.valid):
                    m.d.comb += self.fetch.ready.eq(1)
                    m.d.sync += [
                        self._word.eq(self.fetch.payload),
                        self.index.eq(following),
                        following.eq(following + 1),
                    ]
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "ACT"
            with m.State("ACT"), m.If(self.run):
                with m.If(self._fault != ErrorCode.NONE):
                    m.d.comb += self.error.eq(self._fault)
                    m.next = "STOPPED"
                with m.Else():
                    self._act(m, following)
                with m.If(self._finish):
                    m.next = "TAKE"
                with m.If(self.scalar.enable):
                    m.next = "SCALAR"
                with m.If((self.error != ErrorCode.NONE) | self.halt):
                    m.next = "STOPPED"
            with m.State("SCALAR"):
                m.next = "SCALAR_DATA"
            with m.State("SCALAR_DATA"):
                self._scalar_data(m)
                m.next = "TAKE"
            with m.State("PAST_END"):
                m.d.comb += self.error.eq(ErrorCode.FETCH_RANGE)
                m.next = "STOPPED"
            with m.State("STOPPED"):
                pass
        with m.If(self._finish):
            m.d.sync += begun.eq(1)
        with m.If(self.jump):
            m.d.sync += following.eq(self.target)
        m.d.comb += [
            self.retired.eq(self._finish),
            self.halt_code.eq(view(Halt, self._word).code),
        ]
        return m

    def _registers(self, m: Module) -> list[tuple[Signal, Signal]]:
        """Scalar registers with a read port per operand. Returns (number, value) pairs.

        The file lies in distributed RAM, which a start cannot clear; `written` says which
        registers hold a value, the others read as zero.
        """
        m.submodules.registers = file = memory.Memory(shape=32, depth=REGISTERS, init=[])
        written = Signal(REGISTERS)
        port = file.write_port()
        m.d.comb += port.data.eq(self._value)
        with m.Switch(self._word[:OPCODE_BITS]):
            for kind in (Set, Add, Scalar):
                with m.Case(kind.OPCODE):
                    m.d.comb += port.addr.eq(view(kind, self._word).rd)
        m.d.comb += port.en.eq(self._write & (port.addr != 0))
        with m.If(port.en):
            m.d.sync += written.bit_select(port.addr, 1).eq(1)
        ports = []
        for k in range(SLOTS):
            read = file.read_port(domain="comb")
            value = Signal(32, name=f"register{k}")
            m.d.comb += value.eq(Mux(written.bit_select(read.addr, 1), read.data, 0))
            ports.append((read.addr, value))
        return ports

    def _operands(self, m: Module, registers: list[tuple[Signal, Signal]]) -> None:
        """Rule 2: field + register for every operand."""
        fields = [Signal(32, name=f"field{k}") for k in range(SLOTS)]
        with m.Switch(self._word[:OPCODE_BITS]):
            for opcode, kind in CLASSES.items():
                with m.Case(opcode):
                    known = view(kind, self._word)
                    for k, operand in enumerate(operands(kind)):
                        if operand.field is not None:
                            m.d.comb += fields[k].eq(known[operand.field])
                        if operand.register is not None:
                            m.d.comb += registers[k][0].eq(known[operand.register])
        for total, field, (_, value) in zip(self._sums, fields, registers, strict=True):
            m.d.sync += total.eq(field + value)

    def _waits(self, m: Module) -> None:
        """Rule 2: distances to completion counts. Every class with waits has them first."""
        waits = view(Scalar, self._word).waits
        for unit in Unit:
            m.d.sync += [
                self._targets[unit].enable.eq(waits[unit] != 0),
                self._targets[unit].count.eq(self._dispatched[unit] - waits[unit] + 1),
            ]

    def _bad_wait(self, m: Module) -> Value:
        """Whether a distance reaches before the first instruction of its unit."""
        most = (1 << WAIT_BITS) - 1
        waits = view(Scalar, self._word).waits
        reaches = []
        for unit in QUEUED_UNITS:
            seen = Signal(WAIT_BITS, name=f"seen_{unit.name.lower()}")
            queue = self._queue(unit)
            with m.If(queue.valid & queue.ready & (seen != most)):
                m.d.sync += seen.eq(seen + 1)
            reaches.append(waits[unit] > seen)
        reaches.append(waits[Unit.SFU] != 0)
        return Cat(*reaches).any()

    def _faults(self, m: Module, begun: Signal) -> None:
        """Rule 2: the gravest fault wins, being assigned last."""
        bad_wait = self._bad_wait(m)
        with m.Switch(self._word[:OPCODE_BITS]):
            for opcode, kind in CLASSES.items():
                with m.Case(opcode):
                    m.d.sync += self._fault.eq(ErrorCode.NONE)
                    found = faults(kind, self._word, self._config)
                    if kind is not Begin:  # a program that does not start with BEGIN
                        found.insert(1, (ErrorCode.FINGERPRINT, ~begun))
                    if any(field.name == "waits" for field in kind.layout()):
                        late = (ErrorCode.FIELD, ErrorCode.ADDRESS)
                        found = [
                            *(fault for fault in found if fault[0] not in late),
                            (ErrorCode.BAD_WAIT, bad_wait),
                            *(fault for fault in found if fault[0] in late),
                        ]
                    for code, condition in reversed(found):
                        with m.If(condition):
                            m.d.sync += self._fault.eq(code)
            with m.Default():
                m.d.sync += self._fault.eq(ErrorCode.OPCODE)

    def _queue(self, unit: Unit) -> stream.Interface:
        return getattr(self, f"queue_{unit.name.lower()}")

    def _act(self, m: Module, following: Signal) -> None:
        """Rule 3."""
        for unit in QUEUED_UNITS:
            self._payload(m, unit)
        with m.Switch(self._word[:OPCODE_BITS]):
            for unit in QUEUED_UNITS:
                with m.Case(*(kind.OPCODE for kind in unit_classes(unit))):
                    self._dispatch(m, unit)
            with m.Case(Opcode.BEGIN):
                m.d.comb += self._finish.eq(1)
            with m.Case(Opcode.SET):
                self._set(m, self._sums[0])
            with m.Case(Opcode.ADD):
                self._set(m, self._sums[0] + self._sums[1])
            with m.Case(Opcode.LOOP, Opcode.NEXT):
                self._loop(m, following)
            with m.Case(Opcode.BRANCH):
                self._branch(m)
            with m.Case(Opcode.SCALAR):
                m.d.comb += [
                    self.scalar.enable.eq(waits_over(self._targets, self.completed)),
                    self.scalar.address.eq(self._sums[0]),
                ]
            with m.Case(Opcode.FENCE):
                m.d.comb += self._finish.eq(self._all_done())
            with m.Case(Opcode.HALT):
                m.d.comb += [
                    self.halt.eq(self._all_done()),
                    self._finish.eq(self.halt),
                ]

    def _all_done(self) -> Value:
        return self._dispatched.as_value() == self.completed.as_value()

    def _payload(self, m: Module, unit: Unit) -> None:
        """Give the queue the instruction with its sums and targets."""
        queue = self._queue(unit)
        kinds = unit_classes(unit)
        m.d.comb += queue.payload.targets.eq(self._targets)
        opcode = self._word[:OPCODE_BITS]
        for kind in kinds:
            values = {str(operand.field): self._sums[k] for k, operand in enumerate(operands(kind))}
            word = with_fields(kind, self._word, values)
            target = queue.payload.instruction.as_value()
            if len(kinds) == 1:
                m.d.comb += target.eq(word)
            else:
                with m.If(opcode == kind.OPCODE):
                    m.d.comb += target.eq(Cat(opcode, word))

    def _dispatch(self, m: Module, unit: Unit) -> None:
        queue = self._queue(unit)
        m.d.comb += [queue.valid.eq(1), self._finish.eq(queue.ready)]
        with m.If(queue.ready):
            m.d.sync += [
                self._dispatched[unit].eq(self._dispatched[unit] + 1),
                self.dispatched_index.eq(self.index),
            ]

    def _set(self, m: Module, value: Value) -> None:
        m.d.comb += [self._write.eq(1), self._value.eq(value), self._finish.eq(1)]

    def _loop(self, m: Module, following: Signal) -> None:
        """Rule 5; `following` is the index after the instruction in hand."""
        level = view(Next, self._word).level
        trips = Array(Signal(32, name=f"trips{k}") for k in range(LOOP_LEVELS))
        starts = Array(Signal(INDEX_BITS, name=f"loop_start{k}") for k in range(LOOP_LEVELS))
        # Zero trips left means that the loop is not open.
        with m.If(self._word[:OPCODE_BITS] == Opcode.LOOP):
            wanted = self._sums[0]
            m.d.sync += [
                trips[level].eq(Mux(wanted[31] | (wanted == 0), 1, wanted)),
                starts[level].eq(following),
            ]
            m.d.comb += self._finish.eq(1)
        with m.Elif(trips[level] == 0):
            m.d.comb += self.error.eq(ErrorCode.LOOP)
        with m.Else():
            m.d.sync += trips[level].eq(trips[level] - 1)
            m.d.comb += [
                self.jump.eq(trips[level] != 1),
                self.target.eq(starts[level]),
                self._finish.eq(1),
            ]

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
        with m.If(taken & (branch.target >= self.length)):
            m.d.comb += self.error.eq(ErrorCode.FETCH_RANGE)
        with m.Else():
            m.d.comb += [self.jump.eq(taken), self.target.eq(branch.target), self._finish.eq(1)]

    def _scalar_data(self, m: Module) -> None:
        scalar = view(Scalar, self._word)
        byte = Signal(8)
        m.d.comb += [
            byte.eq(self.scalar.data.word_select(scalar.lane, 8)),
            self._value.eq(Cat(byte, (byte[7] & scalar.signed).replicate(24))),
            self._write.eq(1),
            self._finish.eq(1),
        ]
