"""The SoC around the core, in LiteX: the only file that knows it.

The same class makes the board's SoC and one with plain pads for a simulator.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import logging
from typing import Any

from hw.arch.board import BoardFile
from hw.arch.boards import Board
from hw.arch.config import AcceleratorConfig
from hw.boards.uart import divisor_of

__all__ = ["MEMORY", "REGISTERS", "SHELL", "Parts", "board_parts", "simulated_parts"]

SHELL = "board_shell"
"""Name of the module with core, converter and bridge."""
REGISTERS, MEMORY = 0x3000_0000, 0x4000_0000
SILENCE_S = 0.02
"""Of the line on a board: a USB bridge may pause for some milliseconds within a request."""
ROUND = 1 << 20
SIMULATED_DIVISOR, SIMULATED_SILENCE = 4, 4000


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """An SoC as text.

    Attributes
    ----------
    top: name of its top module. soc: Verilog around the module `SHELL`.
    constraints: LPF of its pins.
    shell: the Amaranth component `SHELL`.
    description: for the host.
    """

    top: str
    soc: str
    constraints: str
    shell: Any
    description: BoardFile


def _litex(name: str) -> Any:
    """A module of LiteX or LiteDRAM, which are loaded only when an SoC is made."""
    logging.getLogger("SoC").setLevel(logging.ERROR)
    for logger in ("SoCBusHandler", "SoCCSRHandler", "SoCIRQHandler", "ECP5PLL"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    return importlib.import_module(name)


def _count_anew() -> None:
    """Let Migen number its signals from a round number on.

    It names them in the order of sets, which is that of these numbers in powers of two; else a
    second SoC of the same process would be named otherwise, and be another bitstream.
    """
    numbers = _litex("migen.fhdl.structure").DUID
    numbers._DUID__next_uid = numbers._DUID__next_uid // ROUND * ROUND + ROUND


def _shell(config: AcceleratorConfig, board: Board, divisor: int, silence: int) -> Any:
    from hw.boards.shell import BoardShell

    return BoardShell(
        config,
        native=board.word_bits,
        size=board.memory_bytes,
        divisor=divisor,
        silence=silence,
    )


def _soc(
    platform: Any, crg: Any, board: Board, clock_hz: int, shell: Any, trace: Any = None
) -> Any:
    """An SoC of LiteX with the shell in it; not finalized. `trace`: pads of the core's strobes."""
    core = _litex("litex.soc.integration.soc_core")
    regions = _litex("litex.soc.integration.soc")
    wishbone = _litex("litex.soc.interconnect.wishbone")
    lite = _litex("litex.soc.interconnect.axi.axi_lite")
    phys = _litex("litedram.phy")
    modules = _litex("litedram.modules")
    migen = _litex("migen")

    soc = core.SoCCore(
        platform,
        clock_hz,
        cpu_type=None,
        with_uart=False,
        with_timer=False,
        integrated_sram_size=0,
        ident="",
    )
    soc.crg = crg
    rate = f"1:{board.sdram_rate}"
    phy = phys.GENSDRPHY if board.sdram_rate == 1 else phys.HalfRateGENSDRPHY
    soc.sdrphy = phy(platform.request("sdram"), clock_hz)
    if board.sdram_rate != 1:
        soc.sdrborder = _registered(soc.sdrphy)
    soc.add_sdram(
        "sdram",
        phy=soc.sdrphy if board.sdram_rate == 1 else soc.sdrborder,
        module=getattr(modules, board.module)(clock_hz, rate),
        origin=MEMORY,
        l2_cache_size=0,  # its data would be hidden from the core, which has a port of its own
    )
    host = wishbone.Interface(data_width=32, adr_width=30, addressing="word")
    soc.bus.add_master("host", host)
    bus = lite.AXILiteInterface(data_width=32, address_width=32)
    region = regions.SoCRegion(origin=REGISTERS, size=0x1000, cached=False)
    soc.bus.add_slave("accelerator", bus, region)
    port = soc.sdram.crossbar.get_port()
    if port.data_width != board.word_bits:
        raise ValueError(f"the memory controller has {port.data_width} bits, not {board.word_bits}")
    serial = platform.request("serial")
    soc.specials += migen.Instance(
        SHELL,
        i_clk=migen.ClockSignal(),
        i_rst=migen.ResetSignal(),
        **_connections(
            shell,
            {"rx": serial.rx, "tx": serial.tx}
            | {f"host_{name}": getattr(host, name) for name in shell.HOST}
            | _fields("port_", port, PORT, "_")
            | _fields("s_axi_", bus, LITE, "")
            | ({} if trace is None else {name: getattr(trace, name) for name in shell.TRACE}),
        ),
    )
    soc.comb += port.rdata.ready.eq(1)
    return soc


