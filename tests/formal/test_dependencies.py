# amaranth: UnusedElaboratable=no
"""Counters of dispatched and of completed instructions: nothing is lost, doubled or stuck.

The sequencer takes any words in any order, its queues take what it dispatches at any pace, and the
units complete what they were given at any pace. That an instruction then waits for what its target
names is proven of the queue (test_queue.py).
"""

from __future__ import annotations

import pytest
from amaranth import hdl
from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In

from hw import core
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    OPCODE_BITS,
    WAIT_BITS,
    Array,
    Begin,
    Drain,
    Elementwise,
    Fence,
    Halt,
    Load,
    Store,
    Unit,
    encode,
)
from hw.control import sequencer
from tests.formal.engine import Harness, mutant, prove, refute

pytestmark = pytest.mark.formal

CONFIG = AcceleratorConfig.load("tiny_direct")
WIDTH = 4
"""Bits of the counters here; they count modulo 2^16 in the core."""
OPEN = 6
"""Instructions of a unit that are dispatched and not completed, at most: a queue's and its own."""
PATIENCE = 8
"""Cycles after which a FENCE whose units have nothing left is over, at the latest."""
SEEN = (1 << WAIT_BITS) - 1
WORDS = (
    Begin(CONFIG.fingerprint, CONFIG.feature_mask),
    Load(dram=64, beats=4),
    Store(dram=64, beats=4),
    Elementwise(),
    Array(),
    Drain(),
    Fence(),
    Halt(),
)
"""What the words are, but for waits and a FENCE's units, which are free."""
FENCE = next(place for place, word in enumerate(WORDS) if isinstance(word, Fence))


class Dispatch(Harness):
    """Ghosts count beside the sequencer, from what passes its ports."""

    def __init__(self, sequencer_module=sequencer, core_module=core):
        narrow = "self._dispatched = Signal(data.ArrayLayout({}, len(Unit)))"
        self._sequencer = mutant(sequencer_module, narrow.format(16), narrow.format(WIDTH))
        self._core = core_module
        super().__init__(
            {
                "valid": In(1),
                "kind": In(range(len(WORDS))),
                "waits": In(data.ArrayLayout(WAIT_BITS, len(Unit))),
                "units": In(len(Unit)),
                "ready": In(len(Unit)),
                "ends": In(len(Unit)),
            }
        )

    def names(self):
        return [
            "targets_are_right",
            "waits_exist",
            "dispatched_once",
            "completed_is_counted",
            "fence_waits",
            "halt_waits",
            "fence_is_not_stuck",
            "waits_for_an_earlier_one",
            "halts_after_a_fence",
        ]

    def build(self, m: Module):
        m.submodules.dut = dut = self._sequencer.Sequencer(CONFIG)
        m.d.comb += [
            dut.run.eq(1),
            dut.length.eq(~0),
            dut.fetch.valid.eq(self.valid),
            dut.fetch.payload.eq(self._word()),
        ]
        taken = dut.fetch.valid & dut.fetch.ready
        pushes, opened, totals, seens, counted = [], [], [], [], []
        for unit in Unit:
            queue = getattr(dut, f"queue_{unit.name.lower()}")
            m.d.comb += queue.ready.eq(self.ready[unit])
            push = queue.valid & queue.ready
            total = Signal(WIDTH, name=f"total_{unit.name}")
            ended = Signal(WIDTH, name=f"ended_{unit.name}")
            left = Signal(WIDTH, name=f"left_{unit.name}")
            seen = Signal(range(SEEN + 1), name=f"seen_{unit.name}")
            completed = Signal(WIDTH, name=f"completed_{unit.name}")
            done = self.ends[unit] & (left != 0)
            m.d.comb += left.eq(total - ended)
            m.d.sync += [total.eq(total + push), ended.eq(ended + done)]
            with m.If(push & (seen != SEEN)):
                m.d.sync += seen.eq(seen + 1)
            self._core.count_completed(m, completed, 0, done)
            m.d.comb += dut.completed[unit].eq(completed)
            self.assume(left <= OPEN)
            pushes.append(push)
            opened.append(left)
            totals.append(total)
            seens.append(seen)
            counted.append(completed == ended)
        pushed = Cat(*pushes).any()
        self.claim("completed_is_counted", Cat(*counted).all())

        # The word in hand.
        kind, waits, units = (Signal.like(getattr(self, n)) for n in ("kind", "waits", "units"))
        with m.If(taken):
            m.d.sync += [kind.eq(self.kind), waits.eq(self.waits), units.eq(self.units)]
        targets = dut.queue_load.payload.targets
        right = [
            (targets[u].enable == waits[u].any())
            & (~waits[u].any() | (targets[u].count[:WIDTH] == (totals[u] - waits[u] + 1)[:WIDTH]))
            for u in Unit
        ]
        self.claim("targets_are_right", ~pushed | Cat(*right).all())
        exist = [waits[u] <= seens[u] for u in Unit]
        self.claim("waits_exist", ~pushed | Cat(*exist).all())

        done_with = Signal()  # the word in hand was dispatched
        m.d.sync += done_with.eq((done_with | pushed) & ~taken)
        self.claim("dispatched_once", ~(pushed & done_with))

        began, failed = Signal(), Signal()
        m.d.sync += [began.eq(began | taken), failed.eq(failed | (dut.error != 0))]
        fence = began & (kind == FENCE)
        left_over = [units[u] & (opened[u] != 0) for u in Unit]
        self.claim("fence_waits", ~(fence & taken) | ~Cat(*left_over).any())
        self.claim("halt_waits", ~dut.halt | ~Cat(*(o != 0 for o in opened)).any())
        waited = Signal(range(PATIENCE + 1))
        free = fence & ~Cat(*left_over).any() & ~dut.fetch.ready & ~failed & (dut.error == 0)
        m.d.sync += waited.eq(0)
        with m.If(free & (waited != PATIENCE)):
            m.d.sync += waited.eq(waited + 1)
        self.claim("fence_is_not_stuck", waited < PATIENCE)

        passed = Signal()
        with m.If(fence & taken & units.any()):
            m.d.sync += passed.eq(1)
        self.cover("waits_for_an_earlier_one", pushed & (waits[Unit.LOAD] == 2) & (waits[1] == 1))
        self.cover("halts_after_a_fence", dut.halt & passed & (totals[Unit.STORE] == 2))

    def _word(self):
        """The instruction word of `kind`, with waits or units that are free."""
        words = []
        for word in WORDS:
            fixed = Const(int.from_bytes(encode(word), "little"), 512)
            free = self.waits.as_value() if hasattr(word, "waits") else Const(0, 0)
            free = self.units if isinstance(word, Fence) else free
            words.append(Cat(fixed[:OPCODE_BITS], free, fixed[OPCODE_BITS + len(free) :]))
        return hdl.Array(words)[self.kind]


