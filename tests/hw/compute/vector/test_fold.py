"""FOLD and PERMUTE in the vector unit against the functional simulator, to the bit and the cycle.

The functional simulator is tested against Python's integers (tests/sim/test_fold.py).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch import fold_timing
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    Elementwise,
    ElementwiseOp,
    Fold,
    FoldOp,
    Permute,
    Reduce,
    ReduceOp,
    UnitInstruction,
    deltas,
)
from hw.arch.timing import ACTIVATION_READ_LATENCY, vector_duration
from hw.compute.vector.unit import VectorUnit
from sim.functional.fold import execute_fold
from sim.functional.permute import execute_permute
from sim.functional.state import State
from sim.functional.vector import execute_elementwise, execute_reduce
from tests.hw.compute.support import Bench, Trace, words
from tests.ladder.folds import FoldDraws
from tests.machines import folding
from tests.marks import large

pytestmark = pytest.mark.rtl
ROWS = folding("tiny")
STEPS = dataclasses.replace(ROWS, lanes=dataclasses.replace(ROWS.lanes, vector=2))
CONFIGS = pytest.mark.parametrize("config", [ROWS, STEPS], ids=["rows", "steps"])
KINDS = pytest.mark.parametrize("kind", ["dot", "extreme", "softmax", "norm", "permute"])
PRESETS = pytest.mark.parametrize("preset", ["ecp5_85k", large("base")])
EXECUTE = {
    Fold: execute_fold,
    Permute: execute_permute,
    Elementwise: execute_elementwise,
    Reduce: execute_reduce,
}


def memories(config: AcceleratorConfig, seed: int) -> State:
    """Random rows, weights and tables; no exponential is below 2^20."""
    random = np.random.default_rng(seed)
    state = State(config, False)
    for bank in (state.activation, state.table, state.weight):
        bank.data[:] = random.integers(0, 256, bank.data.shape)
    state.table.data.reshape(-1, 4)[:, 2] |= 1 << 4
    return state


def execute(code: list[UnitInstruction], state: State) -> None:
    for instruction in code:
        EXECUTE[type(instruction)](instruction, state)  # type: ignore[operator]


def simulate(config: AcceleratorConfig, code: list[UnitInstruction], state: State) -> Trace:
    """Run on RTL; `state` is changed as the unit writes."""
    bench = Bench(VectorUnit, config, whole_word=True)
    dut = bench.dut

    def row(address: int) -> int:
        return int.from_bytes(state.activation.data[address].tobytes(), "little")

    for port in (dut.source0, dut.source1):
        bench.serve(port, ACTIVATION_READ_LATENCY, row, held=True)
    bench.apply(dut.write, state.activation.data)
    bench.apply(dut.weight_write, state.weight.data)

    async def fill_tables(ctx) -> None:
        beats = state.table.data[: config.memory.tables * config.table_beats]
        for beat, word in enumerate(words(beats)):
            ctx.set(dut.table_write.enable, 1)
            ctx.set(dut.table_write.address, beat)
            ctx.set(dut.table_write.data, word)
            await ctx.tick()
        ctx.set(dut.table_write.enable, 0)

    return bench.run(code, before=fill_tables)


def differences(found: State, expected: State) -> int:
    """Rows that differ; a bank's last one stands for what lies outside."""
    pairs = ((found.activation, expected.activation), (found.weight, expected.weight))
    return sum(int((a.data[:-1] != b.data[:-1]).any(axis=1).sum()) for a, b in pairs)


def check(config: AcceleratorConfig, code: list[UnitInstruction], seed: int = 0) -> None:
    found, expected = memories(config, seed), memories(config, seed)
    execute(code, expected)
    assert differences(found, expected)
    trace = simulate(config, code, found)
    assert trace.error == 0
    assert differences(found, expected) == 0
    assert trace.durations == [vector_duration(i, config) for i in code]


@CONFIGS
@KINDS
@pytest.mark.parametrize("seed", [0, *map(large, range(1, 4))])
def test_random_instructions(config, kind, seed):
    draws = FoldDraws(config, 100 * seed + len(kind))
    for _ in range(3):
        getattr(draws, kind)()
    check(config, draws.code, seed)


@PRESETS
@KINDS
def test_random_instructions_on_larger_machines(preset, kind):
    """Rows of 8 lanes in four steps, of 16 in one; beats of several words of a table."""
    draws = FoldDraws(folding(preset), len(kind))
    getattr(draws, kind)()
    check(draws.config, draws.code)


