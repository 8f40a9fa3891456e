"""Memories as Verilog: an array, a process per writing port, and what its reading ports give."""

import dataclasses

from hw.export.expressions import Expressions
from hw.export.names import Names, constant
from hw.export.netlist import Bit, Cell

__all__ = ["MemoryText", "memory"]

HINTS = ("ram_style", "no_rw_check")


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryText:
    """Lines of a memory: its declaration, its initial content, and its ports."""

    declaration: list[str]
    initial: list[str]
    statements: list[str]


def _checked(cell: Cell) -> tuple[int, int, int]:
    """Width, depth and bits of an address.

    Raises
    ------
    ValueError
        If the memory has what the text below does not say.
    """
    width, depth, bits = (cell.number(name) for name in ("WIDTH", "SIZE", "ABITS"))
    reads = cell.number("RD_PORTS")
    clocked = cell.parameters["RD_CLK_ENABLE"]
    simple = (
        cell.number("OFFSET") == 0
        and set(cell.parameters["WR_CLK_ENABLE"]) <= {"1"}
        and set(cell.parameters["WR_CLK_POLARITY"]) <= {"1"}
        and "1" not in cell.parameters["WR_WIDE_CONTINUATION"]
        and "1" not in cell.parameters["RD_WIDE_CONTINUATION"]
        and "1" not in cell.parameters["RD_TRANSPARENCY_MASK"]
        and "1" not in cell.parameters["WR_PRIORITY_MASK"]
        and set(cell.parameters["RD_INIT_VALUE"]) <= {"x", "0"}
        and ("1" not in clocked or set(cell.parameters["RD_CLK_POLARITY"]) == {"1"})
        and set(cell.inputs["RD_ARST"]) | set(cell.inputs["RD_SRST"]) == {"0"}
        and cell.number("WR_PORTS") == 1
        and 1 << bits == depth
        and reads > 0
    )
    if not simple:
        raise ValueError(f"no Verilog for the memory {cell.name}: {cell.parameters}")
    return width, depth, bits


def _content(name: str, init: str, width: int, depth: int) -> list[str]:
    """What an array holds at first; nothing where that does not matter."""
    rows = [init[len(init) - width * (row + 1) : len(init) - width * row] for row in range(depth)]
    if set(init) <= {"x"}:
        return []
    if "1" not in init:
        return [
            f"  initial begin : clear_{name}",
            f"    integer {name}_row;",
            f"    for ({name}_row = 0; {name}_row < {depth}; {name}_row = {name}_row + 1)",
            f"      {name}[{name}_row] = {constant(['0'] * width)};",
            "  end",
        ]
    values = [constant(["1" if bit == "1" else "0" for bit in reversed(row)]) for row in rows]
    stores = [f"    {name}[{row}] = {value};" for row, value in enumerate(values)]
    return ["  initial begin", *stores, "  end"]


def memory(cell: Cell, name: str, names: Names, expressions: Expressions) -> MemoryText:
    """Text of a memory cell that is called `name`; its reading ports are signals already."""
    width, depth, bits = _checked(cell)
    hints = [f'{hint} = "{cell.attributes[hint]}"' if hint == "ram_style" else hint
             for hint in HINTS if hint in cell.attributes]  # fmt: skip
    said = f"(* {', '.join(hints)} *) " if hints else ""
    declaration = [f"  {said}reg [{width - 1}:0] {name} [0:{depth - 1}];"]
    clock = expressions.read(cell.inputs["WR_CLK"])
    address = expressions.read(cell.inputs["WR_ADDR"])
    lines = [f"  always @(posedge {clock}) begin"]
    for high, low, strobe in _lanes(cell.inputs["WR_EN"]):
        data = expressions.read(cell.inputs["WR_DATA"][low : high + 1])
        part = "" if high - low + 1 == width else f"[{high}:{low}]" if high > low else f"[{low}]"
        guard = "" if strobe == "1" else f"if ({expressions.read([strobe])}) "
        if strobe != "0":
            lines.append(f"    {guard}{name}[{address}]{part} <= {data};")
    lines.append("  end")
    for port in range(cell.number("RD_PORTS")):
        result = names.whole(cell.outputs["RD_DATA"][width * port : width * (port + 1)])
        assert result is not None, "declared as such"
        place = expressions.read(cell.inputs["RD_ADDR"][bits * port : bits * (port + 1)])
        enable = cell.inputs["RD_EN"][port]
        if cell.parameters["RD_CLK_ENABLE"][::-1][port] == "1":
            edge = expressions.read([cell.inputs["RD_CLK"][port]])
            guard = "" if enable == "1" else f"if ({expressions.read([enable])}) "
            lines += [
                f"  always @(posedge {edge})",
                f"    {guard}{result.name} <= {name}[{place}];",
            ]
        elif enable == "1":
            lines.append(f"  assign {result.name} = {name}[{place}];")
        else:
            raise ValueError(f"{cell.name} has an enable without a clock")
    return MemoryText(declaration, _content(name, cell.parameters["INIT"], width, depth), lines)


def _lanes(strobes: list[Bit]) -> list[tuple[int, int, Bit]]:
    """Neighbouring bits with one strobe: high, low, strobe."""
    lanes: list[tuple[int, int, Bit]] = []
    for place, strobe in enumerate(strobes):
        if lanes and lanes[-1][2] == strobe:
            lanes[-1] = place, lanes[-1][1], strobe
        else:
            lanes.append((place, place, strobe))
    return lanes
