// The simulated SoC and its SDRAM chip, whose clock comes half a cycle later, as on the board.
module bench (
    input clk, input clk2x, input rst, input rx, output tx, output [31:0] violations,
    output [4:0] issue, output [4:0] done
);
    wire [12:0] a;
    wire [1:0] ba, dm;
    wire [15:0] dq;
    wire ras_n, cas_n, we_n, cs_n, cke;
    soc soc (
        .sys_clk(clk), .sys_rst(rst), .serial_rx(rx), .serial_tx(tx),
        .units_trace_issue(issue), .units_trace_done(done),
`ifdef HALF_RATE
        .sys2x_clk(clk2x),
`endif
        .sdram_a(a), .sdram_ba(ba), .sdram_dq(dq), .sdram_dm(dm), .sdram_ras_n(ras_n),
        .sdram_cas_n(cas_n), .sdram_we_n(we_n), .sdram_cs_n(cs_n), .sdram_cke(cke)
    );
    sdram #(`CHIP) chip (
`ifdef HALF_RATE
        .clk(~clk2x),
`else
        .clk(~clk),
`endif
        .cke(cke), .cs_n(cs_n), .ras_n(ras_n), .cas_n(cas_n), .we_n(we_n), .a(a), .ba(ba),
        .dm(dm), .dq(dq), .violations(violations)
    );
endmodule
