"""One lane of requantization: accumulator to activation code, as hw/arch/numerics.requantize."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.timing import REQUANTIZE_LATENCY
from hw.compute.parts.multiplier import WideMultiplier

__all__ = ["RequantizeLane", "excess_bits"]

SIGNIFICAND = 24
PRODUCT_BITS = 49
FRACTION = 25
INTEGER = 9
FIXED_BITS = INTEGER + FRACTION
LEFT = 37
"""The product is treated as product·2^37, so that every shift is one to the right."""
COARSE = 16
SATURATED = 1 << 10


def excess_bits(high: Value) -> Value:
    """Bit length of a value: position of its leading one plus one, 0 for 0."""
    result: Value = C(0)
    for bit in range(len(high)):
        result = Mux(high[bit], bit + 1, result)
    return result


class RequantizeLane(wiring.Component):
    """clamp(rint(f32(f32(accumulator + bias)·multiplier·2^−shift)) + zero_point, low, high).

    Handshake: none; `stages[k]` enables the registers of stage k, so that the parent keeps one
    valid line for all lanes.
    Latency: REQUANTIZE_LATENCY cycles, one result per cycle.

    Parameters
    ----------
    bits: accumulator width; -2^(bits - 1) <= accumulator + bias < 2^(bits - 1).

    Members
    -------
    stages: bit k is high in the cycle in which stage k takes its input.
    accumulator, bias, multiplier, shift: per value; bias is added modulo 2^bits.
    zero_point, low, high: stable while values are under way.
    code: result, -128..255.

    Tested range: random and adversarial values over all shifts, tests/hw/compute; all but the
    product itself is proved, tests/formal/test_requantize.py.
    """

    def __init__(self, bits: int):
        self._bits = bits
        super().__init__(
            {
                "stages": In(REQUANTIZE_LATENCY),
                "accumulator": In(signed(bits)),
                "bias": In(signed(32)),
                "multiplier": In(24),
                "shift": In(8),
                "zero_point": In(signed(9)),
                "low": In(signed(9)),
                "high": In(signed(9)),
                "code": Out(signed(9)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        significand, negative, amount, multiplier = self._normalise(m)
        product = self._multiply(m, significand, multiplier)
        amount = self._keep(m, amount, (5, 6), "amount")
        fixed, sticky, saturated = self._align(m, product, amount)
        negative = self._keep(m, negative, range(2, 10), "negative")
        self._round(m, fixed, sticky, saturated, negative)
        return m

    def _keep(self, m: Module, value: Value, stages: range | tuple[int, ...], name: str) -> Value:
        """Carry a value through some stages."""
        for stage in stages:
            register = Signal(value.shape(), name=f"{name}{stage}", reset_less=True)
            with m.If(self.stages[stage]):
                m.d.sync += register.eq(value)
            value = register
        return value

    def _normalise(self, m: Module) -> tuple[Value, Value, Value, Value]:
        """Stages 0 to 4: |accumulator + bias| rounded half to even to 24 significant bits."""
        bits = self._bits
        total = Signal(signed(bits), reset_less=True)
        magnitude = Signal(bits, reset_less=True)
        negative = Signal(reset_less=True)
        excess = Signal(range(bits - SIGNIFICAND + 1), reset_less=True)
        wide = Signal(bits, reset_less=True)
        kept = Signal(SIGNIFICAND, reset_less=True)
        up = Signal(reset_less=True)
        amount = Signal(9, reset_less=True)
        significand = Signal(SIGNIFICAND + 1, reset_less=True)
        with m.If(self.stages[0]):
            m.d.sync += total.eq(self.accumulator + self.bias)
        with m.If(self.stages[1]):
            m.d.sync += [magnitude.eq(Mux(total < 0, -total, total)), negative.eq(total < 0)]
        with m.If(self.stages[2]):
            m.d.sync += [excess.eq(excess_bits(magnitude[SIGNIFICAND:])), wide.eq(magnitude)]
        shift = self._keep(m, self.shift, (0, 1, 2), "shift")
        # Two zeros below, so that the bits that leave can be told apart.
        shifted = Signal(bits)
        lost = Signal(bits - SIGNIFICAND)
        half = Signal()
        m.d.comb += [
            shifted.eq(wide >> excess),
            lost.eq(Cat(wide[k] & (excess > k + 1) for k in range(bits - SIGNIFICAND))),
            half.eq(Cat(C(0, 1), wide[: bits - SIGNIFICAND]).bit_select(excess, 1)),
        ]
        with m.If(self.stages[3]):
            m.d.sync += [
                kept.eq(shifted),
                up.eq(half & (lost.any() | shifted[0])),
                amount.eq(shift - excess + (LEFT - FRACTION)),
            ]
        amount = self._keep(m, amount, (4,), "amount")
        with m.If(self.stages[4]):
            m.d.sync += significand.eq(kept + up)
        multiplier = self._keep(m, self.multiplier, range(5), "multiplier")
        return significand, negative, amount, multiplier

    def _multiply(self, m: Module, significand: Value, multiplier: Value) -> Value:
        """Stages 5 and 6."""
        m.submodules.multiplier = unit = WideMultiplier(unsigned(SIGNIFICAND + 1), SIGNIFICAND)
        m.d.comb += [
            unit.stages.eq(self.stages[5:7]),
            unit.a.eq(significand),
            unit.b.eq(multiplier),
        ]
        return unit.product

    def _align(self, m: Module, product: Value, amount: Value) -> tuple[Value, Value, Value]:
        """Stages 7 and 8: product·2^LEFT shifted right by `amount`, in steps of 16, then of 1.

        Returns the 34 lowest bits, whether a one was lost below, and whether one lies above.
        """
        window_bits = FIXED_BITS + COARSE - 1
        window = Signal(window_bits, reset_less=True)
        below, above = Signal(reset_less=True), Signal(reset_less=True)
        fine = Signal(4, reset_less=True)
        with m.If(self.stages[7]):
            m.d.sync += fine.eq(amount[:4])
            with m.Switch(amount[4:]):
                for step in range((LEFT + PRODUCT_BITS) // COARSE + 1):
                    left = LEFT - COARSE * step
                    with m.Case(step):
                        placed = product << left if left >= 0 else product >> -left
                        m.d.sync += [
                            window.eq(placed),
                            above.eq(product[max(window_bits - left, 0) :].any()),
                            below.eq(product[: max(-left, 0)].any()),
                        ]
                with m.Default():
                    m.d.sync += [window.eq(0), above.eq(0), below.eq(product.any())]
        fixed = Signal(FIXED_BITS, reset_less=True)
        sticky, saturated = Signal(reset_less=True), Signal(reset_less=True)
        shifted = Signal(window_bits)
        lost = Signal(COARSE - 1)
        m.d.comb += [
            shifted.eq(window >> fine),
            lost.eq(Cat(window[k] & (fine > k) for k in range(COARSE - 1))),
        ]
        with m.If(self.stages[8]):
            m.d.sync += [
                fixed.eq(shifted),
                sticky.eq(below | lost.any()),
                saturated.eq(above | shifted[FIXED_BITS:].any()),
            ]
        return fixed, sticky, saturated

    def _round(
        self, m: Module, fixed: Value, sticky: Value, saturated: Value, negative: Value
    ) -> None:
        """Stages 9 to 11: round half to even inside the tie window, sign, zero point, clamp.

        The float32 product has itself been rounded, so a fraction within w = 2^bitlength(q) of a
        half counts as a tie (docs/numerics.md, "requantize").
        """
        q = fixed[FRACTION:]
        half, low = fixed[FRACTION - 1], fixed[: FRACTION - 1]
        # w - 1: ones from the leading one of q downwards.
        below_window = Cat(q[bit:].any() for bit in range(INTEGER))
        mask = Signal(FRACTION - 1)
        beyond = Signal(FRACTION - 1)
        tie = Signal()
        m.d.comb += [
            mask.eq(below_window),
            beyond.eq(low & ~mask),
            tie.eq(
                Mux(
                    half,
                    (beyond == 0) | ((low == mask + 1) & ~sticky),
                    (low | mask) == (1 << (FRACTION - 1)) - 1,
                )
            ),
        ]
        whole = Signal(11, reset_less=True)
        up = Signal(reset_less=True)
        with m.If(self.stages[9]):
            m.d.sync += [
                whole.eq(Mux(saturated, SATURATED, q)),
                up.eq(Mux(tie, q[0], half) & ~saturated),
            ]
        result = Signal(signed(13), reset_less=True)
        with m.If(self.stages[10]):
            rounded = whole + up
            m.d.sync += result.eq(self.zero_point + Mux(negative, -rounded, rounded))
        with m.If(self.stages[11]):
            m.d.sync += self.code.eq(
                Mux(result < self.low, self.low, Mux(result > self.high, self.high, result))
            )
