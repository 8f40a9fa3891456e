"""A core's stand-in that only moves bursts and counts the cycles that they take."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.utils import exact_log2

from hw.accelerator import Accelerator

BEATS = 16
"""Of a burst."""


class Traffic(Accelerator):
    """Ports of the core. A write of `bursts << 1 | write` to any register starts; reads say cycles.

    The count runs from the first address until the last beat, or the last response, has come.
    """

    def elaborate(self, platform):
        m = Module()
        bursts, write, cycles = Signal(16), Signal(), Signal(32)
        asked, ended, sent, beat = Signal(16), Signal(16), Signal(16), Signal(4)
        size = len(self.m_axi_wdata) // 8
        runs = ended != bursts
        took = self.s_axi_awvalid & self.s_axi_wvalid & ~self.s_axi_bvalid
        m.d.comb += [self.s_axi_awready.eq(took), self.s_axi_wready.eq(took)]
        with m.If(self.s_axi_bready):
            m.d.sync += self.s_axi_bvalid.eq(0)
        with m.If(runs):
            m.d.sync += cycles.eq(cycles + 1)
        with m.If(took):
            m.d.sync += [
                self.s_axi_bvalid.eq(1),
                bursts.eq(self.s_axi_wdata >> 1),
                write.eq(self.s_axi_wdata[0]),
                cycles.eq(0),
                *(count.eq(0) for count in (asked, ended, sent, beat)),
            ]
        m.d.comb += [self.s_axi_arready.eq(~self.s_axi_rvalid), self.s_axi_rdata.eq(cycles)]
        with m.If(self.s_axi_rready):
            m.d.sync += self.s_axi_rvalid.eq(0)
        with m.If(self.s_axi_arvalid & self.s_axi_arready):
            m.d.sync += self.s_axi_rvalid.eq(1)

        for name, mine in (("ar", ~write), ("aw", write)):
            m.d.comb += [
                getattr(self, f"m_axi_{name}valid").eq(mine & (asked != bursts)),
                getattr(self, f"m_axi_{name}addr").eq(asked * BEATS * size),
                getattr(self, f"m_axi_{name}len").eq(BEATS - 1),
                getattr(self, f"m_axi_{name}size").eq(exact_log2(size)),
                getattr(self, f"m_axi_{name}burst").eq(1),
            ]
        with m.If(Mux(write, self.m_axi_awready, self.m_axi_arready) & (asked != bursts)):
            m.d.sync += asked.eq(asked + 1)
        m.d.comb += [
            self.m_axi_wvalid.eq(write & (sent != asked)),
            self.m_axi_wlast.eq(beat == BEATS - 1),
            self.m_axi_wstrb.eq(-1),
            self.m_axi_wdata.eq(sent * BEATS + beat),
            self.m_axi_bready.eq(1),
            self.m_axi_rready.eq(1),
        ]
        with m.If(self.m_axi_wvalid & self.m_axi_wready):
            m.d.sync += beat.eq(beat + 1)
            with m.If(self.m_axi_wlast):
                m.d.sync += sent.eq(sent + 1)
        done = Mux(write, self.m_axi_bvalid, self.m_axi_rvalid & self.m_axi_rlast)
        with m.If(done & runs):
            m.d.sync += ended.eq(ended + 1)
        return m
