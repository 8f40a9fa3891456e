"""Circuits of rules with products: what they say is what the rule says of integers."""

from __future__ import annotations

import itertools

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.sim import Simulator

from hw.arch.rules import Arithmetic, Comparison, Element, Literal
from hw.common.rules import circuit
from tests.machines import plain

pytestmark = pytest.mark.rtl
TINY = plain("tiny")
MOST = 64
BASE, A, B = Element("base"), Element("a"), Element("b")
GROUPS = BASE + A * B > MOST
WIDTHS = {"base": 6, "a": 7, "b": 7}
EDGES = (*range(18), 31, 32, 33, 63, 64, 65, 100, 127)


def found(condition, widths, cases):
    """What the circuit says in each case; a value for each field."""
    fields = {name: Signal(width, name=name) for name, width in widths.items()}
    m = Module()
    holds = Signal()
    m.d.comb += holds.eq(Cat(Cat(*terms).any() for terms in circuit(condition, fields, TINY)).all())
    said = []

    async def bench(context):
        for case in cases:
            for signal, value in zip(fields.values(), case, strict=True):
                context.set(signal, value)
            said.append(bool(context.get(holds)))

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    return said


def expected(most, cases):
    return [base + a * b > most for base, a, b in cases]


def test_a_sum_with_a_product_and_a_constant():
    cases = list(itertools.product((0, 1, 7, 16, 31, 32, 55, 63), EDGES, EDGES))
    said = found(GROUPS, WIDTHS, cases)
    assert said == expected(MOST, cases)
    assert 0.2 < sum(said) / len(said) < 0.9
    # The twin: another constant gives other answers.
    assert said != expected(MOST + 1, cases)


@pytest.mark.parametrize("operation", ["<", "<=", ">", "=="])
def test_a_product_of_few_values(operation):
    small, other, left = Element("small"), Element("other"), Element("left")
    rule = Comparison(operation, left * 4, small * other)
    widths = {"left": 4, "small": 2, "other": 3}
    cases = list(itertools.product(range(16), range(4), range(8)))
    integers = {
        "<": lambda x, y: x < y,
        "<=": lambda x, y: x <= y,
        ">": lambda x, y: x > y,
        "==": lambda x, y: x == y,
    }[operation]
    assert found(rule, widths, cases) == [integers(4 * x, a * b) for x, a, b in cases]


def test_a_product_that_takes_a_multiplier_is_an_error():
    with pytest.raises(TypeError, match="a product of 128 values in a rule"):
        circuit(BASE < A * B, {name: Signal(n) for name, n in WIDTHS.items()}, TINY)
    nested = Comparison("<", Arithmetic("+", A * B, Literal(1)), BASE)
    with pytest.raises(TypeError, match="takes a multiplier block"):
        circuit(nested, {name: Signal(n) for name, n in WIDTHS.items()}, TINY)