def _registered(phy: Any) -> Any:
    """A PHY whose DFI has registers both ways, a cycle each.

    Between the controller's clock and the SDRAM's, which is twice as fast, lies half a cycle: a
    register's way to a pin's register, and no logic of the controller's or of who reads.
    """
    migen = _litex("migen")
    dfi = _litex("litedram.phy.dfi")
    module = migen.Module()
    module.settings = copy.copy(phy.settings)
    module.settings.read_latency += 2
    first = phy.dfi.phases[0]
    module.dfi = dfi.Interface(
        len(first.address), len(first.bank), len(first.cs_n), len(first.wrdata), len(phy.dfi.phases)
    )
    for outer, inner in zip(module.dfi.phases, phy.dfi.phases, strict=True):
        for name, _, direction in outer.layout:
            ends = getattr(inner, name), getattr(outer, name)
            target, source = ends if direction == migen.DIR_M_TO_S else ends[::-1]
            module.sync += target.eq(source)
    return module


PORT = {
    "cmd": ("valid", "ready", "we", "addr"),
    "wdata": ("valid", "ready", "data", "we"),
    "rdata": ("valid", "data"),
}
LITE = {
    "aw": ("valid", "ready", "addr"),
    "w": ("valid", "ready", "data", "strb"),
    "b": ("valid", "ready", "resp"),
    "ar": ("valid", "ready", "addr"),
    "r": ("valid", "ready", "data", "resp"),
}


def _fields(
    prefix: str, bus: Any, channels: dict[str, tuple[str, ...]], between: str
) -> dict[str, Any]:
    """Signals of the channels of a bus of LiteX's, by the names of the shell's ports."""
    return {
        f"{prefix}{channel}{between}{field}": getattr(getattr(bus, channel), field)
        for channel, fields in channels.items()
        for field in fields
    }


def _connections(shell: Any, signals: dict[str, Any]) -> dict[str, Any]:
    """Arguments i_NAME and o_NAME of an instance; widths must be those of the shell's ports."""
    from amaranth.lib.wiring import Out

    result = {}
    for name, signal in signals.items():
        width = len(getattr(shell, name))
        if name in ("s_axi_awaddr", "s_axi_araddr"):
            signal = signal[:width]  # the core sees the offset
        if len(signal) != width:
            raise ValueError(f"{name} has {width} bits, LiteX's signal {len(signal)}")
        out = shell.signature.members[name].flow is Out
        result[f"{'o' if out else 'i'}_{name}"] = signal
    return result


def _text(output: Any) -> str:
    """Verilog without its comments, which tell the time of day."""
    lines = str(output).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("//")) + "\n"


def _start(soc: Any) -> tuple[tuple[int, int, int], ...]:
    """What the host writes to make the SDRAM usable: LiteDRAM's sequence of the module."""
    init = _litex("litedram.init")
    export = _litex("litex.soc.integration.export")
    content = json.loads(export.get_csr_json(soc.csr_regions, soc.constants, soc.mem_regions))
    registers = {
        name.removeprefix("sdram_dfii_"): entry["addr"]
        for name, entry in content["csr_registers"].items()
        if name.startswith("sdram_dfii_")
    }
    bits = {
        "DFII_CONTROL_SEL": 1,
        "DFII_CONTROL_CKE": 2,
        "DFII_CONTROL_ODT": 4,
        "DFII_CONTROL_RESET_N": 8,
        "DFII_COMMAND_CS": 1,
        "DFII_COMMAND_WE": 2,
        "DFII_COMMAND_CAS": 4,
        "DFII_COMMAND_RAS": 8,
    }
    sequence, _ = init.get_sdram_phy_init_sequence(
        soc.sdrphy.settings, soc.sdram.controller.settings.timing
    )
    writes = []
    for _, address, bank, command, wait in sequence:
        value = sum(bits[name] for name in command.split("|"))
        writes += [(registers["pi0_address"], address, 0), (registers["pi0_baddress"], bank, 0)]
        if command.startswith("DFII_CONTROL"):
            writes.append((registers["control"], value, wait))
        else:
            writes.append((registers["pi0_command"], value, 0))
            writes.append((registers["pi0_command_issue"], 1, wait))
    return (*writes, (registers["control"], bits["DFII_CONTROL_SEL"], 0))


