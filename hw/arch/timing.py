"""Timing rules: how long things take, in clock cycles. Shared by compiler, cycle model and RTL.

Every latency that the RTL has is named here once; the RTL's units take theirs from here (and a
test measures them), and the cycle model adds the same numbers.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TypeAlias

from hw.arch.codes import LINE_HAZARD as LINE_HAZARD
from hw.arch.config import AcceleratorConfig
from hw.arch.fold_timing import fold_stream_cycles, permute_stream_cycles
from hw.arch.isa import (
    Array,
    ArrayMode,
    Drain,
    Elementwise,
    Fold,
    Load,
    Permute,
    Reduce,
    Store,
)
from hw.arch.winograd import Algorithm
from hw.arch.winograd_matrices import TRANSFORMS

ACCUMULATE_HAZARD = 4
"""Cycles from reading an accumulator row until its sum can be read again."""


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryTiming:
    """The memory behind the AXI4 port, the same in the cycle model and in the RTL harness.

    Requests are served strictly in the order in which their addresses were accepted. One data
    beat per cycle in total. A read burst's first beat comes `read_latency` cycles after its
    address at the earliest, a write burst's first beat is taken `write_latency` cycles after its
    address at the earliest, `turnaround` idle cycles lie between bursts of different direction,
    and the write response comes `write_response` cycles after the last beat.
    """

    read_latency: int = 40
    write_latency: int = 2
    write_response: int = 8
    turnaround: int = 1


def array_blocks(instruction: Array) -> int:
    """Weight blocks that an ARRAY instruction streams past; HFA: transformed ones."""
    return math.prod(instruction.counts[3:])


def array_stream_cycles(instruction: Array, config: AcceleratorConfig) -> int:
    """Cycles in which an ARRAY instruction streams: Σ over weight blocks.

    A block takes as long as its vectors, the loading of the next block's weights, or the
    accumulator's read-modify-write, whichever is longest.
    """
    vectors = math.prod(instruction.counts[:3])
    if instruction.mode == ArrayMode.HFA_DEPTHWISE:
        # Pixels of strips of two lines, once for all tap blocks.
        return STRIP_LINES * vectors * instruction.counts[3]
    block = max(vectors, config.weight_block_groups, ACCUMULATE_HAZARD)
    return array_blocks(instruction) * block


def array_points(instruction: Array) -> int:
    """HFA: points of a tile, P; 1 in other modes."""
    if instruction.mode != ArrayMode.HFA:
        return 1
    kx, ky, kt = instruction.counts[4:7]
    return kx * ky * (kt if instruction.transform_t else 1)


def array_sets(instruction: Array) -> int:
    """HFA: sets of tiles that are transformed one after another, K."""
    return instruction.counts[7] * (1 if instruction.transform_t else instruction.counts[6])


def array_outputs(instruction: Array) -> int:
    """Accumulator rows that one pass of an ARRAY instruction touches.

    Positions × co; HFA: tiles × points × co.
    """
    x, y, t, co = instruction.counts[:4]
    if instruction.mode == ArrayMode.HFA:
        return x * y * t * array_points(instruction) * co
    if instruction.mode == ArrayMode.HFA_DEPTHWISE:
        # Two columns and one strip are the border; emit 2 drops the last of a ragged map.
        x, y = x - 1 - instruction.emit_x, STRIP_LINES * y - 1 - instruction.emit_y
    if instruction.mode == ArrayMode.DEPTHWISE:
        above = 0 if instruction.resume else instruction.window_y - 1
        x = (x - instruction.window_x) // instruction.emit_x + 1
        y = (y - above - 1) // instruction.emit_y + 1
    return x * y * t * co


def drain_transforms(instruction: Drain) -> bool:
    """Whether a DRAIN transforms points back (hFA)."""
    return bool(instruction.transform_t or instruction.transform_s)


def drain_nest(instruction: Drain) -> tuple[int, ...]:
    """Counts of the nest that a DRAIN reads accumulators in, innermost first.

    wx, wy, wt, x, y, t, co; with a transform px, py, pt, tiles x, y, t, co.
    """
    if not drain_transforms(instruction):
        return (*instruction.window, *instruction.counts)
    axes = Algorithm(instruction.transform_t, instruction.transform_s).axes[::-1]
    tiles = [
        -(-count * window // axis.outputs)
        for count, window, axis in zip(instruction.counts, instruction.window, axes, strict=False)
    ]
    return (*(axis.points for axis in axes), *tiles, instruction.counts[3])


def drain_stream_cycles(instruction: Drain, config: AcceleratorConfig) -> int:
    """Cycles in which a DRAIN instruction reads accumulators."""
    rows = math.prod(drain_nest(instruction))
    if drain_transforms(instruction):
        return rows * config.output_transform_steps
    return rows * config.requantize_steps


VectorInstruction: TypeAlias = Elementwise | Reduce | Fold | Permute


def vector_stream_cycles(instruction: VectorInstruction, config: AcceleratorConfig) -> int:
    """Cycles in which a vector instruction reads source rows."""
    if isinstance(instruction, Fold):
        return fold_stream_cycles(instruction, config)
    if isinstance(instruction, Permute):
        return permute_stream_cycles(instruction, config)
    rows = math.prod(instruction.counts)
    if isinstance(instruction, Reduce):
        rows *= math.prod(instruction.window)
    return rows * config.vector_steps


def transfer_beats(instruction: Load | Store) -> int:
    """Data beats of a transfer."""
    return instruction.beats * math.prod(instruction.counts)


# Memories, control and memory port. Every constant is measured by tests/hw.

ACTIVATION_READ_LATENCY = 4
"""Cycles from `enable` of an activation read to its data: the bank's address register, the block
RAMs' output, a register behind it, the client's data register."""

WEIGHT_READ_LATENCY = 1
"""Cycles from `enable` of a weight group read to its data."""

PARAMETER_READ_LATENCY = 1
"""Cycles from `enable` of a parameter row read to its data."""

ACCUMULATOR_READ_LATENCY = 4
"""Cycles from `enable` of an accumulator row read (drain side) to its data: a register in front of
the columns, one in each, the bank's output, the column's data register."""

WRITE_LATENCY = 2
"""Cycles from a write to an on-chip memory to the first read that sees it: a register, the memory.
At most TOKEN_LATENCY, since the last write of an instruction may be in the cycle of its `done`."""

START_LATENCY = 4
"""Cycles from the write of Control.START to the first cycle of the run (`cycles` counts from it):
register port, order to clear, copies of it at the units, core cleared."""

HALT_LATENCY = 2
"""Cycles from the execution of HALT to the last cycle in which bursts are granted: HALT and errors
reach the supervisor through two registers."""

CLOSING = 2
"""Cycles that are counted behind the last open burst and the last cycle of grants."""

FETCH_ASK = 1
"""Cycles from the first cycle in which FETCH may ask (run, room, no request up) until it asks. A
request is still up in the cycle of its grant, so the next ask comes two cycles after a grant."""

GRANT_LATENCY = 1
"""Cycles from a grant until the address is valid on AR or AW (and, for a write, W is valid)."""

BEAT_LATENCY = 1
"""Cycles from an accepted R beat to its write into the local memory, or to FETCH."""

FETCH_VISIBLE = 3
"""Cycles from the hand-over of an instruction's last beat to FETCH until it can be taken: copied,
written, moved to the output register."""

TAKE_TO_DISPATCH = 2
"""Cycles from the taking of an instruction to its dispatch (or execution); then the next is
taken in the following cycle at the earliest, so straight-line code dispatches every three."""

JUMP_LATENCY = 1
"""Cycles from the execution of a taken jump until it flushes FETCH."""

JUMP_TO_ASK = JUMP_LATENCY + 1 + FETCH_ASK
"""Cycles from the execution of a taken jump until FETCH asks for the target's burst."""

