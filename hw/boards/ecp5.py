"""The ECP5-85F: sites of its blocks, and the registers inside a multiplier block."""

import dataclasses
from collections.abc import Iterable

__all__ = ["BLOCK_SITES", "LOGIC_AREA", "MULTIPLIER_BITS", "Site", "multiplier_map"]

MULTIPLIER_BITS = 18


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """A place for a block: column, row, and nextpnr's name of it."""

    x: int
    y: int
    name: str


_GROUPS = (*range(4, 59, 9), *range(69, 115, 9))
"""Column in which each group of four block RAMs or four multipliers starts."""

BLOCK_SITES = {
    "DP16KD": [
        Site(x + 2 * z, y, f"X{x + 2 * z}/Y{y}/EBR{z}")
        for y in (22, 46, 70, 82)
        for x in _GROUPS
        for z in range(4)
    ],
    "MULT18X18D": [
        Site(x + z, y, f"X{x + z}/Y{y}/MULT18_{z}")
        for y in (10, 34, 58)
        for x in _GROUPS
        for z in (0, 1, 4, 5)
    ],
}
"""208 block RAMs in four rows, 156 multipliers in three (Project Trellis' tile grid)."""

LOGIC_AREA = (2, 2, 124, 93)
"""Left, bottom, right and top of the logic tiles."""


def multiplier_map(
    modules: Iterable[str], a_bits: int, b_bits: int, resets: Iterable[str] = ()
) -> str:
    """Verilog for Yosys' `techmap` that turns hw.compute.parts.product.Product into one MULT18X18D.

    The module has the cell's ports (its registers have no reset). The block's input and output
    registers are its three registers: a and product free-running (CE0), b enabled by `load` (CE1).

    Parameters
    ----------
    modules: names of the modules to map.
    a_bits, b_bits: widths of the operands, at most `MULTIPLIER_BITS`.
    resets: names of the modules' reset ports.

    Raises
    ------
    ValueError
        If an operand is wider than the block.
    """
    if max(a_bits, b_bits) > MULTIPLIER_BITS:
        raise ValueError(
            f"operands of {a_bits} and {b_bits} bits; a MULT18X18D takes {MULTIPLIER_BITS}"
        )

    def pins(name: str, width: int) -> str:
        """Sign-extended input."""
        return ", ".join(
            f".{name.upper()}{i}({name}[{min(i, width - 1)}])" for i in range(MULTIPLIER_BITS)
        )

    inputs = "".join(f"input {name}, " for name in resets)
    product = ", ".join(f".P{i}(wide[{i}])" for i in range(2 * MULTIPLIER_BITS))
    return f"""
(* techmap_celltype = "{" ".join(modules)}" *)
module _product_to_multiplier (
    input clk, {inputs}input load,
    input [{a_bits - 1}:0] a, input [{b_bits - 1}:0] b,
    output [{a_bits + b_bits - 1}:0] product
);
    wire [{2 * MULTIPLIER_BITS - 1}:0] wide;
    assign product = wide[{a_bits + b_bits - 1}:0];
    MULT18X18D #(
        .REG_INPUTA_CLK("CLK0"), .REG_INPUTA_CE("CE0"), .REG_INPUTA_RST("RST0"),
        .REG_INPUTB_CLK("CLK0"), .REG_INPUTB_CE("CE1"), .REG_INPUTB_RST("RST0"),
        .REG_PIPELINE_CLK("NONE"),
        .REG_OUTPUT_CLK("CLK0"), .REG_OUTPUT_CE("CE0"), .REG_OUTPUT_RST("RST0"),
        .GSR("DISABLED"), .SOURCEB_MODE("B_SHIFT"), .MULT_BYPASS("DISABLED"), .RESETMODE("SYNC")
    ) _TECHMAP_REPLACE_ (
        .CLK0(clk), .CE0(1'b1), .CE1(load), .RST0(1'b0),
        .SIGNEDA(1'b1), .SIGNEDB(1'b1), .SOURCEA(1'b0), .SOURCEB(1'b0),
        {pins("a", a_bits)},
        {pins("b", b_bits)},
        {product}
    );
endmodule
"""
