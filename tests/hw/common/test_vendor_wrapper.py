# amaranth: UnusedElaboratable=no
"""The wrapper for other vendors' tools: Verilator has nothing to say about it, and it joins all."""

from __future__ import annotations

import re
import subprocess

import pytest

from hw.accelerator import Accelerator
from hw.arch.config import AcceleratorConfig
from hw.common.vendor_wrapper import vendor_wrapper
from sim.cosim import toolchain

pytestmark = pytest.mark.rtl

QUIET = "/*verilator lint_off UNDRIVEN*/\n/*verilator lint_off UNUSEDSIGNAL*/\n"
"""The stub of the core does nothing."""
CONFIG = AcceleratorConfig.load("tiny_direct")


def stub():
    """A module with the core's ports and nothing inside."""
    ports = ["input clk", "input rst"]
    for name, member in Accelerator(CONFIG).signature.members.items():
        bits = f"[{member.shape - 1}:0] " if member.shape > 1 else ""
        ports.append(f"{'output' if member.flow.name == 'Out' else 'input'} {bits}{name}")
    return "module core (\n" + ",\n".join(ports) + "\n);\nendmodule\n"


def lint(folder, text):
    words = ["--lint-only", "-Wall", "--top-module", "core_axi"]
    (folder / "model/core.v").write_text(f"{QUIET}{stub()}")
    on = "/*verilator lint_on UNDRIVEN*/\n/*verilator lint_on UNUSEDSIGNAL*/\n"
    (folder / "model/core_axi.v").write_text(on + text)
    program = folder / "verilator/bin/verilator_bin"
    files = [str(folder / "model/core.v"), str(folder / "model/core_axi.v")]
    environment = {"VERILATOR_ROOT": str(folder / "verilator")}
    return subprocess.run(
        [str(program), *words, *files], capture_output=True, text=True, env=environment
    )


def test_verilator_has_no_warning(tmp_path):
    text = vendor_wrapper("core", "core_axi", 8 * CONFIG.port.bytes)
    with toolchain.bench() as folder:
        done = lint(folder, text)
        assert "core_axi.v" not in done.stderr, done.stderr
        # The twin: a wrong width is told.
        wrong = text.replace("output [31:0] m_axi_araddr", "output [30:0] m_axi_araddr")
        assert wrong != text and "core_axi.v" in lint(folder, wrong).stderr


def test_every_port_of_the_core_is_joined():
    text = vendor_wrapper("core", "core_axi", 8 * CONFIG.port.bytes)
    joined = set(re.findall(r"\.(\w+)\(", text[text.index("  core core (") :]))
    assert joined == {"clk", "rst", *Accelerator(CONFIG).signature.members}
    names = re.findall(r"^  (?:input|output) (?:\[\d+:0\] )?(\w+),?$", text, re.MULTILINE)
    assert len(names) == len(set(names)) and {"m_axi_awid", "m_axi_rid", "aresetn"} <= set(names)
