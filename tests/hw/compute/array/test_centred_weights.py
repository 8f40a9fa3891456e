"""ARRAY with weights that have a zero point, as activations do, against NumPy; times unchanged."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.hw.compute.array import test_array, test_array_hfa
from tests.hw.compute.array.test_array import (
    GEMM_SHAPES,
    Convolution,
    check_timing,
    gemm_instruction,
    simulate,
    torch_convolution,
)
from tests.machines import folding
from tests.marks import large

pytestmark = pytest.mark.rtl
DIRECT = folding("tiny_direct", weight_bits=9)
HFA = folding("tiny")
WIDE = dataclasses.replace(
    DIRECT, array=dataclasses.replace(DIRECT.array, cols=8, weight_rows_per_cycle=2)
)
CONFIGS = pytest.mark.parametrize("config", [DIRECT, HFA, WIDE], ids=["direct", "hfa", "wide"])


def numbers(weights: np.ndarray, unsigned: int, zero_point: int) -> np.ndarray:
    codes = weights.view(np.uint8) if unsigned else weights
    return codes.astype(np.int64) - zero_point


@CONFIGS
@pytest.mark.parametrize("name", [large("pointwise"), large("short"), "padded", large("cube")])
@pytest.mark.parametrize(
    ("unsigned", "zero_point"), [(1, 131), large(1, 255), (0, -128), large(0, 5)]
)
def test_products_of_centred_codes(config, name, unsigned, zero_point):
    shape = GEMM_SHAPES[name]
    codes, weights = test_array.make(shape, config)
    weights[..., 0, 0] = -128 if zero_point > 0 and not unsigned else -1  # 255 as u8
    codes[..., 0] = 0 if shape.zero_point > 127 else 255
    instruction = gemm_instruction(shape, weight_unsigned=unsigned, weight_zero_point=zero_point)
    expected = torch_convolution(codes, numbers(weights, unsigned, zero_point), shape)
    result, trace = simulate(config, [instruction], codes, weights, len(expected))
    np.testing.assert_array_equal(result, expected)
    check_timing(trace, [instruction], config)
    other = dataclasses.replace(instruction, weight_zero_point=zero_point ^ 1)
    assert (simulate(config, [other], codes, weights, len(expected))[0] != expected).any()


@CONFIGS
def test_every_instruction_has_its_own_zero_point(config):
    """Back to back, without a pause, on the same activations."""
    shape = Convolution((4, 1, 1), ci=2)
    zeros = [(1, 200), (0, -77), (0, 0), (1, 3), (0, 127)]
    codes, _ = test_array.make(shape, config)
    weights, instructions, expected = [], [], []
    for number, (unsigned, zero_point) in enumerate(zeros):
        _, some = test_array.make(shape, config, seed=number)
        sums = torch_convolution(codes, numbers(some, unsigned, zero_point), shape)
        instructions.append(
            gemm_instruction(
                shape,
                weight=number * 2 * config.weight_block_beats,
                accumulator=number * len(sums),
                weight_unsigned=unsigned,
                weight_zero_point=zero_point,
            )
        )
        weights.append(some)
        expected.append(sums)
    whole = np.concatenate(expected)
    result, trace = simulate(config, instructions, codes, np.stack(weights), len(whole))
    np.testing.assert_array_equal(result, whole)
    check_timing(trace, instructions, config)


def test_transformed_and_centred_instructions_follow_each_other():
    """HFA, a product with a zero point, HFA: bytes and TWB do not mix, times as without."""
    layer = test_array_hfa.Layer(test_array_hfa.WIDE, (1, 4, 4), (0, 1, 1), ci=2, co=2)
    cases = [test_array_hfa.Case.random(layer, HFA, seed) for seed in (0, 1)]
    instructions, codes, groups, sums = test_array_hfa.placed(cases, HFA)
    shape = Convolution((5, 1, 1), ci=2)
    some, weights = test_array.make(shape, HFA)
    product = gemm_instruction(
        shape,
        weight=groups.size // HFA.port.bytes,
        accumulator=len(sums),
        weight_unsigned=1,
        weight_zero_point=140,
    )
    product = dataclasses.replace(product, activation=codes.size // HFA.lane_block)
    stream = [instructions[0], product, instructions[1]]
    expected = torch_convolution(some, numbers(weights, 1, 140), shape)
    result, trace = test_array_hfa.simulate(
        stream,
        np.concatenate([codes.reshape(-1, HFA.lane_block), some.reshape(-1, HFA.lane_block)]),
        np.concatenate([groups.view(np.uint8).reshape(-1), weights.view(np.uint8).reshape(-1)]),
        len(sums) + len(expected),
        HFA,
    )
    np.testing.assert_array_equal(result, np.concatenate([sums, expected]))
    test_array_hfa.check_times(trace, stream, HFA)


def test_depthwise_windows_keep_their_taps():
    """Modes without a zero point, on the circuit that has one."""
    depthwise = test_array.Depthwise((6, 5, 2), (3, 3), zero_point=9)
    instruction, codes, weights, expected = test_array.depthwise_case(depthwise, DIRECT)
    result, trace = simulate(DIRECT, [instruction], codes, weights, len(expected))
    np.testing.assert_array_equal(result, expected)
    check_timing(trace, [instruction], DIRECT)
