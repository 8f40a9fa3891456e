"""Verilog of a component, in a form that simulates fast.

Amaranth writes every register as two signals: the next value, computed in a combinational block
that starts from the old value, and the register itself. A simulator then copies every register
twice per cycle, also where nothing happens. Here the netlist's registers get their enables back
first (`opt_dff`), so that an idle unit costs next to nothing: the 16×16 array runs three times as
fast under Verilator. Ports, names of registers and behaviour are the same.
Memories of zeros are cleared in a loop.
"""

import re
from typing import Any

from amaranth._toolchain.yosys import find_yosys
from amaranth.back import rtlil
from amaranth.lib import wiring

__all__ = ["convert"]

_CLEARED = re.compile(
    r"  initial begin\n"
    r"(    (?P<name>\S+)\[0\] = (?P<zero>\d+'h0+);\n(?:    (?P=name)\[\d+\] = (?P=zero);\n)*)"
    r"  end\n"
)
_ATTRIBUTES = ("generator", "top", "src", "amaranth.hierarchy", "amaranth.decoding")


def convert(component: wiring.Component, name: str, **options: Any) -> str:
    """Return the Verilog of a component, whose top module is called `name`.

    Parameters
    ----------
    component: becomes the top module; its signature gives the ports.
    name: of the top module.
    options: passed to amaranth.back.rtlil.convert.
    """
    text = rtlil.convert(component, name=name, emit_src=False, **options)
    removed = " ".join(f"-remove {attribute}" for attribute in _ATTRIBUTES)
    script = [
        f"read_rtlil <<rtlil\n{text}\nrtlil",
        "proc",
        "opt_expr",
        "opt_clean",  # opt_dff sees an enable only when no unused alias hides it
        "opt_dff -nosdff",
        "opt_clean",
        "memory_collect",
        f"attrmap {removed}",
        f"attrmap -modattr {removed}",
        "write_verilog -norename",
    ]
    yosys = find_yosys(lambda version: version >= (0, 40))
    return _CLEARED.sub(_clear, yosys.run(["-q", "-"], "\n".join(script), ignore_warnings=True))


def _clear(match: re.Match[str]) -> str:
    """A memory of zeros, as a loop instead of a line per row."""
    depth = match[1].count("\n")
    name, zero = match["name"], match["zero"]
    label = f"clear_{match.start()}"
    return (
        f"  initial begin : {label}\n"
        f"    integer row;\n"
        f"    for (row = 0; row < {depth}; row = row + 1) {name}[row] = {zero};\n"
        f"  end\n"
    )
