"""Energy of a tiled convolution, estimated: what `--objective energy` compares.

A few prices of 45 nm cells and DDR3 (the same numbers as sim/energy/tables/asic_45nm.yaml, which
names their sources; a test holds the two together) times the accesses and products that a tiling
implies. Only differences between ways to compute one layer matter: what all of them need alike
(storing results, parameters, instruction fetch) is left out. A product is priced by the bits that
toggle: 9 × 8 in direct layers, the algorithm's exact widths in transformed ones.
"""

from __future__ import annotations

import math

from compiler.array.job import Job
from compiler.tile.depthwise import DepthwiseProblem, DepthwiseTiling
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
    algorithm, array, memory = job.kernel.algorithm, config.array, config.memory
    direct = algorithm == DIRECT
    points = math.prod(algorithm.points)
    bits = (9, 8) if direct else (algorithm.input_bits(Pixels.RAW), algorithm.weight_bits())
    word = 8 * config.port.bytes
    accumulator = _sram(
        memory.accumulator_bits, memory.accumulator_rows * memory.accumulator_bits // 8
    )
    sets = job.problem.reduced * job.problem.taps // math.prod(algorithm.kernel)
    groups = ceil_div(job.problem.groups, tiling.group)
    # Every vector is multiplied with, and added to, all columns.
    product = MULTIPLY_8X8_PJ * bits[0] * bits[1] / 64 + ADD_BIT_PJ * sum(bits)
    energy = tiling.vectors * array.cols * (array.rows * product + 2 * accumulator)
    # Accumulators are read once more by the drain.
    drained = tiling.vectors / sets
    energy += drained * array.cols * accumulator
    pixels = tiling.vectors if direct else tiling.vectors * groups / job.problem.groups
    energy += pixels * _sram(word, memory.activation_bank_rows * config.lane_block)
    # Weights are read in every pass; nested, the taps come again for each temporal point.
    reads = 1.0
    if not direct:
        energy += _transforms(algorithm, config, pixels, tiling.vectors, drained)
        blocks = tiling.passes * sets * job.problem.groups * points
        width = array.multipliers * array.weight_bits
        energy += 2 * blocks * width / word * _sram(word, TWB_BLOCKS * width // 8)
        if algorithm.temporal and algorithm.spatial:
            rows = TRANSFORMS[algorithm.temporal].weight_rows
            reads = sum(c != 0 for row in rows for c in row) / len(rows[0])
    blocks = tiling.passes * job.problem.weight_blocks * job.problem.groups
    energy += (
        reads
        * blocks
        * config.weight_block_beats
        * _sram(word, memory.weight_bytes // config.weight_banks)
    )
    energy += tiling.beats * word * DRAM_BIT_PJ
    return energy + tiling.cycles * _leakage(config)


def depthwise_picojoules(problem: DepthwiseProblem, tiling: DepthwiseTiling) -> float:
    """Energy of a depthwise layer, as far as the way to compute it matters.

    Rows of the array without a tap multiply by zeros: nothing toggles.
    """
    config, work = problem.config, problem.work(tiling)
    array, memory = config.array, config.memory
    word = 8 * config.port.bytes
    accumulator = _sram(
        memory.accumulator_bits, memory.accumulator_rows * memory.accumulator_bits // 8
    )
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
    energy += 2 * work.sums * array.cols * accumulator
    energy += work.pixels * _sram(word, memory.activation_bank_rows * config.lane_block)
    blocks = work.parts * problem.blocks
    energy += blocks * problem.block_beats * _sram(word, memory.weight_bytes // config.weight_banks)
    energy += tiling.beats * word * DRAM_BIT_PJ
    return energy + tiling.cycles * _leakage(config)


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
