"""A run as the reports see it: what the simulator wrote, and what follows from it.

`read` reads run.json; `summarize` checks the simulator's result and turns it into a `Report`.
Tables, figures, trace and page know the `Report` only, so a change of the simulator's format ends
here, and two runs can be set side by side.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw.arch.isa import Unit
from reports.choice import DIRECT, Choice, choice
from reports.roofline import Roof, intensity
from sim.result import ResultError, RunResult


class ReportError(ValueError):
    """A run that cannot be reported on; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """One executed instruction.

    Attributes
    ----------
    unit: name of the unit, upper case.
    layer: index into the report's layers, −1 if the instruction belongs to none.
    number: counts the instruction's executions of its layer and unit from 0; the tile's number.
    index: instruction index in the program.
    issue, end: cycle of issue, and the cycle after its completion.
    """

    unit: str
    layer: int
    number: int
    index: int
    issue: int
    end: int


@dataclasses.dataclass(frozen=True, slots=True)
class UnitTime:
    """Where the cycles of one unit went; the four numbers add up to the run's cycles."""

    name: str
    working: int
    memory: int
    token: int
    idle: int
    instructions: int


@dataclasses.dataclass(frozen=True, slots=True)
class LayerRow:
    """One fused operator of the run.

    Attributes
    ----------
    name, op: as in the program. label: shorter, for figures and tables.
    first_cycle, last_cycle: of its instructions; layers overlap at their ends.
    cycles: the run's cycles attributed to it; over all layers they add up to the run.
    macs: multiply-accumulates of the original operator.
    utilization: share of `cycles` in which the array took a vector; None without cycles.
    roofline_cycles: bound.
    read_bytes, write_bytes: DRAM traffic.
    energy: joules by component.
    tiling: the compiler's choice.
    choice: direct or transformed; None if the compiler recorded none.
    """

    name: str
    label: str
    op: str
    first_cycle: int
    last_cycle: int
    cycles: int
    macs: int
    utilization: float | None
    roofline_cycles: int
    read_bytes: int
    write_bytes: int
    energy: Mapping[str, float]
    tiling: Mapping[str, Any]
    choice: Choice | None = None

    @property
    def dram_bytes(self) -> int:
        """Bytes over the memory port in both directions."""
        return self.read_bytes + self.write_bytes

    @property
    def energy_j(self) -> float:
        """Joules of all components."""
        return sum(self.energy.values())

    @property
    def algorithm(self) -> str:
        """How it multiplies; "" for a layer that does not."""
        if self.choice is not None:
            return self.choice.chosen
        return DIRECT if self.macs else ""

    @property
    def intensity(self) -> float:
        """Multiply-accumulates per DRAM byte."""
        return intensity(self.macs, self.dram_bytes)

    @property
    def roofline_share(self) -> float | None:
        """Bound over cycles: 1 is as fast as the machine allows."""
        return self.roofline_cycles / self.cycles if self.cycles else None

    def rate(self, multipliers: int) -> float | None:
        """Multiply-accumulates per multiplier and cycle."""
        return self.macs / (multipliers * self.cycles) if self.cycles else None


