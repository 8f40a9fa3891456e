"""Closed forms of ARRAY in mode HFA (decision 0005, section 4).

The transform is ahead of the stream by a constant. Latencies are measured by tests/hw, as those in
timing.py.
"""

from __future__ import annotations

import dataclasses
import math

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array
from hw.arch.timing import (
    BLOCK_CLAIM,
    FEED_LATENCY,
    TOKEN_LATENCY,
    TRANSFORM_STAGE_LATENCY,
    TURN_LATENCY,
    array_latency,
    array_points,
    array_sets,
    array_start,
    array_stream_cycles,
)
from hw.arch.winograd import Algorithm
from hw.arch.winograd_matrices import TRANSFORMS

TRANSFORM_GAP = 2
"""Cycles between the last row that is read for one set of tiles and the first for the next."""

LATE_RELEASE = TOKEN_LATENCY + 1
"""Cycles from the `done` that a `late` wait is for until the first set streams."""


def transform_levels(temporal: int, spatial: int) -> tuple[int, int, int]:
    """Points along the axes in the order in which they are transformed: x, y, t or t, 1, 1.

    Parameters
    ----------
    temporal, spatial: the fields `transform_t` and `transform_s`.
    """
    t, s = TRANSFORMS[temporal].points, TRANSFORMS[spatial].points
    return (s, s, t) if spatial else (t, 1, 1)


def input_transform_latency(temporal: int, spatial: int, config: AcceleratorConfig) -> int:
    """Cycles from the first row of a tile into the input transform to its first result.

    Stages along two axes, a turning memory between them; with hfa_nested a third stage behind
    another one, of which a tile that is not nested takes one position each.
    """
    first, second, third = transform_levels(temporal, spatial)
    latency = 2 * TRANSFORM_STAGE_LATENCY + first - 1 + second - 1
    latency += TURN_LATENCY + (first * second - 1 if second > 1 else 0)
    if "hfa_nested" in config.features:
        latency += TRANSFORM_STAGE_LATENCY + third - 1 + TURN_LATENCY
        latency += first * second * third - 1 if third > 1 else 0
    return latency


def transform_lead(temporal: int, spatial: int, config: AcceleratorConfig) -> int:
    """Cycles from the address of a set's last row to the address cycle of its first position.

    Feed, input transform, write to U.
    """
    return FEED_LATENCY + input_transform_latency(temporal, spatial, config) + 1


@dataclasses.dataclass(frozen=True, slots=True)
class ArrayTimes:
    """Cycles of one ARRAY instruction in mode HFA.

    Attributes
    ----------
    start: address cycle of its first position.
    end: the next instruction may start; one cycle is between the two.
    done: its completion.
    paced: the pace (hw/compute/transform/control.py), which is `transform_lead` ahead of the stream
        and does not foresee the end of a `late` wait, is through with it.
    free: a next instruction in mode HFA with the same transforms is issued TRANSFORM_SHARED cycles
        later at the earliest; any other one in `end` − 1.
    """

    start: int
    end: int
    done: int
    paced: int
    free: int


