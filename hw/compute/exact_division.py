"""Exact division of wrapped multiples of L, the scale of an output transform, by additions."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.timing import DIVISION_LATENCY
from hw.arch.winograd import ALGORITHMS, Algorithm, Division

__all__ = ["ExactDivision", "supported"]


def supported(algorithm: Algorithm, nested: bool) -> bool:
    """Whether the circuit has an algorithm: along one direction, or nested but for the widest."""
    if algorithm.temporal and algorithm.spatial:
        return nested and (algorithm.temporal, algorithm.spatial) != (2, 2)
    return bool(algorithm.temporal or algorithm.spatial)


class ExactDivision(wiring.Component):
    """o = i / L, where i is a multiple of L known modulo 2^bits (winograd.Division).

    L is 2^v·3^k with k = 0, 1, 2. The inverses of 3 and 9 modulo 2^36 are −21·q and −7·q with
    q = (1 + 2^6)(1 + 2^12)(1 + 2^24): five additions, the addends of which are held at zero where
    k asks for less. The shift by v comes last; being arithmetic, it extends the sign as well.

    Handshake: none, one vector per cycle.
    Latency: LATENCY cycles.

    Parameters
    ----------
    lanes: values per cycle.
    bits: of a value, 25 to 48.
    nested: nested algorithms occur.

    Members
    -------
    transform_t, transform_s: as in the instruction; stable while values are under way.
    clear: forget what came in.
    i_valid, i, o_valid, o: the values.

    Tested range: tests/hw/compute/test_output_transform.py.
    """

    LATENCY = DIVISION_LATENCY

    def __init__(self, lanes: int, bits: int, nested: bool):
        if not 24 < bits <= 48:
            raise ValueError(f"bits must be 25..48, not {bits}")
        self.lanes, self.bits, self.nested = lanes, bits, nested
        super().__init__(
            {
                "transform_t": In(2),
                "transform_s": In(2),
                "clear": In(1),
                "i_valid": In(1),
                "i": In(signed(bits)).array(lanes),
                "o_valid": Out(1),
                "o": Out(signed(bits)).array(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(self.LATENCY)
        m.d.sync += line.eq(Mux(self.clear, 0, (line << 1) | self.i_valid))
        m.d.comb += self.o_valid.eq(line[-1])
        # Powers of three in L, and the shift as one bit per value that occurs.
        powers, shifts = self._selection(m)
        for lane in range(self.lanes):
            value = self._inverse(m, self.i[lane], powers, f"{lane}")
            with m.Switch(shifts):
                for index, shift in enumerate(self._shifts()):
                    with m.Case(index):
                        m.d.sync += self.o[lane].eq(value >> shift)
        return m

    def _algorithms(self) -> list[Algorithm]:
        return [a for a in ALGORITHMS if supported(a, self.nested)]

    def _shifts(self) -> list[int]:
        return sorted({Division.by(a.scale, self.bits).shift for a in self._algorithms()})

    def _selection(self, m: Module) -> tuple[Signal, Signal]:
        """Registered: k = 0, 1, 2, and the index of the shift."""
        shifts = self._shifts()
        powers, index = Signal(2, reset_less=True), Signal(range(len(shifts)), reset_less=True)
        for algorithm in self._algorithms():
            division = Division.by(algorithm.scale, self.bits)
            odd = algorithm.scale >> division.shift
            chosen = (self.transform_t == algorithm.temporal) & (
                self.transform_s == algorithm.spatial
            )
            with m.If(chosen):
                m.d.sync += [
                    powers.eq({1: 0, 3: 1, 9: 2}[odd]),
                    index.eq(shifts.index(division.shift)),
                ]
        return powers, index

    def _inverse(self, m: Module, value: Value, powers: Signal, name: str) -> Signal:
        """Six stages: value·3^−k modulo 2^bits."""
        none, three = powers == 0, powers == 1
        # Factors 1 − 2^3 (and 1 + 2 for 3), then q.
        result = self._stage(m, value, 3, none, f"value{name}")
        result = self._stage(m, result[0] - (result[1] << 3), 1, ~three, f"seven{name}")
        for width, following in ((1, 6), (6, 12), (12, 24)):
            total = result[0] + (result[1] << width)
            result = self._stage(m, total, following, none, f"factor{following}_{name}")
        total = result[0] + (result[1] << 24)
        last = Signal(signed(self.bits), name=f"quotient{name}", reset_less=True)
        m.d.sync += last.eq(total)
        return last

    def _stage(
        self, m: Module, value: Value, shift: int, without: Value, name: str
    ) -> tuple[Signal, Signal]:
        """A value and the part of it that, shifted, the next stage adds."""
        whole = Signal(signed(self.bits), name=name, reset_less=True)
        part = Signal(self.bits - shift, name=f"{name}_part", reset_less=True)
        m.d.sync += [whole.eq(value), part.eq(value)]
        with m.If(without):
            m.d.sync += part.eq(0)
        return whole, part
