"""The AXI4-Lite register port: bus handshakes, configuration, status and counters."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.registers import (
    ADDRESS_BITS,
    COUNTER_BASE,
    COUNTERS,
    DEFAULT_WATCHDOG,
    DRAM_ALIGNMENT,
    ID_VALUE,
    VERSION_VALUE,
    Control,
    Register,
)
from hw.common.register_copy import RegisterCopy
from hw.control.fetch import INDEX_BITS

__all__ = ["LiteSignature", "Registers", "settings_layout", "status_layout"]

OKAY, SLAVE_ERROR = 0, 2

READ_LATENCY = 4
"""Cycles from a read's address handshake to its answer: address, selection in two, answer."""
CLEARED_TOGETHER = 4
"""Counters that one copy of `clear` resets."""


class LiteSignature(wiring.Signature):
    """AXI4-Lite, 32 bits wide, seen from the slave; names are the standard's."""

    def __init__(self) -> None:
        super().__init__(
            {
                "awvalid": In(1),
                "awready": Out(1),
                "awaddr": In(ADDRESS_BITS),
                "wvalid": In(1),
                "wready": Out(1),
                "wdata": In(32),
                "wstrb": In(4),
                "bvalid": Out(1),
                "bready": In(1),
                "bresp": Out(2),
                "arvalid": In(1),
                "arready": Out(1),
                "araddr": In(ADDRESS_BITS),
                "rvalid": Out(1),
                "rready": In(1),
                "rdata": Out(32),
                "rresp": Out(2),
            }
        )


def settings_layout() -> data.StructLayout:
    """What the host sets before a start."""
    return data.StructLayout(
        {
            "program_base": 32,
            "program_length": INDEX_BITS,
            "store_base": 32,
            "store_limit": 32,
            "watchdog": 32,
            "dram_base": 32,
            "irq_enable": 1,
        }
    )


def status_layout() -> data.StructLayout:
    """What the core reports: bits of Register.STATUS, then the error registers."""
    return data.StructLayout(
        {
            "busy": 1,
            "done": 1,
            "error": 1,
            "irq": 1,
            "error_code": 6,
            "error_unit": 3,
            "error_pc": INDEX_BITS,
            "halt_code": 4,
        }
    )


