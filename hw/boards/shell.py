"""The core as a board's SoC takes it: a link, a register port, a port of the memory controller."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.accelerator import Accelerator
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Unit
from hw.boards.bridge import SerialBridge
from hw.boards.converter import BurstConverter
from hw.control.registers import LiteSignature

__all__ = ["BoardShell"]


class BoardShell(wiring.Component):
    """Accelerator, burst converter and serial bridge in one module.

    Parameters
    ----------
    config: the accelerator.
    native: bits of a word of the memory controller. size: bytes of the memory.
    divisor, silence: of the bridge.

    Members
    -------
    rx, tx: the serial line.
    host_*: Wishbone master of the bridge.
    s_axi_*: AXI4-Lite slave of the core, 32-bit byte addresses; only the low bits are used.
    port_*: native port of the memory controller (`converter.NativeSignature`).
    irq, trace_issue, trace_done: Out, of the core.

    Raises
    ------
    ConfigError, ValueError
        If a part cannot be built.
    """

    TRACE = ("trace_issue", "trace_done")
    HOST = ("cyc", "stb", "we", "adr", "dat_w", "sel", "dat_r", "ack", "err")

    def __init__(
        self, config: AcceleratorConfig, *, native: int, size: int, divisor: int, silence: int
    ):
        self._core = Accelerator(config)
        self._converter = BurstConverter(8 * config.port.bytes, native, size)
        self._bridge = SerialBridge(divisor, silence)
        bridge, port = self._bridge.signature.members, self._converter.port.signature.members
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                **{f"host_{name}": bridge[name] for name in self.HOST},
                **{f"s_axi_{name}": member for name, member in LiteSignature().members.items()},
                **{f"port_{name}": member for name, member in port.items()},
                "irq": Out(1),
                **{name: Out(len(Unit)) for name in self.TRACE},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.accelerator = core = self._core
        m.submodules.converter = converter = self._converter
        m.submodules.bridge = bridge = self._bridge
        m.d.comb += [bridge.rx.eq(self.rx), self.tx.eq(bridge.tx), self.irq.eq(core.irq)]
        m.d.comb += [getattr(self, name).eq(getattr(core, name)) for name in self.TRACE]
        for name in self.HOST:
            self._join(m, bridge.signature.members[name], bridge, name, f"host_{name}")
        for name, member in LiteSignature().members.items():
            self._join(m, member, core, f"s_axi_{name}", f"s_axi_{name}")
        for name, member in converter.port.signature.members.items():
            self._join(m, member, converter.port, name, f"port_{name}")
        for name, member in converter.bus.signature.members.items():
            inner, outer = getattr(converter.bus, name), getattr(core, f"m_axi_{name}")
            m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        return m

    def _join(self, m: Module, member: wiring.Member, part: object, name: str, port: str) -> None:
        inner, outer = getattr(part, name), getattr(self, port)
        m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