@pytest.mark.large
@CONFIGS
@KINDS
@pytest.mark.parametrize("seed", range(10, 40))
def test_more_random_instructions(config, kind, seed):
    draws = FoldDraws(config, 100 * seed + len(kind))
    for _ in range(4):
        getattr(draws, kind)()
    check(config, draws.code, seed)


def rows(counts):
    return deltas(counts, [int(np.prod(counts[:k])) for k in range(4)])


def nest(counts, **fields):
    """Linear rows in banks 0 and 1, to bank 2."""
    where = {"source0": 3, "source1": 300, "destination": 600}
    where |= {f"{name}_deltas": rows(counts) for name in ("source0", "source1", "destination")}
    return {"counts": counts, **where, **fields}


@CONFIGS
@pytest.mark.parametrize("op", list(ElementwiseOp)[1:])
@pytest.mark.parametrize("lane", [*map(large, (0, 1, 2)), 3])
def test_one_lane_stands_for_all(config, op, lane):
    scales = {"multiplier_a": 1 << 23, "shift_a": 21, "multiplier_b": 1 << 23, "shift_b": 21}
    if op is ElementwiseOp.PRODUCT:
        scales = {"multiplier_a": 3, "constant": 77, "multiplier_b": 1 << 23, "shift_b": 12}
    counts = (5, 3, 1, 2)
    check(config, [Elementwise(op=op, spread=1, lane=lane, **nest(counts), **scales)])


@CONFIGS
def test_a_mean_with_its_zero_point_added_first(config):
    """Halves: 0.5 + 1 goes to 2, but 0 + 1 to 1."""
    counts = (6, 2, 1, 1)
    fields = nest(counts, source=3, source_deltas=(0, 0, 0, *rows(counts)))
    for name in ("source0", "source1", "source0_deltas", "source1_deltas"):
        del fields[name]
    plain = Reduce(op=ReduceOp.SUM, multiplier=1 << 23, shift=20, zero_point=1,
                   bounds=(6, 2, 1), **fields)  # fmt: skip
    check(config, [plain])
    check(config, [dataclasses.replace(plain, add_first=1)])
    states = [memories(config, 0) for _ in range(2)]
    simulate(config, [plain], states[0])
    simulate(config, [dataclasses.replace(plain, add_first=1)], states[1])
    assert differences(*states)


@CONFIGS
def test_statistics_outlive_other_instructions(config):
    """64 entries in all; sums of two passes, applied after something else has run."""
    counts = (1, 1, 32, 2)
    common = nest(counts, table=1, multiplier=1 << 23)
    collect = Fold(op=FoldOp.SOFTMAX_COLLECT, first=1, last=0, **common)
    between = Permute(**nest((7, 1, 1, 1), select=(7, 6, 5, 4, *(0,) * 12), valid=15))
    last = dataclasses.replace(collect, first=0, last=1)
    apply = Fold(op=FoldOp.SOFTMAX_APPLY, **common)
    check(config, [collect, between, last, between, apply])


@pytest.mark.parametrize("op", [FoldOp.DOT, FoldOp.MAX, FoldOp.SOFTMAX_APPLY])
def test_twin_a_changed_row_shows(op):
    """The simulator's rows are not those that the circuit reads."""
    counts = (2, 3, 2, 2)
    common = nest(counts, table=1, multiplier=1 << 23, shift=8, first=1, last=1)
    code: list[UnitInstruction] = [Fold(op=FoldOp.SOFTMAX_COLLECT, **common)]
    code.append(Fold(op=op, **{**common, "table": 1 if op is FoldOp.SOFTMAX_APPLY else 0}))
    found, expected = memories(ROWS, 1), memories(ROWS, 1)
    execute(code, expected)
    found.activation.data[3:27, 0] ^= 0x80
    simulate(ROWS, code, found)
    written = differences(found, memories(ROWS, 1)) - 24
    assert written > 1 and differences(found, expected) > 24


def test_twin_times_depend_on_the_engine(monkeypatch):
    counts = (1, 1, 3, 1)
    collect = Fold(op=FoldOp.SOFTMAX_COLLECT, last=1, first=1, **nest(counts, table=1))
    (found,) = simulate(ROWS, [collect], memories(ROWS, 0)).durations
    assert found == vector_duration(collect, ROWS)
    monkeypatch.setitem(fold_timing.ENGINE, FoldOp.SOFTMAX_COLLECT, 31)
    assert found == vector_duration(collect, ROWS) + len(range(3))