def array_weight_cycles(instruction: Array, config: AcceleratorConfig) -> int:
    """HFA: cycles to transform the weights of one pair of input and output block.

    Temporal points are passes over all taps where both axes are transformed.
    """
    temporal, spatial = instruction.transform_t, instruction.transform_s
    taps = math.prod(Algorithm(temporal, spatial).kernel)
    points = array_points(instruction)
    passes = TRANSFORMS[temporal].points if temporal and spatial else 1
    return config.weight_block_groups * passes * max(points // passes, taps)


WEIGHT_TRANSFORM_LATENCY = 15
"""Stages of the weight transform: reader, two 1-D stages, turn, TWB, load of the first block."""

WEIGHT_COMBINE_LATENCY = 2
"""More of them where the circuit has the stage along t (feature ``hfa_nested``)."""


def weight_transform_fill(temporal: int, spatial: int, config: AcceleratorConfig) -> int:
    """Cycles from the start of the weight transform to the address cycle of a first position.

    Nothing else is in the transform, and the shadow weights are free. Behind the first slab (a
    pair, or one temporal point of it when nested) the others follow one `weight_slab_cycles` after
    the other, also across instructions of the same algorithm, as long as TWB has room.

    Parameters
    ----------
    temporal, spatial: `transform_t`, `transform_s`.
    config: of the accelerator.
    """
    length = TRANSFORMS[spatial or temporal].points
    points = length * length if spatial else length
    nested = bool(temporal and spatial)
    # The last tap of a group, the results along x that follow it, the columns along y (or one more
    # register along a single axis).
    last_tap = 26 if nested else 2 * length + 2 if spatial else 2
    behind = last_tap + length + points + (2 if spatial else 1)
    slab = weight_slab_cycles(temporal, spatial, config)
    period = slab // config.weight_block_groups
    latency = WEIGHT_TRANSFORM_LATENCY
    latency += WEIGHT_COMBINE_LATENCY if "hfa_nested" in config.features else 0
    load = max(0, config.weight_block_groups - BLOCK_CLAIM)
    return latency + slab - period + behind + load


def weight_slab_cycles(temporal: int, spatial: int, config: AcceleratorConfig) -> int:
    """Cycles to transform the weights of one slab: a pair, or its share of one temporal point."""
    points = TRANSFORMS[spatial].points ** 2 if spatial else TRANSFORMS[temporal].points
    taps = math.prod(Algorithm(temporal, spatial).kernel)
    return config.weight_block_groups * max(points, taps)


def array_set_stream(instruction: Array, config: AcceleratorConfig) -> int:
    """HFA: cycles in which one set streams: its blocks, or the transform of their weights."""
    pairs = instruction.counts[3] * array_weight_cycles(instruction, config)
    return max(array_stream_cycles(instruction, config) // array_sets(instruction), pairs)


def array_slot(instruction: Array, config: AcceleratorConfig) -> int:
    """HFA: cycles from the start of one set to the start of the next.

    A set takes as long as its stream or the transform of the next set of tiles.
    """
    return max(array_set_stream(instruction, config), array_set_feed(instruction))


def array_set_feed(instruction: Array) -> int:
    """HFA: cycles in which the rows of one set are read, with the gap before them."""
    return array_points(instruction) * math.prod(instruction.counts[:3]) + TRANSFORM_GAP


def array_fill(instruction: Array, config: AcceleratorConfig) -> int:
    """HFA: cycles from the issue of an instruction to its start if nothing streams.

    The first set of tiles, or the first weights (the loader starts a cycle behind the issue).
    """
    temporal, spatial = instruction.transform_t, instruction.transform_s
    rows = array_points(instruction) * math.prod(instruction.counts[:3])
    lead = transform_lead(temporal, spatial, config)
    activations = array_start(config) + rows - 1 + lead
    weights = 1 + weight_transform_fill(temporal, spatial, config)
    return max(activations, weights)


def array_times(
    instruction: Array,
    config: AcceleratorConfig,
    issue: int,
    before: ArrayTimes | None = None,
    drained: int | None = None,
) -> ArrayTimes:
    """HFA: cycles of an instruction issued in cycle `issue`.

    Parameters
    ----------
    instruction: in mode HFA.
    config: of the accelerator.
    issue: cycle of its issue.
    before: of the ARRAY instruction before it; None for the first.
    drained: `done` of the DRAIN that the instruction's `late` wait is for; None: of none.
    """
    stream, slot = array_set_stream(instruction, config), array_slot(instruction, config)
    lead = transform_lead(instruction.transform_t, instruction.transform_s, config)
    start = paced = issue + array_fill(instruction, config)
    if before is not None:
        start, paced = max(start, before.end), max(paced, before.paced + lead)
    if drained is not None:
        begin = drained + LATE_RELEASE
        start, paced = max(start, begin), max(paced, begin + lead)
    # The feed goes by the pace: the second set follows the first one as the pace has that.
    last, more = start, (array_sets(instruction) - 1) * slot
    if more:
        last = max(start, paced + array_set_feed(instruction) - slot) + more
    end, ahead = last + stream + 1, paced + more - lead
    return ArrayTimes(
        start=start,
        end=end,
        done=end - 1 + array_latency(config),
        paced=ahead + stream + 1,
        free=max(start, ahead) + 1,
    )
