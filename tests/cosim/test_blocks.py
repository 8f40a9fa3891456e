"""Models of the ECP5's blocks against what the vendor's guides say (TN1264, TN1267), in Python.

A block RAM: 16,384 bits and a parity bit for every eight; words of 1, 2, 4 bits leave the parity
out, of 9, 18 and 36 bits have it; an address is that of a bit, whose low end a wider word does not
use but for the enables of its bytes. A multiplier: two operands of 18 bits, each signed or not.
"""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from hw.boards.gates import blocks
from sim.cosim import toolchain
from sim.cosim.verilate import FLAGS

pytestmark = pytest.mark.cosim

INIT = 0x2A5A3
"""Content of row 5 at first."""


def pins(port: str, signal: str, width: int) -> str:
    return ", ".join(f".{port}{bit}({signal}[{bit}])" for bit in range(width))


def ram(name: str, widths: tuple[int, int], modes: tuple[str, str], out: tuple[str, str]) -> str:
    """An instance of DP16KD whose ports share the bench's inputs."""
    settings = [f".DATA_WIDTH_{side}({width})" for side, width in zip("AB", widths, strict=True)]
    settings += [f'.WRITEMODE_{side}("{mode}")' for side, mode in zip("AB", modes, strict=True)]
    settings.append(f".INITVAL_00({{{320 - 120}'d0, 20'd{INIT}, 100'd0}})")
    joins = []
    for place, side in enumerate("AB"):
        low = side.lower()
        writes = f"we_{low}" if not (side == "B" and widths[0] == 36) else "1'b0"
        joins += [f".CLK{side}(clk), .CE{side}(enables[{place}]), .WE{side}({writes})"]
        joins += [f".RST{side}(enables[{place + 2}]), .OCE{side}(1'b1)"]
        joins += [f".CS{side}{bit}(1'b0)" for bit in range(3)]
        joins += [pins(f"AD{side}", f"ad_{low}", 14), pins(f"DI{side}", f"di_{low}", 18)]
        joins += [pins(f"DO{side}", out[place], 18)]
    return f"  DP16KD #({', '.join(settings)}) {name} (\n    {', '.join(joins)});"


def multiplier(name: str, settings: str, out: str) -> str:
    joins = [
        pins("A", "mul_a", 18),
        pins("B", "mul_b", 18),
        pins("P", out, 36),
        ".CLK0(clk), .CLK1(1'b0), .CLK2(1'b0), .CLK3(1'b0), .CE0(controls[0]), .CE1(controls[1])",
        ".CE2(1'b0), .CE3(1'b0), .RST0(controls[2]), .RST1(1'b0), .RST2(1'b0), .RST3(1'b0)",
        ".SIGNEDA(controls[3]), .SIGNEDB(controls[4]), .SOURCEA(1'b0), .SOURCEB(1'b0)",
    ]
    joins += [f".C{bit}(1'b0)" for bit in range(18)]
    return f"  MULT18X18D #({settings}) {name} ({', '.join(joins)});"


RAMS = {
    "nibbles": ((4, 4), ("READBEFOREWRITE", "NORMAL"), ("do_a4", "do_b4")),
    "rows": ((18, 18), ("NORMAL", "WRITETHROUGH"), ("do_a18", "do_b18")),
    "pairs": ((36, 36), ("NORMAL", "NORMAL"), ("do_a36", "do_b36")),
    "mixed": ((9, 1), ("WRITETHROUGH", "READBEFOREWRITE"), ("do_aw", "do_bn")),
}
REGISTERED = (
    '.REG_INPUTA_CLK("CLK0"), .REG_INPUTB_CLK("CLK0"), .REG_INPUTB_CE("CE1"), '
    '.REG_OUTPUT_CLK("CLK0")'
)
PIPED = '.REG_PIPELINE_CLK("CLK0")'


def bench() -> str:
    outs = [f"output [17:0] {name}" for _, _, both in RAMS.values() for name in both]
    outs += [f"output [35:0] p_{name}" for name in ("registered", "plain", "piped")]
    ins = ["input clk, we_a, we_b, input [13:0] ad_a, ad_b, input [17:0] di_a, di_b"]
    ins += ["input [3:0] enables, input [17:0] mul_a, mul_b, input [4:0] controls"]
    body = [ram(name, *settings) for name, settings in RAMS.items()]
    body += [multiplier("m0", REGISTERED, "p_registered"), multiplier("m1", "", "p_plain")]
    body += [multiplier("m2", PIPED, "p_piped")]
    return "\n".join([f"module top({', '.join(ins + outs)});", *body, "endmodule\n", blocks()])