def _description(
    config: AcceleratorConfig, board: Board, clock_hz: int, baud: float, silence: int, soc: Any
) -> BoardFile:
    return BoardFile(
        board=board.name,
        config=config.name,
        fingerprint=config.fingerprint,
        clock_hz=clock_hz,
        baud=baud,
        silence=silence,
        registers=REGISTERS,
        memory=MEMORY,
        memory_bytes=board.memory_bytes,
        word_bits=board.word_bits,
        sdram_rate=board.sdram_rate,
        start=_start(soc),
    )


def board_parts(config: AcceleratorConfig, board: Board, clock_hz: int) -> Parts:
    """The SoC with the board's pins, PLL and SDRAM PHY.

    Raises
    ------
    ConfigError, ValueError
        If core, converter or bridge cannot be built, or the clock does not give the line's rate.
    """
    target = _litex("litex_boards.targets.radiona_ulx3s")
    platforms = _litex("litex_boards.platforms.radiona_ulx3s")
    _count_anew()
    divisor = divisor_of(clock_hz, board.baud)
    silence = round(SILENCE_S * clock_hz)
    shell = _shell(config, board, divisor, silence)
    platform = platforms.Platform(device=board.device, toolchain="trellis")
    crg = target._CRG(platform, clock_hz, sdram_rate=f"1:{board.sdram_rate}")
    soc = _soc(platform, crg, board, clock_hz, shell)
    soc.finalize()
    output = platform.get_verilog(soc, name=board.name)
    description = _description(config, board, clock_hz, board.baud, silence, soc)
    return Parts(board.name, _text(output), _constraints(platform, output), shell, description)


def _constraints(platform: Any, output: Any) -> str:
    """LPF: sites and standards of the pins, and the clock that comes from outside."""
    named, commands = platform.resolve_signals(output.ns)
    lines = ["BLOCK RESETPATHS;", "BLOCK ASYNCPATHS;"]
    for signal, pins, others, resource in named:
        for number, pin in enumerate(pins):
            name = f"{signal}[{number}]" if len(pins) > 1 else signal
            lines.append(platform.toolchain._format_lpf(name, pin, others, resource))
    lines.append('FREQUENCY PORT "clk25" 25 MHz;')
    return "\n".join([*lines, *commands, ""])


def simulated_parts(config: AcceleratorConfig, board: Board) -> Parts:
    """The SoC with plain pads, clocks from outside, and a fast line.

    Pads: sys_clk, sys2x_clk (rate 1:2), sys_rst, serial_rx, serial_tx, sdram_*; and the strobes of
    the core's units, units_trace_issue and units_trace_done.
    """
    generic = _litex("litex.build.generic_platform")
    sim = _litex("litex.build.sim.platform")
    migen = _litex("migen")
    shell = _shell(config, board, SIMULATED_DIVISOR, SIMULATED_SILENCE)
    pins, part = generic.Pins, generic.Subsignal
    pads = [
        ("sys_clk", 0, pins(1)),
        ("sys2x_clk", 0, pins(1)),
        ("sys_rst", 0, pins(1)),
        ("serial", 0, part("rx", pins(1)), part("tx", pins(1))),
        (
            "sdram",
            0,
            *(part(name, pins(bits)) for name, bits in (("a", 13), ("ba", 2), ("dq", board.dq))),
            *(part(name, pins(1)) for name in ("we_n", "ras_n", "cas_n", "cs_n", "cke")),
            part("dm", pins(board.dq // 8)),
        ),
        ("units", 0, *(part(name, pins(len(getattr(shell, name)))) for name in shell.TRACE)),
    ]
    platform = sim.SimPlatform("SIM", pads)
    crg = migen.Module()
    crg.clock_domains.cd_sys = migen.ClockDomain("sys")
    crg.comb += crg.cd_sys.clk.eq(platform.request("sys_clk"))
    crg.comb += crg.cd_sys.rst.eq(platform.request("sys_rst"))
    if board.sdram_rate == 2:
        crg.clock_domains.cd_sys2x = migen.ClockDomain("sys2x", reset_less=True)
        crg.comb += crg.cd_sys2x.clk.eq(platform.request("sys2x_clk"))
    soc = _soc(platform, crg, board, board.clock_hz, shell, platform.request("units"))
    soc.finalize()
    output = platform.get_verilog(soc, name="soc")
    baud = board.clock_hz / SIMULATED_DIVISOR
    description = _description(config, board, board.clock_hz, baud, SIMULATED_SILENCE, soc)
    return Parts("soc", _text(output), "", shell, description)
