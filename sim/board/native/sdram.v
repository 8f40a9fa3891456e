// An SDR SDRAM chip: 4 banks, 16 bits, bursts of 1 and 2, auto precharge, and the rules of its times.
//
// ACCESS adds clocks to the chip's own latency: what the output registers of a real device's pads and
// the phase of its clock add. Every rule that is broken counts in `violations`, and the first is told.
module sdram #(
    parameter COLUMNS = 9, parameter ROWS = 13, parameter ACCESS = 0,
    parameter T_RCD = 2, parameter T_RP = 2, parameter T_RAS = 4, parameter T_RFC = 5,
    parameter T_WR = 2, parameter T_REFI = 1000
) (
    input clk, input cke, input cs_n, input ras_n, input cas_n, input we_n,
    input [12:0] a, input [1:0] ba, input [1:0] dm, inout [15:0] dq,
    output reg [31:0] violations
);
    localparam DEPTH = 8;
    reg [15:0] cells [0:(1 << (COLUMNS + ROWS + 2)) - 1];
    reg [ROWS - 1:0] row [0:3];
    reg [3:0] open;
    reg [63:0] now, opened [0:3], closed [0:3], written [0:3], refreshed;
    reg [12:0] mode;
    reg ready;  // a mode has been set
    reg used;  // a bank has been opened: what the cells hold matters
    reg [DEPTH - 1:0] drives;  // what leaves in so many clocks
    reg [15:0] out [0:DEPTH - 1];
    reg more;  // a second word of a write comes
    reg [COLUMNS + ROWS + 1:0] next;
    integer i;

    wire [2:0] latency = mode[6:4];
    wire double = mode[2:0] == 1;
    wire [COLUMNS + ROWS + 1:0] place = {ba, row[ba], a[COLUMNS - 1:0]};
    assign dq = drives[0] ? out[0] : 16'bz;

    task broken(input [8 * 40:1] rule);
        begin
            if (violations == 0) $fdisplay(32'h8000_0002, "SDRAM, clock %0d: %0s", now, rule);
            violations <= violations + 1;
        end
    endtask

    task store(input [COLUMNS + ROWS + 1:0] where);
        begin
            if (!dm[0]) cells[where][7:0] <= dq[7:0];
            if (!dm[1]) cells[where][15:8] <= dq[15:8];
        end
    endtask

    initial begin
        violations = 0; now = 1000; open = 0; ready = 0; used = 0; drives = 0; more = 0; mode = 0;
        refreshed = 0; next = 0;
        for (i = 0; i < 4; i = i + 1) begin opened[i] = 0; closed[i] = 0; written[i] = 0; end
    end

    always @(posedge clk) begin
        now <= now + 1;
        drives <= drives >> 1;
        for (i = 0; i < DEPTH - 1; i = i + 1) out[i] <= out[i + 1];
        more <= 0;
        if (more) store(next);
        if (used && now - refreshed > 9 * T_REFI) broken("no refresh");
        if (cke && !cs_n) case ({ras_n, cas_n, we_n})
            3'b011: begin
                if (open[ba]) broken("activate of an open bank");
                if (now < closed[ba] + T_RP) broken("tRP");
                if (now < refreshed + T_RFC) broken("tRFC");
                used <= 1;
                if (!used) refreshed <= now - T_RFC;
                open[ba] <= 1; row[ba] <= a[ROWS - 1:0]; opened[ba] <= now;
            end
            3'b101: begin
                if (!open[ba]) broken("read of a closed bank");
                if (now < opened[ba] + T_RCD) broken("tRCD");
                if (!ready) broken("read before a mode was set");
                drives[latency + ACCESS - 1] <= 1;
                out[latency + ACCESS - 1] <= cells[place];
                if (double) begin
                    drives[latency + ACCESS] <= 1;
                    out[latency + ACCESS] <= cells[place ^ 1];
                end
                if (a[10]) begin open[ba] <= 0; closed[ba] <= now + double; end
            end
            3'b100: begin
                if (!open[ba]) broken("write to a closed bank");
                if (now < opened[ba] + T_RCD) broken("tRCD");
                if (drives[0]) broken("write while data leave");
                store(place);
                more <= double; next <= place ^ 1;
                written[ba] <= now + double;
                if (a[10]) begin open[ba] <= 0; closed[ba] <= now + double + T_WR; end
            end
            3'b010: for (i = 0; i < 4; i = i + 1) if (a[10] || ba == i) begin
                if (open[i] && now < opened[i] + T_RAS) broken("tRAS");
                if (open[i] && now < written[i] + T_WR) broken("tWR");
                if (open[i]) closed[i] <= now;
                open[i] <= 0;
            end
            3'b001: begin
                if (open != 0) broken("refresh with an open bank");
                for (i = 0; i < 4; i = i + 1) if (now < closed[i] + T_RP) broken("tRP");
                if (now < refreshed + T_RFC) broken("tRFC");
                refreshed <= now;
            end
            3'b000: begin
                if (open != 0) broken("mode with an open bank");
                mode <= a; ready <= 1;
            end
            default: ;
        endcase
    end
endmodule
