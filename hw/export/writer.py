"""Modules of a component as Verilog that can be read and that a linter has nothing to say about.

Modules are called after the classes of hw/, and those that are the same are written once. Lines
stand below the place in hw/ that they come from, in the order of the sources. What a module does
not read of a signal that is wider is named in `unused` at its end.
"""

import ast
import json
import re
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.lib import wiring

from hw.boards.mapping import run_yosys
from hw.export.expressions import CHOICE, Expressions, bare
from hw.export.memories import memory
from hw.export.names import Names, Signal, constant, plain
from hw.export.netlist import MEMORY, Bit, Cell, Module, design, name_ports, trim

__all__ = ["readable_verilog"]

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = 100
SCRIPT = """
read_rtlil top.il
hierarchy -check -top {top}
proc
opt_expr
opt_clean
opt_dff
opt_clean
memory_collect
opt_expr -mux_undef
wreduce -keepdc
opt_expr
opt_clean -purge
write_json top.json
"""
"""Registers with their enables and resets; no wider than what is read of them."""


def readable_verilog(component: wiring.Component, name: str, **options: Any) -> dict[str, str]:
    """Return the Verilog of a component for people and other tools: texts by module, top first.

    Parameters
    ----------
    component: becomes the top module; its signature gives the ports.
    name: of the top module; the others are called NAME__CLASS.
    options: passed to amaranth.back.rtlil.convert.

    Raises
    ------
    ValueError
        If the component has cells for which there is no text here, or a port whose name is a
        keyword.
    """
    for port in component.signature.members:
        if plain(port) != port:
            raise ValueError(f"{port!r} cannot be the name of a port in Verilog")
    text = rtlil.convert(component, name=name, emit_src=True, **options)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "top.il").write_text(text)
        run_yosys(SCRIPT.format(top=name), Path(folder), "readable")
        modules = design(json.loads((Path(folder) / "top.json").read_text()), f"{ROOT}/")
    trim(modules, name)
    name_ports(modules, name, plain)
    return _Design(modules, name).texts()


class _Design:
    """All modules, children first, the same ones once."""

    def __init__(self, modules: dict[str, Module], top: str):
        self._modules, self._top = modules, top
        self._names: dict[str, str] = {}
        self._texts: dict[tuple[str, str], str] = {}
        self._written: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def texts(self) -> dict[str, str]:
        self._write(self._top)
        return dict(reversed(self._written.items()))

    def _write(self, name: str) -> str:
        """Write a module and those below; returns what it is called."""
        if name in self._names:
            return self._names[name]
        module = self._modules[name]
        kinds = {cell.kind: self._write(cell.kind) for cell in module.cells
                 if cell.kind in self._modules}  # fmt: skip
        body = _ModuleText(module, kinds).text()
        kind, summary = _class_at(module.place)
        key = kind, body
        if name != self._top and key in self._texts:
            self._names[name] = self._texts[key]
            return self._names[name]
        called = name
        if name != self._top:
            number = self._counts[kind] = self._counts.get(kind, 0) + 1
            called = f"{self._top}__{kind}" + (f"_{number}" if number > 1 else "")
            self._texts[key] = called
        self._names[name] = called
        head = [f"// {module.place}"] if module.place else []
        head += [f"// {summary}"] if summary else []
        lines = [
            "`default_nettype none\n",
            *head,
            f"module {called} {body}",
            "`default_nettype wire\n",
        ]
        self._written[called] = "\n".join(lines)
        return called


@cache
def _classes(path: str) -> list[tuple[int, int, str, str]]:
    tree = ast.parse((ROOT / path).read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return [
        (
            n.lineno,
            n.end_lineno or n.lineno,
            n.name,
            (ast.get_docstring(n) or "").partition("\n")[0],
        )
        for n in found
    ]


def _class_at(place: str) -> tuple[str, str]:
    """Name of the class around a place, in small letters, and the first line of its docstring."""
    if not place:
        return "part", ""
    path, _, line = place.partition(":")
    around = [found for found in _classes(path) if found[0] <= int(line) <= found[1]]
    if not around:
        return plain(Path(path).stem), ""
    _, _, name, summary = max(around)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip("_")).lower(), summary


