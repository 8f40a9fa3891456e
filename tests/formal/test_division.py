# amaranth: UnusedElaboratable=no
"""Exact division by the scales of the output transforms, for every quotient.

The lane's registers become wires, and the algorithm is one of those that the circuit has.
"""

from __future__ import annotations

import inspect
import types

import pytest
from amaranth.hdl import C, Module, Signal, signed
from amaranth.lib.wiring import In

from hw.arch.winograd import ALGORITHMS, Division
from hw.compute.drain import exact_division
from hw.compute.drain.exact_division import supported
from tests.formal.engine import Harness, mutant, prove, refute

pytestmark = pytest.mark.formal

BITS = 23
"""Of a value; the circuit takes 19 and more. Five lie above a native multiplier."""
SCALES = {a.scale: a for a in ALGORITHMS if supported(a, nested=True)}
"""One algorithm of every scale."""


def wires(module: types.ModuleType) -> types.ModuleType:
    """The division without registers."""
    source = getattr(module, "SOURCE_OF_MUTANT", None) or inspect.getsource(module)
    made = types.ModuleType(f"{module.__name__}_wires")
    made.__file__ = module.__file__
    exec(
        compile(source.replace("m.d.sync", "m.d.comb"), str(module.__file__), "exec"), made.__dict__
    )
    return made


class Quotient(Harness):
    """A multiple of the scale, known modulo 2^BITS, goes in."""

    def __init__(self, algorithm, module=exact_division):
        self._module, self._algorithm = wires(module), algorithm
        scale = algorithm.scale
        self.covers = ("negative", "wraps") if scale & (scale - 1) else ("negative",)
        super().__init__({"quotient": In(signed(BITS))})

    def names(self):
        return ["is_the_quotient", *self.covers]

    def build(self, m: Module):
        division = Division.by(self._algorithm.scale, BITS)
        m.submodules.dut = dut = self._module.ExactDivision(1, BITS, nested=True)
        most = 1 << (division.bits - 1)
        self.assume((self.quotient < most) & (self.quotient >= -most))
        product = Signal(signed(2 * BITS))
        m.d.comb += [
            product.eq(self.quotient * self._algorithm.scale),
            dut.i[0].eq(product[:BITS].as_signed()),
            dut.i_valid.eq(1),
            dut.transform_t.eq(C(self._algorithm.temporal, 2)),
            dut.transform_s.eq(C(self._algorithm.spatial, 2)),
        ]
        self.claim("is_the_quotient", dut.o[0] == self.quotient)
        self.cover("negative", dut.o[0] == -5)
        if "wraps" in self.covers:  # a power of two leaves no room for it
            self.cover("wraps", product != dut.i[0])


@pytest.mark.parametrize("scale", SCALES)
def test_the_quotient_comes_out(tmp_path, scale):
    harness = Quotient(SCALES[scale])
    prove(harness, tmp_path, covers=harness.covers)


MUTANTS = [
    ("middle.eq(left + right)", "middle.eq(left)"),
    ("product >> shift for shift", "product >> (shift + 1) for shift"),
]


@pytest.mark.parametrize("old, new", MUTANTS)
def test_a_wrong_division_is_found(tmp_path, old, new):
    wrong = mutant(exact_division, old, new)
    refute(Quotient(SCALES[24], wrong), tmp_path, "is_the_quotient")
