"""Direct or in tiles of F(2×2,3×3): the two modes of a depthwise convolution.

Both modes take centred activations and the same taps, and leave the same accumulators. On an array
with fewer than nine rows tiles are also faster: DEPTHWISE takes one pass per weight block of taps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from compiler.array.depthwise import Depthwise
from compiler.array.depthwise_trial import trial_cycles
from compiler.array.energy import depthwise_picojoules
from compiler.array.forms import axes_of, axis_refusal
from compiler.array.hfa import Way, decide, each_timed, sizes
from compiler.emit.emitter import Emitter, RefusedError
from compiler.ir import Convolution
from compiler.policy import OFF, SUPPORTED, Policy
from compiler.tile.depthwise import DepthwiseProblem, DepthwiseTiling, order_of
from compiler.tile.geometry import merge
from hw.arch.config import AcceleratorConfig
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm

TILED = Algorithm(0, 1)
"""What mode HFA_DEPTHWISE computes."""
WINDOW = (1, 3, 3)


@dataclasses.dataclass(frozen=True, slots=True)
class DepthwiseWay(Way):
    """One way to compute a depthwise layer.

    Attributes
    ----------
    problem, tiling: what is tiled, and the best tiling.
    others: runners-up.
    """

    problem: DepthwiseProblem
    tiling: DepthwiseTiling
    others: Sequence[DepthwiseTiling]

    def in_cycles(self, cycles: int, config: AcceleratorConfig) -> DepthwiseWay:
        """The same in other time."""
        made = super(DepthwiseWay, self).in_cycles(cycles, config)
        return dataclasses.replace(made, tiling=dataclasses.replace(self.tiling, cycles=cycles))


def problem_of(op: Convolution, source: Tensor, config: AcceleratorConfig) -> DepthwiseProblem:
    """The direct form of a layer."""
    axes, _ = merge(axes_of(op, source))
    return DepthwiseProblem(config, axes, order_of(op), source.layout.blocks)


def unfit(op: Convolution, source: Tensor, config: AcceleratorConfig) -> str | None:
    """Why mode DEPTHWISE does not run a layer that suits it, or None if it does."""
    why = next(filter(None, map(axis_refusal, axes_of(op, source))), None)
    problem = problem_of(op, source, config)
    if why is not None or problem.fits():
        return why
    return (
        f"no tile of a depthwise kernel {sizes(op.kernel)} over lines of {problem.axes[0].size} "
        f"positions fits {config.name} ({config.memory.activation_rows} scratchpad rows, lines of "
        f"{config.memory.line_pixels})"
    )


def general_refusal(config: AcceleratorConfig, policy: Policy) -> str | None:
    """Why no layer in mode DEPTHWISE is transformed."""
    if "hfa_depthwise" not in config.features:
        return f"configuration {config.name} is built without hfa_depthwise"
    return "switched off (--hfa off)" if policy.hfa == OFF else None


def refusal(op: Convolution, algorithm: Algorithm) -> str | None:
    """Why an algorithm does not suit a layer in mode DEPTHWISE, or None if it does."""
    if algorithm != TILED:
        return f"a depthwise layer can only have {TILED.name}"
    if op.kernel != WINDOW:
        return f"a depthwise kernel of {sizes(op.kernel)} instead of {sizes(WINDOW)}"
    for name, stride in zip("tyx", op.stride, strict=True):
        if stride != 1:
            return f"stride {stride} along {name}"
    return None


def evaluate(problem: DepthwiseProblem, objective: str) -> DepthwiseWay | None:
    """A form with its best tiling, by the sums of its units; None where not one line fits."""

    def energy(tiling: DepthwiseTiling) -> float:
        return depthwise_picojoules(problem, tiling)

    ranked = problem.choose(energy if objective == "energy" else None)
    if not ranked:
        return None
    best = ranked[0]
    products = problem.work(best).multiplications
    return DepthwiseWay(
        problem.algorithm,
        best.cycles,
        best.beats,
        products,
        energy(best),
        problem,
        best,
        ranked[1:],
    )


def plan(
    op: Convolution, source: Tensor, target: Tensor, config: AcceleratorConfig, policy: Policy
) -> tuple[DepthwiseWay, dict[str, Any]]:
    """The best way to compute a depthwise layer, and the record of the choice (empty without hfa).

    Raises
    ------
    RefusedError
        If not even one line fits.
    """
    problem = problem_of(op, source, config)
    direct = evaluate(problem, policy.objective)
    if direct is None:
        raise RefusedError(unfit(op, source, config) or "no tile fits")

    def cycles(way: DepthwiseWay) -> int:
        return trial_cycles(op, source, target, way.problem, way.tiling)

    if "hfa" not in config.features:
        return each_timed([direct], cycles, config, policy)[0], {}
    found = [direct]
    refused: dict[str, str] = {}
    why = general_refusal(config, policy)
    for algorithm in SUPPORTED if why is None else ():
        unsuitable = refusal(op, algorithm)
        way = None
        if unsuitable is None:
            tiled = dataclasses.replace(problem, algorithm=algorithm)
            way = evaluate(tiled, policy.objective)
            unsuitable = "no tile of it fits the memories"
        if way is not None:
            found.append(way)
        else:
            refused[algorithm.name] = unsuitable
    if why is None and len(found) == 1:
        # What is said about the one algorithm there is counts for the layer.
        why = refused[TILED.name]
    found = each_timed(found, cycles, config, policy)
    return decide(found, refused, why, config, policy)


def lower(emitter: Emitter, op: Convolution, source: Tensor, target: Tensor) -> dict[str, Any]:
    """Emit a depthwise convolution; returns the tiling for the report.

    Raises
    ------
    CompilerError
        If not even one line fits.
    """
    way, record = plan(op, source, target, emitter.config, emitter.policy)
    Depthwise(emitter, op, source, target, way.problem, way.tiling).emit()
    report = way.tiling.describe()
    report["alternatives"] = [other.describe() for other in way.others]
    return {**report, "hfa": record} if record else report
