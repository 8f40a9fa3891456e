"""Verilog for people and for other vendors' tools: readable, and clean under a linter.

`netlist` reads what Yosys makes of a component, `names` finds a name for every bit, `cells` writes
what cells compute as expressions, `memories` memories, and `writer` puts modules together.
"""

from hw.export.writer import readable_verilog

__all__ = ["readable_verilog"]
