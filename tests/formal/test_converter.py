# amaranth: UnusedElaboratable=no
"""The burst converter: what the controller is never asked to wait for, and what bursts become."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import In

from hw.boards import converter, converter_channels
from tests.formal.engine import Harness, mutant, prove, refute

pytestmark = pytest.mark.formal

WIDTH, NATIVE, SIZE = 16, 8, 16
"""Two words a beat, eight beats of memory."""
LONGEST = 3
"""Beats − 1 of a burst."""


class Port(Harness):
    """A master that keeps AXI4's rules, and a controller that keeps its own, both at any pace."""

    def __init__(self, module=converter):
        self._module = module
        names = ("arvalid", "awvalid", "wvalid", "wlast", "bready", "rready")
        wide = {"araddr": 5, "arlen": 2, "awaddr": 5, "awlen": 2, "wdata": 1}
        given = ("cmd_ready", "takes", "gives")
        super().__init__(
            {name: In(1) for name in (*names, *given)}
            | {name: In(bits) for name, bits in wide.items()}
        )

    def names(self):
        return [
            "write_data_are_there",
            "read_words_have_room",
            "commands_keep",
            "responses_keep",
            "writes_and_reads_pass",
        ]

    def build(self, m: Module):
        dut = self._module.BurstConverter(WIDTH, NATIVE, SIZE, room=2, beats=2)
        m.submodules.dut = dut
        bus, port = dut.bus, dut.port
        for channel in ("ar", "aw"):
            valid, ready = getattr(self, f"{channel}valid"), getattr(bus, f"{channel}ready")
            fields = {
                "addr": getattr(self, f"{channel}addr"),
                "len": getattr(self, f"{channel}len"),
            }
            m.d.comb += getattr(bus, f"{channel}valid").eq(valid)
            m.d.comb += getattr(bus, f"{channel}size").eq(1)
            m.d.comb += getattr(bus, f"{channel}burst").eq(1)
            waits = Signal(name=f"{channel}_waits")
            m.d.sync += waits.eq(valid & ~ready)
            self.assume(~waits | valid)
            for name, value in fields.items():
                m.d.comb += getattr(bus, f"{channel}{name}").eq(value)
                before = Signal.like(value, name=f"{channel}_{name}_before")
                m.d.sync += before.eq(value)
                self.assume(~waits | (value == before))
        m.d.comb += [
            bus.wvalid.eq(self.wvalid),
            bus.wdata.eq(self.wdata),
            bus.wlast.eq(self.wlast),
            bus.bready.eq(self.bready),
            bus.rready.eq(self.rready),
            port.cmd_ready.eq(self.cmd_ready),
        ]
        # The controller: words that were asked for and not yet served, of either kind.
        writes, reads = Signal(5), Signal(5)
        step = port.cmd_valid & port.cmd_ready
        m.d.comb += [
            port.wdata_ready.eq(self.takes & (writes != 0)),
            port.rdata_valid.eq(self.gives & (reads != 0)),
        ]
        m.d.sync += [
            writes.eq(writes + (step & port.cmd_we) - port.wdata_ready),
            reads.eq(reads + (step & ~port.cmd_we) - port.rdata_valid),
        ]
        self.claim("write_data_are_there", ~port.wdata_ready | port.wdata_valid)
        # Words in the converter, or on their way to it: as many as there are places.
        beats = Signal(5)
        words = Signal(5)
        m.d.comb += words.eq(reads)
        held = Signal(5)
        taken = bus.rvalid & bus.rready & (bus.rresp == 0)
        m.d.sync += [beats.eq(beats + taken), held.eq(held + port.rdata_valid - Mux(taken, 2, 0))]
        # FIFO of two, two words that become a beat, a beat that waits.
        self.claim("read_words_have_room", (held <= 6) & (reads <= 2))
        keeps = Signal()
        asked = Signal.like(port.cmd_addr)
        kind = Signal()
        m.d.sync += [
            keeps.eq(port.cmd_valid & ~port.cmd_ready),
            asked.eq(port.cmd_addr),
            kind.eq(port.cmd_we),
        ]
        same = port.cmd_valid & (port.cmd_addr == asked) & (port.cmd_we == kind)
        self.claim("commands_keep", ~keeps | same)
        offered, last, response = Signal(), Signal(), Signal(2)
        m.d.sync += [
            offered.eq(bus.rvalid & ~bus.rready),
            last.eq(bus.rlast),
            response.eq(bus.rresp),
        ]
        steady = bus.rvalid & (bus.rlast == last) & (bus.rresp == response)
        self.claim("responses_keep", ~offered | steady)
        wrote = Signal()
        with m.If(bus.bvalid & (bus.bresp == 0)):
            m.d.sync += wrote.eq(1)
        self.cover("writes_and_reads_pass", wrote & bus.rvalid & bus.rlast & (bus.rresp == 0))


def test_the_port_is_never_made_to_wait(tmp_path):
    prove(Port(), tmp_path, covers=("writes_and_reads_pass",))


MUTANTS = [
    (
        "write_data_are_there",
        converter_channels,
        "arrived.eq(beats.w_en & beats.w_rdy)",
        "arrived.eq(beats.w_en)",
    ),
    (
        "read_words_have_room",
        converter_channels,
        "Signal(range(self._room + 1), init=self._room)",
        "Signal(range(self._room + 2), init=self._room + 1)",
    ),
    (
        "commands_keep",
        converter,
        "self.port.cmd_valid.eq(kept | asks)",
        "self.port.cmd_valid.eq((kept & ~self.bus.arvalid) | asks)",
    ),
    (
        "commands_keep",
        converter,
        "with m.If(~kept):",
        "with m.If(~kept | self.bus.awvalid):",
    ),
    (
        "responses_keep",
        converter_channels,
        "goes = bursts.r_rdy & (~self.r_valid | self.r_ready) &",
        "goes = bursts.r_rdy &",
    ),
]


@pytest.mark.parametrize("claim, where, old, new", MUTANTS, ids=[m[0] for m in MUTANTS])
def test_a_wrong_converter_is_found(tmp_path, monkeypatch, claim, where, old, new):
    wrong = mutant(where, old, new)
    if where is converter_channels:
        for name in ("Reads", "Writes"):
            monkeypatch.setattr(converter, name, getattr(wrong, name))
        wrong = converter
    refute(Port(wrong), tmp_path, claim)
