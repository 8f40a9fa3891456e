"""The affine pipeline of one vector lane: w·RA combined with round24(u·RB + K), then a code."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.isa import FIXED_POINT
from hw.arch.timing import AFFINE_LATENCY
from hw.compute.parts.multiplier import WideMultiplier

__all__ = ["AFFINE_PARAMETERS", "AffineLane", "Combine"]

SIGNIFICAND = 24
SUM_BITS = 64
MAGNITUDE_BITS = SUM_BITS - 1
DROPPED_BITS = MAGNITUDE_BITS - SIGNIFICAND
U_BITS = 26
W_BITS = 9


class Combine:
    """How the two terms become one."""

    ADD, MAX, MIN = range(3)


AFFINE_PARAMETERS = data.StructLayout(
    {
        "ra_multiplier": 24,
        "ra_shift": 5,
        "rb_multiplier": 24,
        "rb_shift": 5,
        "k": signed(SUM_BITS),
        "combine": 2,
        "zero_point": signed(9),
        "low": signed(9),
        "high": signed(9),
    }
)
"""Constants of an instruction: RA, RB as multiplier·2^shift and K in units of 2^-44."""


class AffineLane(wiring.Component):
    """clamp(rint(round24(combine(w·RA, round24(u·RB + K)))) + zero_point, low, high).

    Handshake: none; `stages[k]` enables the registers of stage k.
    Latency: AFFINE_LATENCY cycles, one result per cycle.

    Members
    -------
    stages: bit k is high in the cycle in which stage k takes its input.
    u, w: operands.
    parameters: AFFINE_PARAMETERS; stable while values are under way.
    code: result, -256..255.

    Tested range: |u·RB + K| and |w·RA| below 2^62 units of 2^-44,
    tests/hw/compute/vector/test_affine.py.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "stages": In(AFFINE_LATENCY),
                "u": In(signed(U_BITS)),
                "w": In(signed(W_BITS)),
                "parameters": In(AFFINE_PARAMETERS),
                "code": Out(signed(9)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        second = self._second_term(m)
        magnitude, negative = self._round24(m, second, 4, "second")
        first = self._first_term(m)
        combined = self._combine(m, first, magnitude, negative)
        magnitude, negative = self._round24(m, combined, 10, "sum")
        self._finish(m, magnitude, negative)
        return m

    def _register(self, m: Module, stage: int, value: Value, name: str, shape=None) -> Signal:
        register = Signal(value.shape() if shape is None else shape, name=name, reset_less=True)
        with m.If(self.stages[stage]):
            m.d.sync += register.eq(value)
        return register

    def _second_term(self, m: Module) -> Value:
        """Stages 0 to 3: u·RB + K."""
        p = self.parameters
        m.submodules.multiplier = multiplier = WideMultiplier(signed(U_BITS), SIGNIFICAND)
        m.d.comb += [
            multiplier.stages.eq(self.stages[:2]),
            multiplier.a.eq(self.u),
            multiplier.b.eq(p.rb_multiplier),
        ]
        product = multiplier.product
        shifted = self._register(m, 2, product << p.rb_shift, "shifted", signed(SUM_BITS))
        return self._register(m, 3, shifted + p.k, "second", signed(SUM_BITS))

    def _first_term(self, m: Module) -> Value:
        """Stages 0 to 7: w·RA, in step with the other term."""
        w = self.w
        for stage in range(6):
            w = self._register(m, stage, w, f"w{stage}")
        p = self.parameters
        product = self._register(m, 6, w * p.ra_multiplier, "first_product")
        return self._register(m, 7, product << p.ra_shift, "first_shifted", signed(SUM_BITS))

    def _round24(self, m: Module, value: Value, stage: int, name: str) -> tuple[Value, Value]:
        """Four stages: magnitude, its bits to drop, the kept bit above them, rounding in place.

        `dropped` is a thermometer 2^e − 1, e the excess over 24 significant bits. Half to even:
        add half of the last place less one, plus the last kept bit, and clear what is dropped.
        """
        negative = self._register(m, stage, value < 0, f"{name}_negative")
        magnitude = self._register(
            m, stage, Mux(value < 0, -value, value), f"{name}_magnitude", MAGNITUDE_BITS
        )
        thermometer = Cat(magnitude[bit + SIGNIFICAND :].any() for bit in range(DROPPED_BITS))
        dropped = self._register(m, stage + 1, thermometer, f"{name}_dropped", DROPPED_BITS)
        magnitude = self._register(m, stage + 1, magnitude, f"{name}_magnitude1")
        # dropped << 1 without dropped: the one bit above it, or none.
        place = (dropped << 1) & ~Cat(dropped, 0)
        last = (magnitude & place).any()
        magnitude2 = self._register(m, stage + 2, magnitude, f"{name}_magnitude2")
        dropped2 = self._register(m, stage + 2, dropped, f"{name}_dropped2")
        last = self._register(m, stage + 2, last, f"{name}_last")
        rounded = Signal(MAGNITUDE_BITS, name=f"{name}_sum")
        m.d.comb += rounded.eq(magnitude2 + (dropped2 >> 1) + last)
        kept = rounded ^ (rounded & dropped2)
        result = self._register(m, stage + 3, kept, f"{name}_rounded", MAGNITUDE_BITS)
        for later in range(stage + 1, stage + 4):
            negative = self._register(m, later, negative, f"{name}_negative{later}")
        return result, negative

    def _combine(self, m: Module, first: Value, magnitude: Value, negative: Value) -> Value:
        """Stages 8 and 9. A maximum of rounded terms is the rounded maximum.

        The terms are compared in stage 8, before the sign of the second is applied to it; which of
        two equal terms is taken makes no difference.
        """
        second = self._register(
            m, 8, Mux(negative, -magnitude, magnitude), "second_term", signed(SUM_BITS)
        )
        combine = self.parameters.combine
        # first + magnitude >= 0 where negative, else first - magnitude - 1 >= 0
        difference = first + Mux(negative, magnitude, ~Cat(magnitude, 0).as_signed())
        greater = self._register(m, 8, difference >= 0, "greater")
        first = self._register(m, 8, first, "first")
        take_first = greater ^ (combine == Combine.MIN)
        chosen = Mux(combine == Combine.ADD, first + second, Mux(take_first, first, second))
        return self._register(m, 9, chosen, "combined", signed(SUM_BITS))

    def _finish(self, m: Module, magnitude: Value, negative: Value) -> None:
        """Stages 14 to 16: rint, zero point, clamp."""
        p = self.parameters
        whole = magnitude[FIXED_POINT:]
        half, rest = magnitude[FIXED_POINT - 1], magnitude[: FIXED_POINT - 1]
        up = self._register(m, 14, half & (rest.any() | whole[0]), "up")
        whole = self._register(m, 14, whole, "whole")
        negative = self._register(m, 14, negative, "negative14")
        rounded = whole + up
        result = self._register(m, 15, p.zero_point + Mux(negative, -rounded, rounded), "result")
        with m.If(self.stages[16]):
            m.d.sync += self.code.eq(
                Mux(result < p.low, p.low, Mux(result > p.high, p.high, result))
            )
        assert AFFINE_LATENCY == 17
