"""Names of a module's bits, and lists of bits as Verilog.

Every bit that something drives belongs to one signal: an input port, a driver's output under the
name that the sources give it, or a signal that is made up (`n1`, `n2` ...).
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence

from hw.export.netlist import Bit, Module

__all__ = ["Names", "Signal", "constant", "extended"]

_WORDS = """
accept_on alias always always_comb always_ff always_latch and assert assign assume automatic
before begin bind bins bit break buf bufif0 bufif1 byte case casex casez cell chandle checker
class clocking cmos config const constraint context continue cover covergroup coverpoint cross
deassign default defparam design disable dist do edge else end endcase endchecker endclass
endclocking endconfig endfunction endgenerate endgroup endinterface endmodule endpackage
endprimitive endprogram endproperty endsequence endspecify endtable endtask enum event eventually
expect export extends extern final first_match for force foreach forever fork forkjoin function
generate genvar global highz0 highz1 if iff ifnone ignore_bins illegal_bins implements implies
import incdir include initial inout input inside instance int integer interconnect interface
intersect join join_any join_none large let liblist library local localparam logic longint
macromodule matches medium modport module nand negedge nettype new nexttime nmos nor
noshowcancelled not notif0 notif1 null or output package packed parameter pmos posedge primitive
priority program property protected pull0 pull1 pulldown pullup pulsestyle_ondetect
pulsestyle_onevent pure rand randc randcase randsequence rcmos real realtime ref reg reject_on
release repeat restrict return rnmos rpmos rtran rtranif0 rtranif1 s_always s_eventually
s_nexttime s_until s_until_with scalared sequence shortint shortreal showcancelled signed small
soft solve specify specparam static string strong strong0 strong1 struct super supply0 supply1
sync_accept_on sync_reject_on table tagged task this throughout time timeprecision timeunit tran
tranif0 tranif1 tri tri0 tri1 triand trior trireg type typedef union unique unique0 unsigned until
until_with untyped use uwire var vectored virtual void wait wait_order wand weak weak0 weak1 while
wildcard wire with within wor xnor xor
"""
KEYWORDS = frozenset(_WORDS.split())
"""Of Verilog and SystemVerilog."""
MADE = re.compile(r"n\d+$")


@dataclasses.dataclass(slots=True)
class Signal:
    """A signal that is declared.

    Attributes
    ----------
    bits: least significant first. used: of these, which some text reads, by position.
    kind: input, output, output reg, wire or reg.
    """

    name: str
    bits: list[Bit]
    kind: str
    used: set[int] = dataclasses.field(default_factory=set)


def constant(values: Sequence[str]) -> str:
    """Bits "0" and "1", least significant first, as a sized constant."""
    width, number = len(values), int("".join(reversed(values)), 2)
    if width <= 8 or number < 10:
        return f"{width}'d{number}"
    return f"{width}'h{number:0{(width + 3) // 4}x}"


def extended(bits: Sequence[Bit], width: int, signed: bool) -> list[Bit]:
    """The bits, by their sign or by zeros brought to a width, or cut to it."""
    more: list[Bit] = [bits[-1] if signed and bits else "0"]
    return [*bits, *more * (width - len(bits))][:width]


def plain(name: str) -> str:
    """A name of the sources as an identifier that needs no escape."""
    text = re.sub(r"\W+", "_", name.replace("$", "_").replace(".", "__")).strip("_") or "signal"
    text = f"_{text}" if text[0].isdigit() else text
    return f"{text}_" if text in KEYWORDS or MADE.match(text) or "unused" in text else text


def _rank(name: str) -> tuple[int, int, str]:
    """Order of names for the same bits: those of the sources before numbered ones, then short."""
    return name.count("$"), len(name), name


class Names:
    """Signals of a module.

    Parameters
    ----------
    module: whose input ports are declared at once.
    """

    def __init__(self, module: Module):
        self.signals: dict[str, Signal] = {}
        self._owner: dict[Bit, tuple[Signal, int]] = {}
        self._made, self._of = 0, module.name
        self._ports = set(module.ports)
        exact: dict[tuple[Bit, ...], list[str]] = {}
        for name, bits in module.nets.items():
            exact.setdefault(tuple(bits), []).append(name)
        outputs = {p for p, (way, _) in module.ports.items() if way == "output"}
        self._exact = {
            bits: min(names, key=lambda name: (name not in outputs, *_rank(name)))
            for bits, names in exact.items()
        }
        self._outputs = outputs
        self._parts: dict[Bit, list[str]] = {}
        for name in sorted(module.nets, key=lambda name: (_rank(name), name)):
            for bit in module.nets[name]:
                self._parts.setdefault(bit, []).append(name)
        self._nets = module.nets
        for name, (way, bits) in module.ports.items():
            if way == "input":
                self._declare(name, bits, "input")

    def _declare(self, name: str, bits: list[Bit], kind: str) -> Signal:
        unique, number = name, 2
        while unique in self.signals or (unique in self._ports and unique != name):
            unique, number = f"{name}_{number}", number + 1
        signal = self.signals[unique] = Signal(unique, bits, kind)
        for index, bit in enumerate(bits):
            self._owner[bit] = signal, index
        return signal

    def named(self, bits: Sequence[Bit]) -> str | None:
        """What the sources call what drives these bits; None where they do not."""
        name = self._exact.get(tuple(bits))
        if name is not None:
            return name if name in self._outputs else self._free(plain(name))
        for candidate in self._parts.get(bits[0], ()):
            whole = self._nets[candidate]
            low = whole.index(bits[0])
            if whole[low : low + len(bits)] == list(bits):
                high = low + len(bits) - 1
                ends = f"{high}_{low}" if high > low else f"{low}"
                return self._free(f"{plain(candidate)}_{ends}")
        return None

    def _free(self, name: str) -> str:
        """A name that no port has."""
        return f"{name}_" if name in self._ports else name

    def drive(self, bits: list[Bit], kind: str = "wire") -> Signal:
        """Declare the signal that a driver's output is; `kind` wire or reg."""
        name = self.named(bits)
        if name is None:
            return self.make(bits, kind)
        if name in self._outputs:
            kind = "output reg" if kind == "reg" else "output"
        return self._declare(name, bits, kind)

    def make(self, bits: list[Bit], kind: str = "wire") -> Signal:
        """Declare a signal that the sources do not name."""
        self._made += 1
        return self._declare(f"n{self._made}", bits, kind)

    def port(self, name: str, bits: list[Bit]) -> Signal | None:
        """Declare an output port that is another name of bits; None where it is a driver itself."""
        if name in self.signals:
            return None
        signal = self.signals[name] = Signal(name, bits, "output")
        return signal

    def reserve(self, name: str) -> str:
        """A name for something that is no signal: an instance, a memory."""
        unique, number = name, 2
        while unique in self.signals or unique in self._ports:
            unique, number = f"{name}_{number}", number + 1
        self.signals[unique] = Signal(unique, [], "")
        return unique

    def runs(self, bits: Sequence[Bit]) -> Iterable[tuple[Signal | None, int, int]]:
        """Bits from the highest down, as pieces of signals: signal, high, low.

        Constants have no signal, and positions in `bits` instead of those in a signal.

        Raises
        ------
        ValueError
            If nothing drives a bit.
        """
        place = len(bits) - 1
        while place >= 0:
            bit = bits[place]
            start = place
            if isinstance(bit, str):
                while place >= 0 and isinstance(bits[place], str):
                    place -= 1
                yield None, start, place + 1
                continue
            if bit not in self._owner:
                raise ValueError(f"nothing drives {self._parts.get(bit, bit)} of {self._of}")
            signal, high = self._owner[bit]
            low = high + 1
            while place >= 0 and low > 0 and self._owner.get(bits[place]) == (signal, low - 1):
                place, low = place - 1, low - 1
            yield signal, high, low

    def whole(self, bits: Sequence[Bit]) -> Signal | None:
        """The signal of which `bits` are all bits, in order."""
        runs = list(self.runs(bits))
        signal, high, low = runs[0]
        full = len(runs) == 1 and signal is not None and low == 0
        return signal if full and signal and high == len(signal.bits) - 1 else None

    def read(self, bits: Sequence[Bit]) -> str:
        """Text of some bits, all of which count as read."""
        pieces: list[tuple[str, int]] = []
        for signal, high, low in self.runs(bits):
            if signal is None:
                text = constant(["0" if b == "x" else str(b) for b in bits[low : high + 1]])
            else:
                signal.used.update(range(low, high + 1))
                text = signal.name
                if high - low + 1 < len(signal.bits):
                    text += f"[{high}:{low}]" if high > low else f"[{high}]"
            if pieces and pieces[-1][0] == text and high == low:
                pieces[-1] = text, pieces[-1][1] + 1
            else:
                pieces.append((text, 1))
        texts = [text if count == 1 else f"{{{count}{{{text}}}}}" for text, count in pieces]
        return texts[0] if len(texts) == 1 else f"{{{', '.join(texts)}}}"