QUEUE_LATENCY = 3
"""Cycles from dispatch until the unit can be offered the instruction (`issue` at the earliest):
queue chosen, written, waits compared."""

QUEUE_INTERVAL = 2
"""Cycles from an issue to the next one of the same unit at the earliest, whatever the unit does."""

TOKEN_LATENCY = 2
"""Cycles from `done` to the earliest issue of an instruction that waits for it: count, compare.
FENCE, HALT and the release of SCALAR come as late."""

SCALAR_RELEASE = 1
"""Cycles from the first in which SCALAR may execute to its release (waits over) at the earliest."""

SCALAR_LATENCY = 1 + ACTIVATION_READ_LATENCY + 1
"""Cycles from the release of SCALAR to its completion: order, row, chosen byte."""

LOAD_ASK = 3
"""Cycles from the issue of a LOAD to its first ask for a burst."""

RUN_INTERVAL = 2
"""Cycles from one run's first burst to the next one's at the earliest, in LOAD and STORE."""

LOAD_DONE = 1
"""Cycles from the last accepted R beat of a LOAD to `done`; the beat is written in that cycle."""

STORE_READ = 4
"""Cycles from the issue of a STORE to its first scratchpad read."""

STORE_ASK = ACTIVATION_READ_LATENCY + 1
"""Cycles from the read of a burst's last row until STORE asks for the burst."""

