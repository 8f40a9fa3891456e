# amaranth: UnusedElaboratable=no
"""The queue in front of a unit: order, waits, and that nothing is lost, doubled or stuck."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In

from hw.arch.isa import Unit
from hw.common import queue
from hw.common.layouts import target_layout
from tests.formal.engine import Harness, mutant, prove, refute

pytestmark = pytest.mark.formal

PAYLOAD = data.StructLayout({"tag": 1})
DEPTH = 2
PATIENCE = 5
"""Cycles after which a head whose waits are over is offered, at the latest."""


class Order(Harness):
    """One instruction, chosen freely, is followed from its arrival to its issue.

    Whether the head's waits are over is free in every cycle: more than any counters can do.
    """

    def __init__(self, module=queue):
        self._module = mutant(module, "return ~Cat(*held).any()", "return completed[0][0]")
        super().__init__(
            {
                "valid": In(1),
                "ready": In(1),
                "tag": In(1),
                "over": In(1),
                "mark": In(1),
            }
        )

    def names(self):
        return ["right_tag", "never_more_than_depth", "waits_are_over", "not_stuck", "leaves"]

    def build(self, m: Module):
        m.submodules.dut = dut = self._module.UnitQueue(PAYLOAD, [range(1)], DEPTH)
        # What the sender offers stays for the cycle after it was taken.
        tag, kept, pushed = Signal(), Signal(), Signal()
        push = self.valid & dut.i.ready
        pop = dut.o.valid & self.ready
        m.d.sync += [pushed.eq(push), kept.eq(tag)]
        m.d.comb += [
            tag.eq(Mux(pushed, kept, self.tag)),
            dut.i.valid.eq(self.valid),
            dut.i.payload.instruction.tag.eq(tag),
            dut.o.ready.eq(self.ready),
            dut.completed[0].eq(self.over),
            dut.run.eq(1),
        ]
        inside = Signal(3)
        m.d.sync += inside.eq(inside + push - pop)
        self.claim("never_more_than_depth", inside <= DEPTH)

        followed, gone, ahead, seen = Signal(), Signal(), Signal(3), Signal()
        with m.If(~followed & self.mark & push):
            m.d.sync += [followed.eq(1), ahead.eq(inside - pop), seen.eq(tag)]
        with m.Elif(followed & pop & (ahead != 0)):
            m.d.sync += ahead.eq(ahead - 1)
        mine = followed & ~gone & (ahead == 0)
        with m.If(mine & pop):
            m.d.sync += gone.eq(1)
        self.claim("right_tag", ~(mine & dut.o.valid) | (dut.o.payload.tag == seen))
        offered, was_over = Signal(), Signal()
        m.d.sync += [offered.eq(dut.o.valid & ~pop), was_over.eq(self.over)]
        self.claim("waits_are_over", ~dut.o.valid | offered | was_over)
        waited = Signal(3)
        m.d.sync += waited.eq(Mux(mine & self.over & ~dut.o.valid, waited + 1, 0))
        self.claim("not_stuck", waited < PATIENCE)
        self.cover("leaves", gone & (inside == DEPTH))


def test_the_queue_keeps_its_order_and_its_waits(tmp_path):
    prove(Order(), tmp_path, covers=("leaves",))


OFFER = "self.o.valid.eq((stored != 0) & released)"
MUTANTS = [
    ("right_tag", "[self.o.valid.eq(0), head.eq(head + 1)]", "self.o.valid.eq(0)"),
    ("waits_are_over", OFFER, "self.o.valid.eq(stored != 0)"),
    ("never_more_than_depth", "(level != self._depth) & ~written", "~written"),
    ("not_stuck", OFFER, OFFER.replace("stored != 0", "stored == 1")),
]


@pytest.mark.parametrize("claim, old, new", MUTANTS, ids=[claim for claim, _, _ in MUTANTS])
def test_a_wrong_queue_is_found(tmp_path, claim, old, new):
    refute(Order(mutant(queue, old, new)), tmp_path, claim)


class Deferred(Harness):
    """One instruction is followed as in `Order`; it waits for DRAIN, `late` or not.

    What the others wait for, and how many instructions DRAIN has completed, is free in every cycle.
    """

    def __init__(self, module=queue):
        self._module = module
        names = ("valid", "ready", "enable", "late", "mark")
        counts = {"count": In(3), "completed": In(3)}
        super().__init__({name: In(1) for name in names} | counts)

    def names(self):
        return ["waits_are_over", "late_does_not_wait", "arrives_when_over", "arrives_late"]

    def build(self, m: Module):
        payload = data.StructLayout({"late": 1})
        dut = self._module.UnitQueue(payload, [range(1)], DEPTH, Unit.DRAIN)
        m.submodules.dut = dut
        wait = data.StructLayout({"enable": 1, "late": 1, "count": 3})
        offered, kept, pushed = Signal(wait), Signal(wait), Signal()
        push, pop = self.valid & dut.i.ready, dut.o.valid & self.ready
        m.d.sync += [pushed.eq(push), kept.eq(offered)]
        for name in ("enable", "late", "count"):
            m.d.comb += offered[name].eq(Mux(pushed, kept[name], getattr(self, name)))
        target = dut.i.payload.targets[Unit.DRAIN]
        m.d.comb += [
            dut.i.valid.eq(self.valid),
            dut.i.payload.instruction.late.eq(offered.late),
            target.enable.eq(offered.enable),
            target.count.eq(offered.count),
            dut.o.ready.eq(self.ready),
            dut.completed[Unit.DRAIN].eq(self.completed),
            dut.run.eq(1),
        ]
        inside = Signal(3)
        m.d.sync += inside.eq(inside + push - pop)
        followed, gone, ahead, mine = Signal(), Signal(), Signal(3), Signal(wait)
        with m.If(~followed & self.mark & push):
            m.d.sync += [followed.eq(1), ahead.eq(inside - pop), mine.eq(offered)]
        with m.Elif(followed & pop & (ahead != 0)):
            m.d.sync += ahead.eq(ahead - 1)
        head = followed & ~gone & (ahead == 0)
        over = ~mine.enable | (self.completed >= mine.count)
        taken, seen = Signal(), Signal()
        with m.If(pop):
            m.d.sync += [gone.eq(gone | head), taken.eq(head), seen.eq(0)]
        with m.Elif(over | ~mine.late):
            m.d.sync += seen.eq(1)
        stands, was_over, waited = Signal(), Signal(), Signal(3)
        m.d.sync += [
            stands.eq(dut.o.valid & ~pop),
            was_over.eq(over),
            waited.eq(Mux(head & ~dut.o.valid & mine.late, waited + 1, 0)),
        ]
        self.claim("waits_are_over", ~(head & dut.o.valid & ~stands) | was_over | mine.late)
        self.claim("late_does_not_wait", waited < PATIENCE)
        self.claim("arrives_when_over", ~taken | (dut.arrived == seen))
        self.cover("arrives_late", taken & dut.arrived & mine.late & mine.enable & mine.count.any())


def test_a_deferred_wait(tmp_path):
    prove(Deferred(), tmp_path, covers=("arrives_late",))


DEFERRED = [
    ("waits_are_over", "own.enable & ~late", "0"),
    ("late_does_not_wait", "own.enable & ~late", "own.enable"),
    ("arrives_when_over", "target.eq(count), self.arrived.eq(0)", "target.eq(count)"),
    ("arrives_when_over", "with m.Elif(~awaits | ~_behind(completed, target)):", "with m.Else():"),
    ("arrives_when_over", "target.eq(count)", "target.eq(count + 1)"),
]


@pytest.mark.parametrize("claim, old, new", DEFERRED)
def test_a_wrong_deferred_wait_is_found(tmp_path, claim, old, new):
    refute(Deferred(mutant(queue, old, new)), tmp_path, claim)


class Distances(Harness):
    """`waits_over` against counts that do not wrap."""

    def __init__(self, module=queue):
        self._module = module
        super().__init__({"awaited": In(20), "done": In(20), "enable": In(1)})

    def names(self):
        return ["as_defined", "waits", "passes"]

    def build(self, m: Module):
        held = Signal(target_layout())
        counts = Signal(data.ArrayLayout(16, len(Unit)))
        m.d.comb += [
            held[Unit.DRAIN].count.eq(self.awaited),
            held[Unit.DRAIN].enable.eq(self.enable),
            counts[Unit.DRAIN].eq(self.done),
        ]
        over = self._module.waits_over(held, counts)
        near = (self.awaited - self.done).as_signed()
        self.assume((near > -(1 << 15)) & (near <= 1 << 15))
        self.claim("as_defined", over == (~self.enable | (self.done >= self.awaited)))
        self.cover("waits", ~over)
        self.cover("passes", over & self.enable & (self.done != self.awaited))


def test_distances_of_waits(tmp_path):
    prove(Distances(), tmp_path, covers=("waits", "passes"))


def test_a_wrong_distance_is_found(tmp_path):
    wrong = mutant(queue, "(completed - count)[15]", "(completed - count)[14]")
    refute(Distances(wrong), tmp_path, "as_defined")
