// Behaviour of the ECP5's block RAM and multiplier, as the vendor describes them (memory usage
// guide TN1264, sysDSP usage guide TN1267), for the simulation of a netlist. Yosys' own models of
// the two have none, and are simulated as 0 without a word. hw/boards/gates.py gives them the pins
// of DP16KD and MULT18X18D.
//
// Where the vendor promises nothing the model gives what nobody can want: what one port reads while
// the other one writes it comes back inverted. Settings that are not modelled end the simulation.

module ecp5_ram #(
  parameter DATA_WIDTH_A = 18, parameter DATA_WIDTH_B = 18,
  parameter REGMODE_A = "NOREG", parameter REGMODE_B = "NOREG",
  parameter CSDECODE_A = "0b000", parameter CSDECODE_B = "0b000",
  parameter CLKAMUX = "CLKA", parameter CLKBMUX = "CLKB",
  parameter WRITEMODE_A = "NORMAL", parameter WRITEMODE_B = "NORMAL",
  parameter [20479:0] INIT = 0
) (
  input clka, cea, wea, rsta, input [2:0] csa, input [13:0] ada, input [17:0] dia,
  output [17:0] doa,
  input clkb, ceb, web, rstb, input [2:0] csb, input [13:0] adb, input [17:0] dib,
  output [17:0] dob
);
  // 1,024 rows of 18 bits. Words of 1, 2 and 4 bits do not reach bits 8 and 17 of a row; a word of
  // 36 is two rows, whose upper one comes in and goes out at the other port's pins.
  reg [17:0] rows [0:1023];
  reg [35:0] a, b;
  assign doa = DATA_WIDTH_B == 36 ? b[17:0] : a[17:0];
  assign dob = DATA_WIDTH_B == 36 ? b[35:18] : b[17:0];

  integer row;
  initial begin
    if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG" || CSDECODE_A != "0b000" ||
        CSDECODE_B != "0b000" || CLKAMUX != "CLKA" || CLKBMUX != "CLKB") begin
      $display("DP16KD: a setting that is not modelled");
      $fatal;
    end
    a = 0;
    b = 0;
  end
  generate
    if (INIT == 0) begin
      initial for (row = 0; row < 1024; row = row + 1) rows[row] = 0;
    end else begin
      initial for (row = 0; row < 1024; row = row + 1)
        rows[row] = INIT[320 * (row / 16) + 20 * (row % 16) +: 18];
    end
  endgenerate

  // Bits of an address below a word's own.
  function integer below(input integer width);
    below = width == 36 ? 5 : width == 18 ? 4 : width == 9 ? 3 : width == 4 ? 2 : width == 2 ? 1 : 0;
  endfunction

  // The lowest bit of a word in its row.
  function [4:0] lowest(input [13:0] address, input integer width);
    lowest = width >= 18 ? 5'd0 : width == 9 ? (address[3] ? 5'd9 : 5'd0)
      : {1'b0, (address[3:0] >> below(width)) << below(width)} + {4'd0, address[3]};
  endfunction

  // Bits of a row that a write changes: of a wide word those whose bytes' enables, at the lowest
  // bits of the address, are high.
  function [17:0] changed(input [13:0] address, input integer width, input upper);
    changed = width == 36 && upper ? {{9{address[3]}}, {9{address[2]}}}
      : width >= 18 ? {{9{address[1]}}, {9{address[0]}}}
      : ((18'd1 << width) - 18'd1) << lowest(address, width);
  endfunction

  function [35:0] word(input [13:0] address, input integer width);
    word = width == 36 ? {rows[{address[13:5], 1'b1}], rows[{address[13:5], 1'b0}]}
      : width == 18 ? {18'd0, rows[address[13:4]]}
      : ({18'd0, rows[address[13:4]]} >> lowest(address, width)) & ((36'd1 << width) - 36'd1);
  endfunction

  wire on_a = cea && csa == 0, on_b = ceb && csb == 0;
  localparam COMMON = below(DATA_WIDTH_A > DATA_WIDTH_B ? DATA_WIDTH_A : DATA_WIDTH_B);
  wire meet = (ada >> COMMON) == (adb >> COMMON);
  wire [9:0] row_a = DATA_WIDTH_A == 36 ? {ada[13:5], 1'b0} : ada[13:4];
  wire [9:0] row_b = adb[13:4];
  wire [17:0] changed_a = changed(ada, DATA_WIDTH_A, 1'b0);
  wire [17:0] upper_a = changed(ada, DATA_WIDTH_A, 1'b1);
  wire [17:0] changed_b = changed(adb, DATA_WIDTH_B, 1'b0);
  // A write of no byte is none.
  wire writes_a = on_a && wea && {upper_a & {18{DATA_WIDTH_A == 36}}, changed_a} != 0;
  wire writes_b = on_b && web && changed_b != 0;

  always @(posedge clka) begin
    if (on_a && wea) begin
      rows[row_a] <= (rows[row_a] & ~changed_a) | ((dia << lowest(ada, DATA_WIDTH_A)) & changed_a);
      if (DATA_WIDTH_A == 36)
        rows[row_a | 10'd1] <= (rows[row_a | 10'd1] & ~upper_a) | (dib & upper_a);
    end
    if (rsta) a <= 0;
    else if (on_a && wea && WRITEMODE_A == "WRITETHROUGH") a <= {18'd0, dia};
    else if (on_a && !(wea && WRITEMODE_A == "NORMAL"))
      a <= writes_b && meet ? ~word(ada, DATA_WIDTH_A) : word(ada, DATA_WIDTH_A);
  end

  always @(posedge clkb) begin
    if (on_b && web)
      rows[row_b] <= (rows[row_b] & ~changed_b) | ((dib << lowest(adb, DATA_WIDTH_B)) & changed_b);
    if (rstb) b <= 0;
    else if (on_b && web && WRITEMODE_B == "WRITETHROUGH") b <= {18'd0, dib};
    else if (on_b && !(web && WRITEMODE_B == "NORMAL"))
      b <= writes_a && meet ? ~word(adb, DATA_WIDTH_B) : word(adb, DATA_WIDTH_B);
  end
endmodule

// A register of a multiplier block: none, or with clock, enable and reset of its own choice.
module ecp5_multiplier_register #(
  parameter WIDTH = 18, parameter CLK = "NONE", parameter CE = "CE0", parameter RST = "RST0"
) (
  input [3:0] clk, ce, rst, input [WIDTH-1:0] d, output [WIDTH-1:0] q
);
  generate
    if (CLK == "NONE") assign q = d;
    else begin
      wire clock = CLK == "CLK0" ? clk[0] : CLK == "CLK1" ? clk[1] : CLK == "CLK2" ? clk[2] : clk[3];
      wire enable = CE == "CE0" ? ce[0] : CE == "CE1" ? ce[1] : CE == "CE2" ? ce[2] : ce[3];
      wire clear = RST == "RST0" ? rst[0] : RST == "RST1" ? rst[1] : RST == "RST2" ? rst[2] : rst[3];
      reg [WIDTH-1:0] held;
      initial held = 0;
      always @(posedge clock)
        if (clear) held <= 0;
        else if (enable) held <= d;
      assign q = held;
    end
  endgenerate
endmodule

module ecp5_multiplier #(
  parameter REG_INPUTA_CLK = "NONE", parameter REG_INPUTA_CE = "CE0",
  parameter REG_INPUTA_RST = "RST0",
  parameter REG_INPUTB_CLK = "NONE", parameter REG_INPUTB_CE = "CE0",
  parameter REG_INPUTB_RST = "RST0",
  parameter REG_PIPELINE_CLK = "NONE", parameter REG_PIPELINE_CE = "CE0",
  parameter REG_PIPELINE_RST = "RST0",
  parameter REG_OUTPUT_CLK = "NONE", parameter REG_OUTPUT_CE = "CE0",
  parameter REG_OUTPUT_RST = "RST0",
  parameter MULT_BYPASS = "DISABLED", parameter RESETMODE = "SYNC"
) (
  input [3:0] clk, ce, rst, input [17:0] a, b, input signeda, signedb, sourcea, sourceb,
  output [35:0] p
);
  initial if (MULT_BYPASS != "DISABLED" || RESETMODE != "SYNC") begin
    $display("MULT18X18D: a setting that is not modelled");
    $fatal;
  end
  wire [18:0] a_held, b_held;
  wire [35:0] product, piped;
  ecp5_multiplier_register #(19, REG_INPUTA_CLK, REG_INPUTA_CE, REG_INPUTA_RST)
    input_a (clk, ce, rst, {signeda & a[17], a}, a_held);
  ecp5_multiplier_register #(19, REG_INPUTB_CLK, REG_INPUTB_CE, REG_INPUTB_RST)
    input_b (clk, ce, rst, {signedb & b[17], b}, b_held);
  // Operands from the neighbouring block are not modelled: the product is wrong then.
  assign product = {{17{a_held[18]}}, a_held} * {{17{b_held[18]}}, b_held} ^
                   {36{sourcea | sourceb}};
  ecp5_multiplier_register #(36, REG_PIPELINE_CLK, REG_PIPELINE_CE, REG_PIPELINE_RST)
    pipeline (clk, ce, rst, product, piped);
  ecp5_multiplier_register #(36, REG_OUTPUT_CLK, REG_OUTPUT_CE, REG_OUTPUT_RST)
    result (clk, ce, rst, piped, p);
endmodule
