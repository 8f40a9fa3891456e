"""From what a backend gives to a `RunResult`: layers, traffic, energy."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, Unit
from hw.arch.program import Program
from hw.arch.timing import array_blocks
from hw.arch.walk import array_positions
from hw.timeline.attribution import attributed, layer_of
from hw.timeline.step import Step
from sim import each_trip, path
from sim.backend import BackendResult, Timeline
from sim.compare import Comparison
from sim.energy import Action, EnergyTable, count_actions
from sim.energy.actions import Actions
from sim.liveness import live_rows
from sim.memory import capacity, occupancy, regions
from sim.result import Instructions, LayerResult, RunResult


@dataclasses.dataclass
class _Sums:
    """What the executed instructions of one layer add up to."""

    instructions: int = 0
    vectors: int = 0
    actions: Actions = dataclasses.field(default_factory=Counter)


def _sum_up(
    trace: Sequence[Step], owner: npt.NDArray[np.int64], layers: int, config: AcceleratorConfig
) -> list[_Sums]:
    """Sums per layer; the last entry is of the instructions that belong to none."""
    sums = [_Sums() for _ in range(layers + 1)]
    for step in trace:
        entry = sums[int(owner[step.pc])]
        entry.instructions += 1
        entry.actions.update(count_actions(step.instruction, config))
        if isinstance(step.instruction, Array):
            entry.vectors += array_positions(step.instruction) * array_blocks(step.instruction)
    return sums


def _spans(
    timeline: Timeline | None, owner: npt.NDArray[np.int64], layers: int
) -> list[tuple[int, int, int] | None]:
    """First and last cycle of each layer, in all trips, and the cycles attributed to it."""
    if timeline is None:
        return [None] * layers
    mine = owner[timeline.pc]
    cycles = attributed(mine, timeline.end, layers)
    result: list[tuple[int, int, int] | None] = []
    reached = 0
    for index in range(layers):
        own = mine == index
        if not own.any():
            result.append((reached, reached, 0))
            continue
        last = int(timeline.end[own].max())
        result.append((int(timeline.issue[own].min()), last, int(cycles[index])))
        reached = max(reached, last)
    return result


def _saturation(result: BackendResult, first: int, last: int) -> float | None:
    pairs = [v for pc, v in result.saturation.items() if first <= pc < last]
    values = sum(count for _, count in pairs)
    return sum(low for low, _ in pairs) / values if values else None


def _layers(
    program: Program,
    config: AcceleratorConfig,
    table: EnergyTable,
    result: BackendResult,
    sums: Sequence[_Sums],
    owner: npt.NDArray[np.int64],
    executions: Sequence[int],
) -> tuple[LayerResult, ...]:
    beat = config.port.bytes
    spans = _spans(result.timeline, owner, len(program.layers))
    layers = []
    for layer, entry, span, ran in zip(program.layers, sums, spans, executions, strict=False):
        cycles = None if span is None else span[2]
        actions = entry.actions.copy()
        if cycles is not None:
            actions[Action.CYCLE] = cycles
        layers.append(
            LayerResult(
                name=layer.name,
                op=layer.op,
                instructions=entry.instructions,
                first_cycle=None if span is None else span[0],
                last_cycle=None if span is None else span[1],
                cycles=cycles,
                macs=layer.macs * ran,
                array_vectors=entry.vectors,
                utilization=entry.vectors / cycles if cycles else None,
                roofline_cycles=layer.roofline_cycles * ran,
                read_bytes=actions[Action.DRAM_READ] * beat,
                write_bytes=actions[Action.DRAM_WRITE] * beat,
                saturation=_saturation(result, layer.first, layer.last),
                energy=table.joules(actions, config),
                tiling=layer.tiling,
                tensors=layer.tensors,
                executions=ran,
            )
        )
    return tuple(layers)


def _instructions(
    timeline: Timeline | None,
    owner: npt.NDArray[np.int64],
    trace: Sequence[Step],
    config: AcceleratorConfig,
) -> Instructions:
    if timeline is None:
        return Instructions()
    moved = (_moved(step, config) for step in trace if step.unit is not None)
    return Instructions(
        unit=tuple(Unit(int(u)).name for u in timeline.unit),
        layer=tuple(int(i) for i in owner[timeline.pc]),
        pc=tuple(timeline.pc.tolist()),
        issue=tuple(timeline.issue.tolist()),
        start=tuple(timeline.start.tolist()),
        end=tuple(timeline.end.tolist()),
        bytes=tuple(moved),
    )


def _moved(step: Step, config: AcceleratorConfig) -> int:
    """Bytes that an instruction moves over the memory port."""
    if step.unit not in (Unit.LOAD, Unit.STORE):
        return 0
    actions = count_actions(step.instruction, config)
    return (actions[Action.DRAM_READ] + actions[Action.DRAM_WRITE]) * config.port.bytes


def collect(
    program: Program,
    config: AcceleratorConfig,
    backend: str,
    result: BackendResult,
    trace: Sequence[Step],
    comparison: Comparison | None,
    checked: bool,
    table: EnergyTable,
) -> RunResult:
    """Put a run's figures together.

    Parameters
    ----------
    trace: executed instructions; energy and traffic are counted from it, whatever the backend.
    comparison: with the reference, if there was one; `checked` says whether it was computed.
    """
    owner = layer_of(program)
    sums = _sum_up(trace, owner, len(program.layers), config)
    counts = path.executions(program, trace)
    layers = _layers(program, config, table, result, sums, owner, counts)
    actions: Actions = sum((s.actions for s in sums), Counter())
    cycles = result.cycles
    if cycles is not None:
        actions[Action.CYCLE] = cycles
    energy = table.joules(actions, config)
    macs = sum(layer.macs for layer in layers)
    multipliers = config.array.multipliers
    return RunResult(
        network=program.network,
        config=program.config,
        fingerprint=f"{config.fingerprint:016x}",
        backend=backend,
        checked=checked,
        equal=None if comparison is None else comparison.equal,
        tensors_compared=0 if comparison is None else comparison.compared,
        first_difference=None if comparison is None else comparison.first,
        cycles=cycles,
        macs=macs,
        multipliers=multipliers,
        mac_per_multiplier_cycle=macs / (multipliers * cycles) if cycles else None,
        roofline_cycles=sum(layer.roofline_cycles for layer in layers),
        dram_bytes=(actions[Action.DRAM_READ] + actions[Action.DRAM_WRITE]) * config.port.bytes,
        fetch_bytes=actions[Action.FETCH] * config.port.bytes,
        energy_j=None if cycles is None else math.fsum(energy.values()),
        energy_table=table.name,
        energy_reference=table.describe() | {"action_pj": table.prices(config)},
        energy=energy,
        wall_s=result.wall_s,
        sim_khz=cycles / result.wall_s / 1e3 if cycles and result.wall_s > 0 else None,
        halt_code=result.halt_code,
        counters=dict(result.counters),
        actions={action.value: count for action, count in actions.items() if count},
        layers=layers,
        path=path.names(program, trace),
        trips=each_trip.trips(program, config, table, result, trace),
        instructions=_instructions(result.timeline, owner, trace, config),
        memory=tuple(dataclasses.asdict(r) for r in regions(program, trace, owner, config)),
        scratchpads=_scratchpads(program, config, result, trace, owner),
    )


def _scratchpads(
    program: Program,
    config: AcceleratorConfig,
    result: BackendResult,
    trace: Sequence[Step],
    owner: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """How large they are, what each layer uses of them, and what lives in them over time."""
    found = {
        "capacity": capacity(config),
        "used": occupancy(trace, owner, len(program.layers), config),
    }
    if result.timeline is not None and result.cycles:
        found["live"] = live_rows(trace, result.timeline, config, result.cycles)
    return found
