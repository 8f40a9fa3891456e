"""Energy of a convolution, estimated: what `--objective energy` compares.

A few prices of 45 nm cells and DDR3 (the same numbers as sim/energy/tables/asic_45nm.yaml, which
names their sources; a test holds the two together) times the accesses and products that a tiling
implies. Only differences between ways to compute one layer matter: what all of them need alike
(storing results, parameters, instruction fetch) is left out. A product is priced by the bits that
toggle: 9 × 8 in direct layers, the algorithm's exact widths in transformed ones.
"""

from __future__ import annotations

import math

from compiler.array.job import Job
from compiler.tile.depthwise import DepthwiseProblem, DepthwiseTiling, DepthwiseWork
from compiler.tile.parts import DIRECT
from compiler.tile.problem import Tiling
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import ceil_div
from hw.arch.winograd import Algorithm, Pixels
from hw.arch.winograd_matrices import TRANSFORMS

MULTIPLY_8X8_PJ = 0.2
ADD_BIT_PJ = 0.003125
SRAM_PJ = 10.0
SRAM_BITS = 64
SRAM_BYTES = 8192
SRAM_EXPONENT = 0.5
DRAM_BIT_PJ = 20.3
LEAKAGE_BIT_PW = 30.0
CLOCK_HZ = 500e6
TWB_BLOCKS = 128
"""Weight blocks that the memory of transformed weights holds."""


def _sram(bits: int, capacity: int) -> float:
    """Picojoules of one access to a memory of `capacity` bytes."""
    scale: float = (capacity / SRAM_BYTES) ** SRAM_EXPONENT
    return SRAM_PJ * bits / SRAM_BITS * scale


def _stage_additions(algorithm: Algorithm, matrix: str) -> float:
    """Additions of a composed transform for each of its results, roughly: non-zeros less one."""
    total = 0.0
    for index in (algorithm.temporal, algorithm.spatial, algorithm.spatial):
        if index:
            rows = getattr(TRANSFORMS[index], matrix)
            total += sum(sum(c != 0 for c in row) - 1 for row in rows) / len(rows)
    return total


def layer_picojoules(job: Job, tiling: Tiling, config: AcceleratorConfig) -> float:
    """Energy of a layer, as far as the way to compute it matters."""
    array = dense_picojoules(job, config, tiling.vectors, tiling.group, tiling.passes)
    return array + moved_picojoules(tiling.beats, tiling.cycles, config)


def moved_picojoules(beats: float, cycles: float, config: AcceleratorConfig) -> float:
    """Energy of what crosses the memory port, and of the cycles that it all takes."""
    return beats * 8 * config.port.bytes * DRAM_BIT_PJ + cycles * _leakage(config)


