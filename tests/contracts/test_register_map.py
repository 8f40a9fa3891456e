"""The register map for people and for C: the page, the header, and what the circuit does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from hw.__main__ import main as hardware
from hw.arch import register_map
from hw.arch.registers import Control, Register, Status, counter_offset

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_the_map_writes(tmp_path):
    register_map.main([str(tmp_path / "page.md")])
    assert (tmp_path / "page.md").read_text() == register_map.PAGE.read_text()
    for register in Register:
        assert f"| {register.value:#04x} | {register.name} |" in register_map.PAGE.read_text()


def test_the_header_has_the_values_of_the_contract(tmp_path, capsys):
    assert hardware(["header", "-o", str(tmp_path / "accelerator.h")]) == 0
    text = (tmp_path / "accelerator.h").read_text()
    found = {name: int(value, 16) for name, value in re.findall(r"ACCEL_(\w+) (0x\w+)u", text)}
    assert found["REG_DRAM_BASE"] == 0x44 and found["ID"] == 0x56494441
    assert found["COUNTER_CYCLES"] == counter_offset("cycles") == 0x80
    for name, kind in (("REG", Register), ("CONTROL", Control), ("STATUS", Status)):
        for member in kind:
            assert found[f"{name}_{member.name}"] == member.value


def test_the_driver_compiles(tmp_path):
    (tmp_path / "accelerator.h").write_text(register_map.c_header())
    words = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path}", "-c"]
    subprocess.run([*words, ROOT / "examples/driver.c", "-o", tmp_path / "driver.o"], check=True)
