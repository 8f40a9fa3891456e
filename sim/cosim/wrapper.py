"""A Verilog wrapper around the core: its ports again, and the AXI identifiers it does not have."""

from __future__ import annotations

import dataclasses
import re

_PORT = re.compile(r"^\s*(input|output)\s+(?:wire|reg|logic)?\s*(?:\[(\d+):0\])?\s*(\w+)\s*;")
_IDENTIFIERS = {
    "m_axi_awid": "output",
    "m_axi_bid": "input",
    "m_axi_arid": "output",
    "m_axi_rid": "input",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Port:
    """One port of a Verilog module."""

    name: str
    direction: str
    width: int


def ports(verilog: str, module: str) -> list[Port]:
    """Ports of a module as Yosys writes them: declarations in the module's body.

    Raises
    ------
    ValueError
        If the module is missing or has no ports.
    """
    start = re.search(rf"^module {re.escape(module)}\b", verilog, re.MULTILINE)
    if start is None:
        raise ValueError(f"the Verilog has no module {module}")
    found = []
    for line in verilog[start.start() :].splitlines():
        if line.startswith("endmodule"):
            break
        if match := _PORT.match(line):
            direction, high, name = match.groups()
            found.append(Port(name, direction, int(high or 0) + 1))
    if not found:
        raise ValueError(f"the module {module} has no ports")
    return found


def wrapper(inner: list[Port], name: str, module: str) -> str:
    """Text of the wrapper `name` around `module`."""
    known = {port.name for port in inner}
    added = [
        Port(port, direction, 1) for port, direction in _IDENTIFIERS.items() if port not in known
    ]
    declarations = ",\n".join(
        f"  {p.direction} wire [{p.width - 1}:0] {p.name}" for p in [*inner, *added]
    )
    connections = ",\n".join(f"    .{p.name}({p.name})" for p in inner)
    ties = "".join(f"  assign {p.name} = 1'b0;\n" for p in added if p.direction == "output")
    return (
        f"module {name} (\n{declarations}\n);\n{ties}  {module} core (\n{connections}\n  );\n"
        f"endmodule\n"
    )
