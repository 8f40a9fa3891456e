"""The activation scratchpad: banks with one read and one write port, many clients, no arbiter."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from amaranth.hdl import Const, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ErrorCode
from hw.common.ports import NO_COLLISION, activation_read, activation_write

__all__ = ["ActivationScratchpad"]

Client: TypeAlias = tuple[str, int]


class ActivationScratchpad(wiring.Component):
    """Banks × bank rows of `lane_block` bytes; bank b holds rows b·bank_rows and up.

    Every client has a port of its own and reaches every bank. In one cycle a bank serves one read
    and one write. A second client on the same port of the same bank is not arbitrated but
    reported: `error` is then BANK_CONFLICT, and the access has no defined result. An address
    beyond the last row gives ADDRESS and touches nothing.

    Latency: read data `timing.ACTIVATION_READ_LATENCY` (4) cycles after `enable`, held until the
    client's next read: a register for the bank's address (the way to a bank's block RAMs takes a
    cycle), the bank's output and a register behind it, a register for the client's data. Writes
    pass a register in front of the choice of the bank; a write is seen by reads of later cycles. An
    error comes two cycles after the access that caused it.

    Parameters
    ----------
    config: the accelerator.
    readers, writers: (port name, number reported in `error_unit`) of each client.

    Members
    -------
    <reader>: In(activation_read), <writer>: In(activation_write).
    error: ErrorCode, 0 for none. Where several clients err at once, the last of them is named,
        an address before a conflict.
    error_unit: number of the client.
    """

    def __init__(
        self, config: AcceleratorConfig, readers: Sequence[Client], writers: Sequence[Client]
    ):
        self._config = config
        self._readers = tuple(readers)
        self._writers = tuple(writers)
        super().__init__(
            {
                **{name: In(activation_read(config)) for name, _ in readers},
                **{name: In(activation_write(config)) for name, _ in writers},
                "error": Out(6),
                "error_unit": Out(3),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sizes = self._config.memory
        index_bits = exact_log2(sizes.activation_bank_rows)
        bank_bits = exact_log2(sizes.activation_banks)

        selects = {
            name: self._select(m, name, index_bits, bank_bits)
            for name, _ in (*self._readers, *self._writers)
        }
        written = [self._write_stage(m, name, selects, index_bits) for name, _ in self._writers]
        outputs = []
        for b in range(sizes.activation_banks):
            m.submodules[f"bank{b}"] = bank = memory.Memory(
                shape=8 * self._config.lane_block,
                depth=sizes.activation_bank_rows,
                init=[],
                attrs=NO_COLLISION,
            )
            read = bank.read_port()
            write = bank.write_port()
            output = Signal.like(read.data, name=f"bank{b}_output", reset_less=True)
            m.d.sync += output.eq(read.data)
            outputs.append(output)
            reads = [(selects[name][b], getattr(self, name)) for name, _ in self._readers]
            address = Signal(index_bits, name=f"bank{b}_address", reset_less=True)
            m.d.sync += [
                read.en.eq(_any(select for select, _ in reads)),
                address.eq(_one_hot((s, p.address[:index_bits]) for s, p in reads)),
            ]
            m.d.comb += [
                read.addr.eq(address),
                write.en.eq(_any(select[b] for select, _, _ in written)),
                write.addr.eq(_one_hot((select[b], row) for select, row, _ in written)),
                write.data.eq(_one_hot((select[b], value) for select, _, value in written)),
            ]
        self._errors(m, selects)
        for name, _ in self._readers:
            self._read_mux(m, name, outputs, index_bits, bank_bits)
        return m

    def _select(self, m: Module, name: str, index_bits: int, bank_bits: int) -> Signal:
        """A bit per bank: the client accesses it in this cycle."""
        port = getattr(self, name)
        bank = port.address[index_bits : index_bits + bank_bits]
        outside = port.address[index_bits + bank_bits :].any()
        select = Signal(1 << bank_bits, name=f"{name}_select")
        m.d.comb += [select[b].eq(port.enable & ~outside & (bank == b)) for b in range(len(select))]
        return select

    def _write_stage(
        self, m: Module, name: str, selects: dict[str, Signal], index_bits: int
    ) -> tuple[Signal, Signal, Signal]:
        """Registers between a writer and the banks: bank selection, row, data."""
        port = getattr(self, name)
        select = Signal.like(selects[name], name=f"{name}_selected")
        row = Signal(index_bits, name=f"{name}_row", reset_less=True)
        value = Signal.like(port.data, name=f"{name}_value", reset_less=True)
        m.d.sync += [
            select.eq(selects[name]),
            row.eq(port.address[:index_bits]),
            value.eq(port.data),
        ]
        selects[name] = select
        return select, row, value

    def _errors(self, m: Module, selects: dict[str, Signal]) -> None:
        """Two cycles after the access; later assignments win."""
        rows = self._config.memory.activation_rows
        m.d.sync += self.error.eq(ErrorCode.NONE)
        # The selections of writers are a cycle old already.
        for clients, domain in ((self._readers, "sync"), (self._writers, "comb")):
            for k, (name, unit) in enumerate(clients[1:], 1):
                others = _any(selects[other] for other, _ in clients[:k])
                conflict = Signal(name=f"{name}_conflict")
                m.d[domain] += conflict.eq((selects[name] & others).any())
                with m.If(conflict):
                    m.d.sync += [self.error.eq(ErrorCode.BANK_CONFLICT), self.error_unit.eq(unit)]
        for name, unit in (*self._readers, *self._writers):
            port = getattr(self, name)
            outside = Signal(name=f"{name}_outside")
            m.d.sync += outside.eq(port.enable & (port.address >= rows))
            with m.If(outside):
                m.d.sync += [self.error.eq(ErrorCode.ADDRESS), self.error_unit.eq(unit)]

    def _read_mux(
        self, m: Module, name: str, outputs: list[Signal], index_bits: int, bank_bits: int
    ) -> None:
        port = getattr(self, name)
        # Cycle 1: the bank's address register; 2: its output; 3: the register behind it. Remember
        # which bank it was.
        valid: Value = port.enable
        bank: Value = port.address[index_bits : index_bits + bank_bits]
        for cycle in (1, 2, 3):
            valid_then = Signal(name=f"{name}_valid{cycle}")
            bank_then = Signal(bank_bits, name=f"{name}_bank{cycle}", reset_less=True)
            m.d.sync += [valid_then.eq(valid), bank_then.eq(bank)]
            valid, bank = valid_then, bank_then
        # Cycle 4: the client's own register, written only when it asked.
        data = Signal.like(port.data, name=f"{name}_data", reset_less=True)
        with m.If(valid), m.Switch(bank):
            for b, output in enumerate(outputs):
                with m.Case(b):
                    m.d.sync += data.eq(output)
        m.d.comb += port.data.eq(data)


def _any(bits: Iterable[ValueLike]) -> Value:
    result: Value = Const(0, 1)
    for bit in bits:
        result = result | bit
    return result


def _one_hot(choices: Iterable[tuple[ValueLike, ValueLike]]) -> Value:
    """Or of the selected value; with one select at most this is a multiplexer without priority."""
    result: Value = Const(0)
    for select, value in choices:
        result = result | Mux(select, value, 0)
    return result
