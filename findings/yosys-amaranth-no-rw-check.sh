#!/usr/bin/env bash
# Yosys and Amaranth: no_rw_check has no effect on a memory that Amaranth wrote.
#
# Versions: amaranth 0.5.10, pyosys 0.70
# Expected: a 512 x 36 memory whose port collisions do not matter, marked no_rw_check (or
#   synthesized with -no-rw-check), is one ECP5 block RAM and nothing else, from Verilog and from
#   Amaranth's RTLIL alike.
# Seen: from Verilog it is. From Amaranth the attribute arrives in the RTLIL and neither it nor the
#   option does anything: beside the DP16KD stand 83 flip-flops and some LUTs that emulate the
#   collision. Amaranth writes read ports that are clocked already; the attribute acts where Yosys
#   merges a register into a port. A collision mask of ones set on the $memrd_v2 cells by hand gives
#   the one block RAM.
# Run: bash findings/yosys-amaranth-no-rw-check.sh

set -euo pipefail
sed -n '2,/^$/s/^# \{0,1\}//p' "$0"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet amaranth==0.5.10 pyosys==0.70
cd "$tmp"
"$tmp/venv/bin/python" - <<'PY'
import json
import sys
from collections import Counter
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.lib.memory import Memory
from pyosys import libyosys


def yosys(*commands):
    design = libyosys.Design()
    for command in commands:
        libyosys.Pass.call(design, "tee -q -o yosys.log " + command)


def amaranth(attrs):
    m = Module()
    m.submodules.memory = memory = Memory(shape=36, depth=512, init=[], attrs=attrs)
    write, read = memory.write_port(), memory.read_port()
    ports = [Signal(), Signal(9), Signal(9), Signal(36), Signal(36, name="q")]
    m.d.comb += [
        write.en.eq(ports[0]),
        write.addr.eq(ports[1]),
        read.addr.eq(ports[2]),
        write.data.eq(ports[3]),
        ports[4].eq(read.data),
    ]
    Path("top.il").write_text(rtlil.convert(m, name="top", ports=ports))


def verilog(attribute):
    Path("top.v").write_text(f"""
module top(input clk, we, input [8:0] wa, ra, input [35:0] d, output reg [35:0] q);
  {attribute} reg [35:0] m [0:511];
  always @(posedge clk) begin if (we) m[wa] <= d; q <= m[ra]; end
endmodule
""")


def check(title, alone, *commands, option=""):
    yosys(*commands, f"synth_ecp5 -top top -json out.json {option}")
    cells = json.loads(Path("out.json").read_text())["modules"]["top"]["cells"].values()
    count = dict(Counter(cell["type"] for cell in cells))
    print(f"{title}: {count}")
    if count.get("DP16KD") != 1 or count.get("TRELLIS_FF", 0) != (0 if alone else 83):
        sys.exit("changed: not the cells described above")


verilog("")
check("Verilog, unmarked", False, "read_verilog top.v")
check("Verilog, -no-rw-check", True, "read_verilog top.v", option="-no-rw-check")
verilog("(* no_rw_check *)")
check("Verilog, attribute", True, "read_verilog top.v")
amaranth({})
check("Amaranth, unmarked", False, "read_rtlil top.il")
check("Amaranth, -no-rw-check", False, "read_rtlil top.il", option="-no-rw-check")
amaranth({"no_rw_check": 1})
if "attribute \\no_rw_check 1" not in Path("top.il").read_text():
    sys.exit("changed: Amaranth no longer writes the attribute")
check("Amaranth, attribute", False, "read_rtlil top.il")
mask = "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2"
check("Amaranth, mask by hand", True, "read_rtlil top.il", "flatten", mask)
PY