def test_nothing_is_lost_doubled_or_stuck(tmp_path):
    covers = ("waits_for_an_earlier_one", "halts_after_a_fence")
    prove(Dispatch(), tmp_path, covers=covers, merge=True)


HALT = "m.d.comb += self.halt.eq(kinds[Halt] & self._all_done)"
MUTANTS = [
    ("targets_are_right", "self._dispatched[unit] - waits[unit] + 1", "self._dispatched[unit]"),
    ("waits_exist", "queue.valid & queue.ready & (seen != most)", "queue.valid & (seen != most)"),
    ("dispatched_once", "ends.extend(self._dispatch(m, unit)", "list(self._dispatch(m, unit)"),
    ("fence_waits", "(self._over | ~view(Fence", "(self._over | view(Fence"),
    ("halt_waits", HALT, HALT.replace(" & self._all_done", "")),
    ("fence_is_not_stuck", "kinds[Fence] & self._fenced", "kinds[Fence] & self._all_done"),
]


@pytest.mark.parametrize("claim, old, new", MUTANTS, ids=[claim for claim, _, _ in MUTANTS])
def test_a_wrong_sequencer_is_found(tmp_path, claim, old, new):
    refute(Dispatch(mutant(sequencer, old, new)), tmp_path, claim, merge=True)


@pytest.mark.parametrize("new", ["completed + 2", "completed + ~completed[0]"])
def test_a_wrong_count_of_completions_is_found(tmp_path, new):
    wrong = mutant(core, "completed.eq(completed + 1)", f"completed.eq({new})")
    refute(Dispatch(core_module=wrong), tmp_path, "completed_is_counted", merge=True)
