# amaranth: UnusedElaboratable=no
"""STORE's window: what lies outside is never asked for, nor anything behind it.

In two parts. What the check says of a burst is what the window means; and whatever the check says,
a burst that it refuses is not asked for. In the second the check is a free bit of the burst's
address, the walker gives any bursts, and the rows that are read and sent end where they like.
"""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Unit
from hw.common.layouts import unit_layout
from hw.memory import store
from hw.memory.walker import burst_layout
from tests.formal.engine import Harness, mutant, prove, refute

pytestmark = pytest.mark.formal

TINY = AcceleratorConfig.load("tiny")
BYTES = TINY.port.bytes
WITHIN = (
    "within = (burst.address >= self.window_base) & (last_beat < self.window_limit[beat_bits:])"
)
CHECKED = "with m.If(check & ~within):"
HOOK = f"self.hook(m, burst, within)\n        {CHECKED}"
LAST = "m.d.sync += self.w.payload.last.eq(marked.data)"
BAD = 31
"""Bit of an address that stands for the check's answer."""


class Walker(wiring.Component):
    """In place of the walker: bursts as the harness gives them."""

    def __init__(self):
        super().__init__(
            {
                "i": In(stream.Signature(unit_layout(Unit.STORE))),
                "o": Out(stream.Signature(burst_layout())),
                "error": Out(6),
                "valid": In(1),
                "burst": In(burst_layout()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.o.valid.eq(self.valid), self.o.payload.eq(self.burst), self.i.ready.eq(1)]
        return m


class Bursts(Harness):
    """STORE with free bursts."""

    def unit(self, m: Module, module):
        walker = Walker()
        module.BurstWalker = lambda unit, port: walker
        m.submodules.dut = dut = module.StoreUnit(TINY)
        m.d.comb += [
            walker.valid.eq(self.valid),
            walker.burst.address.eq(self.address),
            walker.burst.length.eq(self.length),
            dut.request.ready.eq(self.granted),
            dut.w.ready.eq(self.sends),
            dut.b_valid.eq(self.answers),
        ]
        return dut


INPUTS = {
    "valid": In(1),
    "address": In(32),
    "length": In(8),
    "granted": In(1),
    "sends": In(1),
    "answers": In(1),
}


class Window(Bursts):
    """What the check says, in the cycle in which it does."""

    def __init__(self, module=store):
        self._module = mutant(module, CHECKED, HOOK)
        super().__init__({**INPUTS, "base": In(32), "limit": In(32)})

    def names(self):
        return ["as_defined", "inside", "outside"]

    def build(self, m: Module):
        dut = self.unit(m, self._module)
        address, length, within = Signal(32), Signal(8), Signal()

        def hook(inner: Module, burst: Value, says: Value) -> None:
            inner.d.comb += [
                address.eq(burst.address),
                length.eq(burst.length),
                within.eq(says),
            ]

        dut.hook = hook
        m.d.comb += [dut.window_base.eq(self.base), dut.window_limit.eq(self.limit)]
        beat_bits = (BYTES - 1).bit_length()
        end = Signal(34)
        m.d.comb += end.eq((((address >> beat_bits) + length + 1) << beat_bits)[:34])
        # The walker's bursts lie on beats and in a page.
        in_page = ((address[:12] >> beat_bits) + length) < (4096 // BYTES)
        legal = (address[:beat_bits] == 0) & in_page
        inside = (address >= self.base) & (end <= self.limit)
        self.claim("as_defined", ~legal | (within == inside))
        self.cover("inside", legal & within & (length != 0))
        self.cover("outside", legal & ~within & (address >= self.base))


class Refused(Bursts):
    """What is asked for, when the check refuses as it likes."""

    def __init__(self, module=store):
        changed = mutant(module, WITHIN, f"within = ~burst.address[{BAD}]")
        changed = mutant(changed, LAST, "m.d.sync += self.w.payload.last.eq(self.b_valid)")
        changed.STORE_BURSTS = 2
        self._module = changed
        super().__init__(INPUTS)

    def names(self):
        return ["never_asked_for", "one_is_asked_for"]

    def build(self, m: Module):
        dut = self.unit(m, self._module)
        bad = dut.request.payload.address[BAD]
        self.claim("never_asked_for", ~(dut.request.valid & bad))
        self.cover("one_is_asked_for", dut.request.valid & dut.request.ready)


def test_the_check_is_the_window(tmp_path):
    prove(Window(), tmp_path, covers=("inside", "outside"))


def test_what_is_refused_is_not_asked_for(tmp_path):
    prove(Refused(), tmp_path, covers=("one_is_asked_for",))


MUTANTS = [
    (Window, "as_defined", "burst.address[beat_bits:PAGE_BITS] + burst.length", "burst.length + 0"),
    (Window, "as_defined", "last_beat < self.window_limit", "last_beat <= self.window_limit"),
    (
        Refused,
        "never_asked_for",
        "_delayed(m, refusal, ACTIVATION_READ_LATENCY - 2)",
        "_delayed(m, refusal, ACTIVATION_READ_LATENCY - 1)",
    ),
    (Refused, "never_asked_for", "check.eq(taken)", "check.eq(taken & ~check)"),
]


@pytest.mark.parametrize("harness, claim, old, new", MUTANTS)
def test_a_wrong_store_is_found(tmp_path, harness, claim, old, new):
    refute(harness(mutant(store, old, new)), tmp_path, claim)
