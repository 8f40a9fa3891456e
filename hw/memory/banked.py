"""The weight scratchpad with the feature attention: banks, each with one writer at a time."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import LOCAL_BITS, ErrorCode
from hw.common.ports import WriteSignature, weight_read, weight_write
from hw.memory.linear import LinearMemory

__all__ = ["BankedWeights"]


class BankedWeights(wiring.Component):
    """`config.weight_banks` linear memories one behind the other, read as one.

    LOAD and VECTOR may write in one cycle, to different banks. To the same bank is not arbitrated
    but reported: BANK_CONFLICT, and what is written has no defined value. A beat of VECTOR beyond
    the last one gives ADDRESS and is not written; LOAD has checked its own.

    Latency: as `LinearMemory`; the choice of the bank lies behind the memories' outputs. Errors
    come one cycle after the access.

    Parameters
    ----------
    config: the accelerator, with the feature attention.

    Members
    -------
    read: In(weight_read), address in groups. load: In, beats of LOAD. vector: In(weight_write).
    error: ErrorCode.ADDRESS for a read beyond the last group, for one cycle, else 0.
    vector_error: ADDRESS or BANK_CONFLICT of VECTOR's write, for one cycle, else 0.

    Tested range: tests/hw/memory/test_banked.py.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "read": In(weight_read(config)),
                "load": In(WriteSignature(LOCAL_BITS, 8 * config.port.bytes)),
                "vector": In(weight_write(config)),
                "error": Out(6),
                "vector_error": Out(6),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        banks, beats = config.weight_banks, config.weight_group_beats
        group_bits = exact_log2(config.weight_bank_beats // beats)
        beat_bits, bank_bits = exact_log2(config.weight_bank_beats), exact_log2(banks)
        bank = self.read.address[group_bits : group_bits + bank_bits]
        outside = self.read.address[group_bits + bank_bits :].any()
        beyond = self.vector.address[beat_bits + bank_bits :].any()
        parts, loads, vectors = [], [], []
        for b in range(banks):
            m.submodules[f"bank{b}"] = part = LinearMemory(
                beat_bits=8 * config.port.bytes,
                beats_per_row=beats,
                rows=config.weight_bank_beats // beats,
            )
            load, vector = (
                port.enable & (port.address[beat_bits : beat_bits + bank_bits] == b)
                for port in (self.load, self.vector)
            )
            # What is written is chosen by VECTOR's word alone, a register's: whether a beat of
            # LOAD fits its space is known late, and may choose a few enables only.
            own = vector & ~beyond
            m.d.comb += [
                part.read.enable.eq(self.read.enable & ~outside & (bank == b)),
                part.read.address.eq(self.read.address[:group_bits]),
                part.write.enable.eq(load | own),
                part.write.address.eq(
                    Mux(own, self.vector.address[:beat_bits], self.load.address[:beat_bits])
                ),
                part.write.data.eq(Mux(own, self.vector.data, self.load.data)),
            ]
            parts.append(part)
            loads.append(load)
            vectors.append(vector)
        chosen = Signal(bank_bits, reset_less=True)
        with m.If(self.read.enable):
            m.d.sync += chosen.eq(bank)
        with m.Switch(chosen):
            for b, part in enumerate(parts):
                with m.Case(b):
                    m.d.comb += self.read.data.eq(part.read.data)
        conflict: Value = (Cat(*loads) & Cat(*vectors)).any()
        m.d.sync += [self.error.eq(ErrorCode.NONE), self.vector_error.eq(ErrorCode.NONE)]
        with m.If(self.read.enable & outside):
            m.d.sync += self.error.eq(ErrorCode.ADDRESS)
        with m.If(self.vector.enable & beyond):
            m.d.sync += self.vector_error.eq(ErrorCode.ADDRESS)
        with m.Elif(conflict):
            m.d.sync += self.vector_error.eq(ErrorCode.BANK_CONFLICT)
        return m
