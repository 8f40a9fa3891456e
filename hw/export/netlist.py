"""A netlist of Yosys' word-level cells, by module, and what of it is alive.

Bits of a module are numbers, as in Yosys' JSON, or one of "0", "1", "x". What no output of the top
module depends on is dead: cells are dropped, and ports of modules below the top that carry nothing.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["MEMORY", "Bit", "Cell", "Module", "design", "name_ports", "trim"]

Bit = int | str
MEMORY = "$mem_v2"
NUMBERED = re.compile(r"port\$\d+\$\d+$")
REGISTERS = ("$dff", "$dffe", "$sdff", "$sdffe", "$sdffce")


@dataclasses.dataclass(slots=True)
class Cell:
    """A cell of Yosys, or an instance of another module.

    Attributes
    ----------
    kind: Yosys' type, or the module's name. parameters: as text of binary digits, or names.
    inputs, outputs: bits of every port, least significant first.
    place: file and line in hw/ as `hw/file.py:12`; "" where Yosys made it.
    """

    name: str
    kind: str
    parameters: dict[str, str]
    attributes: dict[str, str]
    inputs: dict[str, list[Bit]]
    outputs: dict[str, list[Bit]]
    place: str

    def number(self, parameter: str) -> int:
        """A parameter as a number."""
        return int(self.parameters[parameter], 2)

    @property
    def is_register(self) -> bool:
        """Whether it is clocked and not a memory."""
        return self.kind in REGISTERS


@dataclasses.dataclass(slots=True)
class Module:
    """A module.

    Attributes
    ----------
    ports: direction and bits by name, in order.
    nets: bits by name: all names that the sources give.
    init: initial value by bit, "0" or "1".
    """

    name: str
    place: str
    ports: dict[str, tuple[str, list[Bit]]]
    cells: list[Cell]
    nets: dict[str, list[Bit]]
    init: dict[Bit, str]

    def bits_of(self, direction: str) -> Iterator[Bit]:
        """All bits of its ports in a direction."""
        for way, bits in self.ports.values():
            if way == direction:
                yield from bits


def _place(attributes: dict[str, str], root: str) -> str:
    found = attributes.get("src", "").split("|")
    inside = [place.removeprefix(root) for place in found if place.startswith(f"{root}hw/")]
    return inside[0] if inside else ""


def _cell(name: str, entry: dict[str, Any], root: str) -> Cell:
    ways, bits = entry["port_directions"], entry["connections"]
    return Cell(
        name,
        entry["type"],
        entry["parameters"],
        entry["attributes"],
        {port: bits[port] for port in bits if ways[port] == "input"},
        {port: bits[port] for port in bits if ways[port] == "output"},
        _place(entry["attributes"], root),
    )


def design(content: dict[str, Any], root: str) -> dict[str, Module]:
    """Modules by name of a design that Yosys wrote as JSON; `root` is the path before hw/."""
    result = {}
    for name, entry in content["modules"].items():
        init: dict[Bit, str] = {}
        for net in entry["netnames"].values():
            values = reversed(net["attributes"].get("init", ""))
            init |= {b: v for b, v in zip(net["bits"], values, strict=False) if v in ("0", "1")}
        result[name] = Module(
            name,
            _place(entry["attributes"], root),
            {port: (p["direction"], p["bits"]) for port, p in entry["ports"].items()},
            [_cell(key, cell, root) for key, cell in entry["cells"].items()],
            {key: n["bits"] for key, n in entry["netnames"].items() if not n["hide_name"]},
            init,
        )
    return result


def _live_inputs(module: Module, live: set[Bit], alive: dict[str, set[str]]) -> set[str]:
    """Names of the cells that a set of bits depends on; grows `live` by their inputs.

    `alive` names, for every module, the input ports that matter.
    """
    drivers = {bit: cell for cell in module.cells for bits in cell.outputs.values() for bit in bits}
    todo, found = list(live), set()
    while todo:
        cell = drivers.get(todo.pop())
        if cell is None or cell.name in found:
            continue
        found.add(cell.name)
        for port, bits in cell.inputs.items():
            if cell.kind not in alive or port in alive[cell.kind]:
                new = set(bits) - live
                live |= new
                todo += new
    return found


def trim(modules: dict[str, Module], top: str) -> None:
    """Drop cells, and ports of modules below the top, that the top's outputs do not depend on."""
    ins: dict[str, set[str]] = {name: set() for name in modules}
    outs: dict[str, set[str]] = {name: set() for name in modules}
    outs[top] = {port for port, (way, _) in modules[top].ports.items() if way == "output"}
    kept: dict[str, set[str]] = {}
    changed = True
    while changed:
        changed = False
        for name, module in modules.items():
            live = {bit for port in outs[name] for bit in module.ports[port][1]}
            cells = kept[name] = _live_inputs(module, live, ins)
            for port, (way, bits) in module.ports.items():
                if way == "input" and port not in ins[name] and not live.isdisjoint(bits):
                    ins[name].add(port)
                    changed = True
            for cell in module.cells:
                if cell.kind in modules and cell.name in cells:
                    new = {p for p, bits in cell.outputs.items() if not live.isdisjoint(bits)}
                    changed |= not new <= outs[cell.kind]
                    outs[cell.kind] |= new
    for name, module in modules.items():
        module.cells = [cell for cell in module.cells if cell.name in kept[name]]
        for cell in module.cells:
            if cell.kind in modules:
                cell.inputs = {p: b for p, b in cell.inputs.items() if p in ins[cell.kind]}
                cell.outputs = {p: b for p, b in cell.outputs.items() if p in outs[cell.kind]}
        if name != top:
            used = ins[name] | outs[name]
            module.ports = {port: p for port, p in module.ports.items() if port in used}