class _ModuleText:
    """Text of one module, from its ports on.

    Parameters
    ----------
    module: what is written. kinds: what the modules of its instances are called.
    """

    def __init__(self, module: Module, kinds: dict[str, str]):
        self._module, self._kinds = module, kinds
        self._names = Names(module)
        self._statements: list[tuple[str, list[str]]] = []
        self._initial: list[str] = []
        self._memories: list[str] = []
        self._widen_shifts()
        pending = self._declare()
        self._expressions = Expressions(self._names, pending, self._assign)

    def _widen_shifts(self) -> None:
        """A shift to the right gives as many bits as it shifts; those above are not read."""
        fresh = -1
        for cell in self._module.cells:
            if cell.kind in ("$shr", "$sshr", "$shift"):
                result = cell.outputs["Y"]
                while len(result) < len(cell.inputs["A"]):
                    result.append(fresh)
                    fresh -= 1

    def _declare(self) -> dict[Bit, Cell]:
        """Declare all signals but what only one reader wants; returns those by bit."""
        readers: dict[Bit, int] = {}
        for cell in self._module.cells:
            for bits in cell.inputs.values():
                for bit in set(bits):
                    readers[bit] = readers.get(bit, 0) + 1
        for bit in set(self._module.bits_of("output")):
            readers[bit] = readers.get(bit, 0) + 1
        pending: dict[Bit, Cell] = {}
        self._assigned: list[tuple[Signal, Cell]] = []
        for cell in self._module.cells:
            if cell.kind == MEMORY:
                width = cell.number("WIDTH")
                data = cell.outputs["RD_DATA"]
                for port, clocked in enumerate(reversed(cell.parameters["RD_CLK_ENABLE"])):
                    kind = "reg" if clocked == "1" else "wire"
                    self._names.drive(data[width * port : width * (port + 1)], kind)
            elif cell.is_register:
                self._names.drive(cell.outputs["Q"], "reg")
            elif cell.kind in self._kinds:
                for bits in cell.outputs.values():
                    self._names.drive(bits)
            elif (
                cell.kind == "$sshr"  # in another expression its operand would lose its sign
                or self._names.named(cell.outputs["Y"])
                or any(readers.get(bit, 0) > 1 for bit in cell.outputs["Y"])
            ):
                self._assigned.append((self._names.drive(cell.outputs["Y"]), cell))
            else:
                pending |= dict.fromkeys(cell.outputs["Y"], cell)
        return pending

    def _assign(self, signal: Signal, text: str, cell: Cell) -> None:
        self._statements.append((cell.place, _wrapped(f"  assign {signal.name} = ", text)))

    def text(self) -> str:
        """The module from the list of its ports to `endmodule`."""
        instances = []
        for cell in self._module.cells:
            if cell.is_register:
                self._register(cell)
            elif cell.kind == MEMORY:
                name = self._names.reserve(plain(cell.name))
                said = memory(cell, name, self._names, self._expressions)
                self._memories += said.declaration
                self._initial += said.initial
                self._statements.append((cell.place, said.statements))
            elif cell.kind in self._kinds:
                instances += self._instance(cell)
        for signal, cell in self._assigned:
            self._assign(signal, self._expressions.compute(cell)[0], cell)
        for port, (way, bits) in self._module.ports.items():
            if way == "output" and self._names.port(port, bits):
                lines = _wrapped(f"  assign {port} = ", self._expressions.whole(bits))
                self._statements.append(("", lines))
        return "\n".join(
            [*self._ports(), *self._signals(), *self._memories, *instances, *self._ordered(),
             *self._starts(), *self._unused(), "endmodule\n"]
        )  # fmt: skip

    def _register(self, cell: Cell) -> None:
        signal = self._names.whole(cell.outputs["Q"])
        assert signal is not None, "declared as such"
        read = self._expressions.read
        guards = {}
        for port, polarity in (("EN", "EN_POLARITY"), ("SRST", "SRST_POLARITY")):
            if port in cell.inputs:
                text = read(cell.inputs[port])
                guards[port] = bare(text) if cell.number(polarity) else f"~{text}"
        if not cell.number("CLK_POLARITY"):
            raise ValueError(f"no Verilog for a register at a falling edge ({cell.name})")
        lines = [f"  always @(posedge {read(cell.inputs['CLK'])})"]
        guard = f"if ({guards['EN']}) " if "EN" in guards else ""
        store = self._expressions.whole(cell.inputs["D"])
        if "SRST" in guards:
            value = constant(cell.parameters["SRST_VALUE"].replace("x", "0")[::-1])
            reset = f"if ({guards['SRST']}) {signal.name} <= {value};"
            if cell.kind == "$sdffce":
                lines += [f"    {guard}begin", f"      {reset}"]
                lines += [*_wrapped(f"      else {signal.name} <= ", store, "        "), "    end"]
            else:
                lines += [f"    {reset}"]
                lines += _wrapped(f"    else {guard}{signal.name} <= ", store, "      ")
        else:
            lines += _wrapped(f"    {guard}{signal.name} <= ", store, "      ")
        self._statements.append((cell.place, lines))
        values = [self._module.init.get(bit) for bit in cell.outputs["Q"]]
        if any(values):
            start = constant([value or "0" for value in values])
            self._initial.append(f"  initial {signal.name} = {start};")

    def _instance(self, cell: Cell) -> list[str]:
        name = self._names.reserve(plain(cell.name))
        joins = [f"    .{port}({self._expressions.whole(bits).replace(CHOICE, ' ')})"
                 for port, bits in cell.inputs.items()]  # fmt: skip
        for port, bits in cell.outputs.items():
            signal = self._names.whole(bits)
            assert signal is not None, "declared as such"
            joins.append(f"    .{port}({signal.name})")
        lines = [f"  {self._kinds[cell.kind]} {name} ("]
        for place, join in enumerate(joins):
            lines += _wrapped("", join, "      ", "," if place + 1 < len(joins) else "")
        return [*lines, "  );"]

    def _ports(self) -> list[str]:
        lines = []
        for port, (_, bits) in self._module.ports.items():
            kind = self._names.signals[port].kind
            net = "" if kind.endswith("reg") else " wire"
            lines.append(f"  {kind}{net} {_range(bits)}{port}")
        return ["(\n" + ",\n".join(lines) + "\n);"]

    def _signals(self) -> list[str]:
        found = [s for s in self._names.signals.values() if s.kind in ("wire", "reg")]
        return [f"  {s.kind} {_range(s.bits)}{s.name};" for s in found]

    def _ordered(self) -> list[str]:
        """Statements in the order of the sources, each below its place."""

        def order(entry: tuple[str, list[str]]) -> tuple[str, int]:
            path, _, line = entry[0].partition(":")
            return path, int(line or 0)

        lines, last = [], ""
        for place, texts in sorted(self._statements, key=order):
            if place != last:
                lines += ["", f"  // {place}"]
            last = place
            lines += texts
        return lines

    def _starts(self) -> list[str]:
        return ["", *self._initial] if self._initial else []

    def _unused(self) -> list[str]:
        """A wire that reads what nothing else does."""
        loose = []
        for signal in self._names.signals.values():
            if not signal.bits or signal.kind.startswith("output"):
                continue
            free = [place for place in range(len(signal.bits)) if place not in signal.used]
            loose += [f"{signal.name}{part}" for part in _parts(free, len(signal.bits))]
        if not loose:
            return []
        lines = _wrapped("  wire unused = ", f"&{{1'b0, {', '.join(loose)}}}")
        return ["", "  // What nobody reads.", *lines]


