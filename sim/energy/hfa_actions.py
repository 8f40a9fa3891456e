"""What hFA instructions do, counted: operands of exact widths, transforms, U and TWB."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, Drain
from hw.arch.timing import array_outputs, array_points, array_sets, drain_nest
from hw.arch.walk import array_masks, array_weight_blocks
from hw.arch.winograd import Algorithm, Pixels
from sim.energy.kinds import Action, Actions

Matrix = tuple[tuple[int, ...], ...]


def _digits(value: int) -> int:
    """Non-zero digits of the sparsest signed binary form: terms of a shift-and-add product."""
    count = 0
    while value:
        if value & 1:
            count += 1
            value -= 2 - (value & 3)
        value >>= 1
    return count


def additions(matrix: Matrix) -> int:
    """Additions of `matrix` times a vector, coefficients by shifts."""
    return sum(sum(map(_digits, row)) - 1 for row in matrix)


def composed(matrices: list[Matrix]) -> tuple[int, int]:
    """(additions, values between stages) of a composition along x, then y, then t, for one tile.

    Parameters
    ----------
    matrices: along t, y, x.
    """
    sizes = [len(matrix[0]) for matrix in matrices]
    total = turned = 0
    before = False
    for axis in (2, 1, 0):
        if len(matrices[axis]) == sizes[axis] == 1:
            continue
        turned += math.prod(sizes) if before else 0
        total += additions(matrices[axis]) * math.prod(sizes) // sizes[axis]
        sizes[axis] = len(matrices[axis])
        before = True
    return total, turned


def transformed_array(instruction: Array, config: AcceleratorConfig) -> Actions:
    """Actions of an ARRAY in mode HFA."""
    algorithm = Algorithm(instruction.transform_t, instruction.transform_s)
    rows, cols = config.array.rows, config.array.cols
    sets, points = array_sets(instruction), array_points(instruction)
    outputs, co = array_outputs(instruction), instruction.counts[3]
    vectors, loaded = outputs * sets, outputs * sets // co
    sums, products = vectors * cols, vectors * cols * rows
    u, v = algorithm.input_bits(Pixels.RAW), algorithm.weight_bits()
    tree = u + v + rows.bit_length() - 1
    first = 0 if instruction.accumulate else outputs * cols
    inside = math.prod(int(np.count_nonzero(m)) for m in array_masks(instruction))
    pairs = sets * co
    # Nested, every temporal point takes all taps anew.
    passes = algorithm.points[0] if instruction.transform_t and instruction.transform_s else 1
    tiles = loaded // points * rows
    input_adds, input_turns = composed([axis.input_rows for axis in algorithm.axes])
    weight_adds, weight_turns = composed([axis.weight_rows for axis in algorithm.axes])
    weights = pairs * rows * cols
    weight_groups = pairs * points * config.weight_block_groups
    return Counter(
        {
            Action.MULTIPLY_TRANSFORMED: products * u * v,
            Action.TREE_ADD_TRANSFORMED: (products - sums) * tree,
            Action.ACCUMULATE: sums - first,
            Action.ACCUMULATOR_READ: sums - first,
            Action.ACCUMULATOR_WRITE: sums,
            Action.ACTIVATION_READ: inside * instruction.counts[7],
            Action.WEIGHT_READ: array_weight_blocks(instruction)
            * config.weight_block_beats
            * passes,
            Action.INPUT_TRANSFORM: tiles * input_adds * u,
            Action.WEIGHT_TRANSFORM: weights * weight_adds * v,
            Action.TURN: tiles * input_turns * u + weights * weight_turns * v,
            Action.TRANSFORMED_WRITE: loaded,
            Action.TRANSFORMED_READ: vectors,
            Action.TRANSFORMED_WEIGHT_WRITE: weight_groups,
            Action.TRANSFORMED_WEIGHT_READ: weight_groups,
        }
    )


def transformed_drain(instruction: Drain, config: AcceleratorConfig) -> Actions:
    """Accumulator reads, output transform and requantization of a DRAIN, whole tiles."""
    algorithm = Algorithm(instruction.transform_t, instruction.transform_s)
    nest = drain_nest(instruction)
    tiles = math.prod(nest[3:]) * config.array.cols
    adds, turned = composed([axis.output_rows for axis in algorithm.axes])
    results = tiles * math.prod(algorithm.outputs)
    width = config.memory.accumulator_bits
    return Counter(
        {
            Action.ACCUMULATOR_READ: tiles * math.prod(nest[:3]),
            Action.OUTPUT_TRANSFORM: tiles * adds * width,
            Action.DIVIDE: results,
            Action.TURN: tiles * turned * width,
            Action.REQUANTIZE: results,
        }
    )


def transformed_depthwise(instruction: Array, config: AcceleratorConfig) -> Actions:
    """Actions of an ARRAY in mode HFA_DEPTHWISE: F(2×2,3×3) on each column's own lane.

    Ragged tiles are multiplied whole; taps are transformed once for each output block.
    """
    algorithm = Algorithm(0, instruction.transform_s)
    x, y, t, co = instruction.counts[:4]
    cols = config.array.cols
    tiles = (x // 2 - 1) * (y - 1) * t * co * cols
    u, v = algorithm.input_bits(Pixels.CENTRED), algorithm.weight_bits()
    input_adds, _ = composed([axis.input_rows for axis in algorithm.axes])
    weight_adds, _ = composed([axis.weight_rows for axis in algorithm.axes])
    output_adds, _ = composed([axis.output_rows for axis in algorithm.axes])
    products = tiles * math.prod(algorithm.points)
    sums = array_outputs(instruction) * cols
    added = sums if instruction.accumulate else 0
    inside = math.prod(int(np.count_nonzero(m)) for m in array_masks(instruction))
    return Counter(
        {
            Action.MULTIPLY_TRANSFORMED: products * u * v,
            Action.ACCUMULATE: added,
            Action.ACCUMULATOR_READ: added,
            Action.ACCUMULATOR_WRITE: sums,
            Action.ACTIVATION_READ: inside * co,
            Action.WEIGHT_READ: array_weight_blocks(instruction) * config.weight_block_beats,
            Action.INPUT_TRANSFORM: tiles * input_adds * u,
            Action.WEIGHT_TRANSFORM: co * cols * weight_adds * v,
            Action.OUTPUT_TRANSFORM: tiles * output_adds * (u + v),
        }
    )
