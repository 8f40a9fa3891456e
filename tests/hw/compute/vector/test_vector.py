"""VECTOR against float32 arithmetic on codes; windows, packing, tables, durations, refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Elementwise, ElementwiseOp, ErrorCode, Reduce, ReduceOp, deltas
from hw.arch.numerics import Affine, Factor, Mean, Product
from hw.arch.timing import ACTIVATION_READ_LATENCY, vector_duration
from hw.compute.vector.unit import VectorUnit
from tests.hw.compute.support import Bench, words

pytestmark = pytest.mark.rtl
TINY = AcceleratorConfig.load("tiny")
NARROW = dataclasses.replace(TINY, lanes=dataclasses.replace(TINY.lanes, vector=2))
CONFIGS = pytest.mark.parametrize("config", [TINY, NARROW], ids=["whole", "half"])
ROWS, LANES = 96, TINY.lane_block
TABLES = np.random.default_rng(9).integers(0, 256, (TINY.memory.tables, 256), np.uint8)


def scratchpad(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (ROWS, LANES), np.uint8)


def simulate(config, instructions, memory):
    bench = Bench(VectorUnit, config, whole_word=True)
    dut = bench.dut
    rows = words(memory)
    # An address outside is an error: clipped rows must not be read.
    for port in (dut.source0, dut.source1):
        bench.serve(port, ACTIVATION_READ_LATENCY, rows.__getitem__)
    bench.record(dut.write)

    async def fill_tables(ctx) -> None:
        for beat, word in enumerate(words(TABLES.reshape(-1, config.port.bytes))):
            ctx.set(dut.table_write.enable, 1)
            ctx.set(dut.table_write.address, beat)
            ctx.set(dut.table_write.data, word)
            await ctx.tick()
        ctx.set(dut.table_write.enable, 0)

    needs_tables = any(i.table for i in instructions)
    return bench.run(instructions, before=fill_tables if needs_tables else None)


def check(config, instruction, memory, expected) -> None:
    """Run twice in a row; `expected` maps address to the stored row."""
    trace = simulate(config, [instruction, instruction], memory)
    assert trace.error == 0
    half = len(trace.writes) // 2
    assert [w[1:] for w in trace.writes[:half]] == [w[1:] for w in trace.writes[half:]]
    addresses = [address for _, address, _ in trace.writes[:half]]
    assert addresses == list(expected)
    stored = [list(row.to_bytes(LANES, "little")) for _, _, row in trace.writes[:half]]
    np.testing.assert_array_equal(stored, [np.asarray(v) & 0xFF for v in expected.values()])
    duration = vector_duration(instruction, config)
    assert trace.durations == [duration] * 2
    assert trace.gaps == [duration + 1]


def elementwise(op, counts=(4, 3, 1, 1), source1=50, destination=200, **fields) -> Elementwise:
    """Rows 0.. in a nest with gaps; destination backwards."""
    return Elementwise(
        op=op,
        counts=counts,
        source0=2,
        source0_deltas=deltas(counts, (2, 9, 0, 0)),
        source1=source1,
        source1_deltas=deltas(counts, (1, 5, 0, 0)),
        destination=destination,
        destination_deltas=deltas(counts, (-1, -4, 0, 0)),
        **fields,
    )


def operands(memory, signed=(0, 0)):
    """a, b [12, L] and destination rows of `elementwise`."""
    i, j = np.meshgrid(range(4), range(3))
    first, second = memory[2 + 2 * i + 9 * j], memory[50 + i + 5 * j]
    values = [
        (v.view(np.int8) if s else v).astype(np.int64).reshape(-1, LANES)
        for v, s in zip((first, second), signed, strict=True)
    ]
    return *values, (200 - i - 4 * j).reshape(-1)


def affine_fields(affine: Affine) -> dict[str, int]:
    return {
        "multiplier_a": affine.ra.multiplier,
        "shift_a": affine.ra.shift,
        "multiplier_b": affine.rb.multiplier,
        "shift_b": affine.rb.shift,
        "negative_b": int(affine.rb.negative),
        "constant": -affine.k.multiplier if affine.k.negative else affine.k.multiplier,
        "shift_k": affine.k.shift,
        "zero_point": affine.zero_point,
    }


@CONFIGS
@pytest.mark.parametrize("table", [0, 2])
def test_addition(config, table):
    memory = scratchpad()
    affine = Affine.add(0.02, 3, 0.05, 120, 0.04, 100)
    instruction = elementwise(ElementwiseOp.AFFINE, table=table, **affine_fields(affine))
    a, b, rows = operands(memory)
    real = (a - 3) * 0.02 + (b - 120) * 0.05
    codes = affine(a, b, 0, 255)
    assert np.abs(codes - np.clip(real / 0.04 + 100, 0, 255)).max() <= 0.51
    stored = TABLES[table - 1][codes] if table else codes
    check(config, instruction, memory, dict(zip(rows, stored, strict=True)))


def test_signed_sources_and_limits():
    memory = scratchpad(1)
    affine = Affine.add(0.02, 3, 0.05, -20, 0.09, -10)
    instruction = elementwise(
        ElementwiseOp.AFFINE, signed=(1, 1), low=-128, high=127, **affine_fields(affine)
    )
    a, b, rows = operands(memory, (1, 1))
    check(TINY, instruction, memory, dict(zip(rows, affine(a, b, -128, 127), strict=True)))


@CONFIGS
def test_difference_to_the_previous_row(config):
    memory = scratchpad(2)
    affine = Affine.subtract(0.02, 7, 0.02, 7, 0.03, 128)
    counts = (4, 3, 1, 1)
    instruction = Elementwise(
        op=ElementwiseOp.AFFINE,
        previous=1,
        counts=counts,
        source0=10,
        source0_deltas=deltas(counts, (3, 1, 0, 0)),
        destination=300,
        destination_deltas=deltas((3, 3, 1, 1), (3, 1, 0, 0)),
        **affine_fields(affine),
    )
    expected = {}
    for j in range(3):
        for i in range(1, 4):
            now, before = (memory[10 + 3 * k + j].astype(np.int64) for k in (i, i - 1))
            expected[300 + 3 * (i - 1) + j] = affine(now, before, 0, 255)
    check(config, instruction, memory, expected)


def test_product():
    memory = scratchpad(3)
    product = Product.of(0.013, 12, 0.031, 250, 0.0121, 3)
    instruction = elementwise(
        ElementwiseOp.PRODUCT,
        multiplier_a=12,
        constant=250,
        multiplier_b=product.scale.multiplier,
        shift_b=product.scale.shift,
        zero_point=3,
    )
    a, b, rows = operands(memory)
    scale = np.float32(np.float32(np.float32(0.013) * np.float32(0.031)) / np.float32(0.0121))
    value = np.rint(((a - 12) * (b - 250)).astype(np.float32) * scale + np.float32(3))
    codes = np.clip(value, 0, 255).astype(np.int64)
    check(TINY, instruction, memory, dict(zip(rows, codes, strict=True)))


@CONFIGS
@pytest.mark.parametrize("op", [ElementwiseOp.MAX, ElementwiseOp.MIN, ElementwiseOp.COPY])
def test_unscaled(op, config):
    memory = scratchpad(4)
    one = Factor.of(1.0)
    scales = {
        "multiplier_a": one.multiplier,
        "shift_a": one.shift,
        "multiplier_b": one.multiplier,
        "shift_b": one.shift,
    }
    instruction = elementwise(op, low=20, high=230, **({} if op == ElementwiseOp.COPY else scales))
    a, b, rows = operands(memory)
    value = {
        ElementwiseOp.MAX: np.maximum(a, b),
        ElementwiseOp.MIN: np.minimum(a, b),
        ElementwiseOp.COPY: a,
    }[op]
    codes = np.clip(value, 20, 230)
    check(config, instruction, memory, dict(zip(rows, codes, strict=True)))


def windows(memory, size, window, steps, starts, blocks=1):
    """Yield (n, [rows inside as [i, L]]) over x, y, t, block of an image at row 0."""
    (nx, ny, nt), (wx, wy, wt) = size, window
    counts = [
        (n + 2 * -s - w) // d + 1 for n, w, d, s in zip(size, window, steps, starts, strict=True)
    ]
    for block in range(blocks):
        for t, y, x in np.ndindex(counts[2], counts[1], counts[0]):
            rows = []
            for dt, dy, dx in np.ndindex(wt, wy, wx):
                at = (
                    starts[0] + x * steps[0] + dx,
                    starts[1] + y * steps[1] + dy,
                    starts[2] + t * steps[2] + dt,
                )
                inside = all(0 <= c < n for c, n in zip(at, size, strict=True))
                index = at[0] + nx * (at[1] + ny * (at[2] + nt * block))
                rows.append(memory[index] if inside else None)
            yield rows


def reduce(op, size, window, steps, starts, blocks=1, **fields) -> Reduce:
    nx, ny, nt = size
    counts = tuple(
        (n + 2 * -s - w) // d + 1 for n, w, d, s in zip(size, window, steps, starts, strict=True)
    )
    nest = (*window, *counts, blocks)
    pixel = (1, nx, nx * ny)
    strides = (*pixel, *(p * s for p, s in zip(pixel, steps, strict=True)), nx * ny * nt)
    first = sum(p * s for p, s in zip(pixel, starts, strict=True))
    return Reduce(
        op=op,
        counts=(*counts, blocks),
        window=window,
        source=first & 0xFFFF,
        source_deltas=deltas(nest, strides),
        destination=100,
        destination_deltas=(1, 1, 1, 1),
        starts=starts,
        steps=steps,
        bounds=size,
        **fields,
    )


POOL = ((5, 4, 2), (3, 3, 1), (2, 1, 1), (-1, -1, 0), 2)


FAR = ((18, 2, 2), (2, 2, 1), (15, 8, 9), (-1, 0, 0), 1)


@CONFIGS
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("pool", [POOL, FAR], ids=["near", "far"])
def test_maximum_pool(signed, config, pool):
    memory = scratchpad(5)
    limits = {"low": -128, "high": 127} if signed else {}
    instruction = reduce(ReduceOp.MAX, *pool, signed=signed, pad=77, **limits)
    kind = np.int8 if signed else np.uint8
    expected = {
        100 + i: np.max([r.view(kind) for r in rows if r is not None], axis=0).astype(np.int64)
        for i, rows in enumerate(windows(memory, *pool))
    }
    check(config, instruction, memory, expected)


@CONFIGS
@pytest.mark.parametrize("signed", [0, 1])
def test_mean(signed, config):
    memory = scratchpad(6)
    zero, pad = (-5, 0xFB) if signed else (119, 119)
    mean = Mean.of(0.04, 0.02, 7, 9)
    instruction = reduce(
        ReduceOp.SUM,
        *POOL,
        signed=signed,
        pad=pad,
        multiplier=mean.scale.multiplier,
        shift=mean.scale.shift,
        zero_point=7,
        low=-128,
        high=127,
    )
    kind = np.int8 if signed else np.uint8
    scale = np.float32(np.float32(0.04) / np.float32(np.float32(0.02) * np.float32(9)))
    expected = {}
    for i, rows in enumerate(windows(memory, *POOL)):
        total = sum(r.view(kind).astype(np.int64) - zero for r in rows if r is not None)
        value = np.rint(total.astype(np.float32) * scale).astype(np.int64) + 7
        expected[100 + i] = np.clip(value, -128, 127)
    check(config, instruction, memory, expected)


@CONFIGS
@pytest.mark.parametrize(("window", "lanes"), [((3, 1, 1), 1), ((1, 1, 1), 3), ((1, 2, 1), 2)])
def test_pack(window, lanes, config):
    memory = scratchpad(7)
    starts = (-1 if window[0] == 3 else 0, 0, 0)
    shape = ((5, 4, 2), window, (1, 1, 1), starts)
    instruction = reduce(ReduceOp.PACK, *shape, pad=0x3C, pack_lanes=lanes)
    expected = {}
    for i, rows in enumerate(windows(memory, *shape)):
        row = np.full(LANES, 0x3C)
        for k, source in enumerate(rows):
            row[k * lanes : (k + 1) * lanes] = 0x3C if source is None else source[:lanes]
        expected[100 + i] = row
    check(config, instruction, memory, expected)


def test_a_changed_row_shows():
    memory = scratchpad(5)
    instruction = reduce(ReduceOp.SUM, *POOL, multiplier=1 << 23, shift=18)
    before = simulate(TINY, [instruction], memory)
    memory[33, 1] ^= 0x80
    after = simulate(TINY, [instruction], memory)
    changed = [a != b for a, b in zip(before.writes, after.writes, strict=True)]
    assert any(changed) and not all(changed)


ONE_ROW = reduce(ReduceOp.MAX, (1, 1, 1), (1, 1, 1), (1, 1, 1), (0, 0, 0))


@pytest.mark.parametrize(
    ("instruction", "code"),
    [
        (dataclasses.replace(ONE_ROW, starts=(5, 0, 0)), ErrorCode.FIELD),
        (
            reduce(ReduceOp.PACK, (3, 1, 1), (3, 1, 1), (1, 1, 1), (0, 0, 0), pack_lanes=2),
            ErrorCode.FIELD,
        ),
    ],
    ids=["empty-maximum", "pack-too-much"],
)
def test_refusals(instruction, code):
    assert simulate(TINY, [instruction], scratchpad()).error == code
