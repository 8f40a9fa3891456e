"""ELEMENTWISE and REDUCE against float32 and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hw.arch.isa import Elementwise, ElementwiseOp, ErrorCode, Reduce, ReduceOp, deltas
from hw.arch.numerics import Affine, Mean, Product
from sim.functional import MachineError


def elementwise(counts, **fields):
    """Linear rows at 0 and in bank 1 (row 256) to bank 2 (row 512), unless said otherwise."""
    step = deltas(counts, (1, counts[0], counts[0] * counts[1], 0))
    defaults = {
        "counts": counts,
        "source0_deltas": step,
        "source1": 256,
        "source1_deltas": step,
        "destination": 512,
        "destination_deltas": step,
    }
    return Elementwise(**{**defaults, **fields})


def affine_fields(affine: Affine):
    return {
        "op": ElementwiseOp.AFFINE,
        "multiplier_a": affine.ra.multiplier,
        "shift_a": affine.ra.shift,
        "multiplier_b": affine.rb.multiplier,
        "shift_b": affine.rb.shift,
        "negative_b": affine.rb.negative,
        "constant": -affine.k.multiplier if affine.k.negative else affine.k.multiplier,
        "shift_k": affine.k.shift,
        "zero_point": affine.zero_point,
    }


def random_rows(bench, row, count, seed, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    codes = rng.integers(limits.min, limits.max + 1, (count, 4)).astype(dtype)
    bench.put_rows(row, codes)
    return codes


def dequantized_sum(a, b, sa, za, sb, zb, sy, zy, sign):
    """Real arithmetic in double: within one code of any rounding order."""
    value = (a.astype(np.float64) - za) * sa + sign * (b.astype(np.float64) - zb) * sb
    return np.clip(np.rint(value / sy) + zy, 0, 255)


@pytest.mark.parametrize("sign", [1, -1])
def test_affine_is_a_quantized_sum(bench, sign):
    a, b = random_rows(bench, 0, 200, 1), random_rows(bench, 256, 200, 2)
    scales = (0.021, 120, 0.034, 7, 0.05, 131)
    affine = (Affine.add if sign > 0 else Affine.subtract)(*scales)
    bench.run(elementwise((10, 20, 1, 1), **affine_fields(affine)))
    difference = bench.rows(512, 200) - dequantized_sum(a, b, *scales, sign)
    assert np.abs(difference).max() <= 1
    assert np.mean(difference != 0) < 0.01
    bench.run(elementwise((10, 20, 1, 1), **{**affine_fields(affine), "zero_point": 1}))
    assert np.count_nonzero(bench.rows(512, 200) != dequantized_sum(a, b, *scales, sign)) > 100


def test_previous_gives_frame_differences(bench):
    a = random_rows(bench, 0, 24, 3).reshape(4, 6, 4)  # t, pixel, lane
    affine = Affine.subtract(0.1, 128, 0.1, 128, 0.1, 128)
    bench.run(
        elementwise(
            (4, 6, 1, 1),
            previous=1,
            source0_deltas=deltas((4, 6, 1, 1), (6, 1, 0, 0)),
            destination_deltas=deltas((3, 6, 1, 1), (6, 1, 0, 0)),
            **affine_fields(affine),
        )
    )
    wide = a.astype(np.int64)
    expected = np.clip(wide[1:] - wide[:-1] + 128, 0, 255)
    assert np.array_equal(bench.rows(512, 18).reshape(3, 6, 4), expected)


def test_product_is_a_quantized_product(bench):
    a, b = random_rows(bench, 0, 100, 4), random_rows(bench, 256, 100, 5)
    product = Product.of(0.02, 100, 0.03, 60, 0.05, 120)
    bench.run(
        elementwise(
            (100, 1, 1, 1),
            op=ElementwiseOp.PRODUCT,
            multiplier_a=100,
            constant=60,
            multiplier_b=product.scale.multiplier,
            shift_b=product.scale.shift,
            zero_point=120,
        )
    )
    p = (a.astype(np.float64) - 100) * (b.astype(np.float64) - 60)
    expected = np.clip(np.rint(p * (0.02 * 0.03 / 0.05) + 120), 0, 255)
    assert np.abs(bench.rows(512, 100) - expected).max() <= 1
    assert np.mean(bench.rows(512, 100) != expected) < 0.02


ONE = {"multiplier_a": 1 << 23, "shift_a": 21, "multiplier_b": 1 << 23, "shift_b": 21}
"""Both scales are 1 = 2^44 units of 2^-44."""


def test_extrema_and_copy(bench):
    a, b = random_rows(bench, 0, 50, 6, np.int8), random_rows(bench, 256, 50, 7, np.int8)
    limits = {**ONE, "low": -100, "high": 127}
    counts = (50, 1, 1, 1)
    bench.run(elementwise(counts, op=ElementwiseOp.MAX, signed=(1, 1), **limits))
    assert np.array_equal(bench.rows(512, 50).view(np.int8), np.maximum(np.maximum(a, b), -100))
    bench.run(elementwise(counts, op=ElementwiseOp.MIN, signed=(1, 1), **limits))
    assert np.array_equal(bench.rows(512, 50).view(np.int8), np.maximum(np.minimum(a, b), -100))
    table = np.random.default_rng(8).permutation(256).astype(np.uint8)
    bench.put_table(0, table)
    bench.run(elementwise(counts, op=ElementwiseOp.COPY, table=1))
    assert np.array_equal(bench.rows(512, 50), table[a.view(np.uint8)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"multiplier_a": 0}, "multiplier_a = 0"),
        ({"shift_a": 22}, "shift_a = 22"),
        ({"multiplier_b": 1 << 22}, "multiplier_b = 4194304"),
        ({"negative_b": 1}, "negative_b = 1"),
        ({"constant": -1}, "constant = -1"),
    ],
)
def test_extrema_need_scales_of_one(bench, change, message):
    random_rows(bench, 0, 5, 9), random_rows(bench, 256, 5, 10)
    for op in (ElementwiseOp.MAX, ElementwiseOp.MIN):
        with pytest.raises(
            MachineError, match=f"MAX and MIN: multipliers are .*{message}"
        ) as error:
            bench.run(elementwise((5, 1, 1, 1), op=op, **{**ONE, **change}))
        assert error.value.code is ErrorCode.FIELD


def test_both_sources_in_one_bank_conflict(bench):
    random_rows(bench, 0, 20, 9)
    fields = elementwise((5, 1, 1, 1), op=ElementwiseOp.MAX, source1=10, **ONE)
    with pytest.raises(MachineError, match="in one bank") as error:
        bench.run(fields)
    assert error.value.code is ErrorCode.BANK_CONFLICT


def reduce(op, shape, window, stride, border, **fields):
    """Windows over one channel block [T, H, W] at row 0; returns instruction and output shape."""
    t, h, w = shape
    sizes = tuple(
        (n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape, window, stride, border, strict=True)
    )
    counts = (*reversed(sizes), 1)
    steps = tuple(reversed(stride))
    nest = (*reversed(window), *counts)
    places = (1, w, h * w, steps[0], steps[1] * w, steps[2] * h * w, 0)
    starts = tuple(-p for p in reversed(border))
    instruction = Reduce(
        op=op,
        counts=counts,
        window=tuple(reversed(window)),
        source=(starts[0] + starts[1] * w + starts[2] * h * w) & 0xFFFF,
        source_deltas=deltas(nest, places),
        destination=512,
        destination_deltas=deltas(counts, (1, sizes[2], sizes[2] * sizes[1], 0)),
        starts=starts,
        steps=steps,
        bounds=(w, h, t),
        **fields,
    )
    return instruction, sizes


@pytest.mark.parametrize(
    ("window", "stride", "pad"),
    [
        ((1, 2, 2), (1, 2, 2), (0, 0, 0)),
        ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ((2, 2, 2),) * 2 + ((0, 1, 1),),
        ((1, 2, 4), (8, 15, 8), (0, 1, 2)),
    ],
)
def test_maximum_equals_torch(bench, window, stride, pad):
    shape = (4, 6, 5)
    codes = random_rows(bench, 0, 120, 10, np.int8).reshape(*shape, 4)
    instruction, sizes = reduce(ReduceOp.MAX, shape, window, stride, pad, signed=1, low=-128)
    bench.run(instruction)
    expected = torch.nn.functional.max_pool3d(
        torch.from_numpy(codes.transpose(3, 0, 1, 2).astype(np.float64)), window, stride, pad
    ).numpy()
    got = bench.rows(512, int(np.prod(sizes))).view(np.int8).reshape(*sizes, 4)
    assert np.array_equal(got.transpose(3, 0, 1, 2), expected)


def test_sum_is_a_mean(bench):
    shape = (4, 6, 5)
    codes = random_rows(bench, 0, 120, 11)
    mean = Mean.of(0.02, 0.011, 30, 120)
    instruction, _ = reduce(
        ReduceOp.SUM,
        shape,
        shape,
        (1, 1, 1),
        (0, 0, 0),
        pad=77,
        multiplier=mean.scale.multiplier,
        shift=mean.scale.shift,
        zero_point=30,
    )
    bench.run(instruction)
    real = (codes.astype(np.float64) - 77).mean(axis=0) * 0.02 / 0.011
    expected = np.clip(np.rint(real) + 30, 0, 255)
    assert np.array_equal(bench.rows(512, 1)[0], expected)


def test_pack_puts_taps_side_by_side(bench):
    codes = random_rows(bench, 0, 6, 12)
    instruction, _ = reduce(
        ReduceOp.PACK, (1, 1, 6), (1, 1, 3), (1, 1, 1), (0, 0, 1), pad=200, pack_lanes=1
    )
    bench.run(instruction)
    line = np.concatenate([[200], codes[:, 0], [200]])
    expected = np.full((6, 4), 200)
    expected[:, :3] = np.lib.stride_tricks.sliding_window_view(line, 3)
    assert np.array_equal(bench.rows(512, 6), expected)


def test_empty_maximum_is_refused(bench):
    random_rows(bench, 0, 4, 13)
    instruction = Reduce(op=ReduceOp.MAX, starts=(-1, 0, 0))
    with pytest.raises(MachineError, match="window that lies outside") as error:
        bench.run(instruction)
    assert error.value.code is ErrorCode.FIELD
