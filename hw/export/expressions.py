"""What cells compute, as Verilog expressions.

All operands have the width of their expression, by explicit extension, so that no rule of Verilog
about widths and signs has a say. A cell whose only reader wants all of it, and which the sources do
not name, is written where it is read while that is short; any other one is a signal.
"""

from collections.abc import Callable, Sequence

from hw.export.names import Names, Signal, constant, extended
from hw.export.netlist import Bit, Cell

__all__ = ["CHOICE", "Expressions", "bare"]

LONGEST = 60
"""Characters of an expression within another one."""
ARITHMETIC = {"$add": "+", "$sub": "-", "$mul": "*"}
BITWISE = {"$and": "&", "$or": "|", "$xor": "^", "$xnor": "~^"}
COMPARISONS = {"$eq": "==", "$ne": "!=", "$lt": "<", "$le": "<=", "$gt": ">", "$ge": ">="}
REDUCTIONS = {"$reduce_and": "&", "$reduce_or": "|", "$reduce_xor": "^", "$reduce_bool": "|"}
CHOICE = "\n"
"""Where a chain of conditions may go on in a new line."""


class Expressions:
    """Texts of operands and of what cells without a clock compute.

    Parameters
    ----------
    names: the module's signals.
    pending: bits that cells compute which are not declared yet, and the cells.
    assign: told a signal, its expression and its cell when a cell becomes a signal after all.
    """

    def __init__(
        self,
        names: Names,
        pending: dict[Bit, Cell],
        assign: Callable[[Signal, str, Cell], None],
    ):
        self._names, self._pending, self._assign = names, pending, assign

    def whole(self, bits: Sequence[Bit]) -> str:
        """Bits as the whole right side of an assignment."""
        cell = self._alone(bits)
        if cell is None:
            return self.read(bits)
        self._forget(cell)
        return self.compute(cell)[0]

    def read(self, bits: Sequence[Bit]) -> str:
        """Bits as an operand."""
        pieces, rest = [], list(bits)
        while rest:
            cell = self._pending.get(rest[-1])
            if cell is None:
                count = 1
                while count < len(rest) and rest[-count - 1] not in self._pending:
                    count += 1
                pieces.append(self._names.read(rest[-count:]))
                del rest[-count:]
                continue
            result = cell.outputs["Y"]
            self._forget(cell)
            text, atomic = self.compute(cell)
            text = text.replace(CHOICE, " ")
            alone = rest[-len(result) :] == result and set(rest[: -len(result)]).isdisjoint(result)
            if alone and len(text) <= LONGEST:
                pieces.append(text if atomic else f"({text})")
                del rest[-len(result) :]
            else:
                self._assign(self._names.make(result), text, cell)
        if len(pieces) == 1:
            return pieces[0]
        inner = [piece[1:-1] if _grouped(piece) else piece for piece in pieces]
        return f"{{{', '.join(inner)}}}"

    def _alone(self, bits: Sequence[Bit]) -> Cell | None:
        cell = self._pending.get(bits[0])
        return cell if cell and cell.outputs["Y"] == list(bits) else None

    def _forget(self, cell: Cell) -> None:
        for bit in cell.outputs["Y"]:
            del self._pending[bit]

    def compute(self, cell: Cell) -> tuple[str, bool]:
        """What a cell computes, and whether that is an operand as it is.

        Raises
        ------
        ValueError
            If cells of its kind are not known here.
        """
        width = len(cell.outputs["Y"])
        if cell.kind in ("$mux", "$pmux"):
            return self._choice(cell), False
        if cell.kind in ARITHMETIC or cell.kind in BITWISE:
            sign = (ARITHMETIC | BITWISE)[cell.kind]
            return f" {sign} ".join(self._operands(cell, width)), False
        if cell.kind in ("$not", "$neg"):
            signed = bool(cell.number("A_SIGNED"))
            operand = self.read(extended(cell.inputs["A"], width, signed))
            operand = f"({operand})" if operand[0] == "-" else operand
            return f"{'~' if cell.kind == '$not' else '-'}{operand}", True
        if cell.kind in ("$shl", "$shr", "$sshr", "$shift"):
            return self._shift(cell, width)
        text, atomic = self._truth(cell)
        if width > 1:
            return f"{{{constant(['0'] * (width - 1))}, {text}}}", True
        return text, atomic

    def _operands(self, cell: Cell, width: int) -> list[str]:
        signed = bool(cell.number("A_SIGNED") and cell.number("B_SIGNED"))
        return [self.read(extended(cell.inputs[port], width, signed)) for port in "AB"]

    def _truth(self, cell: Cell) -> tuple[str, bool]:
        """Cells whose result is a bit."""
        bits = cell.inputs["A"]
        if cell.kind in COMPARISONS:
            width = max(len(bits), len(cell.inputs["B"]))
            one, other = self._operands(cell, width)
            if cell.number("A_SIGNED") and cell.number("B_SIGNED") and cell.kind[1] in "lg":
                one, other = f"$signed({bare(one)})", f"$signed({bare(other)})"
            return f"{one} {COMPARISONS[cell.kind]} {other}", False
        if cell.kind == "$logic_not":
            if len(bits) == 1:
                return f"~{self.read(bits)}", True
            return f"{self.read(bits)} == {constant(['0'] * len(bits))}", False
        if cell.kind in ("$logic_and", "$logic_or"):
            sides = [self._any(cell.inputs[port]) for port in "AB"]
            return (" & " if cell.kind == "$logic_and" else " | ").join(sides), False
        if cell.kind in REDUCTIONS:
            sign = REDUCTIONS[cell.kind]
            if len(bits) == 1:
                return self.read(bits), True
            single = [signal is None or high == low for signal, high, low in self._pieces(bits)]
            if all(single) and len(bits) <= 6:
                return f" {sign} ".join(self.read([bit]) for bit in reversed(bits)), False
            return f"{sign}{self.read(bits)}", True
        raise ValueError(f"no Verilog for a cell of kind {cell.kind} ({cell.name})")

    def _pieces(self, bits: Sequence[Bit]) -> list[tuple[Signal | None, int, int]]:
        known = [bit for bit in bits if bit not in self._pending]
        one = (None, 0, 0)
        loose = [one if len(self._pending[b].outputs["Y"]) == 1 else (Signal("", [], ""), 1, 0)
                 for b in bits if b in self._pending]  # fmt: skip
        return [*self._names.runs(known), *loose]

    def _any(self, bits: Sequence[Bit]) -> str:
        text = self.read(bits)
        return text if len(bits) == 1 else f"(|{text})"

    def _shift(self, cell: Cell, width: int) -> tuple[str, bool]:
        bits, amount = cell.inputs["A"], cell.inputs["B"]
        signed = bool(cell.number("A_SIGNED"))
        if cell.number("B_SIGNED"):
            raise ValueError(f"no Verilog for a shift to either side ({cell.name})")
        if cell.kind == "$shl":
            operand = self.read(extended(bits, width, signed))
            return f"{operand} << {self.read(amount)}", False
        if len(bits) > width:
            raise ValueError(f"{cell.name} is cut: {len(bits)} bits to {width}")
        operand = self.read(extended(bits, width, signed))
        if cell.kind == "$sshr" and signed:
            return f"$signed({bare(operand)}) >>> {self.read(amount)}", False
        return f"{operand} >> {self.read(amount)}", False

    def _choice(self, cell: Cell) -> str:
        """A chain of conditions; a choice that only ends another one goes on in it."""
        parts = []
        while True:
            width = len(cell.inputs["A"])
            for place, strobe in enumerate(cell.inputs["S"]):
                value = cell.inputs["B"][width * place : width * (place + 1)]
                parts.append(f"{self.read([strobe])} ? {self.read(value)} :")
            rest = cell.inputs["A"]
            further = self._alone(rest)
            if further is None or further.kind not in ("$mux", "$pmux"):
                return CHOICE.join([*parts, self.read(rest)])
            self._forget(further)
            cell = further


def _grouped(text: str) -> bool:
    """Whether the outermost brackets of a text are a pair of parentheses."""
    if not (text.startswith("(") and text.endswith(")")):
        return False
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return place == len(text) - 1
    return False


def bare(text: str) -> str:
    """A text without the pair of parentheses around all of it."""
    return text[1:-1] if _grouped(text) else text
