"""A Verilog module around the core for the block designs of other vendors' tools.

It has what their AXI interfaces expect beside the core's own ports: identifiers, lock, quality of
service and region of the master, protection and a whole address of the slave, and a reset that is
active low. Attributes tell Vivado which signals belong together; other tools do not read them.
"""

from hw.control.registers import ADDRESS_BITS

__all__ = ["vendor_wrapper"]

ATTRIBUTE = '  (* X_INTERFACE_INFO = "xilinx.com:{}" *)\n'
BURST = "len:8 size:3 burst:2 cache:4 prot:3"
MASTER = {
    "aw": f"> addr:32 {BURST} valid ready",
    "w": "> data:D strb:S last valid ready",
    "b": "< resp:2 valid ready",
    "ar": f"> addr:32 {BURST} valid ready",
    "r": "< data:D resp:2 last valid ready",
}
"""Channels of the core's master: from (>) or to it (<), and its fields with their bits."""
ADDED = {"aw": "lock qos:4 region:4", "ar": "lock qos:4 region:4"}
SLAVE = {
    "aw": "< addr:32 prot:3 valid ready",
    "w": "< data:32 strb:4 valid ready",
    "b": "> resp:2 valid ready",
    "ar": "< addr:32 prot:3 valid ready",
    "r": "> data:32 resp:2 valid ready",
}


def _fields(text: str, data: int) -> list[tuple[str, int]]:
    widths = {"D": data, "S": data // 8}
    found = (part.partition(":") for part in text.split())
    return [(name, widths.get(bits) or int(bits or 1)) for name, _, bits in found]


def _port(prefix: str, name: str, width: int, out: bool, interface: str) -> str:
    bits = f"[{width - 1}:0] " if width > 1 else ""
    kind = f"{interface} {name.upper()}"
    return f"{ATTRIBUTE.format(kind)}  {'output' if out else 'input'} {bits}{prefix}{name}"


def vendor_wrapper(core: str, name: str, data: int) -> str:
    """Verilog of a module `name` around the module `core`, whose memory port has `data` bits.

    Ports
    -----
    aclk, aresetn: clock, and reset, active low. s_axi_*: AXI4-Lite, 32-bit addresses.
    m_axi_*: AXI4 with identifiers of one bit that are always 0. irq.
    """
    together = "ASSOCIATED_BUSIF s_axi:m_axi, ASSOCIATED_RESET aresetn"
    clock = f'  (* X_INTERFACE_PARAMETER = "{together}" *)\n  input aclk'
    ports = [
        ATTRIBUTE.format("signal:clock:1.0 aclk CLK") + clock,
        ATTRIBUTE.format("signal:reset:1.0 aresetn RST") + "  input aresetn",
        ATTRIBUTE.format("signal:interrupt:1.0 irq INTERRUPT") + "  output irq",
    ]
    joins, ties, unused = [".clk(aclk)", ".rst(~aresetn)", ".irq(irq)"], [], []
    for prefix, channels in (("s_axi_", SLAVE), ("m_axi_", MASTER)):
        interface = f"interface:aximm:1.0 {prefix[:-1]}"
        for channel, text in channels.items():
            out = text[0] == ">"
            for field, width in _fields(text[2:], data):
                ports.append(
                    _port(prefix, channel + field, width, out != (field == "ready"), interface)
                )
                signal = f"{prefix}{channel}{field}"
                if prefix == "s_axi_" and field == "prot":
                    unused.append(signal)
                elif prefix == "s_axi_" and field == "addr":
                    joins.append(f".{signal}({signal}[{ADDRESS_BITS - 1}:0])")
                    unused.append(f"{signal}[31:{ADDRESS_BITS}]")
                else:
                    joins.append(f".{signal}({signal})")
            if prefix == "s_axi_":
                continue
            more = _fields(ADDED.get(channel, ""), data)
            more += [("id", 1)] if channel != "w" else []
            for field, width in more:
                ports.append(_port(prefix, channel + field, width, out, interface))
                signal = f"{prefix}{channel}{field}"
                if out:
                    ties.append(f"  assign {signal} = {width}'d0;")
                else:
                    unused.append(signal)
    joins += [".trace_issue(trace_issue)", ".trace_done(trace_done)"]
    unused += ["trace_issue", "trace_done"]
    return "\n".join(
        [
            f"module {name} (",
            ",\n".join(ports),
            ");",
            "  wire [4:0] trace_issue, trace_done;",
            *ties,
            "  // What a bus has and the core does not look at.",
            f"  wire unused = &{{1'b0, {', '.join(unused)}}};",
            f"  {core} core (\n    " + ",\n    ".join(joins) + "\n  );",
            "endmodule\n",
        ]
    )
