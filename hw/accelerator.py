"""The whole accelerator: control, memories, compute units, and the standard port names."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Unit
from hw.arch.registers import DRAM_ALIGNMENT
from hw.common.verilog import convert
from hw.compute.array.unit import ArrayUnit
from hw.compute.drain.unit import DrainUnit
from hw.compute.vector.unit import VectorUnit
from hw.control.registers import LiteSignature, Registers
from hw.control.supervisor import Supervisor
from hw.core import Core

__all__ = ["Accelerator", "verilog"]

BURST_INCREMENT = 1
CACHE_MODIFIABLE = 0b0011
"""AXI4 memory type: normal, non-cacheable, bufferable."""


def _memory_bus(config: AcceleratorConfig) -> dict[str, wiring.Member]:
    """AXI4 master; identifiers are not used, so that everything comes back in order."""
    bits = 8 * config.port.bytes
    members = {}
    for channel in ("aw", "ar"):
        members |= {
            f"{channel}valid": Out(1),
            f"{channel}ready": In(1),
            f"{channel}addr": Out(32),
            f"{channel}len": Out(8),
            f"{channel}size": Out(3),
            f"{channel}burst": Out(2),
            f"{channel}cache": Out(4),
            f"{channel}prot": Out(3),
        }
    members |= {"wvalid": Out(1), "wready": In(1), "wlast": Out(1)}
    members |= {"wdata": Out(bits), "wstrb": Out(config.port.bytes)}
    members |= {"bvalid": In(1), "bready": Out(1), "bresp": In(2)}
    members |= {"rvalid": In(1), "rready": Out(1), "rlast": In(1)}
    members |= {"rdata": In(bits), "rresp": In(2)}
    return members


class Accelerator(wiring.Component):
    """An AXI4 master to DRAM, an AXI4-Lite slave for the host, an interrupt.

    Parameters
    ----------
    config: the accelerator.
    array, drain, vector: classes of the compute units.

    Members
    -------
    m_axi_*: AXI4 master without identifiers, `port.bytes` wide, full INCR bursts.
    s_axi_*: AXI4-Lite slave (hw/arch/registers.py).
    irq: Out, high while an interrupt is pending and enabled.
    trace_issue, trace_done: Out, one bit per `Unit`: an instruction enters or leaves the unit.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        array: type[ArrayUnit] = ArrayUnit,
        drain: type[DrainUnit] = DrainUnit,
        vector: type[VectorUnit] = VectorUnit,
    ):
        self._config = config
        self._compute = {Unit.ARRAY: array, Unit.DRAIN: drain, Unit.VECTOR: vector}
        super().__init__(
            {
                **{f"m_axi_{name}": member for name, member in _memory_bus(config).items()},
                **{f"s_axi_{name}": member for name, member in LiteSignature().members.items()},
                "irq": Out(1),
                "trace_issue": Out(len(Unit)),
                "trace_done": Out(len(Unit)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.registers = registers = Registers(self._config)
        m.submodules.supervisor = supervisor = Supervisor()
        m.submodules.core = core = Core(self._config, self._compute)
        for name, member in LiteSignature().members.items():
            inner, outer = getattr(registers.bus, name), getattr(self, f"s_axi_{name}")
            m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        self._memory_port(m, core)
        moved = Signal(len(Unit))
        m.d.sync += moved.eq(core.issue | core.done)
        m.d.comb += [
            supervisor.start.eq(registers.start),
            supervisor.abort.eq(registers.abort),
            supervisor.clear_irq.eq(registers.clear_irq),
            supervisor.watchdog.eq(registers.settings.watchdog),
            supervisor.halt.eq(core.halt),
            supervisor.halt_code.eq(core.halt_code),
            supervisor.errors.eq(core.errors),
            supervisor.index.eq(core.index),
            supervisor.dispatched_index.eq(core.dispatched_index),
            supervisor.progress.eq(moved.any()),
            supervisor.port_idle.eq(core.port_idle),
            core.clear.eq(supervisor.clear),
            core.run.eq(supervisor.run),
            core.goes_on.eq(supervisor.goes_on),
            core.settings.eq(registers.settings),
            registers.status.eq(supervisor.status),
            registers.clear.eq(supervisor.clear),
            registers.events.eq(Mux(supervisor.counting, core.events, 0)),
            self.irq.eq(supervisor.status.irq & registers.settings.irq_enable),
            self.trace_issue.eq(core.issue),
            self.trace_done.eq(core.done),
        ]
        return m

    def _memory_port(self, m: Module, core: Core) -> None:
        page = exact_log2(DRAM_ALIGNMENT)
        for name, channel in (("ar", core.ar), ("aw", core.aw)):
            address = channel.payload.address
            base = core.settings.dram_base
            outer = {
                "valid": channel.valid,
                "addr": Cat(address[:page], (address[page:] + base[page:])[: 32 - page]),
                "len": channel.payload.length,
                "size": exact_log2(self._config.port.bytes),
                "burst": BURST_INCREMENT,
                "cache": CACHE_MODIFIABLE,
                "prot": 0,
            }
            m.d.comb += [getattr(self, f"m_axi_{name}{k}").eq(v) for k, v in outer.items()]
            m.d.comb += channel.ready.eq(getattr(self, f"m_axi_{name}ready"))
        m.d.comb += [
            self.m_axi_wvalid.eq(core.w.valid),
            self.m_axi_wdata.eq(core.w.payload.data),
            self.m_axi_wlast.eq(core.w.payload.last),
            self.m_axi_wstrb.eq(~Const(0, self._config.port.bytes)),
            core.w.ready.eq(self.m_axi_wready),
            self.m_axi_bready.eq(1),
            core.b_valid.eq(self.m_axi_bvalid),
            core.b_response.eq(self.m_axi_bresp),
            self.m_axi_rready.eq(1),
            core.r_valid.eq(self.m_axi_rvalid),
            core.r_data.eq(self.m_axi_rdata),
            core.r_response.eq(self.m_axi_rresp),
            core.r_last.eq(self.m_axi_rlast),
        ]


def verilog(config: AcceleratorConfig, name: str = "accelerator") -> str:
    """Verilog of the accelerator for simulators; `name` is the top module's."""
    return convert(Accelerator(config), name=name)
