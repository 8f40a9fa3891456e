"""The result of a run, as run.json holds it. Reports read this and nothing else.

Format version 1. A consumer must refuse another version; fields may be added within a version.
Cycles count from the start of the run; where time was not simulated, everything that needs it is
None (null), never zero.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sim.compare import Difference

VERSION = 2


class ResultError(ValueError):
    """A file that is not a result, or of another version."""


@dataclasses.dataclass(frozen=True, slots=True)
class LayerResult:
    """One fused operator.

    Attributes
    ----------
    name, op, tiling, tensors: as in the program.
    instructions: executed instructions of the layer, the sequencer's included.
    executions: how often it ran; 0 in an arm that was not taken.
    first_cycle, last_cycle: issue of its first and end of its last unit instruction.
    cycles: share of the run: from the end of all earlier layers to the end of this one. Over all
        layers they add up to the end of the last instruction.
    macs: multiply-accumulates of the original operator.
    array_vectors: vectors that its ARRAY instructions stream.
    utilization: array_vectors / cycles; the share of time in which the array took a vector.
    roofline_cycles: bound.
    read_bytes, write_bytes: DRAM traffic of its LOADs and STOREs.
    saturation: share of its requantized values that lie at a clamp limit (with a ReLU, zeros
        too); functional simulation only.
    energy: joules by component; "leakage" only where cycles are known.
    """

    name: str
    op: str
    instructions: int
    first_cycle: int | None
    last_cycle: int | None
    cycles: int | None
    macs: int
    array_vectors: int
    utilization: float | None
    roofline_cycles: int
    read_bytes: int
    write_bytes: int
    saturation: float | None
    energy: Mapping[str, float]
    tiling: Mapping[str, Any]
    tensors: tuple[str, ...] = ()
    executions: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Instructions:
    """Executed unit instructions in dispatch order, as equally long columns.

    Attributes
    ----------
    unit: names. layer: index into the layers, −1 for none. pc: index in the program.
    issue, start, end: cycles; empty where time was not simulated.
    bytes: that LOAD and STORE move; 0 of other units; empty where time was not simulated.
    """

    unit: tuple[str, ...] = ()
    layer: tuple[int, ...] = ()
    pc: tuple[int, ...] = ()
    issue: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    bytes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class StepResult:
    """One of consecutive runs, or a trip of a Loop; fields as in `RunResult`.

    Attributes
    ----------
    began: of a trip: the cycle at which everything before it had ended. None of a run.
    """

    equal: bool | None
    tensors_compared: int
    cycles: int | None
    dram_bytes: int
    energy_j: float | None
    halt_code: int
    path: tuple[str, ...] = ()
    began: int | None = None

    @classmethod
    def of(cls, result: RunResult) -> StepResult:
        """The summary of a run."""
        names = [f.name for f in dataclasses.fields(cls) if f.name != "began"]
        return cls(**{name: getattr(result, name) for name in names})


@dataclasses.dataclass(frozen=True, slots=True)
class RunResult:
    """A run, or consecutive ones.

    Of those `equal`, `tensors_compared`, `first_difference` and `wall_s` are of all steps,
    everything else is of the last one.

    Attributes
    ----------
    network, config, backend: names. fingerprint: of the configuration, 16 hexadecimal digits.
    checked: whether a reference was computed (`--check`); otherwise recorded outputs only.
    equal: every compared tensor equals its reference; None if there was nothing to compare with.
    tensors_compared: stored tensors compared.
    first_difference: None, or the first one.
    cycles: from the start until the interrupt.
    macs: multiply-accumulates of the original network, of layers that ran.
    multipliers: of the array.
    mac_per_multiplier_cycle: macs / (multipliers · cycles).
    roofline_cycles: Σ over layers.
    dram_bytes: LOAD and STORE data; fetch_bytes: instructions.
    energy_table, energy_reference: name, and `EnergyTable.describe`: sources and uncertainty;
        "action_pj": `EnergyTable.prices`.
    energy: joules by component; energy_j: their sum, None unless leakage is known.
    wall_s: seconds of simulation; sim_khz: simulated cycles per millisecond.
    halt_code: of the program.
    counters: performance counters (registers.COUNTERS), as far as the backend has them.
    actions: action counts of the whole run.
    layers, instructions: details.
    memory: `sim.memory.Region` of the DRAM image, as mappings.
    scratchpads: ``capacity``, rows (or beats) by name, and ``used`` by each layer; with times,
        ``live``: rows that something still reads, over time (`sim.liveness.live_rows`).
    input: `sim.inputs.Given.record`: source, digest, how pixels became numbers.
    answers: `sim.answers.Answer` of every output, as mappings.
    distances: `sim.distance.Distance` of every output, as mappings; empty without a float model.
    version: of the format.
    steps: summaries of consecutive runs in order; empty where there was one run only.
    path: names of the basic blocks in the order in which they ran; empty without branches.
    trips: of the program's longest loop, each as a step (not compared apart); empty without loops.
    """

    network: str
    config: str
    fingerprint: str
    backend: str
    checked: bool
    equal: bool | None
    tensors_compared: int
    first_difference: Difference | None
    cycles: int | None
    macs: int
    multipliers: int
    mac_per_multiplier_cycle: float | None
    roofline_cycles: int
    dram_bytes: int
    fetch_bytes: int
    energy_j: float | None
    energy_table: str
    energy: Mapping[str, float]
    wall_s: float
    sim_khz: float | None
    halt_code: int
    counters: Mapping[str, int]
    actions: Mapping[str, int]
    layers: tuple[LayerResult, ...]
    instructions: Instructions
    energy_reference: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    memory: Sequence[Mapping[str, Any]] = ()
    scratchpads: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    input: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    answers: Sequence[Mapping[str, Any]] = ()
    distances: Sequence[Mapping[str, Any]] = ()
    steps: tuple[StepResult, ...] = ()
    path: tuple[str, ...] = ()
    trips: tuple[StepResult, ...] = ()
    version: int = VERSION

    def summary(self) -> dict[str, Any]:
        """Everything but the per-layer and per-instruction details (what `--json` prints)."""
        content = dataclasses.asdict(self)
        for name in ("layers", "instructions", "actions", "energy_reference"):
            del content[name]
        return content

    def save(self, path: Path) -> None:
        """Write run.json (to a temporary name first, so that no partial file is left)."""
        temporary = path.with_name(path.name + ".partial")
        temporary.write_text(json.dumps(dataclasses.asdict(self)) + "\n")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> RunResult:
        """Read run.json.

        Raises
        ------
        ResultError
            If it is missing, no result, or of another version.
        """
        try:
            content = json.loads(path.read_text())
        except OSError as error:
            raise ResultError(f"cannot read the result {path}: {error.strerror}") from error
        except ValueError as error:
            raise ResultError(f"{path} is not a result: {error}") from error
        if not isinstance(content, dict) or "version" not in content:
            raise ResultError(f"{path} is not a result: it names no version of its format")
        if content["version"] != VERSION:
            why = f"its format is version {content['version']}, and {VERSION} is read"
            raise ResultError(f"{path}: {why}; {_again(path, content)}")
        try:
            return cls.from_mapping(content)
        except ResultError as error:
            raise ResultError(f"{path}: {error}; {_again(path, content)}") from error

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> RunResult:
        """Build from what `dataclasses.asdict` gave, after a passage through JSON.

        Raises
        ------
        ResultError
            If a field is missing or unknown.
        """
        values = dict(content)
        try:
            values["layers"] = tuple(
                LayerResult(**{**layer, "tensors": tuple(layer["tensors"])})
                for layer in values["layers"]
            )
            values["instructions"] = Instructions(
                **{name: tuple(column) for name, column in values["instructions"].items()}
            )
            values["steps"] = tuple(
                StepResult(**{**step, "path": tuple(step["path"])}) for step in values["steps"]
            )
            values["trips"] = tuple(
                StepResult(**{**trip, "path": tuple(trip["path"])})
                for trip in values.get("trips", ())
            )
            values["path"] = tuple(values["path"])
            if values["first_difference"] is not None:
                found = values["first_difference"]
                values["first_difference"] = Difference(**{**found, "index": tuple(found["index"])})
            for name in ("memory", "answers", "distances"):
                values[name] = tuple(values.get(name, ()))
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ResultError(
                f"another version of the toolkit wrote it, its fields differ ({error})"
            ) from error


def _again(path: Path, content: Mapping[str, Any]) -> str:
    """How to make a result anew that cannot be read: BUILD/runs/NAME/run.json knows its build."""
    build = path.parent.parent.parent if path.parent.parent.name == "runs" else "BUILD"
    words = f"python -m sim run {build} --on {content.get('backend', 'cycle')}"
    source = (content.get("input") or {}).get("source", "recorded")
    return f"run it again: {words}" + (f" --input {source}" if source != "recorded" else "")
