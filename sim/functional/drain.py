"""DRAIN: accumulators to activations."""

from __future__ import annotations

import numpy as np

from hw.arch.isa import Drain, ErrorCode, strides
from hw.arch.numerics import requantize, unpack_parameters
from hw.arch.timing import drain_transforms
from hw.arch.walk import drain_strides, offsets
from sim.functional.errors import UnitError
from sim.functional.hfa import drained
from sim.functional.state import Index, State


def _parameters(instruction: Drain, state: State) -> tuple[Index, Index, Index]:
    """Bias, multiplier and shift, each [co, 1, cols]."""
    config = state.config
    if instruction.parameter % config.parameter_row_beats:
        raise UnitError(
            ErrorCode.ADDRESS,
            f"parameter beat {instruction.parameter} is not a multiple of "
            f"{config.parameter_row_beats}, the beats of a parameter row",
        )
    co = instruction.counts[3]
    size = co * config.requantize_steps * config.parameter_row_beats
    beats = state.parameter.read(instruction.parameter + np.arange(size))
    shape = (co, 1, config.array.cols)
    bias, multiplier, shift = unpack_parameters(beats.tobytes())
    return bias.reshape(shape), multiplier.reshape(shape), shift.reshape(shape)


def _pooled(instruction: Drain, state: State) -> Index:
    """Accumulators [co, positions, cols], the largest of each window."""
    nest = (*instruction.window, *instruction.counts)
    pooled = int(np.prod(instruction.window))
    step = strides(nest, instruction.accumulator_deltas)
    rows = instruction.accumulator + offsets(nest, step).reshape(instruction.counts[3], -1, pooled)
    return np.asarray(state.accumulator.read(rows).max(axis=2), np.int64)


def execute_drain(instruction: Drain, state: State) -> None:
    """Requantize, pool and write one DRAIN instruction.

    The maximum is taken before requantization: requantization never decreases where its
    accumulator grows, so the result is the same.

    Raises
    ------
    UnitError
        ADDRESS outside a memory.
    """
    config = state.config
    values = (
        drained(instruction, state)
        if drain_transforms(instruction)
        else _pooled(instruction, state)
    )
    bias, multiplier, shift = _parameters(instruction, state)
    codes = requantize(
        state.wrap(values + bias),
        multiplier,
        shift,
        instruction.zero_point,
        instruction.low,
        instruction.high,
    )
    limits = (codes == instruction.low) | (codes == instruction.high)
    state.saturated += int(np.count_nonzero(limits))
    state.requantized += codes.size
    out = (config.array.blocks_per_row, *instruction.counts)
    target = instruction.destination + offsets(out, drain_strides(instruction, config))
    data = codes.astype(np.uint8).reshape(-1, config.lane_block)
    state.activation.write(target.reshape(-1), data)
