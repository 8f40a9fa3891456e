# amaranth: UnusedElaboratable=no
"""Requantization against its definition (docs/numerics.md, "requantize"), for all values.

The lane's registers become wires: its stages run one behind the other, whatever their pace. In two
parts, with the product of the two significands between them: what enters the multiplier, and what
becomes of any product. That the multiplier multiplies is a matter of tests.
"""

from __future__ import annotations

import inspect
import types

import pytest
from amaranth.hdl import C, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In

from hw.compute.drain import requantize
from hw.compute.drain.requantize import FRACTION, INTEGER, LEFT, PRODUCT_BITS, SIGNIFICAND
from tests.formal.engine import Harness, mutant, prove, refute

pytestmark = pytest.mark.formal

BITS = 28
"""Of the accumulator: four more than a significand has."""
AMOUNT_BITS = 9


def wires(module: types.ModuleType) -> types.ModuleType:
    """The lane without registers, cut at its multiplier: what goes in and comes out is free."""
    source = getattr(module, "SOURCE_OF_MUTANT", None) or inspect.getsource(module)
    source = source.replace("m.d.sync", "m.d.comb")
    head, cut = source.split("        product = self._multiply(m, significand, multiplier)\n")
    cut = "        product, amount, negative = self.cut(m, significand, amount, negative)\n" + cut
    made = types.ModuleType(f"{module.__name__}_wires")
    made.__file__ = module.__file__
    exec(compile(head + cut, str(module.__file__), "exec"), made.__dict__)
    return made


class Lane(Harness):
    """A lane all of whose stages run. Members of the signature that it has, too, are its inputs."""

    def __init__(self, inputs: dict, module=requantize):
        self._module = wires(module)
        super().__init__(inputs)

    def lane(self, m: Module, back: tuple[Value, Value, Value]):
        """The lane, and what enters its multiplier, as far as it is asked for."""
        m.submodules.dut = dut = self._module.RequantizeLane(BITS)
        seen = Signal(SIGNIFICAND + 1), Signal(AMOUNT_BITS), Signal()

        def cut(inner: Module, *values: Value) -> tuple[Value, Value, Value]:
            inner.d.comb += [signal.eq(value) for signal, value in zip(seen, values, strict=True)]
            return back

        dut.cut = cut
        m.d.comb += dut.stages.eq(-1)
        for name in set(self.signature.members) & set(dut.signature.members):
            if name not in self.names() and name != "code":
                m.d.comb += getattr(dut, name).eq(getattr(self, name))
        return dut, seen


class Normalise(Lane):
    """Up to the multiplier."""

    def __init__(self, module=requantize):
        super().__init__(
            {"accumulator": In(signed(BITS)), "bias": In(signed(BITS)), "shift": In(8)}, module
        )

    def names(self):
        return ["significand", "amount", "sign", "rounds_up", "rounds_to_even"]

    def build(self, m: Module):
        _, (significand, amount, sign) = self.lane(
            m, (C(0, PRODUCT_BITS), C(0, AMOUNT_BITS), C(0, 1))
        )
        total = Signal(signed(BITS + 1))
        magnitude, floor, rest = Signal(BITS), Signal(BITS), Signal(BITS)
        excess = Signal(4)
        m.d.comb += total.eq(self.accumulator + self.bias)
        most = 1 << (BITS - 1)
        self.assume((total < most) & (total >= -most))
        m.d.comb += magnitude.eq(Mux(total < 0, -total, total))
        for bits in range(SIGNIFICAND + 1, BITS + 1):
            with m.If(magnitude >= 1 << (bits - 1)):
                m.d.comb += excess.eq(bits - SIGNIFICAND)
        m.d.comb += [floor.eq(magnitude >> excess), rest.eq(magnitude - (floor << excess)[:BITS])]
        twice, whole = rest << 1, C(1, 1) << excess
        up = (twice > whole) | ((twice == whole) & floor[0])
        up = up & (excess != 0)
        self.claim("significand", significand == floor + up)
        self.claim("amount", amount == (self.shift - excess + LEFT - FRACTION)[:AMOUNT_BITS])
        self.claim("sign", sign == (total < 0))
        self.cover("rounds_up", up)
        self.cover("rounds_to_even", (excess > 1) & (twice == whole) & ~floor[0])


class Round(Lane):
    """From any product on."""

    def __init__(self, module=requantize):
        super().__init__(
            {
                "product": In(PRODUCT_BITS),
                "amount": In(AMOUNT_BITS),
                "negative": In(1),
                "zero_point": In(signed(9)),
                "low": In(signed(9)),
                "high": In(signed(9)),
            },
            module,
        )

    def names(self):
        return ["code_is_right", "saturates", "rounds_up", "is_a_tie"]

    def build(self, m: Module):
        dut, _ = self.lane(m, (self.product, self.amount, self.negative))
        self.assume(self.low <= self.high)
        placed = Signal(PRODUCT_BITS + LEFT)
        moved, again = Signal.like(placed), Signal.like(placed)
        m.d.comb += [
            placed.eq(self.product << LEFT),
            moved.eq(placed >> self.amount),
            again.eq((moved << self.amount)[: len(placed)]),
        ]
        sticky = again != placed
        saturated = moved[FRACTION + INTEGER :].any()
        q, fraction = moved[FRACTION : FRACTION + INTEGER], moved[:FRACTION]
        window = Signal(INTEGER + 1, init=1)
        for bit in range(INTEGER):
            with m.If(q[bit]):
                m.d.comb += window.eq(2 << bit)
        away = Signal(signed(FRACTION + 1))
        m.d.comb += away.eq(fraction - (1 << (FRACTION - 1)))
        tie = Mux(away >= 0, (away < window) | ((away == window) & ~sticky), -away <= window)
        up = Mux(tie, q[0], (away > 0) | ((away == 0) & sticky))
        whole, result = Signal(11), Signal(signed(13))
        m.d.comb += [
            whole.eq(Mux(saturated, 1 << 10, q + up)),
            result.eq(self.zero_point + Mux(self.negative, -whole, whole)),
        ]
        code = Mux(result < self.low, self.low, Mux(result > self.high, self.high, result))
        self.claim("code_is_right", dut.code == code)
        self.cover("saturates", saturated)
        self.cover("rounds_up", ~tie & up & ~saturated)
        self.cover("is_a_tie", tie & (away != 0) & ~saturated)


def test_what_enters_the_multiplier(tmp_path):
    prove(Normalise(), tmp_path, covers=("rounds_up", "rounds_to_even"))


def test_what_becomes_of_a_product(tmp_path):
    prove(Round(), tmp_path, covers=("saturates", "rounds_up", "is_a_tie"))


MUTANTS = [
    (Normalise, "significand", "up.eq(half & (lost.any() | shifted[0]))", "up.eq(half)"),
    (Normalise, "amount", "shift - excess + (LEFT", "shift + (LEFT"),
    (Round, "code_is_right", "((low == mask + 1) & ~sticky)", "(low == mask + 1)"),
    (Round, "code_is_right", "below.eq(product[: max(-left, 0)].any())", "below.eq(0)"),
    (Round, "code_is_right", "saturated.eq(above | ", "saturated.eq("),
]


@pytest.mark.parametrize("harness, claim, old, new", MUTANTS)
def test_a_wrong_lane_is_found(tmp_path, harness, claim, old, new):
    refute(harness(mutant(requantize, old, new)), tmp_path, claim)
