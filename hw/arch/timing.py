"""Timing rules: how long things take, in clock cycles. Shared by compiler, cycle model and RTL.

Every latency that the RTL has is named here once; the RTL's units take theirs from here (and a
test measures them), and the cycle model adds the same numbers.
"""

from __future__ import annotations

import dataclasses
import math

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Drain, Elementwise, Load, Reduce, Store

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
    """Weight blocks that an ARRAY instruction consumes."""
    return math.prod(instruction.counts[3:])


def array_stream_cycles(instruction: Array, config: AcceleratorConfig) -> int:
    """Cycles in which an ARRAY instruction streams: Σ over weight blocks.

    A block takes as long as its vectors, the loading of the next block's weights, or the
    accumulator's read-modify-write, whichever is longest.
    """
    vectors = math.prod(instruction.counts[:3])
    block = max(vectors, config.weight_block_groups, ACCUMULATE_HAZARD)
    return array_blocks(instruction) * block


def array_outputs(instruction: Array) -> int:
    """Accumulator rows that one pass of an ARRAY instruction touches (positions × co)."""
    x, y, t, co = instruction.counts[:4]
    if instruction.mode == ArrayMode.DEPTHWISE:
        x = (x - instruction.window_x) // instruction.emit_x + 1
        y = (y - instruction.window_y) // instruction.emit_y + 1
    return x * y * t * co


def drain_stream_cycles(instruction: Drain, config: AcceleratorConfig) -> int:
    """Cycles in which a DRAIN instruction reads accumulators."""
    rows = math.prod(instruction.counts) * math.prod(instruction.window)
    return rows * config.requantize_steps


def vector_stream_cycles(instruction: Elementwise | Reduce, config: AcceleratorConfig) -> int:
    """Cycles in which a vector instruction reads source rows."""
    rows = math.prod(instruction.counts)
    if isinstance(instruction, Reduce):
        rows *= math.prod(instruction.window)
    return rows * config.vector_steps


def transfer_beats(instruction: Load | Store) -> int:
    """Data beats of a transfer."""
    return instruction.beats * math.prod(instruction.counts)
