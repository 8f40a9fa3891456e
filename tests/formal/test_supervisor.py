# amaranth: UnusedElaboratable=no
"""Start, abort and end of a run: whatever happens, the core comes to rest and says why."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import In

from hw.arch.isa import ErrorCode
from hw.control import supervisor
from tests.formal.engine import Harness, mutant, prove, refute

pytestmark = pytest.mark.formal

STOPS = 3
"""Cycles from an abort to the end of RUN (rule 2)."""
RESTS = 5
"""Cycles without an open burst from an abort to IDLE."""


class Runs(Harness):
    """Host, units, sequencer and port do what they like in every cycle."""

    def __init__(self, module=supervisor):
        self._module = module
        names = ("start", "abort", "clear_irq", "halt", "progress", "port_idle")
        super().__init__(
            {name: In(1) for name in names} | {"fault": In(6), "source": In(3), "watchdog": In(2)}
        )

    def names(self):
        return [
            "abort_stops",
            "abort_comes_to_rest",
            "good_end_is_a_halt",
            "abort_is_told",
            "first_error_stays",
            "end_is_told",
            "idle_is_quiet",
            "run_is_cleared_first",
            "run_is_foreseen",
            "aborts_and_runs_again",
        ]

    def build(self, m: Module):
        m.submodules.dut = dut = self._module.Supervisor()
        status = dut.status
        for name in ("start", "abort", "clear_irq", "halt", "progress", "port_idle", "watchdog"):
            m.d.comb += getattr(dut, name).eq(getattr(self, name))
        for number, error in enumerate(dut.errors):
            m.d.comb += error.eq(Mux(self.source == number, self.fault, 0))

        # What has happened in this run.
        begun, aborted, halted, cleared = Signal(), Signal(), Signal(), Signal()
        stopping, resting = Signal(range(16)), Signal(range(16))
        accepted = self.start & ~status.busy
        with m.If(accepted):
            m.d.sync += [begun.eq(1), aborted.eq(0), halted.eq(0), cleared.eq(0)]
            m.d.sync += [stopping.eq(0), resting.eq(0)]
        with m.Elif(status.busy):
            m.d.sync += [aborted.eq(aborted | self.abort), halted.eq(halted | self.halt)]
            m.d.sync += cleared.eq(cleared | dut.clear)
            with m.If(aborted & dut.run & (stopping != 15)):
                m.d.sync += stopping.eq(stopping + 1)
            with m.If(aborted & (self.port_idle | dut.run) & (resting != 15)):
                m.d.sync += resting.eq(resting + 1)
        self.claim("abort_stops", stopping < STOPS)
        self.claim("abort_comes_to_rest", resting < RESTS + STOPS)

        was_busy, before = Signal(), Signal.like(status.error_code)
        m.d.sync += [was_busy.eq(status.busy), before.eq(status.error_code)]
        ended = was_busy & ~status.busy
        none = status.error_code == ErrorCode.NONE
        self.claim("good_end_is_a_halt", ~(ended & none) | halted)
        # Without a HALT an abort is an error, if not the first one.
        self.claim("abort_is_told", ~(ended & aborted & ~halted) | ~none)
        fresh = Signal()
        m.d.sync += fresh.eq(accepted)
        self.claim("first_error_stays", fresh | (before == 0) | (status.error_code == before))
        told = status.done & (status.error == ~none) & status.irq
        self.claim("end_is_told", ~ended | told)
        quiet = ~dut.run & ~dut.counting & ~dut.clear
        self.claim("idle_is_quiet", status.busy | quiet)
        self.claim("run_is_cleared_first", ~dut.run | cleared)
        # But for its first cycle.
        ran, went = Signal(), Signal()
        m.d.sync += [ran.eq(dut.run), went.eq(dut.goes_on)]
        self.claim("run_is_foreseen", went == (dut.run & ran))
        again = Signal()
        with m.If(ended & (status.error_code == ErrorCode.ABORTED)):
            m.d.sync += again.eq(1)
        self.cover("aborts_and_runs_again", again & ended & none)


def test_a_run_always_ends_and_says_how(tmp_path):
    prove(Runs(), tmp_path, covers=("aborts_and_runs_again",))


RESTING = """with m.If(self.port_idle):
                    m.d.sync += self.counting.eq(0)
"""
ERROR = "with m.If(code != ErrorCode.NONE):"
MUTANTS = [
    ("abort_stops", "m.d.sync += self.run.eq(0)", "m.d.sync += self.run.eq(halted)"),
    ("abort_comes_to_rest", RESTING, RESTING.replace("idle", "idle & self.halt")),
    ("good_end_is_a_halt", "!= ErrorCode.NONE) | halted)", "!= ErrorCode.NONE) | self.clear_irq)"),
    ("abort_is_told", ERROR, "with m.If((code != ErrorCode.NONE) & (code != ErrorCode.ABORTED)):"),
    ("first_error_stays", "with m.If(status.error_code == ErrorCode.NONE):", "with m.If(1):"),
    ("end_is_told", "status.error.eq(status.error_code != ErrorCode.NONE)", "status.error.eq(0)"),
    ("idle_is_quiet", RESTING, RESTING.splitlines()[0] + "\n"),
    ("run_is_foreseen", "self.goes_on.eq(self.run & ~ends)", "self.goes_on.eq(self.run)"),
    ("run_is_cleared_first", "status.busy.eq(1), self.clear.eq(1)]", "status.busy.eq(1)]"),
]


@pytest.mark.parametrize("claim, old, new", MUTANTS, ids=[claim for claim, _, _ in MUTANTS])
def test_a_wrong_supervisor_is_found(tmp_path, claim, old, new):
    refute(Runs(mutant(supervisor, old, new)), tmp_path, claim)
