"""Pure Python pieces of the co-simulation: wrapper, C++ header, harness arguments."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.registers import COUNTERS, Register, counter_offset
from sim.cosim.headers import parameters_header
from sim.cosim.job import Settings
from sim.cosim.rtl import source_key
from sim.cosim.wrapper import Port, ports, wrapper

VERILOG = """
module other(a);
  input a;
endmodule
module top(clk, m_axi_araddr, m_axi_arid, irq);
  input clk;
  wire clk;
  output [31:0] m_axi_araddr;
  reg [31:0] m_axi_araddr;
  output m_axi_arid;
  output irq;
endmodule
"""


def test_ports_of_the_named_module() -> None:
    assert ports(VERILOG, "top") == [
        Port("clk", "input", 1),
        Port("m_axi_araddr", "output", 32),
        Port("m_axi_arid", "output", 1),
        Port("irq", "output", 1),
    ]
    with pytest.raises(ValueError, match="no module missing"):
        ports(VERILOG, "missing")


def test_wrapper_adds_only_missing_identifiers() -> None:
    text = wrapper(ports(VERILOG, "top"), "bench", "top")
    assert ".m_axi_arid(m_axi_arid)" in text and "assign m_axi_arid" not in text
    assert "assign m_axi_awid = 1'b0;" in text and "input wire [0:0] m_axi_rid" in text
    assert "assign m_axi_rid" not in text
    assert text.count("m_axi_araddr") == 3


def test_header_names_every_register_and_counter() -> None:
    text = parameters_header(AcceleratorConfig.load("tiny"))
    for register in Register:
        assert f"uint32_t {register.name} = {register.value:#x};" in text
    for name in COUNTERS:
        assert f'{{"{name}", {counter_offset(name):#x}}}' in text
    assert "PORT_BYTES = 4;" in text and "READ_LATENCY = 40;" in text


def test_key_follows_the_parameters_not_the_name() -> None:
    tiny = AcceleratorConfig.load("tiny")
    assert source_key(tiny) == source_key(dataclasses.replace(tiny, name="renamed"))
    assert source_key(tiny) != source_key(dataclasses.replace(tiny, queue_depth=8))


def test_settings_become_arguments() -> None:
    words = Settings(abort_at=5, waves=Path("w.vcd"), waves_last=9).arguments()
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert options["--abort-at"] == "5" and options["--waves"] == "w.vcd"
    assert options["--waves-first"] == "0" and options["--waves-last"] == "9"
    assert "--waves" not in Settings().arguments()
