#!/usr/bin/env bash
# Yosys: synth_ecp5 moves no register into MULT18X18D.
#
# Versions: pyosys 0.70
# Expected: registers at the inputs and the output of a multiplier go into the DSP block, which has
#   them (parameters REG_INPUTA_CLK, REG_INPUTB_CLK, REG_OUTPUT_CLK ...), as synth_xilinx does for
#   DSP48E1.
# Seen: an 18 x 18 multiplier with registers of 36 bits before and 36 behind keeps all 72 as
#   TRELLIS_FF in the fabric and no REG_* parameter is set, by default and with -retime, -abc9,
#   -abc9 -dff, -nodffe. synth_xilinx of the same source leaves no flip-flop outside the DSP48E1.
# Run: bash findings/yosys-ecp5-multiplier-registers.sh

set -euo pipefail
sed -n '2,/^$/s/^# \{0,1\}//p' "$0"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet pyosys==0.70
cd "$tmp"
"$tmp/venv/bin/python" - <<'PY'
import json
import sys
from collections import Counter
from pathlib import Path

from pyosys import libyosys


def yosys(*commands):
    design = libyosys.Design()
    for command in commands:
        libyosys.Pass.call(design, "tee -q -o yosys.log " + command)


Path("top.v").write_text("""
module top(input clk, input signed [17:0] a, b, output reg signed [35:0] p);
  reg signed [17:0] ar, br;
  always @(posedge clk) begin ar <= a; br <= b; p <= ar * br; end
endmodule
""")
OPTIONS = ("", " -retime", " -abc9", " -abc9 -dff", " -nodffe")
for command in (*("synth_ecp5" + o for o in OPTIONS), "synth_xilinx -noiopad -noclkbuf"):
    yosys("read_verilog top.v", f"{command} -top top -json out.json")
    cells = json.loads(Path("out.json").read_text())["modules"]["top"]["cells"].values()
    count = dict(Counter(cell["type"] for cell in cells))
    registers = [p for c in cells for p in c["parameters"] if p.startswith("REG_")]
    print(f"{command}: {count}, REG_* parameters {registers}")
    ecp5 = command.startswith("synth_ecp5")
    if (count, registers) != ({"MULT18X18D": 1, "TRELLIS_FF": 72} if ecp5 else {"DSP48E1": 1}, []):
        sys.exit("changed: not the cells described above")
PY
