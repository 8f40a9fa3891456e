"""ARRAY against torch convolutions; durations against the timing rules."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, ErrorCode, deltas
from hw.arch.timing import (
    ACTIVATION_READ_LATENCY,
    WEIGHT_READ_LATENCY,
    array_duration,
    array_occupancy,
    array_outputs,
)
from hw.compute.array.unit import ArrayUnit
from tests.hw.compute.support import Bench, read_accumulators, words
from tests.marks import large

pytestmark = pytest.mark.rtl
TINY = AcceleratorConfig.load("tiny_direct")
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
    bench = Bench(ArrayUnit, config)
    dut = bench.dut
    scratchpad = words(codes.reshape(-1, config.lane_block))
    group_bytes = config.array.weight_rows_per_cycle * config.array.cols
    groups = words(np.ascontiguousarray(weights).view(np.uint8).reshape(-1, group_bytes))
    # An address outside the tensor is an error here: clipped positions must not read.
    bench.serve(dut.activation, ACTIVATION_READ_LATENCY, scratchpad.__getitem__)
    bench.serve(dut.weight, WEIGHT_READ_LATENCY, groups.__getitem__)
    bits = config.memory.accumulator_bits
    result = np.zeros((rows, config.array.cols), np.int64)

    async def read_back(ctx) -> None:
        await read_accumulators(ctx, dut, first_row, result, bits)

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
    "patches": Convolution((17, 9, 1), (3, 2, 1), (8, 8, 1), (1, 0, 0), signed=1),
    "sparse": Convolution((31, 10, 9), (2, 2, 1), (15, 9, 8), (0, 1, 0), (13, 1, 1)),
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


@dataclasses.dataclass(frozen=True)
class Depthwise:
    """A frame of `size` pixels with `padding` borders, a window, temporal taps."""

    size: tuple[int, int, int]
    window: tuple[int, int] = (3, 3)
    emit: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    taps_t: int = 1
    blocks: int = 1
    signed: int = 0
    zero_point: int = 7


def depthwise_case(shape: Depthwise, config: AcceleratorConfig):
    """Instruction, activations, weight blocks and expected accumulators [.., cols]."""
    random = np.random.default_rng(1)
    rows, cols, (nx, ny, nt) = config.array.rows, config.array.cols, shape.size
    (wx, wy), (px, py), pt = shape.window, shape.padding, shape.taps_t // 2
    passes = -(-wx * wy // rows)
    codes = random.integers(0, 256, (shape.blocks, nt, ny, nx, rows), np.uint8)
    taps = random.integers(-128, 128, (shape.blocks, shape.taps_t, wy * wx, cols)).astype(np.int8)

    # Weight blocks in the order of the nest: co, then passes (ky), then kt; unused rows are zero.
    padded = np.zeros((shape.taps_t, passes * rows, shape.blocks, cols), np.int8)
    padded[:, : wy * wx] = taps.transpose(1, 2, 0, 3)
    weights = padded.reshape(shape.taps_t, passes, rows, shape.blocks, cols).swapaxes(2, 3)

    counts = (nx + 2 * px, ny + 2 * py, nt, shape.blocks, 1, passes, shape.taps_t, 1)
    frame = nx * ny
    instruction = Array(
        mode=ArrayMode.DEPTHWISE,
        signed=shape.signed,
        zero_point=shape.zero_point,
        activation=(-px - py * nx - pt * frame) & 0xFFFF,
        counts=counts,
        deltas=deltas(counts, (1, nx, frame, frame * nt, 0, 0, frame, 0)),
        starts=(-px, -py, -pt),
        bounds=shape.size,
        window_x=wx,
        window_y=wy,
        emit_x=shape.emit[0],
        emit_y=shape.emit[1],
    )
    values = centre(
        codes, Convolution(shape.size, signed=shape.signed, zero_point=shape.zero_point)
    )
    lanes = np.tile(values, (1, 1, 1, 1, cols // rows))  # column c takes lane c modulo rows
    channels = np.moveaxis(lanes, -1, 1).reshape(-1, nt, ny, nx)
    kernel = taps.reshape(shape.blocks, shape.taps_t, wy, wx, cols)
    kernel = np.moveaxis(kernel, -1, 1).reshape(-1, 1, shape.taps_t, wy, wx)
    out = torch.nn.functional.conv3d(
        torch.from_numpy(channels[None].astype(np.float64)),
        torch.from_numpy(kernel.astype(np.float64)),
        stride=(1, *shape.emit[::-1]),
        padding=(pt, py, px),
        groups=len(channels),
    )[0].numpy()
    expected = out.reshape(shape.blocks, cols, -1).transpose(0, 2, 1).reshape(-1, cols)
    return instruction, codes, weights, expected.astype(np.int64)


DEPTHWISE_SHAPES = {
    "3x3": Depthwise((5, 4, 2)),
    "stride2": Depthwise((6, 7, 1), emit=(2, 2), signed=1),
    "1x3": Depthwise((7, 3, 1), window=(3, 1), padding=(1, 0), zero_point=200),
    "3x1": Depthwise((4, 5, 1), window=(1, 3), padding=(0, 1)),
    "2x2": Depthwise((5, 4, 1), window=(2, 2), padding=(0, 0), emit=(1, 2)),
    "cube": Depthwise((4, 3, 3), taps_t=3, blocks=2),
    "tiny-frame": Depthwise((1, 1, 2), blocks=2),
}
NINE_ROWS = dataclasses.replace(
    TINY,
    array=dataclasses.replace(TINY.array, rows=16, cols=16, weight_rows_per_cycle=4),
    port=dataclasses.replace(TINY.port, bytes=16),
)


@pytest.mark.parametrize("config", [TINY, large(WIDE)], ids=["4x4", "4x8"])
@pytest.mark.parametrize("name", DEPTHWISE_SHAPES)
def test_depthwise_equals_torch(name, config):
    instruction, codes, weights, expected = depthwise_case(DEPTHWISE_SHAPES[name], config)
    result, trace = simulate(config, [instruction], codes, weights, len(expected))
    np.testing.assert_array_equal(result, expected)
    check_timing(trace, [instruction], config)
    passes = instruction.counts[5] * instruction.counts[6]
    assert trace.vectors == array_outputs(instruction) * passes


def test_depthwise_in_one_pass():
    """Sixteen rows hold all nine taps."""
    instruction, codes, weights, expected = depthwise_case(Depthwise((4, 3, 1)), NINE_ROWS)
    assert instruction.counts[5] == 1
    result, trace = simulate(NINE_ROWS, [instruction], codes, weights, len(expected))
    np.testing.assert_array_equal(result, expected)
    check_timing(trace, [instruction], NINE_ROWS)


def test_depthwise_sees_a_changed_border_weight():
    instruction, codes, weights, expected = depthwise_case(DEPTHWISE_SHAPES["3x3"], TINY)
    weights[0, 2, 0, 0, 1] ^= 4  # tap 8, column 1
    result, _ = simulate(TINY, [instruction], codes, weights, len(expected))
    assert (result != expected).any(axis=0).tolist() == [False, True, False, False]


def test_modes_follow_one_another():
    """GEMM, depthwise, GEMM back to back: windows and operands of neighbours do not mix."""
    shape = Convolution((5, 4, 1), (3, 1, 1), padding=(1, 0, 0), signed=1, zero_point=250)
    gemm_codes, gemm_weights = make(shape, TINY)
    depthwise, codes, weights, expected = depthwise_case(Depthwise((5, 4, 1)), TINY)
    first = gemm_instruction(shape)
    beats = gemm_weights.size // TINY.port.bytes
    middle = dataclasses.replace(
        depthwise,
        activation=(depthwise.activation + 20) & 0xFFFF,
        weight=beats,
        accumulator=20,
    )
    last = dataclasses.replace(first, accumulator=64)
    instructions = [first, middle, last]
    all_codes = np.concatenate([c.reshape(-1, TINY.lane_block) for c in (gemm_codes, codes)])
    all_weights = np.concatenate([gemm_weights.reshape(-1), weights.reshape(-1)])
    result, trace = simulate(TINY, instructions, all_codes, all_weights, 84)
    dense = torch_convolution(gemm_codes, gemm_weights, shape)
    np.testing.assert_array_equal(result[:20], dense)
    np.testing.assert_array_equal(result[20:40], expected)
    np.testing.assert_array_equal(result[64:84], dense)
    check_timing(trace, instructions, TINY)


PLAIN = gemm_instruction(GEMM_SHAPES["pointwise"])


def test_rows_beyond_the_accumulators_are_refused():
    instruction = dataclasses.replace(PLAIN, accumulator=120)
    codes, weights = make(GEMM_SHAPES["pointwise"], TINY)
    assert simulate(TINY, [instruction], codes, weights, 1)[1].error == ErrorCode.ADDRESS


def test_misaligned_weights_are_refused():
    codes, weights = make(GEMM_SHAPES["pointwise"], WIDE)
    instruction = dataclasses.replace(PLAIN, weight=2)
    assert simulate(WIDE, [instruction], codes, weights, 1)[1].error == ErrorCode.ADDRESS


@pytest.mark.parametrize(("row", "code"), [(3, ErrorCode.BANK_CONFLICT), (67, 0)])
def test_drain_reads_the_bank_that_the_array_reads(row, code):
    """Only the bank of the array's own reads conflicts."""
    shape = Convolution((16, 1, 1))
    codes, weights = make(shape, TINY)
    bench = Bench(ArrayUnit, TINY)
    dut = bench.dut
    bench.serve(dut.activation, ACTIVATION_READ_LATENCY, words(codes.reshape(-1, 4)).__getitem__)
    group = words(weights.view(np.uint8).reshape(-1, 4))
    bench.serve(dut.weight, WEIGHT_READ_LATENCY, group.__getitem__)

    async def read_early(ctx) -> None:
        ctx.set(dut.drain_read.enable, 1)
        ctx.set(dut.drain_read.address, row)

    trace = bench.run([gemm_instruction(shape)], before=read_early)
    assert trace.error == code
