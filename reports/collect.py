"""From what the simulator wrote to a `Report`.

`read` reads run.json; `summarize` checks the simulator's result and turns it into a report.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw.arch.isa import Unit
from reports import bounds
from reports.choice import choice
from reports.report import (
    CLOCK_HZ,
    EnergyReference,
    LayerRow,
    Live,
    Region,
    Report,
    ReportError,
    Span,
    UnitTime,
)
from reports.timeline import coverage
from sim.result import ResultError, RunResult


def read(path: Path, clock_hz: float = CLOCK_HZ) -> Report:
    """Read run.json.

    Parameters
    ----------
    clock_hz: frequency for times.

    Raises
    ------
    ReportError
        If it is missing, damaged, of another version, or of a run without times.
    """
    if not path.is_file():
        raise ReportError(
            f"no run {path}; make one with: python -m sim run BUILD --on cycle -o {path}"
        )
    try:
        result = RunResult.load(path)
    except ResultError as error:
        raise ReportError(str(error)) from error
    try:
        return summarize(result, clock_hz)
    except ReportError as error:
        raise ReportError(f"{path}: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ReportError(f"{path} is damaged: {error}") from error


def summarize(result: RunResult, clock_hz: float = CLOCK_HZ) -> Report:
    """Turn a simulator's result into a report.

    Raises
    ------
    ReportError
        If the run has no times (functional simulation), or contradicts itself.
    """
    if result.cycles is None:
        raise ReportError(
            f"a run on {result.backend} has no cycles; run with --on cycle or --on rtl"
        )
    _check(result)
    spans = _spans(result)
    return Report(
        network=result.network,
        config=result.config,
        backend=result.backend,
        fingerprint=result.fingerprint,
        checked=result.checked,
        equal=result.equal,
        tensors_compared=result.tensors_compared,
        first_difference="" if result.first_difference is None else str(result.first_difference),
        halt_code=result.halt_code,
        cycles=result.cycles,
        macs=result.macs,
        multipliers=result.multipliers,
        port_bytes=_port_bytes(result),
        roofline_cycles=result.roofline_cycles,
        dram_bytes=result.dram_bytes,
        fetch_bytes=result.fetch_bytes,
        utilization=sum(layer.array_vectors for layer in result.layers) / result.cycles,
        energy=dict(result.energy),
        energy_table=_energy_table(result),
        wall_s=result.wall_s,
        sim_khz=result.sim_khz,
        layers=_layers(result, spans),
        spans=spans,
        units=_units(result, spans),
        counters=dict(result.counters),
        actions=dict(result.actions),
        regions=tuple(Region(**region) for region in result.memory),
        capacity=dict(result.scratchpads.get("capacity", {})),
        used=tuple(result.scratchpads.get("used", ())),
        live=Live(**result.scratchpads["live"]) if "live" in result.scratchpads else None,
        pictures=_pictures(result),
        answers=tuple(result.answers),
        clock_hz=clock_hz,
        path=result.path,
        steps=result.steps,
        trips=result.trips,
    )


def _check(result: RunResult) -> None:
    """Refuse a result whose parts contradict each other."""
    columns = [field.name for field in dataclasses.fields(result.instructions)]
    lengths = {name: len(getattr(result.instructions, name)) for name in columns}
    if not lengths["bytes"]:  # results that were written before it was kept
        del lengths["bytes"]
    if len(set(lengths.values())) != 1:
        raise ReportError(f"the timeline is damaged: its columns have the lengths {lengths}")
    cycles = result.cycles or 0
    if cycles <= 0 or result.multipliers <= 0:
        raise ReportError(f"{cycles} cycles and {result.multipliers} multipliers are no run")
    for index in result.instructions.layer:
        if not -1 <= index < len(result.layers):
            raise ReportError(f"an instruction belongs to layer {index} of {len(result.layers)}")
    for issue, end in zip(result.instructions.issue, result.instructions.end, strict=True):
        if not 0 <= issue <= end <= cycles:
            raise ReportError(f"an instruction runs from {issue} to {end} in {cycles} cycles")
    for layer in result.layers:
        if layer.cycles is None or layer.first_cycle is None or layer.last_cycle is None:
            raise ReportError(f"layer {layer.name} has no cycles, the run has {cycles}")
    attributed = sum(layer.cycles or 0 for layer in result.layers)
    if attributed > cycles:
        raise ReportError(f"the layers take {attributed} cycles, the run only {cycles}")


def _port_bytes(result: RunResult) -> int:
    """Width of the memory port, from beats and bytes of the instruction fetch."""
    beats = result.actions.get("fetch", 0)
    if beats <= 0 or result.fetch_bytes % beats:
        raise ReportError(f"{result.fetch_bytes} bytes of instructions in {beats} beats")
    return result.fetch_bytes // beats


def labels(names: Sequence[str]) -> list[str]:
    """Names of ONNX nodes without their kind: ``/conv1/temporal/Conv`` is ``conv1/temporal``.

    Names stay as they are if two of them would become the same.
    """
    short = [name.strip("/").rpartition("/")[0] or name for name in names]
    return short if len(set(short)) == len(names) else list(names)


def _layers(result: RunResult, spans: tuple[Span, ...]) -> tuple[LayerRow, ...]:
    made = ("label", "choice", "bound", "busy", "filled", "members")
    kept = [f.name for f in dataclasses.fields(LayerRow) if f.name not in made]
    short = labels([layer.name for layer in result.layers])
    of_unit: dict[str, list[Span]] = {}
    for span in spans:
        of_unit.setdefault(span.unit, []).append(span)
    units = {unit: coverage(inside) for unit, inside in of_unit.items()}
    rows = []
    for label, layer in zip(short, result.layers, strict=True):
        way = choice(layer.tiling)
        last, cycles = layer.last_cycle or 0, layer.cycles or 0
        moved = layer.read_bytes + layer.write_bytes
        busy = bounds.shares(units, last - cycles, last, moved, _port_bytes(result))
        rows.append(
            LayerRow(
                label=label,
                choice=way,
                bound=bounds.bound(busy),
                busy=busy,
                filled=bounds.filled(
                    layer.op, layer.macs, layer.array_vectors, result.multipliers, way
                ),
                members=members(layer.tiling),
                **{name: getattr(layer, name) for name in kept},
            )
        )
    return tuple(rows)


def members(tiling: Mapping[str, Any]) -> tuple[str, ...]:
    """Operators that are computed together, in order: stages of a chain, parts of a region.

    A chain that is part of a region has the name of its last stage.
    """
    stages, parts = tiling.get("stages", ()), tiling.get("parts", ())
    return tuple(dict.fromkeys((*stages, *parts)))


def _pictures(result: RunResult) -> int:
    """Frames that a run takes, as the shape of its only input tells; 0 where it does not."""
    shapes = list(result.input.get("shapes", {}).values())
    if len(shapes) != 1 or len(shapes[0]) not in (4, 5):
        return 0
    batch, *sizes = shapes[0]
    at = [i for i, size in enumerate(sizes) if size in (1, 3)]
    if len(sizes) == 3:
        return int(batch) if at else 0
    if at == [0]:
        return int(batch * sizes[1])
    return int(batch * sizes[0]) if at in ([1], [3]) else 0


def _energy_table(result: RunResult) -> EnergyReference:
    reference = result.energy_reference
    if not reference:
        return EnergyReference(result.energy_table)
    return EnergyReference(
        result.energy_table,
        reference["technology"],
        reference["uncertainty"],
        tuple((key, n["value"], n["source"]) for key, n in reference["numbers"].items()),
        dict(reference.get("action_pj", {})),
    )


def _spans(result: RunResult) -> tuple[Span, ...]:
    columns = result.instructions
    executed: Counter[tuple[str, int]] = Counter()
    spans = []
    moved = columns.bytes or (0,) * len(columns.unit)
    for unit, layer, pc, issue, end, size in zip(
        columns.unit, columns.layer, columns.pc, columns.issue, columns.end, moved, strict=True
    ):
        spans.append(Span(Unit[unit].name, layer, executed[unit, layer], pc, issue, end + 1, size))
        executed[unit, layer] += 1
    return tuple(sorted(spans, key=lambda span: (span.unit, span.issue)))


def _units(result: RunResult, spans: tuple[Span, ...]) -> tuple[UnitTime, ...]:
    """Split each unit's cycles, by its performance counters.

    A unit can hold one instruction while the next one waits; such cycles count as working.
    """
    instructions = Counter(span.unit for span in spans)
    cycles = result.cycles or 0
    units = []
    for unit in Unit:
        names = [f"{unit.name.lower()}_{what}" for what in ("busy", "wait", "memory")]
        if not instructions[unit.name] or any(name not in result.counters for name in names):
            continue
        busy, wait, memory = (result.counters[name] for name in names)
        token = min(wait, cycles - busy)
        idle = cycles - busy - token
        units.append(
            UnitTime(unit.name, busy - memory, memory, token, idle, instructions[unit.name])
        )
        if min(busy - memory, memory, token, idle) < 0:
            raise ReportError(
                f"the counters of {unit.name} contradict each other: busy {busy}, waiting {wait}, "
                f"on memory {memory}, of {cycles} cycles"
            )
    return tuple(units)
