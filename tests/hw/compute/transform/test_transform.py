# amaranth: UnusedElaboratable=no
"""The 1-D transform primitive and the turning memory against the contract's matrices."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Value
from amaranth.sim import Simulator

from hw.arch.winograd_matrices import TRANSFORMS
from hw.compute.transform.stage import BYPASS, F23, F43, TransformStage, Turn

pytestmark = pytest.mark.rtl
LANES = 2
WIDTHS = 8, 12


def stream(dut, values, starts=None, settings=None):
    """Offer vectors in given cycles; return [(cycle, vector)] of the results.

    `values` are (cycle, vector); `settings` maps a cycle to {port: value} set before it.
    """
    due = dict(values)
    settings = settings or {}
    out = []
    sim = Simulator(dut)
    sim.add_clock(1e-8)

    async def bench(ctx):
        for cycle in range(max(due) + 64):
            for name, value in settings.get(cycle, {}).items():
                ctx.set(getattr(dut, name), value)
            ctx.set(dut.i_valid, cycle in due)
            for lane in range(dut.lanes):
                ctx.set(Value.cast(dut.i[lane]), int(due[cycle][lane]) if cycle in due else -1)
            if ctx.get(dut.o_valid):
                out.append((cycle, [ctx.get(dut.o[lane]) for lane in range(dut.lanes)]))
            await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
    return out


def groups_of(select, count, seed=0):
    """[count, values, lanes] random values, the first groups at the extremes."""
    length = TRANSFORMS[select].points
    bits = WIDTHS[0]
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    random = np.random.default_rng(seed)
    values = random.integers(low, high + 1, (count, length, LANES))
    values[0], values[1] = low, high
    return values


def expected(select, groups):
    matrix = np.array(TRANSFORMS[select].input_rows, np.int64)
    wide = np.einsum("rv,gvl->grl", matrix, groups)
    bits = WIDTHS[1]
    return ((wide + (1 << bits - 1)) & ((1 << bits) - 1)) - (1 << bits - 1)


@pytest.mark.parametrize("gap", [0, 1], ids=["full rate", "gaps"])
@pytest.mark.parametrize("select", [BYPASS, F23, F43])
def test_a_stage_is_its_matrix(select, gap):
    groups = groups_of(select, 8)
    length = TRANSFORMS[select].points
    period = length * (1 + gap)
    values, due = [], []
    for g, group in enumerate(groups):
        places = [3 + g * period + k * (1 + gap) for k in range(length)]
        values += list(zip(places, group, strict=True))
        due += [places[-1] + TransformStage.LATENCY + r for r in range(length)]
    out = stream(TransformStage(LANES, *WIDTHS), values, settings={0: {"select": select}})
    assert [cycle for cycle, _ in out] == due
    want = expected(select, groups).reshape(-1, LANES)
    np.testing.assert_array_equal([vector for _, vector in out], want)


def test_a_basis_vector_gives_a_column_of_the_matrix():
    """Each coefficient by itself."""
    length = TRANSFORMS[F43].points
    values = [
        (1 + g * 6 + k, [int(g == k), -int(g == k)]) for g in range(length) for k in range(length)
    ]
    out = stream(TransformStage(LANES, *WIDTHS), values, settings={0: {"select": F43}})
    got = np.array([vector[0] for _, vector in out]).reshape(length, length)
    np.testing.assert_array_equal(got.T, TRANSFORMS[F43].input_rows)
    assert [vector[1] for _, vector in out] == [-vector[0] for _, vector in out]


def test_select_may_change_between_groups():
    order = [F43, BYPASS, F23, BYPASS, BYPASS, F43, F23]
    values, settings, want = [], {}, []
    cycle, free = 1, 0
    for n, select in enumerate(order):
        group = groups_of(select, 3, seed=n)[2]
        length = TRANSFORMS[select].points
        cycle = max(cycle, free - length + 1)
        settings[cycle] = {"select": select}
        values += [(cycle + k, vector) for k, vector in enumerate(group)]
        want += list(expected(select, group[None])[0])
        cycle += length
        free = cycle - 1 + length
    out = stream(TransformStage(LANES, *WIDTHS), values, settings=settings)
    np.testing.assert_array_equal([vector for _, vector in out], want)


def test_clear_forgets_half_a_group():
    groups = groups_of(F43, 4)
    length = TRANSFORMS[F43].points
    values = [(1 + k, groups[2][k]) for k in range(length - 1)]
    values += [(20 + k, groups[3][k]) for k in range(length)]
    settings = {0: {"select": F43}, 15: {"clear": 1}, 16: {"clear": 0}}
    dut = TransformStage(LANES, *WIDTHS)
    out = stream(dut, values, settings=settings)
    np.testing.assert_array_equal([v for _, v in out], expected(F43, groups[3:])[0])
    assert len(out) == length
    del settings[15]
    assert stream(TransformStage(LANES, *WIDTHS), values, settings=settings) != out


@pytest.mark.parametrize("gap", [0, 2], ids=["full rate", "gaps"])
@pytest.mark.parametrize(("inner", "outer"), [(6, 6), (4, 4), (36, 4), (16, 6), (1, 1), (1, 4)])
def test_a_turn_swaps_two_axes(inner, outer, gap):
    tiles = np.arange(5 * outer * inner * LANES).reshape(5, outer, inner, LANES) % 251
    values, due = [], []
    size = inner * outer
    for n, vector in enumerate(tiles.reshape(-1, LANES)):
        values.append((1 + n * (1 + gap), vector))
    for tile in range(5):
        last = 1 + ((tile + 1) * size - 1) * (1 + gap)
        due += [last + Turn.LATENCY + k for k in range(size)]
    dut = Turn(LANES, 9, 144)
    out = stream(dut, values, settings={0: {"inner": inner, "outer": outer}})
    assert [cycle for cycle, _ in out] == due[: len(out)]
    want = tiles.swapaxes(1, 2).reshape(-1, LANES)
    # `stream` looks a while behind the last value only.
    assert len(out) >= 4 * size
    np.testing.assert_array_equal([vector for _, vector in out], want[: len(out)])


def test_clear_forgets_half_a_tile():
    settings = {0: {"inner": 4, "outer": 4}, 12: {"clear": 1}, 13: {"clear": 0}}
    values = [(1 + k, [k, k]) for k in range(9)] + [(20 + k, [k, -k]) for k in range(16)]
    want = [[k, -k] for k in np.arange(16).reshape(4, 4).T.reshape(-1)]
    assert [v for _, v in stream(Turn(LANES, 9, 36), values, settings=settings)] == want
    del settings[12]
    assert [v for _, v in stream(Turn(LANES, 9, 36), values, settings=settings)] != want


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 8, 9), "lanes"),
        ((1, 9, 8), "out_bits"),
    ],
)
def test_parameters_are_checked(arguments, text):
    with pytest.raises(ValueError, match=text):
        TransformStage(*arguments)


def test_a_turn_needs_two_values():
    with pytest.raises(ValueError, match="depth must be at least 2, not 1"):
        Turn(1, 8, 1)
