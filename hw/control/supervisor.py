"""Start, end and failure of a run."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.isa import ErrorCode, Unit
from hw.arch.registers import SEQUENCER_UNIT
from hw.control.fetch import INDEX_BITS
from hw.control.registers import status_layout

__all__ = ["SOURCES", "Supervisor"]

SOURCES = (*Unit, SEQUENCER_UNIT)
"""Numbers that Register.ERROR_UNIT can show, in the order in which errors of one cycle win."""


class Supervisor(wiring.Component):
    """The state of the core: IDLE, CLEAR, RUN, QUIESCE, SETTLE.

    Rules
    -----
    1. `start` in cycle t (IDLE) gives `clear` in t + 1, in which the counters and the core's copies
       of `clear` are set; the core is reset at the end of t + 2, and RUN begins in t + 3. With the
       register port's cycle that is `timing.START_LATENCY` after the host's write.
    2. The first error of a run is latched; of errors in one cycle the lowest unit's wins, the
       sequencer's last. ABORT counts as the sequencer's error ABORTED (also before RUN begins), and
       the watchdog, too: it counts cycles of RUN in which no unit was issued an instruction or
       completed one (0: off). An error seen in cycle t ends RUN; QUIESCE begins in t + 2.
    3. HALT ends RUN in the same way and as fast, without an error.
    4. In QUIESCE nothing is taken, dispatched or granted; open bursts end. When none is open
       (the first cycle of QUIESCE at the earliest), SETTLE follows, in which the counters take
       their last events, and then IDLE: DONE is set (and ERROR after an error) and the interrupt
       is raised. A memory that does not end its bursts cannot hold the core: after `watchdog`
       cycles of QUIESCE the port is given up, with WATCHDOG unless another error came first
       (the system then has to reset whatever hangs behind the port).
    5. Counters count in RUN and QUIESCE; `cycles` is their length.

    ERROR_PC: index of the instruction in the sequencer's hands for its own errors, of the latest
    dispatch for those of units, when RUN ends.

    Members
    -------
    start, abort, clear_irq: In. watchdog: In, cycles.
    halt, halt_code: In. errors: In, an ErrorCode per entry of `SOURCES`.
    index, dispatched_index: In. progress: In. port_idle: In.
    clear: Out, reset everything. run: Out. counting: Out, RUN or QUIESCE.
    goes_on: Out, RUN, and it does not end with this cycle.
    status: Out(status_layout). All outputs but `goes_on` are registers.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "abort": In(1),
                "clear_irq": In(1),
                "watchdog": In(32),
                "halt": In(1),
                "halt_code": In(4),
                "errors": In(data.ArrayLayout(6, len(SOURCES))),
                "index": In(INDEX_BITS),
                "dispatched_index": In(INDEX_BITS),
                "progress": In(1),
                "port_idle": In(1),
                "clear": Out(1),
                "run": Out(1),
                "goes_on": Out(1),
                "counting": Out(1),
                "status": Out(status_layout()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        status = self.status
        ends = Signal()  # RUN ends with this cycle
        barked = self._watchdog(m, ends)
        code, source, halted = self._reasons(m, barked)
        with m.If(self.clear_irq):
            m.d.sync += status.irq.eq(0)
        m.d.sync += self.clear.eq(0)
        m.d.comb += self.goes_on.eq(self.run & ~ends)
        with m.FSM(name="state"):
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [status.eq(0), status.busy.eq(1), self.clear.eq(1)]
                m.next = "CLEAR"
            with m.State("CLEAR"):
                m.next = "CLEARED"
            with m.State("CLEARED"):
                m.d.sync += [self.run.eq(1), self.counting.eq(1)]
                m.next = "RUN"
            with m.State("RUN"):
                with m.If(code != ErrorCode.NONE):
                    own = source == SEQUENCER_UNIT
                    m.d.sync += [
                        status.error_code.eq(code),
                        status.error_unit.eq(source),
                        status.error_pc.eq(Mux(own, self.index, self.dispatched_index)),
                    ]
                with m.Elif(halted):
                    m.d.sync += status.halt_code.eq(self.halt_code)
                with m.If((code != ErrorCode.NONE) | halted):
                    m.d.comb += ends.eq(1)
                    m.d.sync += self.run.eq(0)
                    m.next = "QUIESCE"
            with m.State("QUIESCE"):
                with m.If(self.port_idle):
                    m.d.sync += self.counting.eq(0)
                    m.next = "SETTLE"
                with m.Elif(barked):
                    with m.If(status.error_code == ErrorCode.NONE):
                        m.d.sync += [
                            status.error_code.eq(ErrorCode.WATCHDOG),
                            status.error_unit.eq(SEQUENCER_UNIT),
                            status.error_pc.eq(self.index),
                        ]
                    m.d.sync += self.counting.eq(0)
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                m.d.sync += [
                    status.busy.eq(0),
                    status.done.eq(1),
                    status.error.eq(status.error_code != ErrorCode.NONE),
                    status.irq.eq(1),
                ]
                m.next = "IDLE"
        return m

    def _reasons(self, m: Module, barked: Signal) -> tuple[Signal, Signal, Signal]:
        """Rules 2 and 3: code and source of an error, and HALT; registers."""
        aborted = Signal()
        with m.If(self.abort):
            m.d.sync += aborted.eq(1)
        with m.If(~self.status.busy):
            m.d.sync += aborted.eq(0)
        code = Signal(6)
        source = Signal(3)
        halted = Signal()
        m.d.sync += [code.eq(ErrorCode.NONE), halted.eq(self.halt)]
        with m.If(aborted):
            m.d.sync += [code.eq(ErrorCode.ABORTED), source.eq(SEQUENCER_UNIT)]
        with m.Elif(barked):
            m.d.sync += [code.eq(ErrorCode.WATCHDOG), source.eq(SEQUENCER_UNIT)]
        for k, number in reversed(list(enumerate(SOURCES))):
            with m.If(self.errors[k] != ErrorCode.NONE):
                m.d.sync += [code.eq(self.errors[k]), source.eq(number)]
        return code, source, halted

    def _watchdog(self, m: Module, restart: Signal) -> Signal:
        """Rules 2, 4. High when as many cycles without progress have passed as the host allows."""
        count = Signal(32)
        moved = Signal()
        barked = Signal()
        m.d.sync += [
            moved.eq(self.progress),
            count.eq(Mux(self.counting & ~moved & ~restart, count + 1, 0)),
            barked.eq(
                self.counting & ~restart & (self.watchdog != 0) & (count >= self.watchdog),
            ),
        ]
        return barked
