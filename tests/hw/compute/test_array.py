"""ARRAY against torch convolutions; durations against the timing rules."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, deltas
from hw.arch.timing import (
    ACTIVATION_READ_LATENCY,
    WEIGHT_READ_LATENCY,
    array_duration,
    array_occupancy,
)
from hw.compute.array import ArrayUnit
from tests.hw.compute.support import Bench, signed_field, words

pytestmark = pytest.mark.rtl
TINY = AcceleratorConfig.load("tiny")
WIDE = dataclasses.replace(
    TINY, array=dataclasses.replace(TINY.array, cols=8, weight_rows_per_cycle=2)
)


@dataclasses.dataclass(frozen=True)
class Convolution:
    """Sizes along (x, y, t); padding is symmetric."""

    size: tuple[int, int, int]
    kernel: tuple[int, int, int] = (1, 1, 1)
    stride: tuple[int, int, int] = (1, 1, 1)
    padding: tuple[int, int, int] = (0, 0, 0)
    dilation: tuple[int, int, int] = (1, 1, 1)
    ci: int = 1
    co: int = 1
    signed: int = 0
    zero_point: int = 7

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(
                self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )


def make(shape: Convolution, config: AcceleratorConfig, seed: int = 0):
    """Activations [ci, t, y, x, L] as bytes and weights [ci, kt, ky, kx, co, rows, cols]."""
    random = np.random.default_rng(seed)
    x, y, t = shape.size
    codes = random.integers(0, 256, (shape.ci, t, y, x, config.lane_block), np.uint8)
    kx, ky, kt = shape.kernel
    weights = random.integers(
        -128, 128, (shape.ci, kt, ky, kx, shape.co, config.array.rows, config.array.cols)
    ).astype(np.int8)
    return codes, weights


def centre(codes: np.ndarray, shape: Convolution) -> np.ndarray:
    if shape.signed:
        return codes.view(np.int8).astype(np.int64) - np.int8(np.uint8(shape.zero_point))
    return codes.astype(np.int64) - shape.zero_point


def torch_convolution(codes, weights, shape: Convolution) -> np.ndarray:
    """[co·t·y·x, cols] by torch, in float64 (exact here)."""
    values = centre(codes, shape)
    channels = np.moveaxis(values, -1, 1).reshape(-1, *values.shape[1:4])
    ci, kt, ky, kx, co, rows, cols = weights.shape
    kernel = weights.transpose(4, 6, 0, 5, 1, 2, 3).reshape(co * cols, ci * rows, kt, ky, kx)
    out = torch.nn.functional.conv3d(
        torch.from_numpy(channels[None].astype(np.float64)),
        torch.from_numpy(kernel.astype(np.float64)),
        stride=shape.stride[::-1],
        padding=shape.padding[::-1],
        dilation=shape.dilation[::-1],
    )[0].numpy()
    return out.reshape(co, cols, -1).transpose(0, 2, 1).reshape(-1, cols).astype(np.int64)


def gemm_instruction(shape: Convolution, **fields) -> Array:
    (nx, ny, nt), (sx, sy, st), (dx, dy, dt) = shape.size, shape.stride, shape.dilation
    px, py, pt = shape.padding
    counts = (*shape.outputs, shape.co, *shape.kernel, shape.ci)
    steps = (sx, sy * nx, st * nx * ny, 0, dx, dy * nx, dt * nx * ny, nx * ny * nt)
    first = -px - py * nx - pt * nx * ny
    return Array(
        signed=shape.signed,
        zero_point=shape.zero_point,
        activation=first & 0xFFFF,
        counts=counts,
        deltas=deltas(counts, steps),
        starts=(-px, -py, -pt),
        steps=shape.stride,
        dilations=shape.dilation,
        bounds=shape.size,
        **fields,
    )


def simulate(config, instructions, codes, weights, rows, first_row=0):
    """Run; return (accumulators [rows, cols], trace)."""
    dut = ArrayUnit(config)
    bench = Bench(dut)
    scratchpad = words(codes.reshape(-1, config.lane_block))
    group_bytes = config.array.weight_rows_per_cycle * config.array.cols
    groups = words(np.ascontiguousarray(weights).view(np.uint8).reshape(-1, group_bytes))
    # An address outside the tensor is an error here: clipped positions must not read.
    bench.serve(dut.activation, ACTIVATION_READ_LATENCY, scratchpad.__getitem__)
    bench.serve(dut.weight, WEIGHT_READ_LATENCY, groups.__getitem__)
    bits = config.memory.accumulator_bits
    result = np.zeros((rows, config.array.cols), np.int64)

    async def read_back(ctx) -> None:
        for row in range(rows):
            ctx.set(dut.drain_read.enable, 1)
            ctx.set(dut.drain_read.address, first_row + row)
            await ctx.tick()
            ctx.set(dut.drain_read.enable, 0)
            await ctx.tick()
            word = ctx.get(dut.drain_read.data)
            for column in range(config.array.cols):
                field = word >> (bits * column) & ((1 << bits) - 1)
                result[row, column] = signed_field(field, bits)

    trace = bench.run(instructions, after=read_back)
    return result, trace


def check_timing(trace, instructions, config) -> None:
    assert trace.error == 0
    assert trace.durations == [array_duration(i, config) for i in instructions]
    assert trace.gaps == [array_occupancy(i, config) for i in instructions[:-1]]


GEMM_SHAPES = {
    "pointwise": Convolution((5, 2, 1)),
    "short": Convolution((1, 1, 1), ci=3, co=2),
    "two": Convolution((2, 1, 1), ci=2, co=2),
    "padded": Convolution((4, 3, 2), (3, 3, 1), padding=(1, 1, 0), co=2),
    "temporal": Convolution((3, 2, 4), (1, 1, 3), padding=(0, 0, 1), ci=2, signed=1),
    "strided": Convolution((7, 6, 1), (3, 3, 1), (2, 2, 1), (1, 1, 0), zero_point=255),
    "dilated": Convolution((6, 5, 1), (3, 2, 1), (1, 1, 1), (2, 0, 0), (2, 3, 1), signed=1),
    "cube": Convolution((3, 3, 3), (2, 3, 3), (1, 2, 1), (1, 1, 1), ci=2, zero_point=128),
}


@pytest.mark.parametrize("config", [TINY, WIDE], ids=["4x4", "4x8"])
@pytest.mark.parametrize("name", GEMM_SHAPES)
def test_gemm_equals_torch(name, config):
    shape = GEMM_SHAPES[name]
    codes, weights = make(shape, config)
    instruction = gemm_instruction(shape)
    expected = torch_convolution(codes, weights, shape)
    result, trace = simulate(config, [instruction], codes, weights, len(expected))
    np.testing.assert_array_equal(result, expected)
    check_timing(trace, [instruction], config)
    assert trace.vectors == np.prod(instruction.counts)


def test_a_flipped_weight_bit_shows():
    shape = GEMM_SHAPES["padded"]
    codes, weights = make(shape, TINY)
    expected = torch_convolution(codes, weights, shape)
    weights[0, 0, 1, 1, 1, 2, 3] ^= 1
    result, _ = simulate(TINY, [gemm_instruction(shape)], codes, weights, len(expected))
    assert (result != expected).any()


def test_instructions_accumulate_back_to_back():
    """Two halves of the input blocks, in the second accumulator bank, without a pause."""
    shape = dataclasses.replace(GEMM_SHAPES["padded"], ci=2)
    codes, weights = make(shape, TINY)
    half = dataclasses.replace(shape, ci=1)
    first = gemm_instruction(half, accumulator=64)
    rows = codes[0].size // TINY.lane_block
    second = dataclasses.replace(
        first,
        accumulate=1,
        activation=(first.activation + rows) & 0xFFFF,
        weight=weights[0].size // TINY.port.bytes,
    )
    expected = torch_convolution(codes, weights, shape)
    result, trace = simulate(TINY, [first, second], codes, weights, len(expected), first_row=64)
    np.testing.assert_array_equal(result, expected)
    check_timing(trace, [first, second], TINY)