STORE_DONE = 1
"""Cycles from the write response of an instruction's last burst to `done`."""

FETCH_FIFO = 8
"""Instructions that the prefetch FIFO holds."""

FETCH_GROUP = 4
"""Instructions per fetch burst at most; bursts end at multiples of it (in DRAM)."""

STORE_BURSTS = 16
"""Bursts that STORE holds between the start of their read-ahead and their grant."""


# ARRAY. Cycle numbers count from the cycle in which a position's address is formed.

FEED_LATENCY = ACTIVATION_READ_LATENCY + 2
"""From a position's address to its operands at column 0's input: register in front of the
scratchpad, its read, centring register."""

WEIGHT_LAG = FEED_LATENCY
"""Cycles by which the loading of the next weight block starts after a block's first position: when
that position stands at column 0, the shadow weights are free."""

TRANSFORM_SHARED = 1
"""HFA: cycles from the offer of an instruction with the transforms of the present one, and from
`ArrayTimes.free`, to its issue."""

BLOCK_CLAIM = 4
"""HFA: cycles from a block's first position until the next block is claimed from TWB (no block is
shorter); its weights follow, so that the loading starts after WEIGHT_LAG."""

COLUMN_LATENCY = 6
"""From the operands at a column's input until the column writes their sum to the accumulators:
vector register, operand register, product, two tree levels, accumulation."""

STRIP_LINES = 2
"""HFA_DEPTHWISE: lines of a strip, which enter side by side."""

TILE_EMIT = 4
"""HFA_DEPTHWISE: cycles from the pixel that completes a tile to the position (in the sense of
array_latency) of its first result; the three others follow."""

TILE_PAUSE = TILE_EMIT + 3
"""HFA_DEPTHWISE: cycles by which the last result's position lies behind the last pixel's."""


def array_start(config: AcceleratorConfig) -> int:
    """Cycles from the issue of an ARRAY instruction to its first position.

    The first weight block takes rows / LW cycles, of which the feed's latency hides two; at least
    ACCUMULATE_HAZARD, so that an instruction may accumulate on the rows of the one before it.
    """
    return max(ACCUMULATE_HAZARD, config.weight_block_groups - BLOCK_CLAIM + 2)


def array_latency(config: AcceleratorConfig) -> int:
    """Cycles from a position's address to the write of its sum in the last column."""
    return FEED_LATENCY + COLUMN_LATENCY + config.array.cols - 1


def array_occupancy(instruction: Array, config: AcceleratorConfig) -> int:
    """Cycles from the issue of an ARRAY instruction to the earliest issue of the next one."""
    pause = TILE_PAUSE if instruction.mode == ArrayMode.HFA_DEPTHWISE else 0
    return array_start(config) + array_stream_cycles(instruction, config) - 1 + pause


def array_duration(instruction: Array, config: AcceleratorConfig) -> int:
    """Cycles from the issue of an ARRAY instruction to its `done`."""
    return array_occupancy(instruction, config) + array_latency(config)


# DRAIN. The unit takes the next instruction after `done`.

