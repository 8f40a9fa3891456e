"""`python -m hw verilog`: the port names that a board or a bench connects to; one-line errors."""

import re
from pathlib import Path

import pytest

from hw.__main__ import main
from hw.arch.config import CONFIG_DIRECTORY, AcceleratorConfig
from hw.boards.mapping import SynthesisError, run_yosys

pytestmark = pytest.mark.rtl
ROOT = Path(__file__).parents[2]
TINY = (CONFIG_DIRECTORY / "tiny_direct.yaml").read_text()

MASTER = {
    f"m_axi_{channel}{name}"
    for channel, names in {
        "aw": "valid ready addr len size burst cache prot",
        "w": "valid ready data strb last",
        "b": "valid ready resp",
        "ar": "valid ready addr len size burst cache prot",
        "r": "valid ready data resp last",
    }.items()
    for name in names.split()
}
SLAVE = {
    f"s_axi_{channel}{name}"
    for channel, names in {
        "aw": "valid ready addr",
        "w": "valid ready data strb",
        "b": "valid ready resp",
        "ar": "valid ready addr",
        "r": "valid ready data resp",
    }.items()
    for name in names.split()
}
OTHERS = {"clk", "rst", "irq", "trace_issue", "trace_done"}


def test_ports(tmp_path, capsys):
    path = tmp_path / "new" / "core.v"
    command = ["verilog", "--config", "tiny_direct", "-o", str(path), "--top", "core_under_test"]
    assert main(command) == 0
    assert str(path) in capsys.readouterr().out
    assert path.with_suffix(".f").read_text() == "core.v\ncore_axi.v\n"
    assert "core_under_test core (" in path.with_name("core_axi.v").read_text()
    text = path.read_text()
    header = re.search(r"^module core_under_test\((.*?)\);", text, re.MULTILINE | re.DOTALL)
    assert header is not None
    assert {name.strip() for name in header[1].split(",")} == MASTER | SLAVE | OTHERS
    body = text[header.end() :]
    bits = 8 * AcceleratorConfig.load("tiny_direct").port.bytes
    for declaration in (
        f"output [{bits - 1}:0] m_axi_wdata;",
        f"input [{bits - 1}:0] m_axi_rdata;",
        "output [31:0] m_axi_araddr;",
        "output [7:0] m_axi_awlen;",
        "input [9:0] s_axi_awaddr;",
        "input [31:0] s_axi_wdata;",
        "output [4:0] trace_issue;",
        "output irq;",
    ):
        assert declaration in body, declaration
    # Every choice among many values is a chain of conditions: Yosys prints them as before.
    assert "_strobes" in body and "endfunction" not in body
    # For people and other tools: where lines come from, and names that need no escape.
    places = set(re.findall(r'src = "([^":]+):\d+', text))
    assert {"hw/core.py", "hw/memory/load.py", "hw/compute/array/column.py"} <= places
    assert all((ROOT / place).is_file() for place in places) and str(ROOT) not in text
    modules = re.findall(r"^module (\S+?) ?\(", text, re.MULTILINE)
    assert len(modules) > 20 and not any(name.startswith("\\") for name in modules)
    instances = set(re.findall(r"^  (\w+__\w+) \S+ \($", text, re.MULTILINE))
    assert instances <= set(modules) and "core_under_test__core" in instances
    check = "hierarchy -check -top core_under_test"
    run_yosys(f"read_verilog {path}\n{check}", tmp_path, "whole")
    broken = text.replace("module core_under_test__core ", "module another ", 1)
    (tmp_path / "broken.v").write_text(broken)
    with pytest.raises(SynthesisError, match="core_under_test__core"):  # twin: it is missing
        run_yosys(f"read_verilog {tmp_path / 'broken.v'}\n{check}", tmp_path, "broken")


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "no configuration file"),
        ("array: {rows: 4, cols: 4}\n", "lacks 'memory'"),
        (TINY.replace("rows: 4", "rows: 5"), "array.rows must be a power of two in 4..32, not 5"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_one_line_and_exit_code_2(
    content, message, tmp_path, capsys
):
    path = tmp_path / "odd.yaml"
    if content is not None:
        path.write_text(content)
    assert main(["verilog", "--config", str(path), "-o", str(tmp_path / "out.v")]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and message in printed.err
    assert not (tmp_path / "out.v").exists()
