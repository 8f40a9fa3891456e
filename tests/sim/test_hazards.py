"""The hazard checker against a brute-force reachability oracle, and on hand-made races."""

from __future__ import annotations

import dataclasses
import itertools
import random
import time

import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    Array,
    ArrayMode,
    Begin,
    Drain,
    Elementwise,
    Fence,
    Halt,
    Load,
    Permute,
    Scalar,
    Space,
    Store,
    Unit,
    UnitInstruction,
)
from hw.arch.walk import Memory, accesses
from sim.functional import FunctionalMachine, Sequencer
from sim.functional.hazards import HazardError, check_hazards
from tests.ladder import linking, programs
from tests.ladder.transformed_programs import LateProgram
from tests.machines import folding


def steps_of(instructions, config):
    return list(Sequencer.of(list(instructions), config).steps())


def check(config, *body, memory=1 << 20):
    program = [Begin(config.fingerprint, 0), *body, Halt()]
    return check_hazards(steps_of(program, config), config, memory)


def unordered(steps, config):
    """Whether some conflicting pair has no path of waits and unit order; O(n²), on purpose."""
    units = [s for s in steps if s.unit is not None]
    number = {(s.unit, s.ordinal): i for i, s in enumerate(units)}
    before = [set() for _ in units]  # when it touches accumulators, and when the next one issues
    issued = [set() for _ in units]  # when it issues: of what is late DRAIN's end is not yet known
    for i, step in enumerate(units):
        if step.ordinal > 1:  # in order: what the predecessor waited for has completed too
            issued[i] |= before[number[step.unit, step.ordinal - 1]]
        before[i] |= issued[i]
        for unit, count in zip(Unit, step.awaits, strict=True):
            if count:
                over = {number[unit, n] for n in range(1, count + 1)} | before[number[unit, count]]
                before[i] |= over
                if not (getattr(step.instruction, "late", 0) and unit is Unit.DRAIN):
                    issued[i] |= over
    touched = [accesses(s.instruction, config) for s in units]
    return any(
        units[i].unit != units[j].unit
        and i not in (before if b.memory is Memory.ACCUMULATOR else issued)[j]
        and linking.conflict(a, b, config)
        for i, j in itertools.combinations(range(len(units)), 2)
        for a in touched[i]
        for b in touched[j]
    )


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_brute_force_when_waits_are_removed(tiny, seed):
    program = programs.RandomProgram(tiny, seed).build()
    code = list(program.instructions)
    check_hazards(steps_of(code, tiny), tiny, program.memory_bytes)
    assert not unordered(steps_of(code, tiny), tiny)
    draw = random.Random(seed)
    waiting = [i for i, c in enumerate(code) if isinstance(c, UnitInstruction) and any(c.waits)]
    found = 0
    for turn in range(24):
        at = draw.choice(waiting)
        waits = list(code[at].waits) if turn % 2 else [0] * len(Unit)
        if turn % 2:
            waits[draw.choice([u for u, d in enumerate(waits) if d])] = 0
        broken = [*code]
        broken[at] = dataclasses.replace(code[at], waits=tuple(waits))
        steps = steps_of(broken, tiny)
        race = unordered(steps, tiny)
        found += race
        if race:
            with pytest.raises(HazardError):
                check_hazards(steps, tiny, program.memory_bytes)
        else:
            check_hazards(steps, tiny, program.memory_bytes)
    assert found >= 2


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_brute_force_about_late_waits(tiny, seed):
    """Where `late` is set, or the wait that it defers is left out."""
    program = LateProgram(tiny, seed).build()
    code = list(program.instructions)
    check_hazards(steps_of(code, tiny), tiny, program.memory_bytes)
    assert not unordered(steps_of(code, tiny), tiny)
    transforming = [
        i for i, c in enumerate(code) if isinstance(c, Array) and c.mode == ArrayMode.HFA
    ]
    assert any(code[i].late for i in transforming)
    races = set()
    for at, late in itertools.product(transforming, (0, 1)):
        for waits in (code[at].waits, (0,) * len(Unit)):
            broken = [*code]
            broken[at] = dataclasses.replace(code[at], late=late, waits=waits)
            steps = steps_of(broken, tiny)
            race = unordered(steps, tiny)
            if race:
                races.add((late, any(waits)))
                with pytest.raises(HazardError):
                    check_hazards(steps, tiny, program.memory_bytes)
            else:
                check_hazards(steps, tiny, program.memory_bytes)
    assert (0, True) not in races, "a wait that holds the issue is enough"
    assert (0, False) in races


