"""An SoC of one's own around the core: registers outside, memory of block RAM inside.

    python examples/soc.py tiny soc.v

The burst converter stands between the core's AXI4 port and a memory with a port as LiteDRAM's:
commands, data of writes, data of reads. What is outside is AXI4-Lite (docs/integration.md) and irq.
"""

import sys
from pathlib import Path

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In

from hw.accelerator import Accelerator
from hw.arch.config import AcceleratorConfig
from hw.boards.converter import BurstConverter
from hw.export import readable_verilog


class OnChipSystem(wiring.Component):  # type: ignore[misc]
    """Core and `size` bytes of block RAM (`rows`); ports are the core's but for m_axi_*."""

    def __init__(self, config: AcceleratorConfig, size: int):
        self.core = Accelerator(config)
        self._converter = BurstConverter(8 * config.port.bytes, 8 * config.port.bytes, size)
        rows = size // config.port.bytes
        self.rows = memory.Memory(shape=8 * config.port.bytes, depth=rows, init=[])
        ports = self.core.signature.members.items()
        super().__init__({name: port for name, port in ports if not name.startswith("m_axi")})

    def elaborate(self, platform: object) -> Module:
        """Join the parts."""
        m = Module()
        m.submodules.core, m.submodules.converter = core, converter = self.core, self._converter
        m.submodules.rows, port = self.rows, converter.port
        for name, member in self.signature.members.items():
            inner, outer = getattr(core, name), getattr(self, name)
            m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        for name, member in converter.bus.signature.members.items():
            inner, outer = getattr(converter.bus, name), getattr(core, f"m_axi_{name}")
            m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        # A command a cycle: words that are read come in the next one, those that are written are
        # taken in it. So a read behind a write of the same word sees what was written.
        read, place = self.rows.read_port(transparent_for=()), Signal.like(port.cmd_addr)
        write = self.rows.write_port(granularity=8)
        m.d.sync += [port.rdata_valid.eq(port.cmd_valid & ~port.cmd_we), place.eq(port.cmd_addr)]
        m.d.sync += port.wdata_ready.eq(port.cmd_valid & port.cmd_we)
        m.d.comb += [
            port.cmd_ready.eq(1),
            Cat(read.en, read.addr).eq(Cat(port.cmd_valid, port.cmd_addr)),
            port.rdata_data.eq(read.data),
            Cat(write.addr, write.data).eq(Cat(place, port.wdata_data)),
            write.en.eq(port.wdata_we & port.wdata_ready.replicate(len(write.en))),
        ]
        return m


if __name__ == "__main__":
    system = OnChipSystem(AcceleratorConfig.load(sys.argv[1]), 1 << 16)
    Path(sys.argv[2]).write_text("\n".join(readable_verilog(system, "system").values()))