class Ram:
    """The vendor's description, bit by bit."""

    def __init__(self, widths: tuple[int, int], modes: tuple[str, str]):
        self.widths, self.modes = widths, modes
        self.bits = [0] * 18432
        for bit in range(18):
            self.bits[5 * 18 + bit] = INIT >> bit & 1
        self.outputs = [0, 0]

    def cells(self, address: int, width: int) -> list[int]:
        """Places of a word's bits in the array, the lowest first."""
        first = address // width * width if width in (1, 2, 4) else None
        if first is not None:
            return [bit // 8 * 9 + bit % 8 for bit in range(first, first + width)]
        word = address >> {9: 3, 18: 4, 36: 5}[width]
        return list(range(word * width, (word + 1) * width))

    def clock(self, ports: list[tuple[bool, bool, bool, int, int]]) -> None:
        """A rising edge; a port is (enable, write, reset, address, data)."""
        old = list(self.bits)
        for (enable, write, _, address, data), width in zip(ports, self.widths, strict=True):
            cells = self.cells(address, width)
            for place, cell in enumerate(cells):
                byte = place // 9 if width >= 18 else None
                if enable and write and (byte is None or address >> byte & 1):
                    self.bits[cell] = data >> place & 1
        for side, (enable, write, reset, address, data) in enumerate(ports):
            width = self.widths[side]
            cells = self.cells(address, width)
            value = sum(old[cell] << place for place, cell in enumerate(cells))
            # Nothing is promised of what the other port writes: the model's is the complement.
            if self.near(ports, side):
                value = ~value & ((1 << 36) - 1)
            if reset:
                self.outputs[side] = 0
            elif enable and write and self.modes[side] == "WRITETHROUGH":
                self.outputs[side] = data & (1 << 18) - 1
            elif enable and not (write and self.modes[side] == "NORMAL"):
                self.outputs[side] = value

    def near(self, ports: list[tuple[bool, bool, bool, int, int]], side: int) -> bool:
        """Whether the other port writes inside the wider one's word."""
        shift = {1: 0, 2: 1, 4: 2, 9: 3, 18: 4, 36: 5}[max(self.widths)]
        enable, write, _, address, _ = ports[1 - side]
        width = self.widths[1 - side]
        some = width < 18 or address & (15 if width == 36 else 3)  # bytes enabled
        meet = address >> shift == ports[side][3] >> shift
        return bool(enable and write and some and meet)


def signed(value: int, is_signed: int) -> int:
    return value - (value >> 17 & is_signed) * (1 << 18)


def build(target: Path, text: str) -> Path:
    with toolchain.bench(native=Path(__file__).parent / "native") as folder:
        (folder / "top.v").write_text(text)
        words = ("-o", "blocks", f"{folder}/top.v", f"{folder}/native/blocks.cpp")
        toolchain.verilate(folder, (*FLAGS, *words))
        toolchain.make(folder, "OPT_FAST=-O1")
        toolchain.keep(folder, target, "blocks")
    return target / "blocks"


def test_blocks_do_what_the_vendor_says(tmp_path: Path) -> None:
    compare(build(tmp_path / "built", bench()))


@pytest.mark.parametrize(
    "old, new",
    [
        ("+ {4'd0, address[3]}", "+ 5'd0"),
        ('WRITEMODE_A == "NORMAL")', 'WRITEMODE_A == "OTHER")'),
        ("{signedb & b[17], b}", "{signeda & b[17], b}"),
    ],
    ids=["parity", "mode", "sign"],
)
def test_twin_a_wrong_model_is_found(old: str, new: str, tmp_path: Path) -> None:
    text = bench()
    assert text.count(old) == 1
    wrong = build(tmp_path / "built", text.replace(old, new))
    with pytest.raises(AssertionError):
        compare(wrong)


def compare(program: Path) -> None:
    """Random inputs, clock by clock."""
    dice = random.Random(9)
    rows = []
    for _ in range(20_000):
        near = dice.randrange(96)
        addresses = [dice.choice((near, dice.randrange(200), 80 + dice.randrange(16)))
                     for _ in range(2)]  # fmt: skip
        # What two ports write to one row at once, the guide leaves open.
        both = addresses[0] >> 5 != addresses[1] >> 5
        enables = dice.choice((3, 3, 3, 1, 2, 0)) | dice.choice((0, 0, 0, 0, 4, 8))
        rows.append(
            [we_a := dice.randrange(2), dice.randrange(2) & (both | ~we_a), *addresses]
            + [dice.randrange(1 << 18) for _ in range(2)]
            + [enables, dice.randrange(1 << 18), dice.randrange(1 << 18)]
            + [dice.randrange(4) | dice.choice((0, 0, 0, 4)) | dice.randrange(4) << 3]
        )
    text = "\n".join(" ".join(map(str, row)) for row in rows)
    done = subprocess.run([program], input=text, capture_output=True, text=True, check=True)
    found = [list(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(found) == len(rows)
    rams = {name: Ram(widths, modes) for name, (widths, modes, _) in RAMS.items()}
    a = b = p = piped = 0
    seen: dict[str, set[int]] = {name: set() for name in rams}
    for number, (row, outputs) in enumerate(zip(rows, found, strict=True)):
        we_a, we_b, ad_a, ad_b, di_a, di_b, enables, mul_a, mul_b, controls = row
        for place, (name, each) in enumerate(rams.items()):
            wide = each.widths[0] == 36
            data = di_a | di_b << 18 if wide else di_a
            ports = [
                (bool(enables & 1), bool(we_a), bool(enables & 4), ad_a, data),
                (bool(enables & 2), bool(we_b) and not wide, bool(enables & 8), ad_b, di_b),
            ]
            each.clock(ports)
            both = each.outputs
            if wide:  # both halves of what port B reads
                both = [both[1] & (1 << 18) - 1, both[1] >> 18]
            limits = [1 << min(width, 18) for width in each.widths]
            got = outputs[2 * place : 2 * place + 2]
            assert [g % m for g, m in zip(got, limits, strict=True)] == [
                v % m for v, m in zip(both, limits, strict=True)
            ], (number, name)
            seen[name].add(both[1])
        signs = controls >> 3 & 1, controls >> 4 & 1
        mask = (1 << 36) - 1
        product = signed(mul_a, signs[0]) * signed(mul_b, signs[1]) & mask
        held = a * b & mask  # before the edge
        if controls & 4:
            a = b = p = piped = 0
        else:
            p = held if controls & 1 else p
            a = signed(mul_a, signs[0]) if controls & 1 else a
            b = signed(mul_b, signs[1]) if controls & 2 else b
            piped = product if controls & 1 else piped
        assert outputs[8:] == [p, product, piped], number
    assert all(len(values) > 1 for values in seen.values()) and len(seen["rows"]) > 1000
