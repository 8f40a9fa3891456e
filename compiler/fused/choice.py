"""Whether a chain is worth computing strip by strip: against its stages one after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compiler.array import depthwise_choice, hfa
from compiler.array.choice import plan as plan_dense
from compiler.array.depthwise_choice import TILED
from compiler.array.depthwise_choice import plan as plan_depthwise
from compiler.array.forms import jobs
from compiler.array.hfa import general_refusal
from compiler.emit.transfers import tensor_of
from compiler.fused.estimate import NEVER, NOTHING, Cost
from compiler.fused.plan import FusedPlan, Links
from compiler.fused.sizing import candidates
from compiler.ir import Chain, CompilerError, Convolution, TemporalResidual, TensorType
from compiler.ops.chain import Stage
from compiler.policy import OFF, SUPPORTED, Policy
from compiler.tile.depthwise import suits
from compiler.tile.parts import DIRECT
from hw.arch.config import AcceleratorConfig
from hw.arch.winograd import Algorithm


def cost_of(plan: FusedPlan) -> Cost:
    """Estimates of a plan."""
    return Cost(plan.cycles, plan.beats, plan.vectors, plan.energy_pj)


def ranked(links: Links, config: AcceleratorConfig, policy: Policy) -> list[FusedPlan]:
    """All plans of a chain that fit, best first; those in tiles alone where these are asked for."""
    plans = sorted(
        candidates(links, config, policy),
        key=lambda plan: cost_of(plan).merit(policy.objective),
    )
    tiled = [plan for plan in plans if plan.window.problem.tiled]
    return tiled if policy.forced == TILED and tiled else plans


def best(links: Links, config: AcceleratorConfig, policy: Policy) -> FusedPlan | None:
    """The best plan of a chain, or None where none fits."""
    return next(iter(ranked(links, config, policy)), None)


def record(plans: Sequence[FusedPlan], config: AcceleratorConfig, policy: Policy) -> dict[str, Any]:
    """How the temporal convolution of the best plan is computed, and why; {} without hfa.

    Its depthwise convolution has a record within that, which is the only one of a chain without a
    temporal one.

    Parameters
    ----------
    plans: best first.
    config, policy: accelerator and wishes.
    """
    if "hfa" not in config.features:
        return {}
    window = _window_record(plans, config, policy)
    if plans[0].links.temporal is None:
        return {"hfa": window}
    return {"hfa": {**_temporal_record(plans, config, policy), "depthwise": window}}


def _ways(
    plans: Sequence[FusedPlan],
    algorithm: Callable[[FusedPlan], Algorithm],
    config: AcceleratorConfig,
) -> dict[str, dict[str, float]]:
    """The best chain with each algorithm of a stage, by its name, direct first."""
    ways: dict[str, dict[str, float]] = {}
    for plan in plans:
        cost = cost_of(plan)
        ways.setdefault(
            algorithm(plan).name,
            {
                "cycles": int(cost.cycles),
                "multiplications": int(cost.vectors) * config.array.multipliers,
                "energy_uj": round(cost.energy_pj * 1e-6, 3),
                "dram_bytes": int(cost.beats) * config.port.bytes,
            },
        )
    return dict(sorted(ways.items(), key=lambda way: way[0] != DIRECT.name))


def _temporal_record(
    plans: Sequence[FusedPlan], config: AcceleratorConfig, policy: Policy
) -> dict[str, Any]:
    links = plans[0].links
    assert links.temporal is not None
    ways = _ways(plans, _temporal_algorithm, config)
    why = general_refusal(links.temporal, config, policy)
    refused = {} if why is not None else _refused(links, ways, config)
    return _said(_temporal_algorithm(plans[0]), ways, refused, why, policy)


def _temporal_algorithm(plan: FusedPlan) -> Algorithm:
    assert plan.temporal is not None
    return plan.temporal.kernel.algorithm


def _window_record(
    plans: Sequence[FusedPlan], config: AcceleratorConfig, policy: Policy
) -> dict[str, Any]:
    ways = _ways(plans, _window_algorithm, config)
    why, refused = depthwise_choice.general_refusal(config, policy), {}
    if why is None and TILED.name not in ways:
        why = depthwise_choice.refusal(plans[0].links.window, policy.forced or TILED)
        why = why or "tiles keep no lines, and whole maps do not fit the memories"
        refused = {TILED.name: why}
    return _said(_window_algorithm(plans[0]), ways, refused, why, policy)


def _window_algorithm(plan: FusedPlan) -> Algorithm:
    return plan.window.problem.algorithm


def _said(
    chosen: Algorithm,
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
        "chosen": chosen.name,
        "objective": policy.objective,
        "asked": policy.hfa,
        "reason": why if chosen == DIRECT else "",
        "candidates": dict(ways),
        "refused": dict(refused),
    }


def _refused(links: Links, ways: Mapping[str, object], config: AcceleratorConfig) -> dict[str, str]:
    """Why an algorithm is not among the ways."""
    assert links.temporal is not None
    job = jobs(links.temporal, links.operand, links.inner, config)[0]
    return {
        algorithm.name: hfa.refusal(links.temporal, job, algorithm, config)
        or "no strip of it fits the memories"
        for algorithm in SUPPORTED
        if algorithm.name not in ways
    }


def refusal(
    op: Chain,
    source: TensorType,
    output: TensorType,
    config: AcceleratorConfig,
    policy: Policy,
) -> str | None:
    """Why a chain is better cut in pieces, or None if it is best as it is."""
    why = _unsuitable(op, config)
    if why is not None:
        return why
    lanes = config.lane_block
    plan = best(Links.of(op, tensor_of(source, lanes), tensor_of(output, lanes)), config, policy)
    if plan is None:
        return f"no strip of its {len(op.stages)} operators fits {config.name}"
    fused = cost_of(plan)
    apart, how = _apart(op, source, output, config, policy)
    if fused.merit(policy.objective) <= apart.merit(policy.objective):
        return None
    return (
        f"{fused.cycles:,.0f} cycles and {fused.beats * config.port.bytes:,.0f} bytes in strips, "
        f"{apart.cycles:,.0f} and {apart.beats * config.port.bytes:,.0f} {how}"
    )


def _unsuitable(op: Chain, config: AcceleratorConfig) -> str | None:
    stages = [stage for stage in op.stages if isinstance(stage, Convolution)]
    window = stages[-2]
    if not suits(window, config) or window.kernel[0] != 1:
        return f"{window.name} does not run in mode DEPTHWISE"
    if window.stride[0] != 1 or max(window.pad_begin) >= max(window.kernel[1:]):
        return f"{window.name} has stride {window.stride} along time or wide padding"
    return None


def _apart(
    op: Chain,
    source: TensorType,
    output: TensorType,
    config: AcceleratorConfig,
    policy: Policy,
) -> tuple[Cost, str]:
    """Estimates of the best way without this chain: its first stages alone, the rest joined."""
    links = list(op.links([source], output))
    single = [stage_cost(*link, config, policy) for link in links]
    found = [(sum(single, NOTHING), "one after another")]
    for first in range(1, len(op.stages) - 1):
        rest = dataclasses.replace(op, stages=op.stages[first:], between=op.between[first:])
        lanes = config.lane_block
        plan = best(
            Links.of(rest, tensor_of(links[first][1], lanes), tensor_of(output, lanes)),
            config,
            policy,
        )
        if plan is not None:
            cost = sum(single[:first], cost_of(plan))
            found.append((cost, f"with {op.stages[first].name} as the first of a chain"))
    return min(found, key=lambda pair: pair[0].merit(policy.objective))


def stage_cost(
    stage: Stage,
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
        return Cost.of_dense(plan_dense(stage, operand, result, config, policy)[0])
    except CompilerError:
        return NEVER
