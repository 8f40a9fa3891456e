"""Verilog of a component, in a form that simulates fast.

Amaranth writes every register as two signals: the next value, computed in a combinational block
that starts from the old value, and the register itself. A simulator then copies every register
twice per cycle, also where nothing happens. Here the netlist's registers get their enables back
first (`opt_dff`), so that an idle unit costs next to nothing: the 16×16 array runs three times as
fast under Verilator. Ports, names of registers and behaviour are the same.
Multiplexers with many choices come as functions of all choices side by side; here they become
chains of conditions, of which a simulator evaluates what it needs. Memories of zeros are cleared in
a loop. For people and other tools there is hw.export.
"""

import re
from importlib import metadata
from typing import Any

from amaranth._toolchain.yosys import find_yosys
from amaranth.back import rtlil
from amaranth.lib import wiring

__all__ = ["convert", "versions"]

_CLEARED = re.compile(
    r"  initial begin\n"
    r"(    (?P<name>\S+)\[0\] = (?P<zero>\d+'h0+);\n(?:    (?P=name)\[\d+\] = (?P=zero);\n)*)"
    r"  end\n"
)
_CHOICE = re.compile(
    r"  function \[\d+:0\] (?P<name>\S+) ;\n"
    r"    input \[\d+:0\] a;\n    input \[(?P<width>\d+):0\] b;\n    input \[(?P<last>\d+):0\] s;\n"
    r"(?:    \(\*.*\*\)\n)*    casez \(s\)\n(?:      .*\n)*    endcase\n  endfunction\n"
    r"  assign (?P<result>.*) = (?P=name) \((?P<arguments>.*)\);\n"
)
_TOKEN = re.compile(r"\\\S+ |.")
"""An escaped name, which may hold any character, or one character."""
_ATTRIBUTES = ("generator", "top", "src", "amaranth.hierarchy", "amaranth.decoding")


def versions() -> str:
    """Versions of the tools that write the Verilog, as text for a key."""
    return f"amaranth {metadata.version('amaranth')}, yosys {_yosys().version()}"


def _yosys() -> Any:
    return find_yosys(lambda version: version >= (0, 40))


def convert(component: wiring.Component, name: str, **options: Any) -> str:
    """Return the Verilog of a component, whose top module is called `name`.

    Parameters
    ----------
    component: becomes the top module; its signature gives the ports.
    name: of the top module.
    options: passed to amaranth.back.rtlil.convert.
    """
    text = rtlil.convert(component, name=name, emit_src=False, **options)
    removed = " ".join(f"-remove {name}" for name in _ATTRIBUTES)
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
    written = _yosys().run(["-q", "-"], "\n".join(script), ignore_warnings=True)
    return _CLEARED.sub(_clear, _CHOICE.sub(_choose, written))


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


def _choose(match: re.Match[str]) -> str:
    """A function that chooses one of several values, as a chain of conditions."""
    default, values, strobes = map(str.lstrip, _arguments(match["arguments"]))
    name, count = match["name"], int(match["last"]) + 1
    width = int(match["width"]) // count + 1
    lines = [f"  wire [{width * count - 1}:0] {name}_values = {values};"]
    lines += [f"  wire [{count - 1}:0] {name}_strobes = {strobes};"]
    lines += [f"  assign {match['result']} ="]
    for number in range(count):
        value = f"{name}_values [{width * (number + 1) - 1}:{width * number}]"
        lines.append(f"    {name}_strobes [{number}] ? {value} :")
    return "\n".join([*lines, f"    {default};\n"])


def _arguments(text: str) -> list[str]:
    """Arguments of a call, split at the outer commas."""
    arguments, depth = [""], 0
    for token in _TOKEN.findall(text):
        depth += (token in "{(") - (token in "})")
        if token == "," and depth == 0:
            arguments.append("")
        else:
            arguments[-1] += token
    return arguments
