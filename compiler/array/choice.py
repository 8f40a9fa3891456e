"""A convolution that runs in GEMM mode: the best form, algorithm and tiling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compiler.array.energy import layer_picojoules
from compiler.array.forms import axes_of, axis_refusal, jobs, packed_parameters
from compiler.array.gemm import GemmEmission
from compiler.array.hfa import (
    Candidate,
    decide,
    each_timed,
    fold,
    general_refusal,
    sizes,
    transformed,
    turned,
)
from compiler.array.hfa import refusal as algorithm_refusal
from compiler.array.job import Job
from compiler.array.packing import names
from compiler.array.tail import Tail, Trailing
from compiler.array.trial import trial_cycles
from compiler.emit.emitter import Emitter, Probe, RefusedError, holds
from compiler.ir import Convolution
from compiler.policy import SUPPORTED, Policy
from compiler.tile.geometry import product
from compiler.tile.parts import DIRECT
from compiler.tile.problem import Tiling
from compiler.tile.tiling import candidates, choose
from hw.arch.config import AcceleratorConfig
from hw.arch.program import Tensor

GUEST_SLOTS = 4
"""Pieces of a guest's weights in half of the memory: one is used, the others are on their way."""


def direct_candidates(
    forms: Sequence[Job], config: AcceleratorConfig, policy: Policy
) -> list[Candidate]:
    """Those of a convolution's forms that fit, computed directly."""
    found = []
    for job in forms:
        candidate = evaluate(job, config, policy.objective)
        if candidate is not None:
            found.append(candidate)
    return found


def expressible(job: Job, tiling: Tiling, config: AcceleratorConfig) -> bool:
    """Whether instructions hold what a tiling asks for."""
    return holds(lambda: GemmEmission(Probe(config), job, tiling).probe())


def refusal(
    op: Convolution,
    source: Tensor,
    target: Tensor,
    config: AcceleratorConfig,
    tail: Tail | Trailing | None = None,
) -> str | None:
    """Why no direct form of a convolution (with a tail) runs, or None if one does."""
    axes = axes_of(op, source)
    why = next(filter(None, map(axis_refusal, axes)), None)
    if why is not None:
        return why
    pools = [axis.pool for axis in axes]
    rows = config.memory.accumulator_rows
    if product(pools) > rows:
        return f"a fused pool of {pools} windows does not fit {rows} accumulator rows"
    for job in jobs(op, source, target, config, constants=False, tail=tail):
        if any(expressible(job, tiling, config) for tiling in candidates(job.problem, config)):
            return None
    needed = source.layout.blocks * product([axis.source((0, axis.pool))[1] for axis in axes])
    return (
        f"no tile fits: one result reads {sizes(op.kernel)} positions of {op.in_channels} "
        f"channels, {needed} rows of {source.layout.lanes} bytes; {config.name} has "
        f"{config.memory.activation_rows} scratchpad rows, a bank of them for results"
    )


def evaluate(job: Job, config: AcceleratorConfig, objective: str) -> Candidate | None:
    """A form with its best tiling, by the sums of its units; None where none fits."""

    def energy(tiling: Tiling) -> float:
        return layer_picojoules(job, tiling, config)

    choice = choose(
        job.problem,
        config,
        energy if objective == "energy" else None,
        lambda tiling: expressible(job, tiling, config),
    )
    if choice is None:
        return None
    tiling, others = choice
    products = tiling.vectors * config.array.multipliers
    return Candidate(
        job.kernel.algorithm,
        tiling.cycles,
        tiling.beats,
        products,
        energy(tiling),
        job,
        tiling,
        others,
    )


