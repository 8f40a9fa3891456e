# amaranth: UnusedElaboratable=no
"""Counters of what is under way: their flags say what the count says, after every history."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In

from hw.common import level
from tests.formal.engine import Harness, mutant, prove, refute

pytestmark = pytest.mark.formal

LIMIT = 5


class Strobes(Harness):
    """Strobes as they like, but none up alone at the limit, and none down alone at zero."""

    def __init__(self, module=level):
        self._module = module
        super().__init__({"up": In(1), "down": In(1)})

    def names(self):
        return ["some_is_true", "full_is_true", "fills_and_empties"]

    def build(self, m: Module):
        counted = self._module.count_level(m, "dut", LIMIT, self.up, self.down)
        count, was_full = Signal(range(LIMIT + 1)), Signal()
        m.d.sync += count.eq(count + self.up - self.down)
        with m.If(count == LIMIT):
            m.d.sync += was_full.eq(1)
        self.assume(~(self.up & ~self.down & (count == LIMIT)))
        self.assume(~(self.down & ~self.up & (count == 0)))
        self.claim("some_is_true", counted.some == (count != 0))
        self.claim("full_is_true", counted.full == (count == LIMIT))
        self.cover("fills_and_empties", was_full & ~counted.some)


def test_flags_are_those_of_the_count(tmp_path):
    prove(Strobes(), tmp_path, covers=("fills_and_empties",))


MUTANTS = [
    ("some_is_true", "level.some.eq(count != 1)", "level.some.eq(count != 2)"),
    ("full_is_true", "level.full.eq(count == limit - 1)", "level.full.eq(count == limit - 2)"),
]


@pytest.mark.parametrize("claim, old, new", MUTANTS, ids=[claim for claim, _, _ in MUTANTS])
def test_a_wrong_counter_is_found(tmp_path, claim, old, new):
    refute(Strobes(mutant(level, old, new)), tmp_path, claim)
