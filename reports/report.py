"""A run as the reports see it.

Tables, figures, trace and page know the `Report` only; collect.py makes it of what the simulator
wrote. So a change of the simulator's format ends there, and two runs can be set side by side.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hw.arch.isa import Unit
from reports.choice import DIRECT, Choice
from reports.roof import Roof, intensity
from reports.units import si
from sim.result import StepResult

CLOCK_HZ = 1e8


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
    bytes: that it moves over the memory port.
    """

    unit: str
    layer: int
    number: int
    index: int
    issue: int
    end: int
    bytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Region:
    """A region of DRAM; `first` and `last` are layers (see `sim.memory.Region`)."""

    kind: str
    name: str
    address: int
    bytes: int
    first: int
    last: int


@dataclasses.dataclass(frozen=True, slots=True)
class Live:
    """Rows of the scratchpads that something still reads (see `sim.liveness`).

    Attributes
    ----------
    interval: cycles of each. rows: by scratchpad, the mean over each interval.
    """

    interval: float
    rows: Mapping[str, Sequence[float]]


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
    bound: what holds it up: ``array``, ``memory``, ``vector``, ``drain`` or ``latency``
        (`reports.bounds`); busy: share of its cycles in which each of these had work.
    filled: share of the multipliers that do useful work when the array takes a vector.
    members: operators of the file that it joins; () if it is one.
    executions: how often it ran; 0 in an arm of a branch that was not taken.
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
    bound: str = ""
    busy: Mapping[str, float] = dataclasses.field(default_factory=dict)
    filled: float | None = None
    members: tuple[str, ...] = ()
    executions: int = 1

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
class EnergyReference:
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
    tensors_compared: how far.
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
    regions: of the DRAM image; () in runs that do not tell.
    capacity: rows of every scratchpad; used: by each layer; live: over time, where it is known.
    pictures: frames of the only input, 0 where it takes none.
    answers: the largest values of the outputs, as run.json has them.
    clock_hz: frequency for times; the circuit's is a matter of the part.
    path: names of the program's blocks as they ran; () without branches.
    steps: summaries of consecutive runs, of which this is the last; () where it is the only one.
    trips: of the program's longest loop; () without loops.
    """

    network: str
    config: str
    backend: str
    fingerprint: str
    checked: bool
    equal: bool | None
    tensors_compared: int
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
    energy_table: EnergyReference
    wall_s: float
    sim_khz: float | None
    layers: tuple[LayerRow, ...]
    spans: tuple[Span, ...]
    units: tuple[UnitTime, ...]
    counters: Mapping[str, int]
    actions: Mapping[str, int]
    regions: tuple[Region, ...] = ()
    capacity: Mapping[str, int] = dataclasses.field(default_factory=dict)
    used: tuple[Mapping[str, int], ...] = ()
    live: Live | None = None
    pictures: int = 0
    answers: tuple[Mapping[str, Any], ...] = ()
    clock_hz: float = CLOCK_HZ
    path: tuple[str, ...] = ()
    steps: tuple[StepResult, ...] = ()
    trips: tuple[StepResult, ...] = ()

    @property
    def ran(self) -> Sequence[LayerRow]:
        """Layers that were executed, in program order."""
        return [layer for layer in self.layers if layer.executions]

    @property
    def seconds(self) -> float:
        """Time of the run at `clock_hz`."""
        return self.cycles / self.clock_hz

    @property
    def speed(self) -> str:
        """Runs, and pictures where it takes some, per second at `clock_hz`."""
        words = f"{si(1 / self.seconds)} runs/s"
        if self.pictures > 1:
            words += f", {si(self.pictures / self.seconds)} frames/s"
        return f"{words} at {si(self.clock_hz, 'Hz')}"

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

    def trip(self, cycle: float) -> int | None:
        """The trip, from 0, that what begins at a cycle belongs to; None outside of the Loop.

        Every trip begins and ends with a FENCE, so nothing of one is issued in another.
        """
        begins = [each.began for each in self.trips if each.began is not None]
        number = bisect.bisect_right(begins, cycle) - 1
        if len(begins) < len(self.trips) or number < 0:
            return None
        over = number == len(begins) - 1 and cycle >= begins[-1] + (self.trips[-1].cycles or 0)
        return None if over else number

    def span_name(self, span: Span) -> str:
        """Layer, tile and trip of a span, e.g. ``conv1/t tile 3, trip 7``."""
        trip = self.trip(span.issue)
        within = "" if trip is None else f", trip {trip}"
        if span.layer < 0:
            return f"instruction {span.index}{within}"
        return f"{self.layers[span.layer].label} tile {span.number}{within}"
