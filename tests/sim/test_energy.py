"""Action counts against counting one by one; tables complete and sourced."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import yaml

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    CLASSES,
    Array,
    ArrayMode,
    Drain,
    Elementwise,
    ElementwiseOp,
    Fold,
    FoldOp,
    Load,
    Opcode,
    Permute,
    PermuteOp,
    Reduce,
    ReduceOp,
    Space,
    Store,
    deltas,
)
from hw.arch.winograd_matrices import F2, F4
from sim.energy import Action, EnergyError, EnergyTable, count_actions
from sim.energy.actions import COMPONENTS
from sim.energy.hfa_actions import additions, composed
from sim.energy.table import DIRECTORY
from tests.ladder.hfa_layer import Shape, make
from tests.machines import folding

TABLES = sorted(p.stem for p in DIRECTORY.glob("*.yaml"))


class Counting:
    """Counts rows as the functional machine reads and writes them."""

    def __init__(self, bank):
        self.bank = bank
        self.reads = 0
        self.writes = 0
        check_read, check_write = bank.check_read, bank.check_write

        def read(index):
            self.reads += index.size
            check_read(index)

        def write(index):
            self.writes += index.size
            check_write(index)

        bank.check_read, bank.check_write = read, write


def counted(make_bench, config, instruction):
    """Accesses of the functional machine, by memory."""
    bench = make_bench(config)
    state = bench.machine.state
    for bank in (state.activation, state.weight, state.parameter, state.table, state.accumulator):
        bank.write(np.arange(bank.rows), bank.data[:-1])
    watched = {n: Counting(getattr(state, n)) for n in ("activation", "weight", "accumulator")}
    bench.run(instruction)
    return watched


@pytest.mark.parametrize("preset", ["tiny", "ecp5_85k", "ecp5_85k_direct"])
def test_gemm_accesses(make_bench, preset):
    config = AcceleratorConfig.load(preset)
    counts = (4, 3, 2, 1, 3, 3, 1, 2)
    instruction = Array(
        activation=200,
        counts=counts,
        deltas=deltas(counts, (1, 6, 30, 0, 1, 6, 0, 90)),
        starts=(-1, -1, 0),
        bounds=(5, 4, 2),
    )
    got = count_actions(instruction, config)
    watched = counted(make_bench, config, instruction)
    assert got[Action.ACTIVATION_READ] == watched["activation"].reads
    assert got[Action.WEIGHT_READ] == watched["weight"].reads == 18 * config.weight_block_beats
    assert got[Action.MULTIPLY] == 24 * 18 * config.array.multipliers
    assert got[Action.TREE_ADD] == 24 * 18 * config.array.cols * (config.array.rows - 1)
    assert got[Action.ACCUMULATOR_WRITE] == 24 * 18 * config.array.cols
    assert got[Action.ACCUMULATE] == got[Action.ACCUMULATOR_READ] == 24 * 17 * config.array.cols
    again = count_actions(dataclasses.replace(instruction, accumulate=1), config)
    assert again[Action.ACCUMULATOR_READ] == 24 * 18 * config.array.cols


def test_depthwise_multiplies_taps_only(tiny):
    counts = (6, 5, 2, 1, 1, 3, 1, 1)
    instruction = Array(
        mode=ArrayMode.DEPTHWISE,
        counts=counts,
        deltas=deltas(counts, (1, 6, 30, 0, 0, 0, 0, 0)),
        bounds=(6, 5, 2),
        window_x=3,
        window_y=3,
    )
    got = count_actions(instruction, tiny)
    outputs = 4 * 3 * 2
    assert got[Action.MULTIPLY] == outputs * 9 * 4
    assert got[Action.ACTIVATION_READ] == 3 * 60
    assert got[Action.ACCUMULATOR_WRITE] == 3 * outputs * 4


def test_transformed_accesses(make_bench):
    config = AcceleratorConfig.load("tiny")
    ones = (1, 1, 1)
    shape = Shape(0, 2, (3, 5, 6), 7, 6, taps=3, before=ones, after=ones, count=(2, 5, 4))
    case = make(shape, config)
    (array,) = case.arrays
    got = count_actions(array, config)
    watched = counted(make_bench, config, array)
    sets, co, points, tiles = 6, 2, 36, 4
    assert got[Action.ACTIVATION_READ] == watched["activation"].reads
    assert got[Action.WEIGHT_READ] == watched["weight"].reads == sets * co * 9 * 4
    sums = sets * co * points * tiles * 4
    assert got[Action.ACCUMULATOR_WRITE] == sums
    assert watched["accumulator"].writes == co * points * tiles
    assert got[Action.ACCUMULATE] == got[Action.ACCUMULATOR_READ] == sums * 5 // 6
    assert got[Action.MULTIPLY_TRANSFORMED] == sums * 4 * 15 * 14
    assert got[Action.TREE_ADD_TRANSFORMED] == sums * 3 * (15 + 14 + 2)
    assert got[Action.TRANSFORMED_WRITE] == sets * points * tiles
    assert got[Action.TRANSFORMED_READ] == co * got[Action.TRANSFORMED_WRITE]
    assert got[Action.TRANSFORMED_WEIGHT_WRITE] == sets * co * points * 4
    # 12 one-dimensional transforms of 18 additions per tile and lane, on 15 bits.
    assert got[Action.INPUT_TRANSFORM] == sets * tiles * 4 * 12 * 18 * 15
    assert got[Action.MULTIPLY] == got[Action.TREE_ADD] == 0
    drained = count_actions(case.drain, config)
    watched = counted(make_bench, config, case.drain)
    assert drained[Action.ACCUMULATOR_READ] == watched["accumulator"].reads * 4
    assert drained[Action.ACTIVATION_WRITE] == watched["activation"].writes == 2 * 5 * 4 * co
    assert drained[Action.REQUANTIZE] == tiles * 16 * co * 4


def test_transformed_depthwise_multiplies_four_times_for_a_result(make_bench):
    config = AcceleratorConfig.load("tiny")
    counts = (8, 4, 2, 1, 1, 3, 1, 1)
    instruction = Array(
        mode=ArrayMode.HFA_DEPTHWISE,
        transform_s=1,
        counts=counts,
        deltas=deltas((2, 8, 4, 2, 1, 1, 1, 1), (8, 1, 16, 64, 0, 0, 0, 0)),
        activation=0,
        bounds=(8, 7, 2),
        window_x=3,
        window_y=3,
        emit_y=2,
    )
    got = count_actions(instruction, config)
    watched = counted(make_bench, config, instruction)
    results = 6 * 5 * 2 * 4
    assert got[Action.ACTIVATION_READ] == watched["activation"].reads == 8 * 7 * 2
    assert got[Action.WEIGHT_READ] == watched["weight"].reads == 3 * 4
    assert got[Action.ACCUMULATOR_WRITE] == watched["accumulator"].writes * 4 == results
    # Six lines of results are multiplied; the last one is left out.
    assert got[Action.MULTIPLY_TRANSFORMED] == 6 * 6 * 2 * 4 * 4 * 11 * 12
    assert got[Action.MULTIPLY] == got[Action.ACCUMULATOR_READ] == 0


def test_nested_weights_are_read_for_every_temporal_point():
    config = AcceleratorConfig.load("tiny")
    case = make(Shape(1, 2, (2, 4, 4), before=(1, 1, 1), after=(1, 1, 1)), config)
    got = count_actions(case.arrays[0], config)
    assert got[Action.WEIGHT_READ] == 4 * 27 * 4
    assert got[Action.TRANSFORMED_WEIGHT_WRITE] == 144 * 4


def test_additions_by_hand():
    assert [additions(m) for m in (F2.input_rows, F2.weight_rows, F2.output_rows)] == [4, 4, 4]
    assert additions(F4.input_rows) == 18  # four terms a row; 5 = 4 + 1
    assert additions(F4.weight_rows) == 0 + 2 + 2 + 2 + 2 + 0
    assert additions(F4.output_rows) == 5 + 3 + 3 + 5  # 6 = 4 + 2, 24 = 16 + 8
    assert composed([F2.input_rows, ((1,),), ((1,),)]) == (4, 0)
    assert composed([((1,),), F4.output_rows, F4.output_rows]) == (16 * 6 + 16 * 4, 24)


def test_drain_vector_and_transfers(make_bench, tiny):
    drain = Drain(
        counts=(3, 2, 1, 1),
        window=(2, 1, 1),
        accumulator_deltas=(1, 0, 0, 1, 1, 0, 0),
        destination_deltas=(0, 1, 1, 0, 0),
    )
    got = count_actions(drain, tiny)
    watched = counted(make_bench, tiny, drain)
    assert got[Action.ACTIVATION_WRITE] == watched["activation"].writes == 6
    assert got[Action.REQUANTIZE] == got[Action.ACCUMULATOR_READ] == 12 * 4
    assert watched["accumulator"].reads == 12
    reduce = Reduce(
        op=ReduceOp.SUM,
        counts=(3, 3, 1, 1),
        window=(2, 2, 1),
        source_deltas=(1, 4, 0, -4, 0, 0, 0),
        destination=300,
        bounds=(3, 4, 1),
    )
    got = count_actions(reduce, tiny)
    watched = counted(make_bench, tiny, reduce)
    assert got[Action.ACTIVATION_READ] == watched["activation"].reads
    assert got[Action.VECTOR_SUM] == 4 * got[Action.ACTIVATION_READ]
    product = count_actions(
        Elementwise(op=ElementwiseOp.PRODUCT, counts=(5, 2, 1, 1), table=1), tiny
    )
    assert product[Action.ACTIVATION_READ] == 20
    assert product[Action.VECTOR_PRODUCT] == product[Action.TABLE_READ] == 40
    load = count_actions(Load(space=Space.WEIGHT, beats=7, counts=(3, 1, 1)), tiny)
    assert load[Action.DRAM_READ] == load[Action.WEIGHT_WRITE] == 21
    assert load[Action.FETCH] == 16
    assert count_actions(Store(beats=7), tiny)[Action.DRAM_WRITE] == 7


FOLDS = [
    (Fold(op=FoldOp.DOT, lanes=1, gather=1, table=1), Action.FOLD_MULTIPLY),
    (Fold(op=FoldOp.MAX), Action.VECTOR_COMPARE),
    (Fold(op=FoldOp.ARGMAX, counts=(6, 1, 5, 1)), Action.VECTOR_COMPARE),
    (Fold(op=FoldOp.SOFTMAX_COLLECT, table=1, elements=12, first=1), Action.VECTOR_SUM),
    (Fold(op=FoldOp.NORM_COLLECT, elements=12, first=1), Action.FOLD_SQUARE),
]


@pytest.mark.parametrize(("base", "element"), FOLDS, ids=lambda v: getattr(v, "op", None))
def test_fold_accesses(make_bench, base, element):
    config = folding("tiny")
    counts = base.counts if base.op == FoldOp.ARGMAX else (3, 2, 5, 2)
    step = deltas(counts, (1, 3, 6, 30))
    instruction = dataclasses.replace(
        base, counts=counts, source0_deltas=step, source1=256, source1_deltas=step, destination=600
    )
    got = count_actions(instruction, config)
    watched = counted(make_bench, config, instruction)["activation"]
    rows = math.prod(counts)
    assert got[Action.ACTIVATION_READ] == watched.reads
    assert got[Action.ACTIVATION_WRITE] == watched.writes
    assert got[element] == rows * 4
    softmax = base.op == FoldOp.SOFTMAX_COLLECT
    assert got[Action.FOLD_EXPONENTIAL] == (rows * 4 if softmax else 0)
    assert got[Action.TABLE_READ] == (watched.writes * 4 if base.op == FoldOp.DOT else 0)
    ended = dataclasses.replace(instruction, last=1)
    engine = {FoldOp.SOFTMAX_COLLECT: 32, FoldOp.NORM_COLLECT: 64}.get(FoldOp(base.op), 0)
    assert count_actions(ended, config)[Action.FOLD_ENGINE] == engine * 10
    assert got[Action.FOLD_ENGINE] == 0


def test_applying_passes_read_as_counted(make_bench):
    config = folding("tiny")
    norm = Fold(
        op=FoldOp.NORM_APPLY, counts=(5, 2, 3, 1), elements=12, coefficient_shift=9, source1=256
    )
    assert count_actions(norm, config)[Action.ACTIVATION_READ] == 30 + 6 * 6
    assert count_actions(norm, config)[Action.FOLD_NORM] == 30 * 4
    softmax = Fold(op=FoldOp.SOFTMAX_APPLY, counts=(5, 2, 3, 1), table=1)
    got = count_actions(softmax, config)
    assert (got[Action.ACTIVATION_READ], got[Action.ACTIVATION_WRITE]) == (60, 30)
    assert got[Action.FOLD_EXPONENTIAL] == got[Action.FOLD_SOFTMAX] == 30 * 4


@pytest.mark.parametrize("space", [0, 1])
@pytest.mark.parametrize("op", PermuteOp)
def test_permute_accesses(make_bench, op, space):
    config = folding("tiny")
    instruction = Permute(
        op=op, counts=(3, 5, 1, 1), source1=256, destination=300, space=space, valid=15,
        select=(4, *(0,) * 15),
    )  # fmt: skip
    got = count_actions(instruction, config)
    watched = counted(make_bench, config, instruction)
    assert got[Action.ACTIVATION_READ] == watched["activation"].reads
    assert got[Action.ACTIVATION_WRITE] == watched["activation"].writes
    assert got[Action.WEIGHT_WRITE] == watched["weight"].writes
    assert got[Action.WEIGHT_WRITE] + got[Action.ACTIVATION_WRITE] == (20 if op else 15)


@pytest.mark.parametrize("opcode", Opcode)
def test_every_instruction_has_a_rule(tiny, opcode):
    assert count_actions(CLASSES[opcode](), tiny)[Action.FETCH] == 16


@pytest.mark.parametrize("name", TABLES)
def test_tables_price_every_action(name):
    table = EnergyTable.load(name)
    config = AcceleratorConfig.load("base")
    assert set(COMPONENTS) == set(Action)
    for action in Action:
        assert 0 < table.picojoules(action, config) < 1e5
    assert all(len(s) > 10 for s in table.sources.values())
    assert len(table.uncertainty) > 40


def test_prices_of_a_run_s_record_give_its_energy(tiny):
    table = EnergyTable.load("asic_45nm")
    actions = count_actions(Load(space=Space.WEIGHT, beats=7, counts=(3, 1, 1)), tiny)
    prices = table.prices(tiny)
    joules = sum(count * prices[action.value] * 1e-12 for action, count in actions.items())
    assert joules == pytest.approx(sum(table.joules(actions, tiny).values()))
    assert set(prices) == {action.value for action in Action}
    dearer = dataclasses.replace(table, values={**table.values, "dram_bit_pj": 99.0})
    assert dearer.prices(tiny)["dram_read"] > prices["dram_read"]


def test_45nm_reproduces_the_published_points():
    """The fit, evaluated at the sizes that it was not given."""
    table = EnergyTable.load("asic_45nm")
    assert table._sram(64, 32 << 10) == pytest.approx(20, rel=0.05)
    assert table._sram(64, 1 << 20) == pytest.approx(100, rel=0.15)
    assert table._product(8, 8) == pytest.approx(0.2)
    assert table._product(32, 32) == pytest.approx(3.1)


def test_energy_adds_up_by_component(tiny):
    table = EnergyTable.load("asic_45nm")
    actions = count_actions(Load(beats=100), tiny)
    energy = table.joules(actions, tiny)
    assert set(energy) == {"DRAM", "activation scratchpad", "instruction fetch"}
    assert energy["DRAM"] == pytest.approx(100 * 32 * 20.3e-12)
    assert energy["instruction fetch"] == pytest.approx(64 * 8 * 20.3e-12)


def test_numbers_without_a_source_are_refused(tmp_path):
    content = yaml.safe_load((DIRECTORY / "asic_45nm.yaml").read_text())
    content["numbers"]["sram_pj"]["source"] = " "
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(EnergyError, match="sram_pj has no source"):
        EnergyTable.load(path)
    del content["numbers"]["sram_pj"]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(EnergyError, match="no number sram_pj"):
        EnergyTable.load(path)
    with pytest.raises(EnergyError, match=r"no energy table vacuum\.yaml; there are asic_45nm"):
        EnergyTable.load("vacuum")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: b: c", "it is not YAML"),
        ("- 1", "it must hold a mapping"),
        ("technology: x\nuncertainty: y", "has no numbers"),
        ("technology: x\nuncertainty: y\nnumbers: 3", "numbers must hold a mapping"),
        (None, "sram_pj is 'little', no number of 0 or more"),
    ],
)
def test_files_that_are_no_tables_are_refused(text, message, tmp_path):
    content = yaml.safe_load((DIRECTORY / "asic_45nm.yaml").read_text())
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(content))
    assert EnergyTable.load(path).values == EnergyTable.load("asic_45nm").values
    content["numbers"]["sram_pj"]["value"] = "little"
    path.write_text(yaml.safe_dump(content) if text is None else text)
    with pytest.raises(EnergyError, match=message):
        EnergyTable.load(path)
