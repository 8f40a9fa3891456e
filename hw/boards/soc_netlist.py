"""A board's SoC as RTLIL, and as a netlist of cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hw.arch.config import AcceleratorConfig
from hw.boards.mapping import map_netlist, run_yosys
from hw.boards.soc import SHELL, Parts
from hw.synthesis import CACHE, is_unit

__all__ = ["is_board_unit", "map_soc", "soc_rtlil"]


def is_board_unit(name: str) -> bool:
    """Whether a module of the SoC is mapped on its own: the shell's parts, and the core's units."""
    if name == SHELL:
        return True
    inner = name.removeprefix(f"{SHELL}.")
    if inner == name:
        return False
    return is_unit(inner) if inner.startswith("accelerator") else "." not in inner


def soc_rtlil(parts: Parts, directory: Path) -> str:
    """The whole SoC: LiteX's Verilog as Yosys reads it, and the shell's own RTLIL."""
    from amaranth.back import rtlil

    (directory / "soc.v").write_text(parts.soc)
    run_yosys(
        f"read_verilog -lib +/lattice/cells_bb_ecp5.v\nread_verilog soc.v\n"
        f"select {parts.top}\nwrite_rtlil -selected soc.il\n",
        directory,
        "soc",
    )
    outer = (directory / "soc.il").read_text()
    return rtlil.convert(parts.shell, name=SHELL, emit_src=False) + "\n" + outer


def map_soc(
    rtlil: str,
    top: str,
    config: AcceleratorConfig,
    directory: Path,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Map an SoC to cells, as `map_netlist` does.

    Parameters
    ----------
    rtlil: the SoC (`soc_rtlil`). top: its top module.
    config: of the core in it.
    directory: where results and logs go. say: told each unit when it is mapped.

    Raises
    ------
    SynthesisError
        If Yosys fails.
    """
    map_netlist(
        rtlil,
        top,
        directory,
        CACHE,
        is_unit=is_board_unit,
        operands=(config.array.activation_bits, config.array.weight_bits),
        outer=True,
        say=say,
    )
