"""Whether a chain is worth computing strip by strip: against its stages one after another."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from compiler.array import hfa
from compiler.array.choice import plan as plan_dense
from compiler.array.depthwise_choice import chain_record, left_in_chain
from compiler.array.depthwise_choice import plan as plan_depthwise
from compiler.array.forms import jobs
from compiler.array.hfa import general_refusal
from compiler.emit.transfers import tensor_of
from compiler.fused.plan import FusedPlan, Links
from compiler.fused.sizing import candidates
from compiler.ir import Chain, CompilerError, Convolution, TemporalResidual, TensorType
from compiler.ops.chain import Stage
from compiler.policy import OFF, SUPPORTED, Policy
from compiler.tile.depthwise import suits
from compiler.tile.parts import DIRECT
from hw.arch.config import AcceleratorConfig

TRAFFIC_WEIGHT = 4
"""Beats that count as much as a cycle. Joined layers differ little in cycles and much in traffic,
whose energy would justify more: 128 bits of DDR3 cost as much as three cycles of the `base` core
(sim/energy/tables/asic_45nm.yaml)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """Estimates, of one layer or of several one after another.

    Attributes
    ----------
    cycles: estimated.
    beats: moved between DRAM and the chip.
    vectors: activation rows that pass the array.
    """

    cycles: float
    beats: float
    vectors: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.cycles + other.cycles, self.beats + other.beats, self.vectors + other.vectors
        )

    def merit(self, objective: str) -> tuple[float, float]:
        """What is minimized, and what decides between equals."""
        mixed = self.cycles + self.beats / TRAFFIC_WEIGHT
        match objective:
            case "cycles":
                return mixed, self.beats
            case "energy":
                # DRAM outweighs the rest of what a chain can change.
                return self.beats, mixed
            case _:
                return self.vectors, mixed


NEVER = Cost(math.inf, math.inf, math.inf)


def cost_of(plan: FusedPlan) -> Cost:
    """Estimates of a plan."""
    return Cost(plan.cycles, plan.beats, plan.vectors)


def ranked(links: Links, config: AcceleratorConfig, policy: Policy) -> list[FusedPlan]:
    """All plans of a chain that fit, best first."""
    return sorted(
        candidates(links, config, policy),
        key=lambda plan: cost_of(plan).merit(policy.objective),
    )


def best(links: Links, config: AcceleratorConfig, policy: Policy) -> FusedPlan | None:
    """The best plan of a chain, or None where none fits."""
    return next(iter(ranked(links, config, policy)), None)


def record(plans: Sequence[FusedPlan], config: AcceleratorConfig, policy: Policy) -> dict[str, Any]:
    """How the temporal convolution of the best plan is computed, and why; {} without hfa.

    A chain without one has the record of its depthwise convolution.

    Parameters
    ----------
    plans: best first.
    config, policy: accelerator and wishes.
    """
    links, chosen = plans[0].links, plans[0].temporal
    if chosen is None or links.temporal is None:
        result = chain_record(config, policy)
    elif "hfa" not in config.features:
        return {}
    else:
        result = {"hfa": _temporal_record(plans, links.temporal, config, policy)}
    left = left_in_chain(links.window, links.inner, config, policy)
    if left is not None:
        result["hfa"]["depthwise"] = left
    return result


def _temporal_record(
    plans: Sequence[FusedPlan],
    temporal: Convolution,
    config: AcceleratorConfig,
    policy: Policy,
) -> dict[str, Any]:
    links, chosen = plans[0].links, plans[0].temporal
    assert chosen is not None
    ways: dict[str, dict[str, float]] = {}
    for plan in plans:
        assert plan.temporal is not None
        cost = cost_of(plan)
        ways.setdefault(
            plan.temporal.kernel.algorithm.name,
            {
                "cycles": int(cost.cycles),
                "multiplications": int(cost.vectors) * config.array.multipliers,
                "dram_bytes": int(cost.beats) * config.port.bytes,
            },
        )
    why = general_refusal(temporal, config, policy)
    refused = {} if why is not None else _refused(links, ways, config)
    name = chosen.kernel.algorithm.name
    direct = chosen.kernel.algorithm == DIRECT
    if direct and why is None:
        why = f"{policy.objective}: no transformed way makes a better chain"
    return {
        "chosen": name,
        "objective": policy.objective,
        "asked": policy.hfa,
        "reason": why if direct else "",
        "candidates": ways,
        "refused": refused,
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
    found = [(sum(single, Cost(0, 0, 0)), "one after another")]
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
        return Cost(max(config.port.cycles(moved), steps), moved, 0)
    if suits(stage, config):
        # Fewer depthwise products alone are no reason to take a chain apart.
        asked = policy if policy.objective != "multiplications" else Policy(OFF, policy.objective)
        try:
            way, _ = plan_depthwise(stage, operand, config, asked)
        except CompilerError:
            return NEVER
        weights = operand.layout.blocks * way.problem.block_beats
        vectors = way.multiplications / config.array.multipliers
        return Cost(way.cycles, moved + weights, vectors)
    try:
        tiling = plan_dense(stage, operand, result, config, policy)[0].tiling
    except CompilerError:
        return NEVER
    return Cost(tiling.cycles, tiling.beats, tiling.vectors)