@pytest.mark.parametrize("preset", ["tiny", "base"])
def test_random_programs_run(preset):
    config = AcceleratorConfig.load(preset)
    for seed in range(4):
        program = programs.RandomProgram(config, seed).build()
        memory = program.memory()
        FunctionalMachine(config, memory, program.store_window).run(program.code())
        assert (memory != program.memory()).any()


LOAD_1 = (1, 0, 0, 0, 0)


def test_read_after_write(tiny):
    store = Store(dram=0x1000, local=5)
    with pytest.raises(
        HazardError, match=r"instruction 2 \(STORE\) does not wait for instruction 1 \(LOAD\): data"
    ):
        check(tiny, Load(local=5), store)
    assert check(tiny, Load(local=5), dataclasses.replace(store, waits=LOAD_1)).instructions == 2
    check(tiny, Load(local=5), Fence(), store)


def test_a_fence_orders_what_it_names_and_what_that_waited_for(tiny):
    load, store = Load(local=5), Store(dram=0x1000, local=5)
    check(tiny, load, Fence(units=1 << Unit.LOAD), store)
    for others in (1 << Unit.ARRAY, 0b11110):
        with pytest.raises(HazardError, match="data conflict on activation 5"):
            check(tiny, load, Fence(units=others), store)
    copy = Elementwise(source0=5, destination=300, waits=LOAD_1)
    check(tiny, load, copy, Fence(units=1 << Unit.VECTOR), store)
    with pytest.raises(HazardError, match="data conflict on activation 5"):
        bare = dataclasses.replace(copy, source0=600, waits=(0,) * 5)
        check(tiny, load, bare, Fence(units=1 << Unit.VECTOR), store)


def test_write_after_read_and_write_after_write(tiny):
    with pytest.raises(HazardError, match="data"):
        check(tiny, Store(dram=0x1000, local=5), Load(local=5))
    copy = Elementwise(source0=600, destination=5)
    with pytest.raises(HazardError, match="data"):
        check(tiny, Load(local=5), copy)


def test_ports_have_one_owner(tiny):
    """Different rows of one bank: the write port, or the read port, is shared."""
    with pytest.raises(HazardError, match="write port"):
        check(tiny, Load(local=5), Elementwise(source0=600, destination=9))
    with pytest.raises(HazardError, match="read port"):
        check(tiny, Store(local=5), Elementwise(source0=9, destination=600))
    check(tiny, Load(local=5), Elementwise(source0=9, destination=600))  # read and write ports
    check(tiny, Load(local=5), Elementwise(source0=600, destination=300))  # other banks


def test_accumulator_banks_have_one_owner(tiny):
    array = Array(activation=0, accumulator=1)
    drain = Drain(accumulator=0, destination=600)
    with pytest.raises(HazardError, match="bank conflict on accumulator"):
        check(tiny, array, drain)
    check(tiny, array, dataclasses.replace(drain, accumulator=tiny.memory.accumulator_rows))
    check(tiny, array, array)


PLANE = Array(
    mode=ArrayMode.HFA,
    counts=(2, 1, 1, 1, 6, 6, 1, 1),
    transform_s=2,
    deltas=(1, 0, 1, 0, 0, 0, 0, 0),
    bounds=(10, 6, 1),
)


def test_a_late_wait_orders_accumulators_alone(tiny):
    drain = Drain(accumulator=0, destination=600)
    late = dataclasses.replace(PLANE, activation=0, late=1, waits=(0, 0, 1, 0, 0))
    check(tiny, drain, late)
    # DRAIN writes what is read, too.
    with pytest.raises(HazardError, match="data conflict on activation"):
        check(tiny, dataclasses.replace(drain, destination=3), late)
    check(tiny, dataclasses.replace(drain, destination=3), dataclasses.replace(late, late=0))
    # What DRAIN has waited for is no more over at the issue than DRAIN is.
    load = Load(local=0, beats=8)
    waiting = dataclasses.replace(drain, waits=LOAD_1)
    with pytest.raises(HazardError, match="data conflict on activation"):
        check(tiny, load, waiting, late)
    check(tiny, load, waiting, dataclasses.replace(late, waits=(1, 0, 1, 0, 0)))
    check(tiny, load, waiting, dataclasses.replace(late, late=0))
    # The next ARRAY is issued behind that wait.
    check(tiny, load, waiting, dataclasses.replace(late, activation=300), Array(activation=3))
    with pytest.raises(HazardError, match="conflict on accumulator"):
        check(tiny, drain, dataclasses.replace(late, waits=(0,) * len(Unit)))