@dataclasses.dataclass(frozen=True, slots=True)
class EnergyTable:
    """The energy reference table of the run.

    Attributes
    ----------
    name, technology, uncertainty: what it stands for and how far to trust it.
    numbers: (key, value, source); empty if the run does not carry them.
    action_pj: picojoules of one action, by name; likewise.
    """

    name: str
    technology: str = ""
    uncertainty: str = ""
    numbers: tuple[tuple[str, float, str], ...] = ()
    action_pj: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """One run.

    Attributes
    ----------
    network, config, backend, fingerprint: what ran, on what.
    checked: compared with the PyTorch reference; otherwise with the recorded run only.
    equal: everything compared is equal; None if there was nothing to compare with.
    tensors_compared, tensors_overwritten: how far; the latter could not be compared any more.
    first_difference: "" if there is none.
    halt_code: of the program; 0 is success.
    cycles, macs, multipliers, port_bytes, roofline_cycles: totals and the machine.
    dram_bytes, fetch_bytes: data and instructions over the memory port.
    utilization: share of the run's cycles in which the array took a vector.
    energy: joules by component.
    energy_table: behind them.
    wall_s, sim_khz: duration and speed of the simulation; the speed is None if too short to tell.
    layers: in program order.
    spans: executed instructions, in order of issue within a unit.
    units: where each unit's cycles went; empty without counters.
    counters, actions: performance counters and action counts by name.
    """

    network: str
    config: str
    backend: str
    fingerprint: str
    checked: bool
    equal: bool | None
    tensors_compared: int
    tensors_overwritten: int
    first_difference: str
    halt_code: int
    cycles: int
    macs: int
    multipliers: int
    port_bytes: int
    roofline_cycles: int
    dram_bytes: int
    fetch_bytes: int
    utilization: float
    energy: Mapping[str, float]
    energy_table: EnergyTable
    wall_s: float
    sim_khz: float | None
    layers: tuple[LayerRow, ...]
    spans: tuple[Span, ...]
    units: tuple[UnitTime, ...]
    counters: Mapping[str, int]
    actions: Mapping[str, int]

    @property
    def title(self) -> str:
        """Network, configuration and backend in one line."""
        return f"{self.network} on {self.config}, {self.backend} simulation"

    @property
    def roof(self) -> Roof:
        """The machine's bound."""
        return Roof(self.multipliers, self.port_bytes)

    @property
    def rate(self) -> float:
        """Multiply-accumulates per multiplier and cycle."""
        return self.macs / (self.multipliers * self.cycles)

    @property
    def roofline_share(self) -> float:
        """Bound over cycles."""
        return self.roofline_cycles / self.cycles

    @property
    def energy_j(self) -> float:
        """Joules of all components."""
        return sum(self.energy.values())

    @property
    def verdict(self) -> str:
        """The comparison in words."""
        if self.equal is None:
            return "not compared with anything; run with --check"
        other = "PyTorch reference" if self.checked else "recorded run"
        if not self.equal:
            return f"differs from the {other}: {self.first_difference}"
        tensors = f"{self.tensors_compared} tensor{'s' * (self.tensors_compared != 1)}"
        return f"equal to the {other}, bit for bit, in {tensors}"

    @property
    def lanes(self) -> tuple[str, ...]:
        """Units that executed anything, in queue order."""
        seen = {span.unit for span in self.spans}
        return tuple(unit.name for unit in Unit if unit.name in seen)

    def span_name(self, span: Span) -> str:
        """Layer and tile of a span, e.g. ``conv1/t tile 3``."""
        if span.layer < 0:
            return f"instruction {span.index}"
        return f"{self.layers[span.layer].label} tile {span.number}"


def read(path: Path) -> Report:
    """Read run.json.

    Raises
    ------
    ReportError
        If it is missing, damaged, of another version, or of a run without times.
    """
    if not path.is_file():
        raise ReportError(
            f"no run {path}; make one with: python -m sim run {path.parent} --on cycle"
        )
    try:
        result = RunResult.load(path)
    except ResultError as error:
        raise ReportError(str(error)) from error
    try:
        return summarize(result)
    except ReportError as error:
        raise ReportError(f"{path}: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ReportError(f"{path} is damaged: {error}") from error


def summarize(result: RunResult) -> Report:
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
        tensors_overwritten=result.tensors_overwritten,
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
        layers=_layers(result),
        spans=spans,
        units=_units(result, spans),
        counters=dict(result.counters),
        actions=dict(result.actions),
    )


def _check(result: RunResult) -> None:
    """Refuse a result whose parts contradict each other."""
    columns = dataclasses.asdict(result.instructions)
    lengths = {name: len(column) for name, column in columns.items()}
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


def _layers(result: RunResult) -> tuple[LayerRow, ...]:
    made = ("label", "choice")
    kept = [f.name for f in dataclasses.fields(LayerRow) if f.name not in made]
    short = labels([layer.name for layer in result.layers])
    return tuple(
        LayerRow(
            label=label,
            choice=choice(layer.tiling),
            **{name: getattr(layer, name) for name in kept},
        )
        for layer, label in zip(result.layers, short, strict=True)
    )


def _energy_table(result: RunResult) -> EnergyTable:
    reference = result.energy_reference
    if not reference:
        return EnergyTable(result.energy_table)
    return EnergyTable(
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
    for unit, layer, pc, issue, end in zip(
        columns.unit, columns.layer, columns.pc, columns.issue, columns.end, strict=True
    ):
        spans.append(Span(Unit[unit].name, layer, executed[unit, layer], pc, issue, end + 1))
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
