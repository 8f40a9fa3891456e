"""`python -m hw verilog`: ports that a board or a bench connects to, clean for a linter, errors."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hw.__main__ import main
from hw.arch.config import CONFIG_DIRECTORY, AcceleratorConfig
from sim.cosim import toolchain

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What `hw verilog` writes for `tiny_direct`."""
    path = tmp_path_factory.mktemp("verilog") / "new"
    command = ["verilog", "--config", "tiny_direct", "-o", str(path), "--top", "core_under_test"]
    assert main(command) == 0
    return path


def lint(folder, top):
    """What Verilator says of the files in a list, with all of its warnings on."""
    with toolchain.bench() as bench:
        words = ["--lint-only", "-Wall", "--top-module", f"{top}_axi", "-f", f"{top}.f"]
        done = subprocess.run(
            [str(bench / "verilator/bin/verilator_bin"), *words],
            cwd=folder,
            capture_output=True,
            text=True,
            env={"VERILATOR_ROOT": str(bench / "verilator")},
        )
    return done.returncode, [line for line in done.stderr.splitlines() if line.startswith("%")]


def test_ports(folder):
    names = [path.stem for path in folder.glob("*.v")]
    assert sorted((folder / "core_under_test.f").read_text().split()) == sorted(
        f"{name}.v" for name in names
    )
    assert "core_under_test core (" in (folder / "core_under_test_axi.v").read_text()
    text = (folder / "core_under_test.v").read_text()
    header = re.search(r"^module core_under_test \((.*?)\);", text, re.MULTILINE | re.DOTALL)
    assert header is not None
    ports = [line.strip() for line in header[1].strip().split(",\n")]
    assert {port.split()[-1] for port in ports} == MASTER | SLAVE | OTHERS
    bits = 8 * AcceleratorConfig.load("tiny_direct").port.bytes
    for declaration in (
        f"output wire [{bits - 1}:0] m_axi_wdata",
        f"input wire [{bits - 1}:0] m_axi_rdata",
        "output wire [31:0] m_axi_araddr",
        "output wire [7:0] m_axi_awlen",
        "input wire [9:0] s_axi_awaddr",
        "input wire [31:0] s_axi_wdata",
        "output wire [4:0] trace_issue",
        "output wire irq",
    ):
        assert declaration in ports, declaration


def test_modules_are_called_after_classes_and_say_where_they_come_from(folder):
    texts = {path.stem: path.read_text() for path in folder.glob("*.v")}
    assert {f"core_under_test__{kind}" for kind in ("core", "store_unit", "column")} <= set(texts)
    for name, text in texts.items():
        assert re.findall(r"^module (\S+) \($", text, re.MULTILINE) == [name]
        assert "lint_off" not in text and "\\" not in text and "$auto" not in text
    places = {p for text in texts.values() for p in re.findall(r"^ *// (hw/\S+):\d+$", text, re.M)}
    assert {"hw/core.py", "hw/memory/load.py", "hw/compute/array/column.py"} <= places
    assert all((ROOT / place).is_file() for place in places)
    store = texts["core_under_test__store_unit"]
    assert "// Read rows ahead, ask for a burst when all its rows wait" in store


def test_a_linter_has_nothing_to_say(folder, tmp_path):
    assert lint(folder, "core_under_test") == (0, [])
    # Twins: a width that does not fit, a signal that nobody reads, a module that is missing.
    for name, old, new, told in (
        ("store_unit", r"reg \[4:0\] (\w+_count);", r"reg [5:0] \1;", "WIDTH"),
        ("core", r"\n\);\n", "\n);\n  wire idle = clk;\n", "UNUSEDSIGNAL"),
        ("core", "core_under_test__store_unit", "core_under_test__other", "other"),
    ):
        shutil.copytree(folder, tmp_path / told)
        path = tmp_path / told / f"core_under_test__{name}.v"
        wrong = re.sub(old, new, path.read_text(), count=1)
        assert wrong != path.read_text()
        path.write_text(wrong)
        code, lines = lint(tmp_path / told, "core_under_test")
        assert code and any(told in line for line in lines), (told, lines)


@pytest.mark.large
@pytest.mark.parametrize("config", ["tiny", "base", "ecp5_85k"])
def test_other_configurations_are_clean_too(config, tmp_path):
    assert main(["verilog", "--config", config, "-o", str(tmp_path)]) == 0
    assert lint(tmp_path, "accelerator") == (0, [])


def test_a_file_is_no_folder(tmp_path, capsys):
    assert main(["verilog", "--config", "tiny_direct", "-o", str(tmp_path / "core.v")]) == 2
    assert "core.v: a folder is wanted" in capsys.readouterr().err


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
    assert main(["verilog", "--config", str(path), "-o", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and message in printed.err
    assert not (tmp_path / "out").exists()
