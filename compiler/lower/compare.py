"""Whether operators are better joined: what they take, against what they take apart.

Both sides are emitted and timed (`Timed.cost`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from compiler.array.bound import least_cycles
from compiler.cost import NEVER, NOTHING, Cost
from compiler.emit.transfers import at, tensor_of
from compiler.emit.trial import SECOND, Asked, Trial, Whole, layer_cycles
from compiler.ir import (
    AnyOperation,
    Chain,
    CompilerError,
    Convolution,
    TemporalResidual,
    TensorType,
)
from compiler.lower import convolution, temporal_residual
from compiler.lower.base import Timed
from compiler.ops.chain import PATTERNS, Member, kinds
from compiler.policy import OFF, SUPPORTED, Policy
from compiler.regions.choice import cost as region_cost
from compiler.regions.plan import Links
from compiler.regions.suits import suited
from compiler.tile.depthwise import suits
from hw.arch.config import AcceleratorConfig
from hw.arch.program import Tensor

TOLD = 0.01
"""Part of a layer's cycles that a trial does not tell: what other layers do meanwhile. Between
equals operators are joined, which moves less. Products are exact, and most of the energy is."""

LONG = 60_000
"""Cycles of layers beyond which it does not matter how the end of one and the start of the next
one overlap."""

KEPT = 256
"""Parts of chains that are remembered while others are asked about that have them, too."""


def better_joined(joined: Cost, apart: Cost, policy: Policy) -> bool:
    """Whether operators take no more together than apart."""
    mine, others = joined.merit(policy.objective), apart.merit(policy.objective)
    told = TOLD if policy.objective == "cycles" else 0
    return mine <= ((1 + told) * others[0], others[1])


def better_apart(
    joined: Cost, apart: Cost, how: tuple[str, str], config: AcceleratorConfig, policy: Policy
) -> str | None:
    """In words, or None where operators are better joined; `how`: both ways."""
    if better_joined(joined, apart, policy):
        return None
    size = config.port.bytes
    return (
        f"{joined.cycles:,.0f} cycles and {joined.beats * size:,.0f} bytes {how[0]}, "
        f"{apart.cycles:,.0f} and {apart.beats * size:,.0f} {how[1]}"
    )


Layer: TypeAlias = tuple[Timed[Any], AnyOperation, Sequence[Tensor], Tensor]
"""An operator and what knows it; its operands and its result, at the addresses of a trial."""


def one_after_another(layers: Sequence[Layer], config: AcceleratorConfig, policy: Policy) -> Cost:
    """Of layers that read what the ones before store: all of them are emitted, and timed at once.

    Raises
    ------
    RefusedError
        Where one does not fit.
    """
    costs = [each.cost(op, sources, to, config, policy) for each, op, sources, to in layers]
    total = sum(costs, NOTHING)
    if total.cycles > LONG:
        return total

    def emission(emitter: Trial, again: bool) -> Whole:
        emitter.policy = policy
        return Whole(lambda: _emit(emitter, _shifted(layers, again)))

    # What lies in which lane does not matter; what else does is in the cycles of each one alone.
    said = [
        (each.kind(op, config), [(t.layout.rows, t.address, t.places) for t in (*sources, to)])
        for each, op, sources, to in layers
    ]
    alone = [cost.cycles for cost in costs]
    cycles = layer_cycles(Asked(("layers", repr((said, alone, policy))), emission), config)
    return total.moved(cycles, total.beats, config)


def _emit(emitter: Trial, layers: Sequence[Layer]) -> None:
    """As in a program: what is on chip is not loaded again."""
    for each, op, sources, to in layers:
        first = len(emitter.instructions)
        each.emit(emitter, op, sources, to)
        emitter.end_layer(first)


def _shifted(layers: Sequence[Layer], again: bool) -> Sequence[Layer]:
    """The same layers; or again, the first one behind what the last one has stored."""
    if not again:
        return layers
    first, last = layers[0][2][0], layers[-1][3]
    begin = last.address + last.layout.nbytes - first.layout.nbytes
    return [
        (
            each,
            op,
            [at(t, begin if t is first else t.address + SECOND) for t in sources],
            at(to, to.address + SECOND),
        )
        for each, op, sources, to in layers
    ]


def better_cut(
    op: Chain, source: TensorType, output: TensorType, config: AcceleratorConfig, policy: Policy
) -> str | None:
    """Why a chain is better cut in pieces, or None if it is best as it is.

    What cannot be better, by the least cycles that it takes, is not timed; what may take least
    is asked first: one way that is better is enough.
    """
    links = tuple(op.links([source], output))
    joined = _part_cost(links, config, policy)
    if joined is None:
        return f"no strip of its {len(links)} operators fits {config.name}"
    ways = [(parts, [_least(part, config, policy) for part in parts]) for parts in _ways(links)]
    for parts, least in sorted(ways, key=lambda way: sum(way[1])):
        apart = _apart(parts, least, joined, config, policy)
        if apart is None:
            continue
        if not better_joined(joined, apart, policy):
            run = next((part for part in parts if len(part) > 1), None)
            how = "one after another"
            if run is not None:
                how = f"with {run[0][0].name} as the first of a chain"
            return better_apart(joined, apart, ("in strips", how), config, policy)
    return None


def _apart(
    parts: Sequence[tuple[Link, ...]],
    least: Sequence[float],
    joined: Cost,
    config: AcceleratorConfig,
    policy: Policy,
) -> Cost | None:
    """Of parts one after another; None as soon as it shows that they are no better than joined."""
    total = NOTHING
    for number, part in enumerate(parts):
        known = total.merit("cycles")[0] + sum(least[number:])
        if policy.objective == "cycles" and (1 + TOLD) * known > joined.merit("cycles")[0]:
            return None
        total += _part_cost(part, config, policy) or NEVER
    return total


Link: TypeAlias = tuple[Member, TensorType, TensorType]
"""A stage with the types of its operand and its result."""


def _ways(links: tuple[Link, ...]) -> Iterator[Sequence[tuple[Link, ...]]]:
    """Ways without a chain: stages alone, and each shorter chain that would be joined."""
    names = kinds([stage for stage, *_ in links])
    alone = [(link,) for link in links]
    yield alone
    for first in range(len(links)):
        for last in range(first + 2, len(links) + 1):
            if last - first < len(links) and names[first:last] in PATTERNS:
                yield [*alone[:first], links[first:last], *alone[last:]]


def _least(links: Sequence[Link], config: AcceleratorConfig, policy: Policy) -> float:
    """What stages together take at least under the objective `cycles`."""
    transforms = "hfa" in config.features and policy.hfa != OFF
    algorithms = SUPPORTED if transforms else ()
    array = 0
    moved = math.prod(links[0][1].shape) + math.prod(links[-1][2].shape)
    for stage, source, _ in links:
        if isinstance(stage, Convolution):
            layout = tensor_of(source, config.lane_block).layout
            tried = [a for a in algorithms if suited(stage, a)]
            array += least_cycles(stage, layout, source, tried, config)
            moved += stage.weight.size
    beats = moved / config.port.bytes
    return Cost(max(array, beats), beats, 0, 0).merit("cycles")[0]


@functools.lru_cache(maxsize=KEPT)
def _part_cost(links: tuple[Link, ...], config: AcceleratorConfig, policy: Policy) -> Cost | None:
    """Of consecutive stages; None where they do not fit together. Patterns overlap."""
    if len(links) == 1:
        return _stage_cost(*links[0], config, policy)
    stages, sources, results = zip(*links, strict=True)
    kinds_of = (*sources, results[-1])
    tensors = tuple(tensor_of(kind, config.lane_block) for kind in kinds_of)
    return region_cost(Links(stages, tensors), config, policy)


def _stage_cost(
    stage: Member,
    source: TensorType,
    output: TensorType,
    config: AcceleratorConfig,
    policy: Policy,
) -> Cost:
    """Of one operator as a layer of its own; NEVER where it does not fit."""
    sources, target = [tensor_of(source, config.lane_block)], tensor_of(output, config.lane_block)
    if isinstance(stage, TemporalResidual):
        return temporal_residual.LOWERING.cost(stage, sources, target, config, policy)
    if suits(stage, config) and policy.objective == "multiplications":
        # Fewer depthwise products alone are no reason to take a chain apart.
        policy = Policy(OFF, policy.objective)
    try:
        return convolution.LOWERING.cost(stage, sources, target, config, policy)
    except CompilerError:
        return NEVER
