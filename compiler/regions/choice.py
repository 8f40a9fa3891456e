"""The best plan of a chain, what is said about it, and whether it is worth computing in strips."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compiler.array import depthwise_choice, hfa
from compiler.array.choice import plan as plan_dense
from compiler.array.depthwise_choice import TILED
from compiler.array.depthwise_choice import plan as plan_depthwise
from compiler.array.forms import jobs
from compiler.emit.transfers import tensor_of
from compiler.ir import Chain, CompilerError, TemporalResidual, TensorType
from compiler.ops.chain import PATTERNS, Member, kinds
from compiler.policy import OFF, SUPPORTED, Policy
from compiler.regions.dense import DenseStage
from compiler.regions.emission import expressible
from compiler.regions.estimate import NEVER, NOTHING, Cost
from compiler.regions.plan import Links, Plan
from compiler.regions.sizing import candidates
from compiler.regions.stage import ArrayStage
from compiler.regions.suits import unsuitable
from compiler.regions.trial import trial_cycles
from compiler.regions.window import WindowStage
from compiler.tile.depthwise import suits
from compiler.tile.parts import DIRECT
from hw.arch.config import AcceleratorConfig
from hw.arch.program import Tensor

TIMED = 6
"""Plans of a region that are timed, and one more of each combination of algorithms."""


def _estimated(links: Links, config: AcceleratorConfig, policy: Policy) -> list[Plan]:
    """All plans of a region that fit, best first by their estimates (compiler/regions/cost.py).

    They are those in tiles alone where these are asked for.
    """
    plans = sorted(
        candidates(links, config, policy), key=lambda plan: plan.cost.merit(policy.objective)
    )
    tiled = [plan for plan in plans if any(stage.single for stage in plan.stages)]
    return tiled if policy.forced == TILED and tiled else plans


def estimate(links: Links, config: AcceleratorConfig, policy: Policy) -> Cost | None:
    """Of a region, to be compared with estimates of its operators apart; None where none fits."""
    plans = _estimated(links, config, policy)
    return next((plan.cost for plan in plans if expressible(plan, config)), None)


def ranked(links: Links, config: AcceleratorConfig, policy: Policy) -> list[Plan]:
    """The first few by their estimates, timed, best first; instructions hold the first one."""

    def merit(plan: Plan) -> tuple[float, float]:
        return plan.cost.merit(policy.objective)

    found: list[Plan] = []
    seen = set[tuple[str, ...]]()
    for plan in _estimated(links, config, policy):
        algorithms = tuple(stage.algorithm for stage in plan.array)
        if len(found) >= TIMED and algorithms in seen:
            continue
        cost = plan.cost.moved(trial_cycles(plan, config), plan.cost.beats, config)
        timed = dataclasses.replace(plan, cost=cost)
        first = not found or merit(timed) < merit(found[0])
        if first and not expressible(plan, config):
            continue
        seen.add(algorithms)
        found.append(timed)
        found.sort(key=merit)
    return found


def best(links: Links, config: AcceleratorConfig, policy: Policy) -> Plan | None:
    """The best plan of a region, or None where none fits."""
    return next(iter(ranked(links, config, policy)), None)


# What is said


def record(plans: Sequence[Plan], config: AcceleratorConfig, policy: Policy) -> dict[str, Any]:
    """How the stages of the best plan are computed, and why; {} without hfa.

    It is the record of the array's first stage with a choice; those of depthwise ones lie within.

    Parameters
    ----------
    plans: best first.
    config, policy: accelerator and wishes.
    """
    if "hfa" not in config.features:
        return {}
    found: dict[str, Any] = {}
    for number, stage in enumerate(plans[0].array):
        if isinstance(stage, WindowStage):
            said = _window_record(plans, number, config, policy)
            found = {**found, "depthwise": said} if found else said
        elif isinstance(stage, DenseStage) and number == 0:
            found = _dense_record(plans, number, config, policy)
    return {"hfa": found} if found else {}


def _ways(
    plans: Sequence[Plan], number: int, config: AcceleratorConfig
) -> dict[str, dict[str, float]]:
    """The best plan with each algorithm of a stage, by its name, direct first."""
    ways: dict[str, dict[str, float]] = {}
    for plan in plans:
        cost = plan.cost
        ways.setdefault(
            plan.array[number].algorithm,
            {
                "cycles": int(cost.cycles),
                "multiplications": int(cost.vectors) * config.array.multipliers,
                "energy_uj": round(cost.energy_pj * 1e-6, 3),
                "dram_bytes": int(cost.beats) * config.port.bytes,
            },
        )
    return dict(sorted(ways.items(), key=lambda way: way[0] != DIRECT.name))


def _dense_record(
    plans: Sequence[Plan], number: int, config: AcceleratorConfig, policy: Policy
) -> dict[str, Any]:
    stage = plans[0].array[number]
    ways = _ways(plans, number, config)
    why = hfa.general_refusal(stage.op, config, policy)
    refused = {} if why is not None else _refused(stage, ways, config)
    return _said(stage.algorithm, ways, refused, why, policy)


def _refused(
    stage: ArrayStage, ways: Mapping[str, object], config: AcceleratorConfig
) -> dict[str, str]:
    """Why an algorithm is not among the ways."""
    job = jobs(stage.op, stage.source, stage.target, config)[0]
    return {
        algorithm.name: hfa.refusal(stage.op, job, algorithm, config)
        or "no strip of it fits the memories"
        for algorithm in SUPPORTED
        if algorithm.name not in ways
    }


def _window_record(
    plans: Sequence[Plan], number: int, config: AcceleratorConfig, policy: Policy
) -> dict[str, Any]:
    stage, ways = plans[0].array[number], _ways(plans, number, config)
    why, refused = depthwise_choice.general_refusal(config, policy), {}
    if why is None and TILED.name not in ways:
        why = depthwise_choice.refusal(stage.op, policy.forced or TILED)
        if why is None and plans[0].by_block:
            why = "tiles keep no lines, and depthwise stages alone go in strips"
        why = why or "tiles keep no lines, and whole maps do not fit the memories"
        refused = {TILED.name: why}
    return _said(stage.algorithm, ways, refused, why, policy)


def _said(
    chosen: str,
    ways: Mapping[str, object],
    refused: Mapping[str, str],
    why: str | None,
    policy: Policy,
) -> dict[str, Any]:
    """The record of a stage."""
    if why is None and policy.forced is not None and policy.forced.name in refused:
        why = f"{policy.forced.name}: {refused[policy.forced.name]}"
    elif why is None:
        why = f"{policy.objective}: no transformed way makes a better chain"
    return {
        "chosen": chosen,
        "objective": policy.objective,
        "asked": policy.hfa,
        "reason": why if chosen == DIRECT.name else "",
        "candidates": dict(ways),
        "refused": dict(refused),
    }


# Whether


def misfit(op: Chain, source: Tensor, target: Tensor, config: AcceleratorConfig) -> str | None:
    """Why a chain cannot be computed in strips, or None if it can."""
    why = unsuitable(op.stages, config)
    if why is None and estimate(Links.of(op, source, target), config, Policy()) is None:
        return _no_strip(op, config)
    return why


def _no_strip(op: Chain, config: AcceleratorConfig) -> str:
    return f"no strip of its {len(op.stages)} operators fits {config.name}"


def refusal(
    op: Chain,
    source: TensorType,
    output: TensorType,
    config: AcceleratorConfig,
    policy: Policy,
) -> str | None:
    """Why a chain is better cut in pieces, or None if it is best as it is."""
    why = unsuitable(op.stages, config)
    if why is not None:
        return why
    joined = _cost(op, source, output, config, policy)
    if joined is None:
        return _no_strip(op, config)
    apart, how = _apart(op, source, output, config, policy)
    if joined.merit(policy.objective) <= apart.merit(policy.objective):
        return None
    return (
        f"{joined.cycles:,.0f} cycles and {joined.beats * config.port.bytes:,.0f} bytes in strips, "
        f"{apart.cycles:,.0f} and {apart.beats * config.port.bytes:,.0f} {how}"
    )


def _cost(
    op: Chain, source: TensorType, output: TensorType, config: AcceleratorConfig, policy: Policy
) -> Cost | None:
    """Of the best plan."""
    lanes = config.lane_block
    links = Links.of(op, tensor_of(source, lanes), tensor_of(output, lanes))
    return estimate(links, config, policy)


def _apart(
    op: Chain,
    source: TensorType,
    output: TensorType,
    config: AcceleratorConfig,
    policy: Policy,
) -> tuple[Cost, str]:
    """Estimates of the best way without this chain: stages alone, and shorter chains of them."""
    links = list(op.links([source], output))
    single = [stage_cost(*link, config, policy) for link in links]
    found = [(sum(single, NOTHING), "one after another")]
    for first, last in _runs(op.stages):
        stages = op.stages[first:last]
        shorter = dataclasses.replace(op, stages=stages, between=op.between[first : last - 1])
        cost = _cost(shorter, links[first][1], links[last - 1][2], config, policy)
        if cost is not None:
            rest = [*single[:first], *single[last:]]
            found.append((sum(rest, cost), f"with {stages[0].name} as the first of a chain"))
    return min(found, key=lambda pair: pair[0].merit(policy.objective))


def _runs(stages: Sequence[Member]) -> Iterator[tuple[int, int]]:
    """First and end of every shorter chain that would be joined."""
    names = kinds(stages)
    for first in range(len(stages)):
        for last in range(first + 2, len(stages) + 1):
            if last - first < len(stages) and names[first:last] in PATTERNS:
                yield first, last


def stage_cost(
    stage: Member,
    source: TensorType,
    output: TensorType,
    config: AcceleratorConfig,
    policy: Policy,
) -> Cost:
    """Estimates of one operator as a layer of its own."""
    lanes = config.lane_block
    operand, result = tensor_of(source, lanes), tensor_of(output, lanes)
    moved = operand.layout.rows + result.layout.rows
    if isinstance(stage, TemporalResidual):
        # Every frame is read for its difference and for the mean.
        steps = 2 * operand.layout.rows * config.vector_steps
        return Cost.of_streams(max(config.port.cycles(moved), steps), moved, 0, config)
    if suits(stage, config):
        # Fewer depthwise products alone are no reason to take a chain apart.
        asked = policy if policy.objective != "multiplications" else Policy(OFF, policy.objective)
        try:
            way, _ = plan_depthwise(stage, operand, config, asked)
        except CompilerError:
            return NEVER
        weights = operand.layout.blocks * way.problem.block_beats
        vectors = way.multiplications / config.array.multipliers
        return Cost(way.cycles, way.beats, vectors, way.energy_pj).moved(
            way.cycles, moved + weights, config
        )
    try:
        return Cost.of_dense(plan_dense(stage, operand, result, config, policy)[0], config)
    except CompilerError:
        return NEVER


def describe(plans: Sequence[Plan], config: AcceleratorConfig, policy: Policy) -> dict[str, Any]:
    """For the report: what was chosen, what else there was, and why."""
    first = plans[0]
    others = [plan for plan in plans[1:] if plan.lines != first.lines][:3]
    return {
        "stages": [op.name for op in first.links.ops],
        **first.describe(),
        "alternatives": [other.describe() for other in others],
        **record(plans, config, policy),
    }