def dense_picojoules(
    job: Job, config: AcceleratorConfig, vectors: int, group: int, passes: float
) -> float:
    """Energy of the array, and of what feeds and drains it, for a convolution in GEMM mode or hFA.

    Parameters
    ----------
    job: its form.
    config: the accelerator.
    vectors: rows that are multiplied by blocks of weights.
    group: output blocks computed together.
    passes: how often the weights of an output block are read.
    """
    algorithm, array, memory = job.kernel.algorithm, config.array, config.memory
    direct = algorithm == DIRECT
    points = math.prod(algorithm.points)
    bits = (9, 8) if direct else (algorithm.input_bits(Pixels.RAW), algorithm.weight_bits())
    word = 8 * config.port.bytes
    sets = job.problem.reduced * job.problem.taps // math.prod(algorithm.kernel)
    groups = ceil_div(job.problem.groups, group)
    energy = _products(vectors, bits, config)
    # Accumulators are read once more by the drain.
    drained = vectors / sets
    energy += drained * array.cols * _accumulator(config)
    pixels = vectors if direct else vectors * groups / job.problem.groups
    energy += pixels * _activation(config)
    # Weights are read in every pass; nested, the taps come again for each temporal point.
    reads = 1.0
    if not direct:
        energy += _transforms(algorithm, config, pixels, vectors, drained)
        blocks = passes * sets * job.problem.groups * points
        width = array.multipliers * array.weight_bits
        energy += 2 * blocks * width / word * _sram(word, TWB_BLOCKS * width // 8)
        if algorithm.temporal and algorithm.spatial:
            rows = TRANSFORMS[algorithm.temporal].weight_rows
            reads = sum(c != 0 for row in rows for c in row) / len(rows[0])
    blocks = passes * job.problem.weight_blocks * job.problem.groups
    return energy + (
        reads
        * blocks
        * config.weight_block_beats
        * _sram(word, memory.weight_bytes // config.weight_banks)
    )


def depthwise_picojoules(problem: DepthwiseProblem, tiling: DepthwiseTiling) -> float:
    """Energy of a depthwise layer, as far as the way to compute it matters."""
    array = window_picojoules(problem, problem.work(tiling))
    return array + moved_picojoules(tiling.beats, tiling.cycles, problem.config)


def window_picojoules(problem: DepthwiseProblem, work: DepthwiseWork) -> float:
    """Energy of the array, and of what feeds and drains it, for a depthwise convolution.

    Rows of the array without a tap multiply by zeros: nothing toggles.
    """
    config = problem.config
    array, memory = config.array, config.memory
    word = 8 * config.port.bytes
    if problem.tiled:
        algorithm = problem.algorithm
        bits = algorithm.input_bits(Pixels.CENTRED), algorithm.weight_bits()
        products = math.prod(algorithm.points) * work.tiles
        adds = products * _stage_additions(algorithm, "input_rows") * bits[0]
        results = math.prod(algorithm.outputs) * work.tiles
        adds += results * _stage_additions(algorithm, "output_rows") * sum(bits)
    else:
        bits = 9, 8
        products = work.results * math.prod(problem.window) * problem.time_taps
        # A tree in front of the sums, and the sums of all passes but the first.
        adds = (products - work.sums) * sum(bits)
        adds += (work.sums - work.results) * memory.accumulator_bits
    energy = array.cols * products * MULTIPLY_8X8_PJ * bits[0] * bits[1] / 64
    energy += array.cols * adds * ADD_BIT_PJ
    # Written and, but for the first pass, read by the array; read once by the drain.
    energy += 2 * work.sums * array.cols * _accumulator(config)
    energy += work.pixels * _activation(config)
    blocks = work.parts * problem.blocks
    weights = memory.weight_bytes // config.weight_banks
    return energy + blocks * problem.block_beats * _sram(word, weights)


def streamed_picojoules(vectors: float, config: AcceleratorConfig) -> float:
    """Energy of rows that are multiplied by weights which lie in the array."""
    return _products(vectors, (9, 8), config) + vectors * _activation(config)


def _products(vectors: float, bits: tuple[int, int], config: AcceleratorConfig) -> float:
    """Every vector is multiplied with, and added to, all columns."""
    product = MULTIPLY_8X8_PJ * bits[0] * bits[1] / 64 + ADD_BIT_PJ * sum(bits)
    array = config.array
    return vectors * array.cols * (array.rows * product + 2 * _accumulator(config))


def _accumulator(config: AcceleratorConfig) -> float:
    """Picojoules of one access to a column's accumulators."""
    bits = config.memory.accumulator_bits
    return _sram(bits, config.memory.accumulator_rows * bits // 8)


def _activation(config: AcceleratorConfig) -> float:
    """Picojoules of one access to a row of the scratchpad."""
    return _sram(8 * config.port.bytes, config.memory.activation_bank_rows * config.lane_block)


def _transforms(
    algorithm: Algorithm, config: AcceleratorConfig, pixels: float, vectors: int, drained: float
) -> float:
    """Additions of input and output transform; U is written once and read for each group."""
    array, memory = config.array, config.memory
    width = array.activation_bits * array.rows
    access = _sram(width, memory.transformed_rows * width // 8)
    inputs = pixels * array.rows * _stage_additions(algorithm, "input_rows")
    results = drained * array.cols * _stage_additions(algorithm, "output_rows")
    adds = inputs * array.activation_bits + results * memory.accumulator_bits
    return (pixels + vectors) * access + adds * ADD_BIT_PJ


def _leakage(config: AcceleratorConfig) -> float:
    """Picojoules of a cycle without any action."""
    memory = config.memory
    bits = 8 * (memory.activation_rows * config.lane_block + memory.weight_bytes)
    bits += 2 * memory.accumulator_rows * config.array.cols * memory.accumulator_bits
    return bits * LEAKAGE_BIT_PW / CLOCK_HZ
