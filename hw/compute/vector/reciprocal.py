"""The engine of softmax and norms: a root and a quotient in fixed time."""

import enum

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.compute.vector.element import GROUP_SUM_BITS
from hw.compute.vector.fold_decode import ELEMENT_BITS, EPSILON_BITS

__all__ = ["NORM_INTERVAL", "SOFTMAX_INTERVAL", "ReciprocalEngine"]

WIDTH = 40
"""Of the register in which numbers are normalised: the root of D with E1 added has 40 bits."""
SUM_BITS = 31
SQUARES_BITS = 26
VARIANCE_BITS = 36
MAGNITUDE_BITS = GROUP_SUM_BITS - 1
ADDED_BITS, ADDED_FRACTION = 41, 2
"""Of E1·2^(h−8): at h = 6 two bits are fraction."""
ROOT_BITS = 24
DIVISOR_BITS = 31
RECIPROCAL_BITS = 24
SOFTMAX_BITS = 22
LEAST_HALF = 6
"""h of the longest D."""
EXCESS_ZEROS = 3 + WIDTH - ROOT_BITS
"""shift = h − 3 − g, and g = WIDTH − ROOT_BITS less the zeros in front of r."""
SHIFT_BITS = 5
LARGE, SMALL = 8, 2
"""Places by which a cycle normalises; SMALL is the root's pace, too."""
LARGE_STEPS, SMALL_STEPS = 4, 3
NORMALISE = LARGE_STEPS + SMALL_STEPS
QUOTIENT = 24
SOFTMAX_INTERVAL = NORMALISE + 1 + QUOTIENT
NORM_INTERVAL = NORMALISE + ROOT_BITS + 1 + NORMALISE + 1 + QUOTIENT
"""Cycles between the starts of two jobs, at least."""
FRONT = 4
"""Cycles from `start` until D is there: operands, products, V, D."""


class _Phase(enum.Enum):
    IDLE, LARGE, SMALL, ROOT, ADD, DIVISOR, DIVIDE = range(7)


