"""A wrapper that gives a core with hundreds of ports four pins, for place and route alone.

Inputs come out of a shift register that one pin fills. Outputs are registered, and each register
enters a chain of exclusive-ors with a register per step, whose end is a pin. Nothing can be
optimised away, no path leaves the device unregistered, no net of the harness goes farther than
from one register to the next, and the core's own paths decide fmax.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

__all__ = ["FlatPort", "scan_harness"]


@dataclasses.dataclass(frozen=True, slots=True)
class FlatPort:
    """A port of a Verilog module."""

    name: str
    width: int
    output: bool


def scan_harness(core: str, ports: Sequence[FlatPort], name: str = "harness") -> str:
    """Return Verilog of a module `name` that instantiates `core`.

    Parameters
    ----------
    core: module name.
    ports: all its ports but `clk` and `rst`.
    """
    inputs = [p for p in ports if not p.output]
    outputs = [p for p in ports if p.output]
    in_bits = sum(p.width for p in inputs)
    out_bits = sum(p.width for p in outputs)
    lines = [
        f"module {name}(input clk, input rst, input scan_in, output reg scan_out);",
        f"  reg [{in_bits - 1}:0] shift, held;",
        f"  wire [{out_bits - 1}:0] result;",
        f"  reg [{out_bits - 1}:0] captured, chain;",
        "  always @(posedge clk) begin",
        f"    shift <= {{shift[{in_bits - 2}:0], scan_in}};",
        "    held <= shift;",
        "    captured <= result;",
        f"    chain <= captured ^ {{1'b0, chain[{out_bits - 1}:1]}};",
        "    scan_out <= chain[0];",
        "  end",
        f"  {core} core(.clk(clk), .rst(rst)",
    ]
    for group, vector in ((inputs, "held"), (outputs, "result")):
        low = 0
        for port in group:
            lines.append(f"    , .{port.name}({vector}[{low + port.width - 1}:{low}])")
            low += port.width
    lines += ["  );", "endmodule", ""]
    return "\n".join(lines)
