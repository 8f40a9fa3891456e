"""What the sequencer knows about the instruction in hand: registers, two steps deep."""

from amaranth.hdl import Cat, Module, Signal, Value

from hw.arch.config import AcceleratorConfig
from hw.arch.encoding import Encodable
from hw.arch.isa import (
    CLASSES,
    OPCODE_BITS,
    REGISTERS,
    Add,
    Begin,
    ErrorCode,
    Scalar,
    Set,
    Unit,
    is_built,
)
from hw.control.decode import SLOTS, faults, operands, view

__all__ = ["Decoder"]

_WITH_WAITS = tuple(
    kind for kind in CLASSES.values() if any(field.name == "waits" for field in kind.layout())
)
_GRAVITY = (
    ErrorCode.OPCODE,
    ErrorCode.FINGERPRINT,
    ErrorCode.UNSUPPORTED,
    ErrorCode.BAD_WAIT,
    ErrorCode.FIELD,
    ErrorCode.ADDRESS,
)
"""Faults of decoding, gravest first."""


class Decoder:
    """Decodes in two cycles: `take` looks at the word alone, `check` at what was found.

    Attributes
    ----------
    kinds: per class, whether the instruction is of it.
    fields, numbers: per operand slot, field and register number.
    destination: register that the instruction writes.
    fault: ErrorCode; sound: none was found. Both two cycles behind the word.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self.kinds = {
            kind: Signal(name=f"is_{kind.__name__.lower()}", reset_less=True)
            for kind in CLASSES.values()
        }
        self.fields = [Signal(32, name=f"field{k}", reset_less=True) for k in range(SLOTS)]
        self.numbers = [
            Signal(range(REGISTERS), name=f"number{k}", reset_less=True) for k in range(SLOTS)
        ]
        self.destination = Signal(range(REGISTERS), reset_less=True)
        self.fault = Signal(6, reset_less=True)
        self.sound = Signal(reset_less=True)
        self._early = Signal(len(Unit), reset_less=True)  # waits that reach too far back
        self._found: dict[tuple[type[Encodable], ErrorCode], list[Value]] = {}

    def take(self, m: Module, word: Signal, seen: dict[Unit, Signal]) -> None:
        """First step; to be called in the context of the cycles in which `word` is taken.

        Parameters
        ----------
        word: the instruction word.
        seen: instructions of each unit so far, saturating.
        """
        opcode = word[:OPCODE_BITS]
        m.d.sync += [signal.eq(opcode == kind.OPCODE) for kind, signal in self.kinds.items()]
        m.d.sync += [signal.eq(0) for signal in (*self.fields, *self.numbers)]
        with m.Switch(opcode):
            for number, kind in CLASSES.items():
                with m.Case(number):
                    if not is_built(kind, self._config.features):
                        continue  # it is refused
                    known = view(kind, word)
                    for k, operand in enumerate(operands(kind)):
                        if operand.field is not None:
                            m.d.sync += self.fields[k].eq(known[operand.field])
                        if operand.register is not None:
                            m.d.sync += self.numbers[k].eq(known[operand.register])
        with m.Switch(opcode):
            for kind in (Set, Add, Scalar):
                with m.Case(kind.OPCODE):
                    m.d.sync += self.destination.eq(view(kind, word).rd)
        waits = view(Scalar, word).waits
        for unit in Unit:
            m.d.sync += self._early[unit].eq(waits[unit] > seen[unit])
        for kind in CLASSES.values():
            # A register for each rule, or for each term of one that multiplies or adds: which are
            # met is asked in the second step, since the terms themselves take most of the first.
            for number, (code, terms) in enumerate(faults(kind, word, self._config)):
                name = f"{kind.__name__.lower()}_{code.name.lower()}{number}"
                met = []
                for k, either in enumerate(terms):
                    found = Signal(len(either), name=f"{name}_{k}", reset_less=True)
                    m.d.sync += found.eq(Cat(either))
                    met.append(found.any())
                self._found.setdefault((kind, code), []).append(Cat(met).all())

    def check(self, m: Module, begun: Value) -> None:
        """Second step, in every cycle; to be called after `take`.

        Parameters
        ----------
        begun: an instruction has been executed, so that BEGIN is not missing.
        """
        assert self._found
        conditions: dict[ErrorCode, list[Value]] = {code: [] for code in _GRAVITY}
        for (kind, code), found in self._found.items():
            conditions[code].append(self.kinds[kind] & Cat(*found).any())
        with_waits = Cat(self.kinds[kind] for kind in _WITH_WAITS).any()
        conditions[ErrorCode.OPCODE].append(~Cat(self.kinds.values()).any())
        conditions[ErrorCode.FINGERPRINT].append(~begun & ~self.kinds[Begin])
        conditions[ErrorCode.BAD_WAIT].append(with_waits & self._early.any())
        met = {code: Cat(*conditions[code]).any() for code in _GRAVITY}
        m.d.sync += [
            self.fault.eq(ErrorCode.NONE),
            self.sound.eq(~Cat(*met.values()).any()),
        ]
        for code in reversed(_GRAVITY):
            with m.If(met[code]):
                m.d.sync += self.fault.eq(code)