class ReciprocalEngine(wiring.Component):
    """Reciprocals of softmax and of layer norms, to the bit (hw/arch/fold_numerics.py).

    Softmax: L = bits of S, R = min(⌊k·2^(L−2)/S⌋, 2^22 − 1), shift = 31 − L; S = 0 gives the
    largest R and shift 31.
    Norm: V = n·S2 − S1², D = max(V + E0, 1), h = ⌊(48 − bits of D)/2⌋,
    r = ⌊√(D·4^h)⌋ + ⌊E1·2^(h−8)⌋, g = bits of r − 24, R = min(⌊2^47/⌊r/2^g⌋⌋, 2^24 − 1),
    shift = h − 3 − g.

    Digit by digit: numbers are normalised by 8 places four times and then by 2 three times, where
    that loses nothing; a root or quotient bit takes a cycle. Nothing depends on the numbers.

    Handshake: `start` SOFTMAX_INTERVAL or NORM_INTERVAL cycles after the one before, or later.
    Latency: `done` is high `latency(norm)` cycles after `start`; results stand for that cycle.

    Members
    -------
    start: take `total`, `elements_total`.
    norm, elements, factor, epsilon: which of the two; n; k or E1; E0. Stable while jobs are there.
    total: S, or S2. elements_total: S1.
    done, reciprocal, shift: R and its shift.
    sum: S1 of the job that is done.

    Tested range: tests/hw/compute/vector/test_reciprocal.py.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "norm": In(1),
                "elements": In(ELEMENT_BITS),
                "factor": In(24),
                "epsilon": In(EPSILON_BITS),
                "total": In(SUM_BITS),
                "elements_total": In(signed(GROUP_SUM_BITS)),
                "done": Out(1),
                "reciprocal": Out(RECIPROCAL_BITS),
                "shift": Out(SHIFT_BITS),
                "sum": Out(signed(GROUP_SUM_BITS)),
            }
        )

    @staticmethod
    def latency(norm: bool) -> int:
        """Cycles from `start` to `done`."""
        return FRONT + 1 + (NORM_INTERVAL if norm else SOFTMAX_INTERVAL)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        load, loaded, total = self._front(m)
        self._phases(m, load)
        value = Signal(WIDTH, reset_less=True)
        places = Signal(6, reset_less=True)  # by which it was normalised
        root = self._root(m, load, value, places)
        phase = self._phase
        large = (phase == _Phase.LARGE) & ~value[-LARGE:].any()
        small = (phase == _Phase.SMALL) & ~value[-SMALL:].any()
        with m.If(load | (phase == _Phase.ADD)):
            m.d.sync += [value.eq(Mux(load, loaded, root)), places.eq(0)]
        with m.Elif(large):
            m.d.sync += [value.eq(value << LARGE), places.eq(places + LARGE)]
        with m.Elif(small | (phase == _Phase.ROOT)):
            m.d.sync += [value.eq(value << SMALL), places.eq(places + SMALL)]
        self._divide(m, value, places, total)
        return m

    def _front(self, m: Module) -> tuple[Value, Value, Value]:
        """(whether a number is there, the number at the top of WIDTH bits, S1 of the job)."""
        squares = Signal(SUM_BITS, reset_less=True)
        total = Signal(signed(GROUP_SUM_BITS), name="front_sum", reset_less=True)
        magnitude = Signal(MAGNITUDE_BITS, reset_less=True)
        line = Signal(FRONT)
        m.d.sync += line.eq(Cat(self.start, line)[:FRONT])
        with m.If(self.start):
            m.d.sync += [
                squares.eq(self.total),
                total.eq(self.elements_total),
                magnitude.eq(
                    Mux(self.elements_total < 0, -self.elements_total, self.elements_total)
                ),
            ]
        # 2: products, 3: V, 4: D, where V is below 2^34 if n is that of the sums
        scaled = Signal(SQUARES_BITS + ELEMENT_BITS, reset_less=True)
        squared = Signal(2 * MAGNITUDE_BITS, reset_less=True)
        variance = Signal(signed(len(scaled) + 1), reset_less=True)
        added = Signal(signed(len(scaled) + 2), reset_less=True)
        m.d.sync += [
            scaled.eq(squares[:SQUARES_BITS] * self.elements),
            squared.eq(magnitude * magnitude),
            variance.eq(scaled - squared),
            added.eq(variance + self.epsilon),
        ]
        least = added[-1] | ~added.any()  # D is 1
        number = Mux(added[-1], 0, added[:VARIANCE_BITS]) | least
        loaded = Mux(
            self.norm,
            Cat(C(0, WIDTH - VARIANCE_BITS), number[:VARIANCE_BITS]),
            Cat(C(0, WIDTH - SUM_BITS), squares),
        )
        return line[-1], loaded, total

    def _phases(self, m: Module, load: Value) -> None:
        """What is done in each cycle after `load`."""
        self._phase = phase = Signal(_Phase)
        left = Signal(range(max(QUOTIENT, ROOT_BITS)), reset_less=True)
        self._again = again = Signal(reset_less=True)  # normalising r
        self._divided = Signal()
        m.d.comb += self._divided.eq((phase == _Phase.DIVIDE) & (left == 0))
        m.d.sync += self.done.eq(self._divided)

        def begin(following: _Phase, cycles: int) -> None:
            m.d.sync += [phase.eq(following), left.eq(cycles - 1)]

        with m.If(load):
            begin(_Phase.LARGE, LARGE_STEPS)
            m.d.sync += again.eq(0)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.Else(), m.Switch(phase):
            with m.Case(_Phase.LARGE):
                begin(_Phase.SMALL, SMALL_STEPS)
            with m.Case(_Phase.SMALL):
                with m.If(self.norm & ~again):
                    begin(_Phase.ROOT, ROOT_BITS)
                with m.Else():
                    begin(_Phase.DIVISOR, 1)
            with m.Case(_Phase.ROOT):
                begin(_Phase.ADD, 1)
            with m.Case(_Phase.ADD):
                begin(_Phase.LARGE, LARGE_STEPS)
                m.d.sync += again.eq(1)
            with m.Case(_Phase.DIVISOR):
                begin(_Phase.DIVIDE, QUOTIENT)
            with m.Case(_Phase.DIVIDE):
                begin(_Phase.IDLE, 1)

    def _root(self, m: Module, load: Value, value: Value, places: Value) -> Value:
        """r: the root, digit by digit from the top pairs of `value`, plus E1·2^(h−8)."""
        rooting = self._phase == _Phase.ROOT
        remainder = Signal(ROOT_BITS + 2, reset_less=True)
        root = Signal(ROOT_BITS, reset_less=True)
        added = Signal(ADDED_BITS, reset_less=True)
        raised = Signal(SHIFT_BITS, reset_less=True)  # places by which E1 is still to be raised
        self._half = half = Signal(SHIFT_BITS, reset_less=True)
        brought = Cat(value[-2:], remainder)
        trial = Signal(signed(len(brought) + 1))
        m.d.comb += trial.eq(brought - Cat(C(1, 2), root))
        with m.If(load):
            m.d.sync += [remainder.eq(0), root.eq(0), added.eq(self.factor)]
        with m.Elif(rooting):
            m.d.sync += [
                remainder.eq(Mux(trial < 0, brought, trial)),
                root.eq(Cat(~trial[-1], root)),
            ]
            with m.If(raised != 0):
                m.d.sync += [added.eq(added << 1), raised.eq(raised - 1)]
        with m.If((self._phase == _Phase.SMALL) & ~self._again):
            # In the last such cycle: what `places` will be, halved.
            pairs = (places >> 1) + ~value[-SMALL:].any()
            m.d.sync += [raised.eq(pairs), half.eq(pairs + LEAST_HALF)]
        return (root + added[ADDED_FRACTION:])[:WIDTH]

    def _divide(self, m: Module, value: Value, places: Value, total: Value) -> None:
        """R digit by digit, and its shift."""
        phase, norm = self._phase, self.norm
        top = value[-1]
        aligned = Mux(top, value, value << 1)[WIDTH - DIVISOR_BITS : WIDTH]
        truncated = Cat(C(0, DIVISOR_BITS - ROOT_BITS), aligned[DIVISOR_BITS - ROOT_BITS :])
        zeros = places + ~top
        divisor = Signal(DIVISOR_BITS, reset_less=True)
        remainder = Signal(DIVISOR_BITS + 1, reset_less=True)
        quotient = Signal(QUOTIENT, reset_less=True)
        shift = Signal(SHIFT_BITS, reset_less=True)
        kept = Signal(signed(GROUP_SUM_BITS), name="sum_register", reset_less=True)
        twice = Cat(C(0, 1), remainder[:-1])
        trial = Signal(signed(DIVISOR_BITS + 2))
        m.d.comb += trial.eq(twice - divisor)
        nothing = ~value[-2:].any()  # S = 0
        with m.If(phase == _Phase.DIVISOR):
            m.d.sync += [
                divisor.eq(Mux(norm, truncated, aligned)),
                remainder.eq(Mux(norm, 1 << (DIVISOR_BITS - 1), self.factor << 5)),
                shift.eq(Mux(norm, self._half + zeros - EXCESS_ZEROS, Mux(nothing, 31, zeros))),
                kept.eq(total),
            ]
        with m.Elif(phase == _Phase.DIVIDE):
            m.d.sync += [
                remainder.eq(Mux(trial < 0, twice, trial)),
                quotient.eq(Cat(~trial[-1], quotient)),
            ]
        saturates = ~norm & quotient[SOFTMAX_BITS:].any()
        m.d.comb += [
            self.reciprocal.eq(
                Mux(norm, quotient, quotient[:SOFTMAX_BITS] | saturates.replicate(SOFTMAX_BITS))
            ),
            self.shift.eq(shift),
            self.sum.eq(kept),
        ]
