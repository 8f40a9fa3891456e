"""Which layers run transformed (hFA), by which algorithm, and why others do not.

A transformed layer gives the same results as a direct one, to the last bit; the choice is a matter
of cycles, energy or multiplications only. Its operands are raw s8 (hw/arch/winograd.py), hence its
bias has the zero point folded in.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar

import numpy as np

from compiler.array.energy import moved_picojoules
from compiler.array.job import Job
from compiler.emit.transfers import Strided
from compiler.ir import Convolution
from compiler.policy import NAMES, OFF, Policy, nested, plain
from compiler.ranking import timed
from compiler.tile.geometry import Axis
from compiler.tile.parts import DIRECT, outputs_of, points_of
from compiler.tile.problem import Tiling
from hw.arch.config import AcceleratorConfig
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm, folded_bias, raw_zero_point

TAPS = 3
"""Kernel size of every transformed axis."""


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """One way to compute a layer, as far as the choice is concerned.

    Attributes
    ----------
    algorithm: `DIRECT` where nothing is transformed.
    cycles: estimate.
    beats: moved between DRAM and the chip.
    multiplications: that the array performs, idle lanes and ragged tiles included.
    energy_pj: estimate; see compiler/array/energy.py.
    """

    algorithm: Algorithm
    cycles: int
    beats: int
    multiplications: int
    energy_pj: float

    @property
    def name(self) -> str:
        """Algorithm."""
        return self.algorithm.name

    @property
    def direct(self) -> bool:
        """Nothing is transformed."""
        return self.algorithm == DIRECT

    def merit(self, objective: str) -> tuple[float, float]:
        """What is minimized, and what decides between equals."""
        cycles = float(self.cycles)
        match objective:
            case "cycles":
                return cycles, self.energy_pj
            case "energy":
                return self.energy_pj, cycles
            case _:
                return float(self.multiplications), cycles

    @property
    def floor(self) -> float:
        """All of its cycles."""
        return self.cycles

    def in_cycles(self, cycles: int, config: AcceleratorConfig) -> Self:
        """The same in other time."""
        array = self.energy_pj - moved_picojoules(self.beats, self.cycles, config)
        energy = array + moved_picojoules(self.beats, cycles, config)
        return dataclasses.replace(self, cycles=cycles, energy_pj=energy)

    def describe(self, config: AcceleratorConfig) -> dict[str, Any]:
        """For the record of the layer."""
        return {
            "cycles": self.cycles,
            "multiplications": self.multiplications,
            "energy_uj": round(self.energy_pj * 1e-6, 3),
            "dram_bytes": self.beats * config.port.bytes,
        }


AnyWay = TypeVar("AnyWay", bound=Way)


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate(Way):
    """One way to compute a dense layer.

    Attributes
    ----------
    job, tiling: form and best tiling.
    others: runners-up.
    """

    job: Job
    tiling: Tiling
    others: Sequence[Tiling]

    def in_cycles(self, cycles: int, config: AcceleratorConfig) -> Candidate:
        """The same in other time."""
        made = super(Candidate, self).in_cycles(cycles, config)
        return dataclasses.replace(made, tiling=dataclasses.replace(self.tiling, cycles=cycles))


def general_refusal(op: Convolution, config: AcceleratorConfig, policy: Policy) -> str | None:
    """Why no algorithm is even tried on a layer."""
    if "hfa" not in config.features:
        return f"configuration {config.name} is built without hfa"
    if policy.hfa == OFF:
        return "switched off (--hfa off)"
    if op.groups > 1:
        return f"{op.groups} groups: only dense convolutions are transformed"
    if not any(k == TAPS for k in op.kernel):
        return f"a kernel of {sizes(op.kernel)}: no axis has {TAPS} taps"
    return None


def refusal(
    op: Convolution, job: Job, algorithm: Algorithm, config: AcceleratorConfig
) -> str | None:
    """Why an algorithm does not suit a form of a layer, or None if it does."""
    if nested(algorithm) and "hfa_nested" not in config.features:
        return f"configuration {config.name} is built without nested hfa"
    if job.packing is not None and job.packing.across is not None:
        return "its lines are packed in pairs"
    if job.phases is not None:
        return "several results share a pass"
    if len(set(job.first_block)) > 1:
        return "its output blocks do not share the input blocks"
    axes = job.problem.axes
    named = list(zip("xyt", axes, outputs_of(algorithm), strict=True))
    for name, axis, m in named:
        if m > 1 and axis.kernel != TAPS:
            return f"{axis.kernel} tap{'s' * (axis.kernel > 1)} along {name} instead of {TAPS}"
    if not algorithm.spatial and (axes[0].kernel, axes[1].kernel) != (1, 1):
        return f"{axes[0].kernel}×{axes[1].kernel} taps along x and y have to be transformed too"
    for name, axis, m in named:
        why = _axis_refusal(name, axis, m)
        if why is not None:
            return why
    points = math.prod(points_of(algorithm))
    rows = min(config.memory.accumulator_rows, config.memory.transformed_rows)
    if points > rows:
        return f"{points} points of a tile do not fit {rows} rows"
    taps = math.prod(op.kernel)
    verdict = algorithm.fits(config.array, config.memory, op.in_channels, taps=taps)
    return None if verdict else verdict.reason


def _axis_refusal(name: str, axis: Axis, outputs: int) -> str | None:
    if outputs == 1:
        if axis.pool > 1:
            return f"a pool of {axis.pool} along {name}, which is not transformed"
        return None
    if axis.stride != 1:
        return f"stride {axis.stride} along {name}"
    if outputs % axis.pool:
        return f"a pool of {axis.pool} along {name} crosses tiles of {outputs}"
    if axis.pool > 1 and axis.dilation > 1:
        return f"a pool along {name}, which is dilated by {axis.dilation}"
    return None


def transformed(job: Job, algorithm: Algorithm, parameters: Sequence[bytes]) -> Job:
    """A direct form of a layer, transformed; `parameters` hold the folded bias."""
    return dataclasses.replace(
        job,
        problem=dataclasses.replace(job.problem, algorithm=algorithm),
        kernel=dataclasses.replace(job.kernel, algorithm=algorithm),
        parameters=parameters,
    )


def turned(job: Job) -> Job | None:
    """A layer along x or y alone (Conv1d), laid along t, where a single axis can be transformed."""
    axes = job.problem.axes
    long = [d for d in range(3) if axes[d].size > 1 or axes[d].kernel > 1]
    if job.packing is not None or job.phases is not None or long not in ([0], [1]):
        return None
    (d,) = long

    def swap(values: Sequence[Any]) -> Any:
        result = list(values)
        result[d], result[2] = result[2], result[d]
        return tuple(result)

    def view(old: Strided) -> Strided:
        return dataclasses.replace(old, sizes=swap(old.sizes), pitches=swap(old.pitches))

    return dataclasses.replace(
        job,
        problem=dataclasses.replace(job.problem, axes=swap(axes)),
        kernel=dataclasses.replace(job.kernel, axes=swap(axes)),
        source=view(job.source),
        target=view(job.target),
        weights=np.ascontiguousarray(np.swapaxes(job.weights, 2, 4 - d)),
    )


def fold(op: Convolution, source: Tensor) -> Convolution:
    """The operator with the zero point of raw activations in its bias.

    Raises
    ------
    ValueError
        If the bias leaves its 32 bits: the layer has to stay direct.
    """
    zero = raw_zero_point(source.zero_point, source.signed)
    bias = folded_bias(op.bias.astype(np.int64), op.weight.astype(np.int64), zero)
    return dataclasses.replace(op, bias=bias.astype(np.int32))


def sizes(values: Sequence[int]) -> str:
    """As text: 1×3×3."""
    return "×".join(str(v) for v in values)


def each_timed(
    found: Iterable[AnyWay],
    cycles: Callable[[AnyWay], int],
    config: AcceleratorConfig,
    policy: Policy,
) -> list[AnyWay]:
    """The best way with each algorithm, best first; timed where it is asked for or may be best.

    Parameters
    ----------
    found: by their sums. cycles: of one, timed.
    """
    objective = policy.objective
    ways = sorted(found, key=lambda way: way.merit(objective))
    names = dict.fromkeys(way.name for way in ways)
    apart = [ways] if policy.forced is None else [[w for w in ways if w.name == n] for n in names]
    return [
        way
        for some in apart
        for way in timed(some, cycles, objective, config, kind=lambda way: way.name, most=0)
    ]


def decide(
    found: Sequence[AnyWay],
    refused: Mapping[str, str],
    why: str | None,
    config: AcceleratorConfig,
    policy: Policy,
) -> tuple[AnyWay, dict[str, Any]]:
    """Choose among candidates, and record why.

    Parameters
    ----------
    found: direct forms and transformed ones.
    refused: reason by algorithm.
    why: why no algorithm was tried, or None.
    config, policy: accelerator and wishes.

    Returns
    -------
    The chosen candidate and the layer's record (docs/architecture.md, "Direct or transformed").
    """
    direct = min((c for c in found if c.direct), key=lambda c: c.merit(policy.objective))
    others = [c for c in found if not c.direct]
    chosen = min((direct, *others), key=lambda c: c.merit(policy.objective))
    if policy.forced is not None:
        chosen = next((c for c in others if c.algorithm == policy.forced), direct)
        if chosen is direct and why is None:
            why = f"{policy.forced.name}: {refused[policy.forced.name]}"
    elif chosen is direct and why is None:
        best = min(others, key=lambda c: c.merit(policy.objective), default=None)
        if best is None:
            why = "; ".join(dict.fromkeys(refused.values()))
        else:
            mine, its = direct.merit(policy.objective)[0], best.merit(policy.objective)[0]
            why = f"{policy.objective}: {mine:,.0f} direct, {its:,.0f} with {best.name}"
    ways = {c.name: c.describe(config) for c in (direct, *others)}
    return chosen, {
        "chosen": chosen.name,
        "objective": policy.objective,
        "asked": policy.hfa,
        "reason": "" if why is None or chosen is not direct else why,
        "candidates": ways,
        "refused": dict(refused),
    }


def possible(tiling: Mapping[str, Any], policy: Policy) -> list[Algorithm]:
    """Algorithms that a lowered layer could have taken under a policy, by its record."""
    if "depthwise" in tiling:  # a chain
        names = [tiling["depthwise"], *([tiling["temporal"]] if "temporal" in tiling else [])]
    else:
        record = tiling.get("hfa", {})
        names = list(record.get("candidates", ()))
        if policy.forced is not None:
            names = [record["chosen"]] if record else []
    return [NAMES[plain(name)] for name in names if plain(name) in NAMES]
