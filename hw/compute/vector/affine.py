"""The affine pipeline of one vector lane: w·RA combined with round24(u·RB + K), then a code."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.group_numerics import OFFSET_BITS, STANDARD_BITS
from hw.arch.isa import FIXED_POINT
from hw.arch.timing import AFFINE_LATENCY
from hw.compute.parts.multiplier import WideMultiplier

__all__ = ["AFFINE_PARAMETERS", "NORMAL_DELAY", "AffineLane", "Combine"]

SIGNIFICAND = 24
SUM_BITS = 64
MAGNITUDE_BITS = SUM_BITS - 1
DROPPED_BITS = MAGNITUDE_BITS - SIGNIFICAND
U_BITS = 26
W_BITS = 9
GAIN_BITS = 18
BIAS_BITS = 24
UNIT_BITS = 22
UNIT_STAGES = 2
NORMAL_DELAY = UNIT_STAGES + 2
"""Cycles by which stages 8 and up come later for a NORM_APPLY: its rounded quotient passes the
stages 6 and 7 of the other factor."""


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

    With `normalises` there is a second form, u·G + B of a layer norm:
    clamp(rint(round24(v·G·2^ra_shift + B·2^30)) + zero_point, low, high) with
    v = rint(2^16·round24(u·RB)), NORMAL_DELAY cycles longer. The second product goes the way of w.

    Parameters
    ----------
    normalises: the circuit has the second form.

    Members
    -------
    stages: bit k is high in the cycle in which stage k takes its input; in the second form those
        from 8 on come NORMAL_DELAY later.
    u, w: operands.
    parameters: AFFINE_PARAMETERS; stable while values are under way, but RB's multiplier may change
        with every u, and its shift two cycles behind it.
    code: result, -256..255.
    normal: the second form, stable.
    first_stages: of stages 6 and 7 of w; in the second form NORMAL_DELAY later, too.
    gain: G, in the cycle of first_stages bit 0. bias: B, in that of stage 8.

    Tested range: |u·RB + K| and |w·RA| below 2^62 units of 2^-44,
    tests/hw/compute/vector/test_affine.py.
    """

    def __init__(self, *, normalises: bool = False) -> None:
        self._normalises = normalises
        second_form = {
            "normal": In(1),
            "first_stages": In(2),
            "gain": In(signed(GAIN_BITS)),
            "bias": In(signed(BIAS_BITS)),
        }
        super().__init__(
            {
                "stages": In(AFFINE_LATENCY),
                "u": In(signed(U_BITS)),
                "w": In(signed(W_BITS)),
                "parameters": In(AFFINE_PARAMETERS),
                "code": Out(signed(9)),
                **(second_form if normalises else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        second = self._second_term(m)
        magnitude, negative = self._round24(m, second, 4, "second")
        unit = self._unit(m, magnitude, negative) if self._normalises else None
        first = self._first_term(m, unit)
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

    def _first_term(self, m: Module, unit: Value | None) -> Value:
        """Stages 0 to 7: w·RA, in step with the other term; or v·G."""
        w = self.w
        for stage in range(6):
            w = self._register(m, stage, w, f"w{stage}")
        p = self.parameters
        if unit is None:
            product = self._register(m, 6, w * p.ra_multiplier, "first_product")
            return self._register(m, 7, product << p.ra_shift, "first_shifted", signed(SUM_BITS))
        first = Signal((w * p.ra_multiplier).shape(), name="first_product", reset_less=True)
        second = Signal((unit * self.gain).shape(), name="second_product", reset_less=True)
        shifted = Signal(signed(SUM_BITS), name="first_shifted", reset_less=True)
        with m.If(self.first_stages[0]):
            m.d.sync += [first.eq(w * p.ra_multiplier), second.eq(unit * self.gain)]
        with m.If(self.first_stages[1]):
            m.d.sync += shifted.eq(Mux(self.normal, second, first) << p.ra_shift)
        return shifted

    def _unit(self, m: Module, magnitude: Value, negative: Value) -> Value:
        """Two stages behind stage 7: v, the nearest multiple of 2^-16."""
        place = FIXED_POINT - STANDARD_BITS
        whole = Signal(UNIT_BITS - 1, name="unit_whole", reset_less=True)
        up, minus = Signal(name="unit_up", reset_less=True), Signal(name="minus", reset_less=True)
        unit = Signal(signed(UNIT_BITS), name="unit", reset_less=True)
        rounded = Signal(UNIT_BITS, name="unit_rounded")
        m.d.comb += rounded.eq(whole + up)
        with m.If(self.normal):
            half, rest = magnitude[place - 1], magnitude[: place - 1]
            m.d.sync += [
                whole.eq(magnitude[place:]),
                up.eq(half & (rest.any() | magnitude[place])),
                minus.eq(negative),
                unit.eq(Mux(minus, -rounded, rounded)),
            ]
        return unit

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
        second_term: Value = Mux(negative, -magnitude, magnitude)
        if self._normalises:
            bias = self.bias << (FIXED_POINT - OFFSET_BITS)
            second_term = Mux(self.normal, bias, second_term)
        second = self._register(m, 8, second_term, "second_term", signed(SUM_BITS))
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
