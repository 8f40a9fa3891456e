"""PERMUTE, and weights that are activations, against NumPy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.isa import (
    Array,
    ErrorCode,
    Permute,
    PermuteOp,
    deltas,
)
from sim.functional import MachineError
from tests.machines import folding

BANK = 256


@pytest.fixture(params=["tiny", "ecp5_85k"])
def bench(request, make_bench):
    return make_bench(folding(request.param))


def random_rows(bench, row, count, seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (count, bench.config.lane_block)).astype(np.uint8)
    bench.put_rows(row, codes)
    return codes


def select(bench, seed, **fields):
    """Random choice of bytes; 24 rows at 0 and at the next bank, results behind two banks."""
    lanes, bank = bench.config.lane_block, bench.config.memory.activation_bank_rows
    rng = np.random.default_rng(seed)
    choice = [int(v) for v in rng.integers(0, 2 * lanes, lanes)]
    choice[0] = 2 * lanes - 1
    step = deltas((4, 3, 2, 1), (1, 4, 12, 0))
    defaults = {
        "op": PermuteOp.SELECT,
        "counts": (4, 3, 2, 1),
        "source0_deltas": step,
        "source1": bank,
        "source1_deltas": step,
        "destination": 2 * bank,
        "destination_deltas": step,
        "select": (*choice, *(0,) * (16 - lanes)),
        "valid": (1 << lanes) - 1,
        "pad": 99,
    }
    return Permute(**{**defaults, **fields})


def test_select(bench):
    bank = bench.config.memory.activation_bank_rows
    lanes = bench.config.lane_block
    a, b = random_rows(bench, 0, 24, 1), random_rows(bench, bank, 24, 2)
    instruction = select(bench, 3, valid=(1 << lanes) - 3)
    bench.run(instruction)
    both = np.concatenate([a, b], axis=1)
    expected = both[:, list(instruction.select[:lanes])]
    expected[:, 1] = 99
    assert np.array_equal(bench.rows(2 * bank, 24), expected)
    bench.run(dataclasses.replace(instruction, valid=(1 << lanes) - 1))
    assert not np.array_equal(bench.rows(2 * bank, 24), expected)


def test_rows_of_one_bank_need_serial(bench):
    bank, lanes = bench.config.memory.activation_bank_rows, bench.config.lane_block
    a = random_rows(bench, 0, 48, 4)
    with pytest.raises(MachineError, match="lie in one bank") as error:
        bench.run(select(bench, 5, source1=24))
    assert error.value.code is ErrorCode.BANK_CONFLICT
    instruction = select(bench, 5, source1=24, serial=1)
    bench.run(instruction)
    both = np.concatenate([a[:24], a[24:]], axis=1)
    assert np.array_equal(bench.rows(2 * bank, 24), both[:, list(instruction.select[:lanes])])


def test_a_source_that_is_not_wanted_is_not_read(bench):
    """Neither its bank nor that it was never written matters."""
    bank, lanes = bench.config.memory.activation_bank_rows, bench.config.lane_block
    a = random_rows(bench, 0, 24, 6)
    chosen = tuple(reversed(range(lanes))) + (2 * lanes - 1,) * (16 - lanes)
    bench.run(select(bench, 7, source1=100, select=chosen))
    assert np.array_equal(bench.rows(2 * bank, 24), a[:, ::-1])
    last = (*chosen[: lanes - 1], lanes, *chosen[lanes:])
    bench.run(select(bench, 7, source1=100, select=last, valid=(1 << lanes - 1) - 1))
    with pytest.raises(MachineError, match="100, which nothing has written"):
        bench.run(select(bench, 7, source1=100, select=last))


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_transpose(bench, rows):
    """Tiles of some rows, results of a tile three rows apart."""
    bank, lanes = bench.config.memory.activation_bank_rows, bench.config.lane_block
    codes = random_rows(bench, 0, rows * 5, 8).reshape(5, rows, lanes)
    counts = (rows, 5, 1, 1)
    out = (lanes, 5, 1, 1)
    instruction = Permute(
        op=PermuteOp.TRANSPOSE,
        counts=counts,
        source0_deltas=deltas(counts, (1, rows, 0, 0)),
        destination=2 * bank,
        destination_deltas=deltas(out, (5, 1, 0, 0)),
        pad=7,
    )
    bench.run(instruction)
    found = bench.rows(2 * bank, 5 * lanes).reshape(lanes, 5, lanes)
    expected = np.full((lanes, 5, lanes), 7)
    expected[..., :rows] = codes.transpose(2, 0, 1)
    assert np.array_equal(found, expected)
    bench.run(dataclasses.replace(instruction, op=PermuteOp.SELECT, valid=0))
    assert not np.array_equal(bench.rows(2 * bank, 5 * lanes).reshape(lanes, 5, lanes), expected)


@pytest.mark.parametrize("unsigned", [0, 1])
def test_a_product_of_two_activations(bench, unsigned):
    """Codes go to the weights through TRANSPOSE, and are multiplied with others: a·bᵀ."""
    config = bench.config
    lanes, bank = config.lane_block, config.memory.activation_bank_rows
    steps = lanes - 1  # the last column of weights is the zero point
    zero = 131 if unsigned else -77
    a, b = random_rows(bench, 0, 9, 9), random_rows(bench, bank, steps, 10)
    beat = 3 * config.weight_bank_beats
    move = Permute(
        op=PermuteOp.TRANSPOSE,
        counts=(steps, 1, 1, 1),
        source0=bank,
        source0_deltas=(1, 0, 0, 0),
        destination=beat,
        destination_deltas=(1, 0, 0, 0),
        space=1,
        pad=zero & 0xFF,
    )
    counts = (9, 1, 1, 1, 1, 1, 1, 1)
    product = Array(
        counts=counts,
        deltas=(1, *(0,) * 7),
        bounds=(9, 1, 1),
        zero_point=120,
        weight=beat,
        weight_unsigned=unsigned,
        weight_zero_point=zero,
    )
    bench.run(move, product)
    codes = b.astype(np.int64) if unsigned else b.view(np.int8).astype(np.int64)
    expected = np.zeros((9, lanes), np.int64)
    expected[:, :steps] = (a.astype(np.int64) - 120) @ (codes - zero).T
    assert np.array_equal(bench.accumulators(0, 9), expected)
    bench.run(dataclasses.replace(product, weight_zero_point=zero - 1))
    assert not np.array_equal(bench.accumulators(0, 9), expected)


def test_sums_of_wide_weights_stay_exact(make_bench):
    """Centred codes of ±255 on both sides: float32 holds 256 such products, not 512."""
    bench = make_bench(folding("tiny"))
    blocks, lanes = 200, 4
    bench.put_rows(0, np.full((blocks, lanes), 255, np.uint8))
    bench.machine.state.weight.write(
        np.arange(blocks * lanes), np.full((blocks * lanes, lanes), 254, np.uint8)
    )
    counts = (1, 1, 1, 1, 1, 1, 1, blocks)
    bench.run(
        Array(
            counts=counts,
            deltas=deltas(counts, (0,) * 7 + (1,)),
            weight_unsigned=1,
        )
    )
    assert bench.accumulators(0, 1)[0].tolist() == [255 * 254 * blocks * lanes] * lanes


def test_weights_behind_the_scratchpad_are_an_address_error(bench):
    random_rows(bench, 0, 2, 11)
    last = bench.config.weight_beats - 1
    fields = {"counts": (2, 1, 1, 1), "source0_deltas": (1, 0, 0, 0), "space": 1}
    instruction = Permute(**fields, destination=last, destination_deltas=(1, 0, 0, 0))
    with pytest.raises(MachineError, match=f"writes weight beat {last + 1}") as error:
        bench.run(instruction)
    assert error.value.code is ErrorCode.ADDRESS
