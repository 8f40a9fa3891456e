"""ARRAY in mode HFA_DEPTHWISE against torch's depthwise convolution; durations; errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hw.arch.config import AcceleratorConfig, ConfigError
from hw.arch.isa import Array, ArrayMode, deltas
from hw.arch.timing import STRIP_LINES, array_outputs, array_stream_cycles
from hw.timeline.compute import array_products, array_vectors
from sim.functional.array import execute_array
from sim.functional.state import State
from tests.hw.compute.array.test_array import check_timing, simulate

pytestmark = pytest.mark.rtl
TINY = dataclasses.replace(
    AcceleratorConfig.load("tiny"),
    features=("depthwise", "vector", "hfa", "hfa_nested", "hfa_depthwise"),
)
EIGHT = dataclasses.replace(
    TINY,
    array=dataclasses.replace(TINY.array, rows=8, cols=8),
    port=dataclasses.replace(TINY.port, bytes=8),
    features=("depthwise", "vector", "hfa", "hfa_depthwise"),
)
SIXTEEN = dataclasses.replace(
    EIGHT,
    array=dataclasses.replace(EIGHT.array, rows=16, cols=16, weight_rows_per_cycle=4),
    port=dataclasses.replace(EIGHT.port, bytes=16),
    lanes=dataclasses.replace(EIGHT.lanes, requantize=4),
)
TWICE = dataclasses.replace(TINY, array=dataclasses.replace(TINY.array, cols=8))
CONFIGS = {"tiny": TINY, "eight": EIGHT, "sixteen": SIXTEEN, "twice": TWICE}


@dataclasses.dataclass(frozen=True)
class Layer:
    """A map of x × y pixels, t frames, co channel blocks; `padding` on all sides."""

    x: int
    y: int
    t: int = 1
    co: int = 1
    padding: int = 1
    signed: int = 0
    zero_point: int = 7

    @property
    def outputs(self) -> tuple[int, int]:
        return self.x + 2 * self.padding - 2, self.y + 2 * self.padding - 2


def make(layer: Layer, config, seed=0, extreme=False):
    """Codes [co, t, y, x, lanes]; taps [co, cols, 9]."""
    random = np.random.default_rng(seed)
    shape = (layer.co, layer.t, layer.y, layer.x, config.lane_block)
    codes = random.choice([0, 255], shape) if extreme else random.integers(0, 256, shape)
    taps = random.integers(-128, 128, (layer.co, config.array.cols, 9))
    if extreme:
        taps = random.choice([-128, 127], taps.shape)
    return codes.astype(np.uint8), taps.astype(np.int8)


def blocks(taps: np.ndarray, config) -> np.ndarray:
    """Weight blocks [co · tap blocks, rows, cols]; rows without a tap hold rubbish."""
    co, cols, count = taps.shape
    rows = config.array.rows
    filled = np.full((co, config.tap_blocks * rows, cols), 77, np.int8)
    filled[:, :count] = taps.transpose(0, 2, 1)
    return filled.reshape(-1, rows, cols)


def instruction(layer: Layer, config, **fields) -> Array:
    wide, high = layer.outputs
    columns, strips = 2 * -(-wide // 2) + 2, -(-high // 2) + 1
    counts = (columns, strips, layer.t, layer.co, 1, config.tap_blocks, 1, 1)
    line, frame = layer.x, layer.x * layer.y
    steps = (line, 1, 2 * line, frame, frame * layer.t, 0, 0, 0)
    return dataclasses.replace(
        Array(
            mode=ArrayMode.HFA_DEPTHWISE,
            signed=layer.signed,
            zero_point=layer.zero_point,
            activation=-layer.padding * (line + 1) & 0xFFFF,
            counts=counts,
            deltas=deltas((STRIP_LINES, *counts[:4], 1, 1, 1), steps),
            starts=(-layer.padding, -layer.padding, 0),
            bounds=(layer.x, layer.y, layer.t),
            window_x=3,
            window_y=3,
            emit_x=1 + wide % 2,
            emit_y=1 + high % 2,
            transform_s=1,
        ),
        **fields,
    )


def expected(layer: Layer, codes, taps, config) -> np.ndarray:
    """[co · t · y · x, cols] by torch."""
    if layer.signed:
        values = codes.view(np.int8).astype(float) - np.int8(np.uint8(layer.zero_point))
    else:
        values = codes.astype(float) - layer.zero_point
    cols, lanes = config.array.cols, config.lane_block
    values = np.tile(values, (1, 1, 1, 1, cols // lanes))
    pixels = values.transpose(1, 0, 4, 2, 3).reshape(layer.t, layer.co * cols, layer.y, layer.x)
    out = torch.nn.functional.conv2d(
        torch.from_numpy(pixels),
        torch.from_numpy(taps.astype(float).reshape(layer.co * cols, 1, 3, 3)),
        padding=layer.padding,
        groups=layer.co * cols,
    ).numpy()
    wide, high = layer.outputs
    ordered = out.reshape(layer.t, layer.co, cols, high, wide).transpose(1, 0, 3, 4, 2)
    return ordered.reshape(-1, cols).astype(np.int64)


LAYERS = {
    "least": Layer(2, 2),
    "even": Layer(4, 4, zero_point=0),
    "odd": Layer(3, 5, zero_point=255),
    "wide": Layer(9, 4, padding=0, signed=1, zero_point=0x90),
    "frames": Layer(3, 2, t=3, signed=1),
    "blocks": Layer(2, 3, t=2, co=3),
    "least blocks": Layer(2, 2, co=4),
    "padded twice": Layer(2, 1, padding=2),
}


@pytest.mark.parametrize(
    ("name", "which"),
    [*(("tiny", which) for which in LAYERS), ("eight", "odd"), ("eight", "least blocks")],
)
def test_results_are_those_of_a_depthwise_convolution(name, which):
    config, layer = CONFIGS[name], LAYERS[which]
    codes, taps = make(layer, config, seed=len(name))
    array = instruction(layer, config)
    got, trace = simulate(config, [array], codes, blocks(taps, config), array_outputs(array))
    wanted = expected(layer, codes, taps, config)
    assert got.shape == wanted.shape
    np.testing.assert_array_equal(got, wanted)
    check_timing(trace, [array], config)
    assert trace.vectors == array_vectors(array) == len(wanted)
    # Four multiplications per result of a whole tile.
    tiles = layer.co * layer.t * np.prod([-(-n // 2) for n in layer.outputs])
    assert trace.products * config.array.rows == 16 * tiles
    assert trace.products == array_products(array, config)
    damaged = taps.copy()
    damaged[-1, -1, -1] ^= 1
    assert (expected(layer, codes, damaged, config) != got).any()


@pytest.mark.large
@pytest.mark.parametrize("name", ["sixteen", "twice"])
def test_other_arrays(name):
    """Sixteen rows: a single tap block. More columns than lanes: c and c + rows share a lane."""
    config, layer = CONFIGS[name], Layer(3, 3, co=2)
    codes, taps = make(layer, config, extreme=True)
    array = instruction(layer, config)
    got, trace = simulate(config, [array], codes, blocks(taps, config), array_outputs(array))
    np.testing.assert_array_equal(got, expected(layer, codes, taps, config))
    check_timing(trace, [array], config)


def test_instructions_follow_one_another():
    """Tiles, plain depthwise, matrix product, tiles again, accumulating: back to back."""
    layer = Layer(4, 3)
    codes, taps = make(layer, TINY, seed=3)
    tiles = instruction(layer, TINY)
    outputs = array_outputs(tiles)
    group = TINY.weight_group_beats * TINY.weight_block_groups
    counts = (6, 5, 1, 1, 1, 3, 1, 1)
    plain = Array(
        mode=ArrayMode.DEPTHWISE,
        zero_point=layer.zero_point,
        activation=tiles.activation,
        counts=counts,
        deltas=deltas(counts, (1, 4, 0, 0, 0, 0, 0, 0)),
        starts=tiles.starts,
        bounds=tiles.bounds,
        window_x=3,
        window_y=3,
        accumulate=1,
    )
    counts = (4, 3, 1, 1, 1, 1, 1, 1)
    product = Array(
        zero_point=layer.zero_point,
        counts=counts,
        deltas=deltas(counts, (1, 4, 0, 0, 0, 0, 0, 0)),
        bounds=tiles.bounds,
        weight=3 * group,
        accumulator=outputs,
    )
    identity = np.zeros((1, 4, 4), np.int8)
    identity[0] = 5 * np.eye(4)
    stream = [tiles, plain, product, dataclasses.replace(tiles, accumulate=1)]
    weights = np.concatenate([blocks(taps, TINY), identity])
    # Plain depthwise multiplies all rows: no rubbish behind the taps.
    weights[2, 1:] = 0
    got, trace = simulate(TINY, stream, codes, weights, 2 * outputs)
    wanted = expected(layer, codes, taps, TINY)
    np.testing.assert_array_equal(got[:outputs], 3 * wanted)
    centred = codes.reshape(-1, 4).astype(np.int64) - layer.zero_point
    np.testing.assert_array_equal(got[outputs:], 5 * centred)
    check_timing(trace, stream, TINY)
    assert trace.products == sum(array_products(one, TINY) for one in stream)


@pytest.mark.parametrize("seed", range(2))
def test_functional_simulator_agrees(seed):
    random = np.random.default_rng(seed)
    layer = Layer(
        *(int(n) for n in random.integers(2, 7, 2)),
        t=int(random.integers(1, 3)),
        co=int(random.integers(1, 3)),
        signed=int(random.integers(2)),
        zero_point=int(random.integers(256)),
    )
    config = TINY
    codes, taps = make(layer, config, seed)
    array = instruction(layer, config)
    rows = array_outputs(array)
    state = State(config, track=False)
    state.activation.write(
        np.arange(codes.size // config.lane_block), codes.reshape(-1, config.lane_block)
    )
    image = blocks(taps, config).view(np.uint8).reshape(-1, config.port.bytes)
    state.weight.write(np.arange(len(image)), image)
    execute_array(array, state)
    wanted = expected(layer, codes, taps, config)
    np.testing.assert_array_equal(state.accumulator.read(np.arange(rows)), wanted)
    got, _ = simulate(config, [array], codes, blocks(taps, config), rows)
    np.testing.assert_array_equal(got, wanted)


def test_rates():
    """Cycles per result: one on every array, where DEPTHWISE takes a pass per tap block."""
    layer = Layer(56, 56)
    for config in CONFIGS.values():
        array = instruction(layer, config)
        assert array_stream_cycles(array, config) == 58 * 58
        assert array_outputs(array) == 56 * 56


def test_an_array_of_more_rows_than_products_is_refused():
    with pytest.raises(ConfigError, match=r"at most 16 array\.rows, .* not 32"):
        dataclasses.replace(
            SIXTEEN,
            array=dataclasses.replace(SIXTEEN.array, rows=32, cols=32),
            port=dataclasses.replace(SIXTEEN.port, bytes=32),
        )