def plan(
    op: Convolution,
    source: Tensor,
    target: Tensor,
    config: AcceleratorConfig,
    policy: Policy | None = None,
    tail: Tail | Trailing | None = None,
) -> tuple[Candidate, dict[str, Any]]:
    """The best form, algorithm and tiling, and the record of the choice (empty without hfa).

    `tail` is what is done with the results before they are stored, or what trails them.

    Raises
    ------
    RefusedError
        If not even the smallest tile fits the memories.
    """
    policy = policy or Policy()
    forms = jobs(op, source, target, config, tail=tail)
    direct = direct_candidates(forms, config, policy)
    if not direct:
        raise RefusedError(refusal(op, source, target, config, tail) or "no tile fits")
    refused: dict[str, str] = {}
    why = general_refusal(op, config, policy)
    others = list[Candidate]()
    if why is None:
        others = transformed_candidates(op, source, target, forms, config, policy, refused)

    def cycles(way: Candidate) -> int:
        return trial_cycles(way.job, way.tiling, config)

    found = each_timed([*direct, *others], cycles, config, policy)
    if "hfa" not in config.features:
        return found[0], {}
    return decide(found, refused, why, config, policy)


def guest_tiling(job: Job, config: AcceleratorConfig) -> Tiling | None:
    """The tiling of a product that is woven into the layer before it; None where there is none.

    All results are summed up at a time, and each piece of the weights is of some lanes of the
    operand: as soon as these are there, it can be used.
    """
    problem = job.problem
    results = tuple(axis.out for axis in problem.axes)
    half = config.weight_beats // 2 // config.weight_block_beats

    def suits(tiling: Tiling) -> bool:
        pieces = tiling.pieces
        piece = pieces.blocks * product(pieces.taps) * tiling.group
        return (
            tiling.load == tiling.accumulator == results
            and tiling.group == problem.groups
            and not pieces.resident
            and GUEST_SLOTS * piece <= half
            and expressible(job, tiling, config)
        )

    if job.kernel.algorithm != DIRECT or job.packing is not None or job.phases is not None:
        return None
    found = choose(problem, config, accept=suits)
    return None if found is None else found[0]


def lower(
    emitter: Emitter,
    op: Convolution,
    source: Tensor,
    target: Tensor,
    tail: Tail | Trailing | None = None,
) -> dict[str, Any]:
    """Emit a convolution, and what is done with its results; returns the tiling for the report."""
    chosen, record = plan(op, source, target, emitter.config, emitter.policy, tail)
    job, tiling = chosen.job, chosen.tiling
    woven = guest_tiling(job, emitter.config) if op.output in emitter.guests else None
    tiling = woven or tiling
    GemmEmission(emitter, job, tiling, guest=woven is not None).emit()
    report = tiling.describe()
    if job.packing is not None:
        report["packed"] = names(job.packing)
    if job.phases is not None:
        report["together"] = f"{job.phases.count} along {'xyt'[job.phases.axis]}"
    report["alternatives"] = [other.describe() for other in chosen.others]
    if record:
        report["hfa"] = record
    return report


def transformed_candidates(
    op: Convolution,
    source: Tensor,
    target: Tensor,
    forms: Sequence[Job],
    config: AcceleratorConfig,
    policy: Policy,
    refused: dict[str, str],
) -> list[Candidate]:
    """Every algorithm on every form that suits it; others go to `refused` with a reason."""
    try:
        folded = fold(op, source)
    except ValueError as error:
        refused.update({a.name: str(error) for a in SUPPORTED})
        return []
    parameters = packed_parameters(folded, target.layout.lane_channels(), config.array.cols)
    forms = [*forms, *(t for t in map(turned, forms) if t is not None)]
    found = []
    for algorithm in SUPPORTED:
        why, fitting = "", list[Candidate]()
        for form in forms:
            reason = algorithm_refusal(op, form, algorithm, config)
            if reason is None:
                job = transformed(form, algorithm, parameters)
                candidate = evaluate(job, config, policy.objective)
                reason = "no tile of it fits the memories"
                fitting += [candidate] if candidate is not None else []
            # The first form is the plain one; its reason is the one that says most.
            why = why or reason
        found += fitting
        if not fitting:
            refused[algorithm.name] = why
    return found
