"""What an instruction does, counted: closed forms over its fields, the same for every backend."""

from __future__ import annotations

import math
from collections import Counter
from typing import assert_never

import numpy as np
import numpy.typing as npt

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    INSTRUCTION_BYTES,
    Add,
    Array,
    ArrayMode,
    Begin,
    Branch,
    Drain,
    Elementwise,
    ElementwiseOp,
    Fence,
    Fold,
    Halt,
    Instruction,
    Load,
    Loop,
    Next,
    Permute,
    Reduce,
    ReduceOp,
    Scalar,
    Set,
    Space,
    Store,
)
from hw.arch.timing import array_outputs, drain_transforms, transfer_beats
from hw.arch.walk import array_masks, elementwise_produced, reduce_masks, two_sources
from sim.energy.fold import fold_actions, permute_actions
from sim.energy.hfa_actions import (
    transformed_array,
    transformed_depthwise,
    transformed_drain,
)
from sim.energy.kinds import COMPONENTS, Action, Actions

__all__ = ["COMPONENTS", "Action", "Actions", "count_actions"]


def _inside(masks: list[npt.NDArray[np.bool_]]) -> int:
    """Points of a clipped nest that lie inside; each mask is [taps, positions] of one axis."""
    return math.prod(int(np.count_nonzero(m)) for m in masks)


def _array(instruction: Array, config: AcceleratorConfig) -> Actions:
    if instruction.mode == ArrayMode.HFA:
        return transformed_array(instruction, config)
    if instruction.mode == ArrayMode.HFA_DEPTHWISE:
        return transformed_depthwise(instruction, config)
    co, kx, ky, kt, ci = instruction.counts[3:]
    cols = config.array.cols
    outputs = array_outputs(instruction)
    sums = outputs * kx * ky * kt * ci * cols
    if instruction.mode == ArrayMode.DEPTHWISE:
        taps = instruction.window_x * instruction.window_y
        products = outputs * kt * ci * cols * taps
        rows_read = _inside(array_masks(instruction)) * kx * ky * co * ci
    else:
        products = sums * config.array.rows
        rows_read = _inside(array_masks(instruction)) * co * ci
    first = 0 if instruction.accumulate else outputs * cols
    blocks = co * kx * ky * kt * ci
    return Counter(
        {
            Action.MULTIPLY: products,
            Action.TREE_ADD: products - min(sums, products),
            Action.ACCUMULATE: sums - first,
            Action.ACCUMULATOR_READ: sums - first,
            Action.ACCUMULATOR_WRITE: sums,
            Action.ACTIVATION_READ: rows_read,
            Action.WEIGHT_READ: blocks * config.weight_block_beats,
        }
    )


def _drain(instruction: Drain, config: AcceleratorConfig) -> Actions:
    cols = config.array.cols
    rows = math.prod(instruction.counts)
    values = rows * math.prod(instruction.window) * cols
    if drain_transforms(instruction):
        read = transformed_drain(instruction, config)
    else:
        read = Counter({Action.ACCUMULATOR_READ: values, Action.REQUANTIZE: values})
    out = rows * config.array.blocks_per_row
    parameters = instruction.counts[3] * config.requantize_steps * config.parameter_row_beats
    return read + Counter(
        {
            Action.PARAMETER_READ: parameters,
            Action.ACTIVATION_WRITE: out,
        }
    )


_ELEMENTWISE = {
    ElementwiseOp.AFFINE: Action.VECTOR_AFFINE,
    ElementwiseOp.PRODUCT: Action.VECTOR_PRODUCT,
    ElementwiseOp.MAX: Action.VECTOR_COMPARE,
    ElementwiseOp.MIN: Action.VECTOR_COMPARE,
}


def _elementwise(instruction: Elementwise, config: AcceleratorConfig) -> Actions:
    read = math.prod(instruction.counts)
    produced = math.prod(elementwise_produced(instruction))
    elements = produced * config.lane_block
    result = Counter(
        {
            Action.ACTIVATION_READ: read * (2 if two_sources(instruction) else 1),
            Action.ACTIVATION_WRITE: produced,
            Action.TABLE_READ: elements if instruction.table else 0,
        }
    )
    kind = _ELEMENTWISE.get(ElementwiseOp(instruction.op))
    if kind is not None:
        result[kind] += elements
    return result


def _reduce(instruction: Reduce, config: AcceleratorConfig) -> Actions:
    read = _inside(reduce_masks(instruction)) * instruction.counts[3]
    produced = math.prod(instruction.counts)
    elements = produced * config.lane_block
    result = Counter(
        {
            Action.ACTIVATION_READ: read,
            Action.ACTIVATION_WRITE: produced,
            Action.TABLE_READ: elements if instruction.table else 0,
        }
    )
    match ReduceOp(instruction.op):
        case ReduceOp.MAX:
            result[Action.VECTOR_COMPARE] += read * config.lane_block
        case ReduceOp.SUM:
            result[Action.VECTOR_SUM] += read * config.lane_block
            result[Action.VECTOR_AFFINE] += elements
        case ReduceOp.PACK:
            pass
    return result


_SPACE_WRITES = {
    Space.ACTIVATION: Action.ACTIVATION_WRITE,
    Space.WEIGHT: Action.WEIGHT_WRITE,
    Space.PARAMETER: Action.PARAMETER_WRITE,
    Space.TABLE: Action.TABLE_WRITE,
}


def count_actions(instruction: Instruction, config: AcceleratorConfig) -> Actions:
    """Actions of one executed instruction, its own fetch included."""
    result: Actions = Counter({Action.FETCH: INSTRUCTION_BYTES // config.port.bytes})
    match instruction:
        case Load():
            beats = transfer_beats(instruction)
            result[Action.DRAM_READ] = beats
            result[_SPACE_WRITES[Space(instruction.space)]] = beats
        case Store():
            beats = transfer_beats(instruction)
            result[Action.DRAM_WRITE] = beats
            result[Action.ACTIVATION_READ] = beats
        case Array():
            result += _array(instruction, config)
        case Drain():
            result += _drain(instruction, config)
        case Elementwise():
            result += _elementwise(instruction, config)
        case Reduce():
            result += _reduce(instruction, config)
        case Fold():
            result += fold_actions(instruction, config)
        case Permute():
            result += permute_actions(instruction, config)
        case Scalar():
            result[Action.ACTIVATION_READ] = 1
        case Begin() | Set() | Add() | Loop() | Next() | Branch() | Fence() | Halt():
            pass
        case _:
            assert_never(instruction)
    return result
