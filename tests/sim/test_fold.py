"""FOLD against Python's integers, ELEMENTWISE's `spread`, REDUCE's `add_first`."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from hw.arch.fold_numerics import Dot, coefficient_rows, exponential_tables
from hw.arch.group_numerics import NormConstants, SoftmaxConstants
from hw.arch.isa import (
    Elementwise,
    ElementwiseOp,
    ErrorCode,
    Fold,
    FoldOp,
    Reduce,
    ReduceOp,
    deltas,
)
from sim.functional import MachineError
from sim.functional.state import POISON_BYTE
from tests.groups_by_hand import norm_by_hand, scaled_by_hand, softmax_by_hand
from tests.machines import folding

L = 4
BANK = 256
X, SECOND, RESULT = 0, BANK, 2 * BANK
LIMITS = {"low": -128, "high": 127}


@pytest.fixture
def bench(make_bench):
    return make_bench(folding("tiny"))


def rows_of(counts):
    """Delta form of rows that lie one after another."""
    a, b, c, _ = counts
    return deltas(counts, (1, a, a * b, a * b * c))


def groups_of(counts, gather=False):
    """Delta form of one result row per group."""
    n2 = -(-counts[2] // L) if gather else counts[2]
    return deltas((1, 1, n2, counts[3]), (0, 0, 1, n2))


def fold(op, counts, **fields):
    """Linear rows at X and SECOND, results one after another at RESULT."""
    applies = op in (FoldOp.SOFTMAX_APPLY, FoldOp.NORM_APPLY)
    defaults = {
        "op": op,
        "counts": counts,
        "source0": X,
        "source0_deltas": rows_of(counts),
        "source1": SECOND,
        "source1_deltas": rows_of(counts),
        "destination": RESULT,
        "destination_deltas": rows_of(counts)
        if applies
        else groups_of(counts, fields.get("gather")),
        **LIMITS,
    }
    return Fold(**{**defaults, **fields})


def put(bench, row, counts, seed, signed=True):
    """Random codes of linear rows, [n3, n2, n1, n0, L]."""
    rng = np.random.default_rng(seed)
    shape = (*reversed(counts), L)
    low = -128 if signed else 0
    codes = rng.integers(low, low + 256, shape)
    bench.put_rows(row, codes.astype(np.int8 if signed else np.uint8))
    return codes


def mask_of(counts, valid):
    """Which lanes of a group count, [n1, n0, L]."""
    mask = np.ones((counts[1], counts[0], L), bool)
    if valid:
        mask[:, -1, valid:] = False
    return mask


def got(bench, shape, signed=True):
    count = int(np.prod(shape)) // L
    return bench.rows(RESULT, count).view(np.int8 if signed else np.uint8).reshape(shape)


COUNTS = [((3, 2, 5, 2), 0), ((3, 2, 5, 2), 1), ((1, 1, 6, 1), 3), ((5, 1, 1, 1), 2)]


@pytest.mark.parametrize(("counts", "valid"), COUNTS)
@pytest.mark.parametrize("lanes", [0, 1])
def test_scalar_products(bench, counts, valid, lanes):
    a, b = put(bench, X, counts, 1), put(bench, SECOND, counts, 2, signed=False)
    dot = Dot.of(0.02, -3, 0.03, 120, 0.9, 7, bound=6 * L * 255 * 255)
    fields = {
        "signed": (1, 0),
        "zero_points": (-3, 120),
        "lanes": lanes,
        "valid": valid,
        "multiplier": dot.scale.multiplier,
        "shift": dot.scale.shift,
        "zero_point": 7,
    }
    bench.run(fold(FoldOp.DOT, counts, **fields))
    total = ((a + 3) * (b - 120) * mask_of(counts, valid)).sum(axis=(2, 3))
    if lanes:
        total = np.repeat(total.sum(-1, keepdims=True), L, -1)
    expected = [
        scaled_by_hand(int(t), dot.scale.multiplier, dot.scale.shift, 7, -128, 127)
        for t in total.reshape(-1)
    ]
    found = got(bench, total.shape)
    assert found.reshape(-1).tolist() == expected
    bench.run(fold(FoldOp.DOT, counts, **{**fields, "zero_points": (-3, 110)}))
    assert not np.array_equal(got(bench, total.shape), found)


@pytest.mark.parametrize("op", [FoldOp.DOT, FoldOp.MAX])
def test_gathered_results_fill_rows(bench, op):
    """Six groups of a line make a full row and one with two lanes."""
    counts = (3, 1, 6, 2)
    a, b = put(bench, X, counts, 3), put(bench, SECOND, counts, 4)
    one = {"signed": (1, 1), "lanes": 1, "multiplier": 1 << 23, "shift": 9}
    bench.run(fold(op, counts, gather=1, **one))
    if op is FoldOp.MAX:
        expected = a.max(axis=(2, 3, 4))
    else:
        total = (a * b).sum(axis=(2, 3, 4))
        expected = np.clip(np.rint(total / 2**12), -128, 127)
    found = got(bench, (2, 2 * L))
    assert np.array_equal(found[:, :6], expected)
    assert not found[:, 6:].any()
    wide = {"gather": 1, "destination_deltas": (0, 0, 3, 5), **one}
    bench.run(fold(op, counts, **{**wide, "destination": RESULT + 40}))
    for row, line in zip((0, 3, 8, 11), found.reshape(4, L), strict=True):
        assert np.array_equal(bench.rows(RESULT + 40 + row, 1).view(np.int8)[0], line)


@pytest.mark.parametrize(("counts", "valid"), COUNTS)
@pytest.mark.parametrize("signed", [False, True])
def test_maxima_and_their_table(bench, counts, valid, signed):
    a = put(bench, X, counts, 5, signed)
    limits = {} if signed else {"low": 0, "high": 255}
    fields = {"signed": (int(signed), 0), "valid": valid, **limits}
    bench.run(fold(FoldOp.MAX, counts, **fields))
    lowest = np.where(mask_of(counts, valid), a, -999)
    expected = np.repeat(lowest.max(axis=(2, 3, 4))[..., None], L, -1)
    assert np.array_equal(got(bench, expected.shape, signed), expected)
    table = np.random.default_rng(6).permutation(256).astype(np.uint8)
    bench.put_table(2, table)
    bench.run(fold(FoldOp.MAX, counts, table=3, **fields))
    assert np.array_equal(got(bench, expected.shape, False), table[expected.astype(np.uint8)])


@pytest.mark.parametrize("signed", [False, True])
def test_the_index_of_a_maximum_is_that_of_the_first(bench, signed):
    counts = (100, 1, 2, 1)
    a = put(bench, X, counts, 7, signed)
    top = 127 if signed else 255
    a = np.minimum(a, top - 1)
    a[0, 0, 0, [70, 80, 99], [2, 0, 3]] = top
    a[0, 1, 0, 99, 3] = top  # does not count
    bench.put_rows(X, a.astype(np.int8 if signed else np.uint8))
    bench.run(fold(FoldOp.ARGMAX, counts, signed=(int(signed), 0), valid=3))
    found = got(bench, (2, L), False).astype(int)
    some = np.where(mask_of(counts, 3), a, -999).reshape(2, -1)
    assert found[0, 0] + 256 * found[0, 1] == 70 * L + 2
    assert found[1, 0] + 256 * found[1, 1] == some[1].argmax() > 255 // L
    assert not found[:, 2:].any()


def run_softmax(bench, counts, valid, softmax, parts=1):
    """MAX, COLLECT in some parts along n1, APPLY; codes at X, maxima at SECOND."""
    data = np.frombuffer(exponential_tables(softmax.exponentials), np.uint8)
    for slot in range(4):
        bench.put_table(3 + slot, data[256 * slot : 256 * (slot + 1)])
    groups = {"destination": SECOND, "destination_deltas": groups_of(counts)}
    bench.run(fold(FoldOp.MAX, counts, signed=(1, 0), valid=valid, **groups))
    maxima = {"source1_deltas": deltas(counts, (0, 0, 1, counts[2]))}
    part = (counts[0], counts[1] // parts, *counts[2:])
    a, b, c, _ = counts
    for number in range(parts):
        bench.run(
            fold(
                FoldOp.SOFTMAX_COLLECT,
                part,
                source0=X + number * part[0] * part[1],
                source0_deltas=deltas(part, (1, a, a * b, a * b * c)),
                source1_deltas=deltas(part, (0, 0, 1, c)),
                table=4,
                entry=5,
                valid=valid,
                first=number == 0,
                last=number == parts - 1,
                elements=a * b * L,
                multiplier=softmax.numerator,
            )
        )
    bench.run(
        fold(
            FoldOp.SOFTMAX_APPLY,
            counts,
            table=4,
            entry=5,
            valid=valid,
            zero_point=-128,
            **maxima,
        )
    )


@pytest.mark.parametrize(("counts", "valid"), COUNTS)
@pytest.mark.parametrize("parts", [1, 2])
def test_softmax(bench, counts, valid, parts):
    codes = put(bench, X, counts, 8)
    parts = parts if counts[1] % parts == 0 else 1
    scales = 0.05, 1 / 255
    run_softmax(bench, counts, valid, SoftmaxConstants.of(*scales), parts)
    found = got(bench, codes.shape).copy()
    counted = np.broadcast_to(mask_of(counts, valid), codes.shape)
    for group in np.ndindex(counts[3], counts[2]):
        some = codes[group][counted[group]].tolist()
        assert found[group][counted[group]].tolist() == softmax_by_hand(
            some, *scales, -128, -128, 127
        )
    assert (found[~counted] == -128).all()
    run_softmax(bench, counts, valid, SoftmaxConstants.of(0.06, 1 / 255))
    assert not np.array_equal(got(bench, codes.shape), found)


@pytest.mark.parametrize("entry", [0, 59])
@pytest.mark.parametrize("valid", [0, 3])
@pytest.mark.parametrize("form", ["under", "behind"])
def test_norm(bench, entry, valid, form):
    """Five tokens of three lane blocks and two more elements; as many COLLECTs as each counts."""
    tokens, blocks, inner = 5, 3, 2
    shape = (blocks, inner, tokens, L)
    rng = np.random.default_rng(9)
    codes = rng.integers(-128, 128, shape)
    bench.put_rows(X, codes.astype(np.int8))
    counted = np.ones((blocks, inner, L), bool)
    if valid:
        counted[-1, :, valid:] = False
    n = int(counted.sum())
    how = {"epsilon": 1e-5}
    if form == "behind":
        how = {"root_epsilon": 1e-3, "correction": n / (n - 1)}
    gamma, beta = rng.normal(1, 0.3, n), rng.normal(0, 0.5, n)
    # At a coarse scale elements count more than once.
    norm = NormConstants.of(0.3 if form == "under" else 0.03, 0.02, gamma, beta, reach=132, **how)
    gain, offset = np.zeros((2, blocks, inner, L), np.int64)
    gain[counted], offset[counted] = norm.gains, norm.offsets
    bench.put_rows(SECOND, coefficient_rows(gain, offset))
    assert (norm.repeats > 1) == (form == "under")
    turns = list(itertools.product(range(norm.repeats), range(blocks)))
    for turn, block in turns:
        counts = (1, inner, tokens, 1)
        bench.run(
            fold(
                FoldOp.NORM_COLLECT,
                counts,
                signed=(1, 0),
                source0=X + block * inner * tokens,
                source0_deltas=deltas(counts, (0, tokens, 1, 0)),
                first=(turn, block) == turns[0],
                last=(turn, block) == turns[-1],
                valid=valid if block == blocks - 1 else 0,
                entry=entry,
                elements=norm.elements,
                multiplier=norm.root_epsilon,
                epsilon=norm.epsilon,
            )
        )
    counts = (tokens, inner, blocks, 1)
    apply = fold(
        FoldOp.NORM_APPLY,
        counts,
        signed=(1, 0),
        source1_deltas=rows_of((6, inner, blocks, 1)),
        entry=entry,
        elements=norm.elements,
        coefficient_shift=norm.coefficient_shift,
        zero_point=4,
    )
    bench.run(apply)
    found = got(bench, shape).copy()
    for token in range(tokens):
        expected = norm_by_hand(codes[:, :, token][counted].tolist(), norm, 4, -128, 127)
        assert found[:, :, token][counted].tolist() == expected
    assert (found.transpose(2, 0, 1, 3)[:, ~counted] == 4).all()
    bench.run(dataclasses.replace(apply, coefficient_shift=norm.coefficient_shift - 1))
    assert not np.array_equal(got(bench, shape), found)
    table = rng.permutation(256).astype(np.uint8)
    bench.put_table(7, table)
    bench.run(dataclasses.replace(apply, table=8))
    assert np.array_equal(got(bench, shape, False), table[found.view(np.uint8)])


FAULTS = [
    (FoldOp.DOT, {"source1": X + 100}, ErrorCode.BANK_CONFLICT, "lie in one bank"),
    (FoldOp.SOFTMAX_COLLECT, {"source1": X + 9, "table": 1, "elements": 4, "first": 1},
     ErrorCode.BANK_CONFLICT, "lie in one bank"),
    (FoldOp.SOFTMAX_APPLY, {"table": 1}, ErrorCode.ADDRESS, "a softmax of entry 0, which holds"),
    (FoldOp.NORM_APPLY, {"elements": 4, "coefficient_shift": 5}, ErrorCode.ADDRESS,
     "a norm of entry 0, which holds nothing"),
    (FoldOp.NORM_COLLECT, {"elements": 4}, ErrorCode.ADDRESS, "sums of entry 0, which holds"),
    (FoldOp.MAX, {"source0": 4095}, ErrorCode.ADDRESS, "reads activation row 4096"),
    (FoldOp.MAX, {"destination": 4095}, ErrorCode.ADDRESS, "writes activation row 4096"),
    (FoldOp.DOT, {"multiplier": (1 << 24) - 1, "shift": 31}, ErrorCode.FIELD, "below 262144"),
    (FoldOp.NORM_COLLECT, {"elements": 3, "first": 1, "last": 1}, ErrorCode.FIELD,
     "less a squared sum -"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "fields", "code", "message"), FAULTS)
def test_faults(bench, op, fields, code, message):
    bench.machine.state.activation.write(
        np.arange(16 * BANK // 2), np.full((16 * BANK // 2, L), POISON_BYTE, np.uint8)
    )
    bench.machine.state.table.write(np.arange(512), np.full((512, L), 1, np.uint8))
    with pytest.raises(MachineError, match=message) as error:
        bench.run(fold(op, (1, 1, 2, 1), **fields))
    assert error.value.code is code


def test_norms_that_leave_their_widths_or_banks_are_noticed(bench):
    """The circuit would find the bank in use, but not the element 2^8 deviations away."""
    codes = np.zeros((3, L), np.uint8)
    codes[2] = 200
    bench.put_rows(X, codes)
    gain = np.zeros((2, L), np.int64)
    gain[1] = 1
    bench.put_rows(SECOND, coefficient_rows(gain, gain))
    collect = fold(FoldOp.NORM_COLLECT, (2, 1, 1, 1), elements=8, first=1, last=1)
    apply = fold(FoldOp.NORM_APPLY, (1, 1, 1, 1), elements=8, coefficient_shift=5)
    far = dataclasses.replace(apply, source0=X + 2)
    bench.run(collect, apply, far)
    with pytest.raises(MachineError, match=r"a standardized element 1048575\d\d is not"):
        bench.run(collect, dataclasses.replace(far, source1=SECOND + 6))
    with pytest.raises(MachineError, match="both lie in bank 0") as error:
        bench.run(collect, dataclasses.replace(apply, source1=X + 100))
    assert error.value.code is ErrorCode.BANK_CONFLICT


def test_sums_that_leave_their_width_are_noticed(bench):
    """1024 elements of 2^21 − 1 exceed 31 bits; the circuit cannot see it."""
    bench.put_table(0, np.full(256, 0xFF, np.uint8))
    bench.put_rows(X, np.zeros((1, L), np.uint8))
    bench.put_rows(SECOND, np.zeros((1, L), np.uint8))
    still = {"source0_deltas": (0, 0, 0, 0), "source1_deltas": (0, 0, 0, 0)}
    some = {"table": 1, "elements": 1024, "first": 1, **still}
    for slot in range(4):
        bench.put_table(slot, np.full(256, 0xFF, np.uint8))
    bench.run(fold(FoldOp.SOFTMAX_COLLECT, (255, 1, 1, 1), **some))
    with pytest.raises(MachineError, match="a sum of exponentials 2155871228 is not within 0"):
        bench.run(fold(FoldOp.SOFTMAX_COLLECT, (257, 1, 1, 1), **some))
    for slot in range(4):
        bench.put_table(slot, np.full(256, 1, np.uint8))
    bench.run(fold(FoldOp.SOFTMAX_COLLECT, (1, 1, 1, 1), **some))
    some["multiplier"] = 1 << 23
    for slot in range(4):
        bench.put_table(slot, np.full(256, 0, np.uint8))
    with pytest.raises(MachineError, match="a softmax whose sum 0 is not within 1048576"):
        bench.run(fold(FoldOp.SOFTMAX_COLLECT, (1, 1, 1, 1), last=1, **some))


def test_one_lane_stands_for_all(bench):
    rng = np.random.default_rng(10)
    a, b = rng.integers(0, 100, (2, 20, L)).astype(np.uint8)
    bench.put_rows(X, a)
    bench.put_rows(SECOND, b)
    one = {"multiplier_a": 1 << 23, "shift_a": 21, "multiplier_b": 1 << 23, "shift_b": 21}
    step = (1, 0, 0, 0)
    instruction = Elementwise(
        op=ElementwiseOp.AFFINE, counts=(20, 1, 1, 1), spread=1, lane=2, source0=X,
        source1=SECOND, destination=RESULT, source0_deltas=step, source1_deltas=step,
        destination_deltas=step, **one,
    )  # fmt: skip
    bench.run(instruction)
    assert np.array_equal(bench.rows(RESULT, 20), a + b[:, 2:3])
    bench.run(dataclasses.replace(instruction, lane=1))
    assert np.array_equal(bench.rows(RESULT, 20), a + b[:, 1:2])


@pytest.mark.parametrize("add_first", [0, 1])
def test_where_the_zero_point_of_a_mean_is_added(bench, add_first):
    """Sums of four at a quarter: every fourth is a tie, which the odd zero point turns."""
    rng = np.random.default_rng(11)
    codes = rng.integers(100, 140, (200, 4, L)).astype(np.uint8)
    bench.put_rows(X, codes[:50])
    counts = (50, 1, 1, 1)
    bench.run(
        Reduce(
            op=ReduceOp.SUM,
            counts=counts,
            window=(4, 1, 1),
            source=X,
            source_deltas=deltas((4, 1, 1, *counts), (1, 0, 0, 4, 0, 0, 0)),
            destination=RESULT,
            destination_deltas=(1, 0, 0, 0),
            steps=(4, 1, 1),
            bounds=(200, 1, 1),
            pad=131,
            multiplier=1 << 23,
            shift=19,
            zero_point=131,
            add_first=add_first,
        )
    )
    mean = (codes[:50].astype(np.float64) - 131).mean(axis=1)
    inside, behind = np.rint(mean + 131), np.rint(mean) + 131
    assert np.array_equal(bench.rows(RESULT, 50), inside if add_first else behind)
    assert np.mean(inside != behind) > 0.1