class Registers(wiring.Component):
    """Slave side of hw/arch/registers.py.

    A write is taken in a cycle t in which address and data are both there and no write is in hand;
    its strobes are high in t + 1, its setting and its response are there in t + 2. A read that is
    taken in t answers in t + READ_LATENCY; the next one is taken after that. Byte strobes are
    honoured. An offset without a register, a write to a register that only reads, and a write to a
    setting while the core is busy answer SLVERR and change nothing.

    Counters are 64 bits wide. Their events are registered once before they count.

    Members
    -------
    bus: In(LiteSignature).
    settings: Out(settings_layout). status: In(status_layout).
    start, abort, clear_irq: Out, strobes.
    clear: In; where it is high in cycle t counters are zero in t + 2 and count from t + 1 on.
    events: In, one bit per name of `COUNTERS`, in that order.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "bus": Out(LiteSignature()),
                "settings": Out(settings_layout(), init={"watchdog": DEFAULT_WATCHDOG}),
                "status": In(status_layout()),
                "start": Out(1),
                "abort": Out(1),
                "clear_irq": Out(1),
                "clear": In(1),
                "events": In(len(COUNTERS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._write(m)
        self._read(m, self._counters(m))
        return m

    def _write(self, m: Module) -> None:
        bus = self.bus
        settings = self.settings
        held = Signal()
        address = Signal.like(bus.awaddr, reset_less=True)
        self._data = Signal.like(bus.wdata, reset_less=True)
        self._strobes = Signal.like(bus.wstrb, reset_less=True)
        taken = Signal()
        m.d.comb += [
            taken.eq(bus.awvalid & bus.wvalid & ~held & ~bus.bvalid),
            bus.awready.eq(taken),
            bus.wready.eq(taken),
        ]
        m.d.sync += held.eq(taken)
        with m.If(~held):
            m.d.sync += [
                address.eq(bus.awaddr),
                self._data.eq(bus.wdata),
                self._strobes.eq(bus.wstrb),
            ]
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(held):
            m.d.sync += [bus.bvalid.eq(1), bus.bresp.eq(SLAVE_ERROR)]
            with m.Switch(address):
                with m.Case(Register.CONTROL):
                    command = Mux(self._strobes[0], self._data, 0)
                    m.d.sync += bus.bresp.eq(OKAY)
                    m.d.comb += [
                        self.start.eq((command & Control.START).any() & ~self.status.busy),
                        self.abort.eq((command & Control.ABORT).any()),
                        self.clear_irq.eq((command & Control.CLEAR_IRQ).any()),
                    ]
                with m.Case(Register.IRQ_ENABLE):
                    m.d.sync += [
                        bus.bresp.eq(OKAY),
                        settings.irq_enable.eq(self._merged(settings.irq_enable)),
                    ]
                for register, field in _SETTINGS.items():
                    with m.Case(register), m.If(~self.status.busy):
                        m.d.sync += [
                            bus.bresp.eq(OKAY),
                            settings[field].eq(self._merged(settings[field]) & _KEPT[field]),
                        ]

    def _merged(self, old: Value) -> Value:
        """The register's value after a write with byte strobes."""
        wide = Cat(old, Const(0, 32))[:32]
        return Cat(
            Mux(self._strobes[k], self._data.word_select(k, 8), wide.word_select(k, 8))
            for k in range(4)
        )

    def _counters(self, m: Module) -> list[Signal]:
        events = Signal(len(COUNTERS))
        m.d.sync += events.eq(self.events)
        counters = []
        for k, name in enumerate(COUNTERS):
            if k % CLEARED_TOGETHER == 0:
                m.submodules[f"clear{k // CLEARED_TOGETHER}"] = clear = RegisterCopy()
                m.d.comb += clear.i.eq(self.clear)
            counter = Signal(64, name=f"counter_{name}")
            with m.If(events[k]):
                m.d.sync += counter.eq(counter + 1)
            with m.If(clear.o):
                m.d.sync += counter.eq(0)
            counters.append(counter)
        with m.If(self.clear):
            m.d.sync += events.eq(0)
        return counters

    def _read(self, m: Module, counters: list[Signal]) -> None:
        bus = self.bus
        status = self.status
        settings = self.settings
        values: dict[int, Value] = {
            Register.ID: Const(ID_VALUE, 32),
            Register.VERSION: Const(VERSION_VALUE, 32),
            Register.FINGERPRINT_LOW: Const(self._config.fingerprint & 0xFFFFFFFF, 32),
            Register.FINGERPRINT_HIGH: Const(self._config.fingerprint >> 32, 32),
            Register.FEATURES: Const(self._config.feature_mask, 32),
            Register.CONTROL: Const(0, 32),
            Register.STATUS: Cat(status.busy, status.done, status.error, status.irq),
            Register.IRQ_ENABLE: settings.irq_enable,
            Register.ERROR_CODE: status.error_code,
            Register.ERROR_UNIT: status.error_unit,
            Register.ERROR_PC: status.error_pc,
            Register.HALT_CODE: status.halt_code,
            **{register: settings[field] for register, field in _SETTINGS.items()},
        }
        # Counters and the other registers meet in the answer.
        steps = Signal(READ_LATENCY - 1)
        taken = bus.arvalid & bus.arready
        m.d.comb += bus.arready.eq(~steps.any() & ~bus.rvalid)
        m.d.sync += steps.eq(Cat(taken, steps[:-1]))
        address = Signal.like(bus.araddr, reset_less=True)
        with m.If(bus.arready):
            m.d.sync += address.eq(bus.araddr)

        value = Signal(32, reset_less=True)
        known = Signal(reset_less=True)
        m.d.sync += [value.eq(0), known.eq(0)]
        with m.Switch(address):
            for offset, content in values.items():
                with m.Case(offset):
                    m.d.sync += [value.eq(content), known.eq(1)]

        # Words of counters are chosen in groups of eight, then the group.
        words = [word for counter in counters for word in (counter[:32], counter[32:])]
        number = (address - COUNTER_BASE)[2:]
        chosen = []
        for low in range(0, len(words), 8):
            group = Signal(32, name=f"words{low}", reset_less=True)
            m.d.sync += group.eq(Array(words[low : low + 8])[number[:3]])
            chosen.append(group)
        word = Signal(32, reset_less=True)
        counted = Signal(reset_less=True)
        m.d.sync += [
            word.eq(Array(chosen)[number[3:6]]),
            counted.eq(
                (address >= COUNTER_BASE) & (number < len(words)) & (address[:2] == 0),
            ),
        ]
        with m.If(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(steps[-1]):
            m.d.sync += [
                bus.rvalid.eq(1),
                bus.rdata.eq(Mux(counted, word, value)),
                bus.rresp.eq(Mux(counted | known, OKAY, SLAVE_ERROR)),
            ]


_SETTINGS = {
    Register.PROGRAM_BASE: "program_base",
    Register.PROGRAM_LENGTH: "program_length",
    Register.STORE_BASE: "store_base",
    Register.STORE_LIMIT: "store_limit",
    Register.WATCHDOG: "watchdog",
    Register.DRAM_BASE: "dram_base",
}
_KEPT = dict.fromkeys(_SETTINGS.values(), (1 << 32) - 1) | {"dram_base": (1 << 32) - DRAM_ALIGNMENT}
"""Bits of a setting that a write changes; the others are zero."""
assert len(COUNTERS) <= 32  # `_read` selects one of at most 64 words
assert DEFAULT_WATCHDOG < 1 << 32
