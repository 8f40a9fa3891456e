"""`--on cycle`: values from the functional machine, times from the event model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from hw.arch.boards import Board
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, Unit
from hw.arch.program import Program
from hw.arch.registers import COUNTERS
from hw.timeline.compute import array_products, array_vectors
from hw.timeline.model import CoreModel, TimelineError
from hw.timeline.step import Step
from sim.backend import BackendResult, Bytes, Options, timeline
from sim.cycle.board_memory import BoardMemory
from sim.errors import SimulatorError
from sim.functional.backend import FunctionalBackend
from sim.host import check_fits


def counters(
    model: CoreModel, steps: Sequence[Step], config: AcceleratorConfig
) -> Mapping[str, int]:
    """Performance counters as the hardware's, by name."""
    assert model.halt is not None
    arrays = [s.instruction for s in steps if isinstance(s.instruction, Array)]
    load, store = model.units[Unit.LOAD], model.units[Unit.STORE]
    values = {
        "cycles": model.cycles,
        "load_memory": load.busy - model.load.beats,
        "store_memory": model.store.stalled,
        "array_vectors": sum(array_vectors(a) for a in arrays),
        "array_products": sum(array_products(a, config) for a in arrays),
        "read_beats": model.load.beats,
        "write_beats": model.store.beats,
        "fetch_beats": model.fetch.beats,
        "instructions": model.instructions,
    }
    assert store.done or not model.store.beats
    for unit, times in model.units.items():
        values[f"{unit.name.lower()}_busy"] = times.busy
        values[f"{unit.name.lower()}_wait"] = times.wait
    return {name: values.get(name, 0) for name in COUNTERS}


class CycleBackend:
    """Event model of units, queues, tokens, arbiter and memory.

    Parameters
    ----------
    board: whose memory is behind the port, a prediction; None: the memory of the RTL harness, whose
        cycles are those of RTL.
    """

    def __init__(self, board: Board | None = None):
        self._board = board
        self.name = "cycle" if board is None else f"cycle-{board.name}"

    def run(
        self, program: Program, config: AcceleratorConfig, memory: Bytes, options: Options
    ) -> BackendResult:
        """Run a program; see `sim.backend.Backend`.

        Raises
        ------
        InputError
            If the program does not fit into the board's memory.
        """
        if self._board is not None:
            check_fits(program, self._board.name, self._board.memory_bytes)
        values = FunctionalBackend().run(program, config, memory, options)
        return timed(values, program, config, self._board)


def timed(
    values: BackendResult, program: Program, config: AcceleratorConfig, board: Board | None = None
) -> BackendResult:
    """What the functional machine found, with the times that the same run takes.

    Parameters
    ----------
    values: with its trace.
    board: see `CycleBackend`.
    """
    steps = values.trace
    assert steps is not None
    begin = time.perf_counter()
    memory = None
    if board is not None:
        memory = BoardMemory(board, config.port.bytes, program.dram_base)
    code = program.code_address, len(program.instructions)
    model = CoreModel(config, steps, *code, memory)
    try:
        model.run()
    except TimelineError as error:
        raise SimulatorError(str(error)) from error
    units = model.units
    return BackendResult(
        image=values.image,
        cycles=model.cycles,
        timeline=timeline(
            steps,
            {unit: np.array(times.issue, np.int64) for unit, times in units.items()},
            {unit: np.array(times.done, np.int64) for unit, times in units.items()},
        ),
        counters=counters(model, steps, config),
        wall_s=time.perf_counter() - begin,
        halt_code=values.halt_code,
        trace=steps,
        saturation=values.saturation,
    )
