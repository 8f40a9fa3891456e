"""ARRAY DEPTHWISE in strips: lines that an instruction leaves are resumed by a later one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ErrorCode, deltas, strides
from hw.arch.timing import array_outputs
from tests.hw.compute.array.test_array import (
    NINE_ROWS,
    Convolution,
    Depthwise,
    check_timing,
    depthwise_case,
    gemm_instruction,
    simulate,
)
from tests.marks import large

pytestmark = pytest.mark.rtl
TINY = AcceleratorConfig.load("tiny")


def strip(whole: Array, first: int, lines: int, accumulator: int, **fields) -> Array:
    """Lines first..first+lines−1 of a frame (padding counted); all but the first strip resume."""
    counts = (whole.counts[0], lines, *whole.counts[2:])
    step = strides(whole.counts, whole.deltas)
    return dataclasses.replace(
        whole,
        activation=(whole.activation + first * step[1]) & 0xFFFF,
        counts=counts,
        deltas=deltas(counts, step),
        starts=(whole.starts[0], whole.starts[1] + first, whole.starts[2]),
        accumulator=accumulator,
        **{"keep": 1, "resume": int(first > 0), "line": 5, **fields},
    )


def strips(whole: Array, sizes: list[int]) -> list[Array]:
    """Strips of the given numbers of lines, their results one after another."""
    assert sum(sizes) == whole.counts[1]
    result, first, row = [], 0, 0
    for lines in sizes:
        result.append(strip(whole, first, lines, row))
        first, row = first + lines, row + array_outputs(result[-1])
    return result


def expected_of(whole: Array, parts: list[Array], expected: np.ndarray) -> np.ndarray:
    """The accumulators of a whole frame in the order in which its strips leave them."""
    _, y, t, co = (
        whole.counts[0],
        whole.counts[1] - whole.window_y + 1,
        whole.counts[2],
        whole.counts[3],
    )
    frames = expected.reshape(co, t, y, -1, expected.shape[-1])
    result, line = [], 0
    for part in parts:
        lines = array_outputs(part) // (frames.shape[3] * t * co)
        result.append(frames[:, :, line : line + lines].reshape(-1, expected.shape[-1]))
        line += lines
    return np.concatenate(result)


CASES = {
    "one line at a time": (Depthwise((5, 4, 1)), [3, 1, 1, 1]),
    "frames and blocks": (Depthwise((4, 4, 2), blocks=2), [3, 2, 1]),
    "two lines": (Depthwise((4, 5, 1), window=(3, 2), padding=(1, 0)), [2, 1, 2]),
    "signed": (Depthwise((3, 4, 1), signed=1, zero_point=200), [4, 2]),
}


@pytest.mark.parametrize("config", [TINY, large(NINE_ROWS)], ids=["4x4", "16x16"])
@pytest.mark.parametrize("name", CASES)
def test_strips_equal_the_whole_frame(name, config):
    shape, sizes = CASES[name]
    whole, codes, weights, expected = depthwise_case(shape, config)
    parts = strips(whole, sizes)
    result, trace = simulate(config, parts, codes, weights, len(expected))
    np.testing.assert_array_equal(result, expected_of(whole, parts, expected))
    check_timing(trace, parts, config)


def test_other_instructions_between_strips_leave_the_lines_alone():
    """GEMM, and a depthwise frame in other entries."""
    whole, codes, weights, expected = depthwise_case(Depthwise((4, 4, 1)), TINY)
    first, last = strips(whole, [3, 3])
    gemm = gemm_instruction(Convolution((4, 1, 1)), accumulator=64)
    other = strip(whole, 0, 6, 64, line=40)
    parts = [first, gemm, other, last]
    result, trace = simulate(TINY, parts, codes, weights, len(expected))
    np.testing.assert_array_equal(result, expected_of(whole, [first, last], expected))
    check_timing(trace, parts, TINY)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda first, last: [first, dataclasses.replace(last, line=last.line + 1)],
        lambda first, last: [
            first,
            dataclasses.replace(first, keep=0, line=0, accumulator=64),
            dataclasses.replace(last, line=last.line),
        ],
        lambda first, last: [first, dataclasses.replace(first, line=9, accumulator=64), last],
    ],
    ids=["wrong entry", "other frame without keep", "other frame in between"],
)
def test_spoiled_lines_show(spoil):
    """The twin: lines of other entries, or overwritten ones, give other sums."""
    whole, codes, weights, expected = depthwise_case(Depthwise((5, 4, 1)), TINY)
    first, last = strips(whole, [3, 3])
    parts = spoil(first, last)
    result, _ = simulate(TINY, parts, codes, weights, len(expected))
    assert (result != expected_of(whole, [first, last], expected)).any()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"resume": 1}, 0),
        ({"line": TINY.memory.line_pixels - 3 * 7 + 1}, ErrorCode.ADDRESS),
        ({"line": TINY.memory.line_pixels - 3 * 7}, 0),
    ],
    ids=["resume", "last entry", "fits"],
)
def test_fields_are_checked(fields, code):
    """Three passes of lines of seven pixels keep 21 entries."""
    whole, codes, weights, _ = depthwise_case(Depthwise((5, 4, 1)), TINY)
    part = strip(whole, 0, 3, 0, **fields)
    assert simulate(TINY, [part], codes, weights, 1)[1].error == code
