"""Exact division of wrapped multiples of L, the scale of an output transform."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.timing import DIVISION_LATENCY
from hw.arch.winograd import ALGORITHMS, Algorithm, Division
from hw.compute.parts.multiplier import NATIVE
from hw.compute.parts.select import chosen

__all__ = ["ExactDivision", "supported"]

GROUPS = 4
"""Registers that hold the inverse, one behind the other, each for some of the lanes."""


def supported(algorithm: Algorithm, nested: bool) -> bool:
    """Whether the circuit has an algorithm: along one direction, or nested but for the widest."""
    if algorithm.temporal and algorithm.spatial:
        return nested and (algorithm.temporal, algorithm.spatial) != (2, 2)
    return bool(algorithm.temporal or algorithm.spatial)


class ExactDivision(wiring.Component):
    """o = i / L, where i is a multiple of L known modulo 2^bits (winograd.Division).

    L is 2^v times 1, 3 or 9. The value is multiplied by the inverse of the odd part modulo 2^bits,
    in three native multipliers; the shift by v comes last, and being arithmetic it extends the
    sign as well.

    Handshake: none, one vector per cycle.
    Latency: LATENCY cycles.

    Parameters
    ----------
    lanes: values per cycle.
    bits: of a value, 19 to 36.
    nested: nested algorithms occur.

    Members
    -------
    transform_t, transform_s: as in the instruction; stable from GROUPS cycles before the first
        value on, while values are under way.
    clear: forget what came in.
    i_valid, i, o_valid, o: the values.

    Tested range: tests/hw/compute/drain/test_output_transform.py; proved at 23 bits for every
    scale, tests/formal/test_division.py.
    """

    LATENCY = DIVISION_LATENCY

    def __init__(self, lanes: int, bits: int, nested: bool):
        if not NATIVE < bits <= 2 * NATIVE:
            raise ValueError(f"bits must be {NATIVE + 1}..{2 * NATIVE}, not {bits}")
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
        m.d.sync += line.eq(Mux(self.clear, 0, Cat(self.i_valid, line)[: self.LATENCY]))
        m.d.comb += self.o_valid.eq(line[-1])
        divisions = {a: Division.by(a.scale, self.bits) for a in ALGORITHMS if self._has(a)}
        odd = {a: a.scale >> division.shift for a, division in divisions.items()}
        # Two sets of shifts, without and with an odd part, each with its own register: the one
        # that is not in use stays at zero, so that an OR chooses between them.
        sets = [
            sorted({d.shift for a, d in divisions.items() if (odd[a] > 1) == number})
            for number in range(2)
        ]
        inverse = Signal(self.bits, reset_less=True)
        with_odd = Signal(reset_less=True)
        index = Signal(range(max(map(len, sets))), reset_less=True)
        for algorithm, division in divisions.items():
            wanted = (self.transform_t == algorithm.temporal) & (
                self.transform_s == algorithm.spatial
            )
            number = odd[algorithm] > 1
            with m.If(wanted):
                m.d.sync += [
                    inverse.eq(pow(odd[algorithm], -1, 1 << self.bits)),
                    with_odd.eq(number),
                    index.eq(sets[number].index(division.shift)),
                ]
        groups = min(self.lanes, GROUPS)
        for lane in range(self.lanes):
            if lane and lane % (self.lanes // groups) == 0:
                # Passed on instead of fanned out: it is stable long before it is needed.
                passed = Signal(self.bits, name=f"inverse{lane}", reset_less=True)
                m.d.sync += passed.eq(inverse)
                inverse = passed
            stages = Cat(self.i_valid, line)
            product = self._multiply(m, stages, self.i[lane], inverse, f"{lane}")
            # cycle 4
            shifted = [
                Signal(signed(self.bits), name=f"shifted{lane}_{number}", reset_less=True)
                for number in range(2)
            ]
            with m.If(stages[3]):
                for number, (register, shifts) in enumerate(zip(shifted, sets, strict=True)):
                    m.d.sync += register.eq(chosen([product >> shift for shift in shifts], index))
                    with m.If(with_odd != number):
                        m.d.sync += register.eq(0)
            m.d.comb += self.o[lane].eq(shifted[0] | shifted[1])
        return m

    def _has(self, algorithm: Algorithm) -> bool:
        return supported(algorithm, self.nested)

    def _multiply(self, m: Module, stages: Value, value: Value, inverse: Value, name: str) -> Value:
        """value·inverse modulo 2^bits: cycles 1 to 3."""
        upper = self.bits - NATIVE

        def register(what: str, width: int) -> Signal:
            return Signal(width, name=f"{what}{name}", reset_less=True)

        low, held = register("low", 2 * NATIVE), register("held", 2 * NATIVE)
        right, left = register("right", upper), register("left", upper)
        middle, product = register("middle", upper), register("product", self.bits)
        with m.If(stages[0]):
            m.d.sync += [
                low.eq(value[:NATIVE] * inverse[:NATIVE]),
                right.eq(value[:NATIVE] * inverse[NATIVE:]),
                left.eq(value[NATIVE:] * inverse[:NATIVE]),
            ]
        with m.If(stages[1]):
            m.d.sync += [middle.eq(left + right), held.eq(low)]
        with m.If(stages[2]):
            m.d.sync += product.eq(Cat(held[:NATIVE], held[NATIVE:] + middle))
        return product.as_signed()
