"""The depthwise line buffer across instructions: strips against torch, and what spoils them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, ErrorCode, deltas
from hw.arch.layout import TensorLayout
from hw.arch.timing import array_outputs
from sim.functional import MachineError
from tests.sim.test_array import conv, depthwise_weights

HEIGHT, WIDTH, FRAMES = 6, 5, 2


def place_case(bench):
    """A padded 3×3 depthwise convolution of two blocks: expected sums, [2, T, H, W, L]."""
    rows = bench.config.array.rows
    rng = np.random.default_rng(4)
    c = 2 * rows
    x = rng.integers(0, 256, (c, FRAMES, HEIGHT, WIDTH)).astype(np.uint8)
    weight = rng.integers(-128, 128, (c, 1, 3, 3)).astype(np.int8)
    bench.put_rows(0, TensorLayout.dense((c, FRAMES, HEIGHT, WIDTH), rows).pack(x))
    bench.put_weights(0, depthwise_weights(weight, rows, rows, -(-9 // rows)))
    expected = conv(x, weight[:, None], 9, padding=(0, 1, 1), groups=c)
    return expected.reshape(2, rows, FRAMES, HEIGHT, WIDTH).transpose(0, 2, 3, 4, 1)


def strip(first: int, lines: int, **fields) -> Array:
    """Stream lines first..first+lines−1 (−1 and HEIGHT are padding)."""
    counts = (WIDTH + 2, lines, FRAMES, 2, 1, -(-9 // 4), 1, 1)
    frame = HEIGHT * WIDTH
    return Array(
        mode=ArrayMode.DEPTHWISE,
        zero_point=9,
        activation=(first * WIDTH - 1) & 0xFFFF,
        counts=counts,
        deltas=deltas(counts, (1, WIDTH, frame, FRAMES * frame, 0, 0, 0, 0)),
        starts=(-1, first, 0),
        bounds=(WIDTH, HEIGHT, FRAMES),
        window_x=3,
        window_y=3,
        **{"keep": 1, "resume": int(first > -1), "line": 3, **fields},
    )


def sums(bench, part: Array) -> np.ndarray:
    """Run a strip; its sums [2, T, lines, W, L]."""
    bench.run(part)
    count = array_outputs(part)
    lines = count // (2 * FRAMES * WIDTH)
    return bench.accumulators(0, count).reshape(2, FRAMES, lines, WIDTH, -1)


@pytest.fixture
def case(make_bench, tiny):
    memory = dataclasses.replace(tiny.memory, accumulator_rows=256)
    bench = make_bench(dataclasses.replace(tiny, memory=memory))
    return bench, place_case(bench)


@pytest.mark.parametrize("cut", [2, 3, 5, 6])
def test_strips_equal_the_whole(case, cut):
    bench, expected = case
    first = sums(bench, strip(-1, cut + 1))
    rest = sums(bench, strip(cut, HEIGHT + 1 - cut))
    assert np.array_equal(np.concatenate([first, rest], axis=2), expected)


def test_one_line_at_a_time(case):
    bench, expected = case
    parts = [sums(bench, strip(-1, 3)), *(sums(bench, strip(y, 1)) for y in range(2, HEIGHT + 1))]
    assert np.array_equal(np.concatenate(parts, axis=2), expected)


@pytest.mark.parametrize("spoil", ["entry", "order", "overwritten", "no keep", "first again"])
def test_wrong_lines_give_wrong_sums(case, spoil):
    """The twins: what an earlier instruction left is what is used, right or wrong."""
    bench, expected = case
    first, last = strip(-1, 4), strip(3, 4)
    bench.run(first)
    wrong = expected[:, :, 2:]
    match spoil:
        case "entry":
            bench.run(dataclasses.replace(first, line=3 + WIDTH + 2))
            last = dataclasses.replace(last, line=3 + WIDTH + 2 - 1)
        case "order":
            last = strip(4, 3)
            wrong = expected[:, :, 3:]
        case "overwritten":
            bench.run(dataclasses.replace(first, line=10))
        case "no keep":
            bench.run(dataclasses.replace(first, keep=0, line=0))
        case "first again":
            bench.run(strip(-1, 3))
    got = sums(bench, last)
    assert got.shape == wrong.shape
    assert not np.array_equal(got, wrong)


def test_lines_of_other_entries_stay(case):
    bench, expected = case
    bench.run(strip(-1, 4))
    bench.run(strip(-1, 4, line=3 + 3 * 4 * (WIDTH + 2)))
    assert np.array_equal(sums(bench, strip(3, 4)), expected[:, :, 2:])


def test_lines_that_nothing_left_are_refused(case):
    bench, _ = case
    with pytest.raises(MachineError, match="line-buffer entry 3, which nothing"):
        bench.run(strip(0, 4))


def test_entries_beyond_the_line_buffer_are_refused(case):
    bench, _ = case
    need = 3 * 4 * (WIDTH + 2)
    rows = bench.config.memory.line_pixels
    bench.run(strip(-1, 4, line=rows - need))
    with pytest.raises(MachineError, match=rf"line buffer has {rows} entries") as error:
        bench.run(strip(-1, 4, line=rows - need + 1))
    assert error.value.code is ErrorCode.ADDRESS


def test_resume_needs_keep(case):
    bench, _ = case
    with pytest.raises(MachineError, match="`resume` needs `keep`") as error:
        bench.run(strip(-1, 4, keep=0, resume=1))
    assert error.value.code is ErrorCode.FIELD


def test_every_line_of_a_resumed_strip_produces():
    part = strip(1, 2)
    assert array_outputs(part) == 2 * FRAMES * 2 * WIDTH
    assert array_outputs(dataclasses.replace(strip(-1, 4), resume=0)) == 2 * FRAMES * 2 * WIDTH


def test_base_keeps_four_frames_of_conv1():
    """FSB-C3D's first block: four frames of four blocks, lines of 112 pixels and two borders."""
    assert AcceleratorConfig.load("base").memory.line_pixels >= 4 * 4 * 114
