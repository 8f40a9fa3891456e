"""What the ECP5 has that synthesis does not infer: the registers inside a multiplier block."""

from collections.abc import Iterable

__all__ = ["MULTIPLIER_BITS", "multiplier_map"]

MULTIPLIER_BITS = 18


def multiplier_map(modules: Iterable[str], a_bits: int, b_bits: int) -> str:
    """Verilog for Yosys' `techmap` that turns hw.compute.product.Product into one MULT18X18D.

    The module has the cell's ports (its registers have no reset). The block's input and output
    registers are its three registers: a and product free-running (CE0), b enabled by `load` (CE1).

    Parameters
    ----------
    modules: names of the modules to map.
    a_bits, b_bits: widths of the operands, at most `MULTIPLIER_BITS`.

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

    product = ", ".join(f".P{i}(wide[{i}])" for i in range(2 * MULTIPLIER_BITS))
    return f"""
(* techmap_celltype = "{" ".join(modules)}" *)
module _product_to_multiplier (
    input clk, input rst, input clear, input load,
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
