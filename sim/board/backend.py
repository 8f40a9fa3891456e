"""`--on board` and `--on soc`: one host, in front of a board or of its SoC under Verilator."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hw.arch.board import BOARD_FILE, BoardError, BoardFile
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ErrorCode, Unit
from hw.arch.program import Program
from hw.arch.registers import SEQUENCER_UNIT
from hw.arch.timing import CLOSING, HALT_LATENCY, TOKEN_LATENCY
from sim.backend import BackendResult, Bytes, Cycles, Options, timeline
from sim.board.host import BoardHost, BoardRun
from sim.board.link import BoardResetError, Link, LinkCounts
from sim.board.transport import SerialTransport, SocTransport, Transport
from sim.errors import InputError
from sim.functional import MachineError
from sim.functional.backend import dynamic_trace
from sim.image import Complete, Keeper, image, overwritten

STARTS = 3
"""Tries of a run on a board that is reset meanwhile."""
STROBES = np.dtype([("cycle", "<u8"), ("issue", "<u4"), ("done", "<u4")])
"""A record of native/main.cpp."""
DEFAULT_FOLDER = Path("build/bitstreams/ulx3s_85f")


class _Session:
    """A host that lives from run to run, so that what a board holds need not be sent again."""

    def __init__(self, transport: Transport, board: BoardFile):
        self.transport, self.board = transport, board
        self.link = Link(transport, board.clock_hz / board.baud, board.silence)
        self._bar: tqdm[None] | None = None
        self.host = BoardHost(self.link, board, self._moved)
        self.progress = False

    def run(
        self, program: Program, config: AcceleratorConfig, memory: Bytes, options: Options
    ) -> BackendResult:
        self.progress = options.progress
        steps = dynamic_trace(program, config, memory)
        lost, keeper = overwritten(program, steps, config.port.bytes)
        if options.check_reads:
            _require_all(lost, keeper)
        # What lay there before the start is known here.
        kept = [(c, c.data(memory)) for c in lost if c.stores == 0]
        start = time.perf_counter()
        for number in range(STARTS):
            try:
                ran = self.host.run(program, config, memory)
                break
            except BoardResetError:
                if number == STARTS - 1:
                    raise
                options.say("the board was reset: beginning again")
        check(ran)
        return BackendResult(
            image=image(ran.memory, kept, keeper),
            cycles=ran.counters["cycles"],
            timeline=None,
            counters=ran.counters,
            wall_s=time.perf_counter() - start,
            halt_code=ran.registers["halt_code"],
            trace=steps,
        )

    def _moved(self, what: str, done: int, total: int) -> None:
        if not self.progress:
            return
        if self._bar is None:
            self._bar = tqdm(desc=what, total=total, unit="B", unit_scale=True, leave=False)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()
            self._bar = None


def _require_all(lost: Sequence[Complete], keeper: Keeper) -> None:
    """Refuse a comparison of tensors that a run writes over: a board shows what is left.

    Raises
    ------
    InputError
        Names the first one.
    """
    in_loops = {name for name, trips in keeper.trips.items() if len(trips) > 1}
    made = [c for c in lost if c.stores > 0]
    gone = [
        c.tensor for c in made if c.tensor in in_loops or c.execution == keeper.made[c.tensor] - 1
    ]
    if gone:
        raise InputError(
            f"{len(gone)} tensors are written over before the run ends, {gone[0]!r} the first: a "
            f"board cannot show them; build with --dram all, or run without --check"
        )


class BoardBackend:
    """A board at a serial port.

    Parameters
    ----------
    port: of the host. folder: of the bitstream, with its `board.json`.
    """

    name = "board"

    def __init__(self, port: str, folder: Path = DEFAULT_FOLDER):
        self._port, self._folder = port, folder
        self._session: _Session | None = None

    def run(
        self, program: Program, config: AcceleratorConfig, memory: Bytes, options: Options
    ) -> BackendResult:
        """Run a program; see `sim.backend.Backend`.

        Raises
        ------
        InputError
            If there is no description of the board, or another circuit is on it.
        MachineError
            If the core stopped with an error.
        SimulatorError
            If the board cannot be reached, or does not do what it should.
        """
        if self._session is None:
            try:
                board = BoardFile.load(self._folder / BOARD_FILE)
            except BoardError as error:
                raise InputError(str(error)) from error
            line = SerialTransport(self._port, board.baud, board.clock_hz)
            self._session = _Session(line, board)
        return self._session.run(program, config, memory, options)


class SocBackend:
    """The board's SoC under Verilator, with a model of its SDRAM.

    Parameters
    ----------
    board: name of the board. rate: clocks of the SDRAM per clock; None: the board's own.
    through: what stands in front of the line, for tests.
    """

    name = "soc"

    def __init__(
        self,
        board: str = "ulx3s_85f",
        rate: int | None = None,
        through: Callable[[Transport], Transport] = lambda line: line,
    ):
        self._board, self._rate, self._through = board, rate, through
        self._session: _Session | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="soc-")
        self._strobes = Path(self._folder.name) / "strobes"
        self.line: SocTransport | None = None

    def run(
        self, program: Program, config: AcceleratorConfig, memory: Bytes, options: Options
    ) -> BackendResult:
        """Run a program; see `sim.backend.Backend`.

        Raises
        ------
        MachineError
            If the core stopped with an error.
        SimulatorError
            If the SoC cannot be built, or does not do what it should.
        """
        from sim.board.soc import build

        if self._session is None:
            model = build(config, self._board, self._rate, options.say)
            self.line = SocTransport(model.program, model.divisor, self._strobes)
            self._session = _Session(self._through(self.line), model.board)
        seen = self._strobes.stat().st_size if self._strobes.exists() else 0
        result = self._session.run(program, config, memory, options)
        assert result.cycles is not None and result.trace is not None
        issue, done = unit_times(self._strobes, seen, result.cycles)
        return dataclasses.replace(result, timeline=timeline(result.trace, issue, done))

    @property
    def counts(self) -> LinkCounts:
        """What went over the line so far."""
        return self._session.link.counts if self._session else LinkCounts()

    def close(self) -> None:
        """End the simulation."""
        if self._session is not None:
            self._session.transport.close()
            self._session = None
        self._folder.cleanup()


def unit_times(
    strobes: Path, skip: int, cycles: int
) -> tuple[Mapping[Unit, Cycles], Mapping[Unit, Cycles]]:
    """Issue and end of every instruction by unit, from the strobes that a simulated SoC wrote.

    Parameters
    ----------
    strobes: the file. skip: bytes of earlier runs.
    cycles: that the run took. Its end is a fixed time behind that of its last instruction, for
        which HALT waits; so the cycles are those since the start.
    """
    records = np.fromfile(strobes, STROBES, offset=skip)
    start = records["cycle"][-1] + TOKEN_LATENCY + HALT_LATENCY + CLOSING - cycles
    records = records[records["cycle"] >= start]  # others are of a try that a reset ended
    since = records["cycle"].astype(np.int64) - int(start)
    issue, done = (
        {unit: since[(records[name] >> unit & 1).astype(bool)] for unit in Unit}
        for name in ("issue", "done")
    )
    return issue, done


def check(ran: BoardRun) -> None:
    """Raise what the error registers say.

    Raises
    ------
    MachineError
        If the error code is not zero.
    """
    code, unit = ran.registers["error_code"], ran.registers["error_unit"]
    if code != ErrorCode.NONE:
        raise MachineError(
            ErrorCode(code),
            None if unit == SEQUENCER_UNIT else Unit(unit),
            ran.registers["error_pc"],
            f"the core stopped after {ran.counters['cycles']} cycles",
        )
