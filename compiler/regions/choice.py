"""The best plan of a region, and what is said about it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from compiler.array import depthwise_choice, hfa
from compiler.array.depthwise_choice import TILED
from compiler.array.forms import jobs
from compiler.cost import Cost
from compiler.policy import SUPPORTED, Policy
from compiler.ranking import timed
from compiler.regions.dense import DenseStage
from compiler.regions.emission import expressible
from compiler.regions.plan import Links, Plan
from compiler.regions.sizing import candidates
from compiler.regions.stage import ArrayStage
from compiler.regions.trial import cycles_in_network, tail_durations, trial_cycles
from compiler.regions.window import WindowStage
from compiler.tile.parts import DIRECT
from hw.arch.config import AcceleratorConfig

KEPT = 256
"""Regions whose plans are remembered from when operators are joined to when they are emitted."""
TIMED = 4
"""Plans of a region that are looked at, and one more of each combination of algorithms."""


def _estimated(links: Links, config: AcceleratorConfig, policy: Policy) -> list[Plan]:
    """All plans of a region that fit, best first by their estimates (compiler/regions/cost.py).

    They are those in tiles alone where these are asked for.
    """
    plans = sorted(candidates(links, config, policy), key=lambda plan: plan.merit(policy.objective))
    tiled = [plan for plan in plans if any(stage.single for stage in plan.stages)]
    return tiled if policy.forced == TILED and tiled else plans


@dataclasses.dataclass(frozen=True, slots=True)
class _Question:
    """A region whose plans are asked for.

    Attributes
    ----------
    key: what they depend on.
    links: the region, one of those with that key.
    """

    key: Hashable
    links: Links = dataclasses.field(compare=False)


def ranked(links: Links, config: AcceleratorConfig, policy: Policy) -> list[Plan]:
    """The first few by their estimates, timed, best first; instructions hold the first one.

    They are asked for when operators are joined and when a region is emitted.
    """
    kinds = tuple((t.layout, t.signed, t.scale, t.zero_point) for t in links.tensors)
    question = _Question((links.ops, kinds, tail_durations(links, config)), links)
    found = _ranked(question, config, policy)
    return [dataclasses.replace(plan, links=links) for plan in found]


@functools.lru_cache(maxsize=KEPT)
def _ranked(question: _Question, config: AcceleratorConfig, policy: Policy) -> Sequence[Plan]:
    return timed(
        _estimated(question.links, config, policy),
        lambda plan: trial_cycles(plan, config),
        policy.objective,
        config,
        kind=lambda plan: tuple(stage.algorithm for stage in plan.array),
        most=TIMED,
        holds=lambda plan: expressible(plan, config),
    )


def best(links: Links, config: AcceleratorConfig, policy: Policy) -> Plan | None:
    """The best plan of a region, or None where none fits."""
    return next(iter(ranked(links, config, policy)), None)


def cost(links: Links, config: AcceleratorConfig, policy: Policy) -> Cost | None:
    """Of the best plan in a network; None where none fits."""
    plan = best(links, config, policy)
    if plan is None:
        return None
    return plan.cost.moved(cycles_in_network(plan, config), plan.cost.beats, config)


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


def fits(links: Links, config: AcceleratorConfig) -> bool:
    """Whether there is a plan."""
    return any(expressible(plan, config) for plan in candidates(links, config, Policy()))


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