REQUANTIZE_LATENCY = 12
"""Stages of a requantization lane."""

DRAIN_START = 3
"""Cycles from the issue of a DRAIN instruction to its first accumulator read."""

DRAIN_LATENCY = ACCUMULATOR_READ_LATENCY + 1 + REQUANTIZE_LATENCY + 1
"""Cycles from an accumulator read to the write of the row that it completes: read, lane selection,
requantization, pool and row assembly."""

TRANSFORM_STAGE_LATENCY = 3
"""Cycles from the last value of a group into a 1-D transform to its first result."""

TURN_LATENCY = 2
"""Cycles from the last value of a tile into a turning memory to the first value out of it."""

OUTPUT_STAGE_LATENCY = (4, 3, 3)
"""The same as TRANSFORM_STAGE_LATENCY of a stage of the output transform, by transform."""

OUTPUT_TURN_LATENCY = TURN_LATENCY + 1
"""The same as TURN_LATENCY in the output transform, where a register follows the memory."""

DIVISION_LATENCY = 4
"""Stages of the exact division by L."""


def output_transform_latency(temporal: int, spatial: int, nested: bool) -> int:
    """Cycles from the last point of a tile into the output transform to its last result.

    Parameters
    ----------
    temporal, spatial: the fields `transform_t` and `transform_s`.
    nested: the circuit has nested algorithms, hence a third stage.
    """
    along_s = TRANSFORMS[spatial]
    # (values of a tile in the turning memory in front of a stage, its transform)
    stages = [(along_s.points * along_s.outputs, spatial)]
    if nested:
        third = temporal if spatial else 0
        plane = along_s.outputs**2 if temporal else 1
        stages.append((TRANSFORMS[third].points * plane, third))
    first = spatial or temporal
    latency = OUTPUT_STAGE_LATENCY[first] + TRANSFORMS[first].outputs - 1
    for size, transform in stages:
        latency += OUTPUT_TURN_LATENCY + size - 1
        latency += OUTPUT_STAGE_LATENCY[transform] + TRANSFORMS[transform].outputs - 1
    return latency + DIVISION_LATENCY


def drain_duration(instruction: Drain, config: AcceleratorConfig) -> int:
    """Cycles from the issue of a DRAIN instruction to its `done`.

    That is the cycle of its last write; where tiles are ragged and the last results are dropped,
    the cycle in which the last of them would have been written.
    """
    latency = DRAIN_LATENCY
    if drain_transforms(instruction):
        latency += output_transform_latency(
            instruction.transform_t, instruction.transform_s, "hfa_nested" in config.features
        )
    return DRAIN_START + drain_stream_cycles(instruction, config) - 1 + latency


# VECTOR. The unit takes the next instruction after `done`.

AFFINE_LATENCY = 17
"""Stages of the affine pipeline of a vector lane."""

ELEMENT_LATENCY = 3
"""Stages in front of it: differences, product or reduction, choice of operands."""

TABLE_LATENCY = 3
"""Stages behind it: table read, a register, choice of the byte."""

ROW_LATENCY = 1 + ACTIVATION_READ_LATENCY + 3
"""Cycles from a source row's address to its elements: register in front of the scratchpad, its
read, row register, lane shift, merge with the row so far."""

VECTOR_START = 3
"""Cycles from the issue of a vector instruction to the address of its first source row."""

VECTOR_LATENCY = ROW_LATENCY + ELEMENT_LATENCY + AFFINE_LATENCY + TABLE_LATENCY + 1
"""Cycles from the address of a step to the write of the row that it completes."""


FOLD_LATENCY = VECTOR_LATENCY + 12
"""The same of FOLD: a tree over the lanes and a second product stand in front of the pipeline."""


def vector_duration(instruction: VectorInstruction, config: AcceleratorConfig) -> int:
    """Cycles from the issue of a vector instruction to its `done`, the cycle of its last write.

    A collecting pass, which writes nothing, takes as long.
    """
    latency = FOLD_LATENCY if isinstance(instruction, Fold) else VECTOR_LATENCY
    return VECTOR_START + vector_stream_cycles(instruction, config) - 1 + latency