def name_ports(modules: dict[str, Module], top: str, plain: Callable[[str], str]) -> None:
    """Order the ports of modules below the top, and give them names that need no escape.

    Amaranth numbers ports of signals that pass through a module, as `port$123$4`; here they are
    called as what is joined to them, by an instance of the module, is called above.
    """
    above = {cell.kind: (module, cell) for module in modules.values() for cell in module.cells
             if cell.kind in modules}  # fmt: skip
    new: dict[str, dict[str, str]] = {top: {port: port for port in modules[top].ports}}
    for name in _from_the_top(modules, top):
        module = modules[name]
        module.nets |= {new[name][port]: bits for port, (_, bits) in module.ports.items()}
        for kind in dict.fromkeys(cell.kind for cell in module.cells if cell.kind in modules):
            if kind not in new:
                new[kind] = _new_names(modules[kind], *above[kind], plain)
    for name, module in modules.items():
        names = new[name]
        for cell in module.cells:
            if cell.kind in modules:
                cell.inputs = {new[cell.kind][port]: bits for port, bits in cell.inputs.items()}
                cell.outputs = {new[cell.kind][port]: bits for port, bits in cell.outputs.items()}
        if name != top:
            found = {names[port]: content for port, content in module.ports.items()}
            order = sorted(found, key=lambda port: (port not in ("clk", "rst"), port))
            module.ports = {port: found[port] for port in order}


def _from_the_top(modules: dict[str, Module], top: str) -> list[str]:
    order: dict[str, None] = {}
    todo = [top]
    while todo:
        name = todo.pop(0)
        order[name] = None
        todo += [cell.kind for cell in modules[name].cells if cell.kind in modules]
    return list(order)


def _new_names(
    module: Module, above: Module, cell: Cell, plain: Callable[[str], str]
) -> dict[str, str]:
    """New names of a module's ports; `cell` is an instance of it in the module `above`."""
    result: dict[str, str] = {}
    joined = cell.inputs | cell.outputs
    for port, (_, bits) in module.ports.items():
        names = [port]
        if NUMBERED.match(port):
            names = _called(module.nets, bits) or _called(above.nets, joined[port]) or ["passed"]
        name = unique = plain(min(names, key=lambda name: (len(name), name)))
        number = 2
        while unique in result.values() or (unique != port and unique in module.ports):
            unique, number = f"{name}_{number}", number + 1
        result[port] = unique
    return result


def _called(nets: dict[str, list[Bit]], bits: list[Bit]) -> list[str]:
    """Names of just these bits, else what they are bits of."""
    known = {name: own for name, own in nets.items() if not NUMBERED.match(name)}
    exact = [name.partition("$")[0] for name, own in known.items() if own == bits]
    if exact:
        return exact
    return [
        f"{name.partition('$')[0]}_{own.index(bits[0])}"
        for name, own in known.items()
        if bits[0] in own and own[own.index(bits[0]) :][: len(bits)] == bits
    ]