def test_dram_ranges_are_exact_runs(tiny):
    """Interleaved runs do not conflict; a shared beat does."""
    store = Store(dram=0x1000, counts=(2, 1, 1), dram_deltas=(16, 0, 0))
    load = Load(dram=0x1004, local=600, counts=(2, 1, 1), dram_deltas=(16, 0, 0))
    check(tiny, store, load)
    with pytest.raises(HazardError, match="conflict on dram"):
        check(tiny, store, dataclasses.replace(load, dram=0x1010))


def test_order_is_transitive(tiny):
    """STORE waits for VECTOR, which waited for LOAD."""
    copy = Elementwise(source0=5, destination=300, waits=LOAD_1)
    store = Store(dram=0x1000, local=300, waits=(0, 0, 0, 1, 0))
    reload = Load(local=5, waits=(0, 0, 0, 0, 1))
    check(tiny, Load(local=5), copy, store, reload)
    with pytest.raises(HazardError, match="data"):
        check(tiny, Load(local=5), copy, store, dataclasses.replace(reload, waits=(0,) * 5))


def test_scalar_reads_count(tiny):
    program = [Begin(tiny.fingerprint, 0), Load(local=5), Scalar(row=5), Halt()]
    steps = list(Sequencer.of(program, tiny, read_scalar=lambda _: 0).steps())
    with pytest.raises(HazardError, match=r"\(sequencer\) does not wait"):
        check_hazards(steps, tiny, 1 << 20)
    program[2] = Scalar(row=5, waits=LOAD_1)
    steps = list(Sequencer.of(program, tiny, read_scalar=lambda _: 0).steps())
    check_hazards(steps, tiny, 1 << 20)


def test_weights_are_tracked(tiny):
    load = Load(space=Space.WEIGHT, local=0, beats=4)
    with pytest.raises(HazardError, match=r"conflict on weight 0\.\.3"):
        check(tiny, load, Array())


def permute(beat, **fields):
    """VECTOR writes four beats of weights from a row that nothing else touches."""
    moves = {"counts": (4, 1, 1, 1), "destination_deltas": (1, 0, 0, 0), "source0": 700}
    return Permute(space=1, destination=beat, **moves, **fields)


def test_banks_of_weights_have_one_writer():
    config = folding("tiny")
    bank = config.weight_bank_beats
    load = Load(space=Space.WEIGHT, local=3 * bank, beats=4)
    check(config, load, permute(bank))
    with pytest.raises(HazardError, match="write port conflict on weight"):
        check(config, load, permute(3 * bank + 8))
    check(config, load, permute(3 * bank + 8, waits=LOAD_1))
    with pytest.raises(HazardError, match="write port conflict on weight"):
        check(config, permute(8), dataclasses.replace(load, local=0))


def test_weights_that_vector_wrote_are_awaited():
    config = folding("tiny")
    array = Array(weight=3 * config.weight_bank_beats, activation=500)
    with pytest.raises(HazardError, match="data conflict on weight"):
        check(config, permute(array.weight), array)
    check(config, permute(array.weight), dataclasses.replace(array, waits=(0, 0, 0, 1, 0)))
    with pytest.raises(HazardError, match="data conflict on weight"):
        check(config, array, permute(array.weight))
    check(config, array, permute(array.weight, waits=(0, 1, 0, 0, 0)))


def test_twenty_thousand_instructions_take_seconds():
    config = AcceleratorConfig.load("base")
    body = []
    for i in range(5000):
        half = 8192 * (i % 2)
        body += [
            Load(local=half, beats=1000, waits=(0, 0, 0, 0, min(i, 1))),
            Elementwise(
                counts=(1000, 1, 1, 1),
                source0_deltas=(1, 0, 0, 0),
                source0=half,
                destination=half + 4096,
                destination_deltas=(1, 0, 0, 0),
                waits=LOAD_1,
            ),
            Store(dram=0x10000, local=half + 4096, beats=1000, waits=(0, 0, 0, 1, 0)),
        ]
    began = time.perf_counter()
    report = check(config, *body)
    assert report.instructions == 15000
    assert time.perf_counter() - began < 20