def _range(bits: list[Bit]) -> str:
    return f"[{len(bits) - 1}:0] " if len(bits) > 1 else ""


def _parts(places: list[int], width: int) -> Iterable[str]:
    """Positions as selections of a signal, from the lowest up."""
    if len(places) == width:
        yield ""
        return
    start = 0
    for end in range(1, len(places) + 1):
        if end == len(places) or places[end] != places[end - 1] + 1:
            low, high = places[start], places[end - 1]
            yield f"[{high}:{low}]" if high > low else f"[{low}]"
            start = end


def _wrapped(start: str, text: str, indent: str = "    ", end: str = ";") -> list[str]:
    """`start`, `text` and `end` in lines that are not too long, broken at blanks."""
    whole = f"{start}{text.replace(CHOICE, ' ')}{end}"
    if len(whole) + len(indent) <= COLUMNS:
        return [whole]
    lines = []
    parts = text.split(CHOICE)
    rows = [f"{start}{parts[0]}", *parts[1:]] if len(parts) > 1 else [f"{start}{text}"]
    rows[-1] += end
    for place, row in enumerate(rows):
        current = row if place == 0 else f"{indent}{row}"
        while len(current) > COLUMNS:
            cut = current.rfind(" ", len(indent) + 4, COLUMNS)
            if cut < 0:
                break
            lines.append(current[:cut])
            current = f"{indent}  {current[cut + 1 :]}"
        lines.append(current)
    return lines
