"""hFA: what is refused, what an instruction touches, and that its waits are proven."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, Drain, ErrorCode, Unit, unit_of
from hw.arch.walk import Memory, accesses
from sim.functional import FunctionalMachine
from sim.functional.errors import UnitError, UnwrittenReadError
from sim.functional.hazards import HazardError, check_hazards
from sim.functional.legality import GRAVITY, Legality
from sim.functional.sequencer import Sequencer
from tests.ladder import linking
from tests.ladder.hfa_layer import Shape, functional, make, program
from tests.ladder.transformed_programs import TransformedProgram

TINY = AcceleratorConfig.load("tiny")
RAGGED = Shape(size=(1, 7, 9), channels=9, filters=6, parts=2)
TEMPORAL = Shape(2, 0, (6, 2, 3), before=(1, 0, 0), after=(1, 0, 0))


def spoiled(case, kind, **changes):
    if kind is Array:
        arrays = tuple(dataclasses.replace(a, **changes) for a in case.arrays)
        return dataclasses.replace(case, arrays=arrays)
    return dataclasses.replace(case, drain=dataclasses.replace(case.drain, **changes))


def counts(case, **places):
    names = ("x", "y", "t", "co", "kx", "ky", "kt", "ci")
    values = dict(zip(names, case.arrays[0].counts, strict=True)) | places
    return {"counts": tuple(values.values())}


BAD = {
    "no transform": (Shape(), Array, lambda c: {"transform_s": 0}, ErrorCode.FIELD, "or space"),
    "unknown": (Shape(), Array, lambda c: {"transform_s": 3}, ErrorCode.FIELD, "transform_s = 3"),
    "too wide": (Shape(), Array, lambda c: {"transform_t": 2}, ErrorCode.UNSUPPORTED, "not fit"),
    "points": (Shape(), Array, lambda c: counts(c, kx=4), ErrorCode.FIELD, r"points; .* 4, 6, 1"),
    "points in time": (TEMPORAL, Array, lambda c: counts(c, kt=3), ErrorCode.FIELD, "the points"),
    "taps along y": (TEMPORAL, Array, lambda c: counts(c, ky=3), ErrorCode.FIELD, "kx, ky are 1"),
    "step": (Shape(), Array, lambda c: {"steps": (1, 2, 1)}, ErrorCode.FIELD, "the step is 1"),
    "rows of U": (Shape(), Array, lambda c: counts(c, x=8), ErrorCode.ADDRESS, "576 points"),
    "accumulators": (Shape(), Array, lambda c: {"accumulator": 400}, ErrorCode.ADDRESS, "row 543"),
    "weights": (Shape(), Array, lambda c: {"weight": 1020}, ErrorCode.ADDRESS, "weight beat"),
    "drain unknown": (Shape(), Drain, lambda c: {"transform_t": 3}, ErrorCode.FIELD, "1 to 2"),
    "drain too wide": (Shape(), Drain, lambda c: {"transform_t": 2}, ErrorCode.UNSUPPORTED, "fit"),
    "window": (Shape(), Drain, lambda c: {"window": (3, 1, 1)}, ErrorCode.FIELD, r"= .3, 1, 1"),
    "window in time": (Shape(), Drain, lambda c: {"window": (1, 1, 2)}, ErrorCode.FIELD, "divides"),
    "drain rows": (Shape(), Drain, lambda c: {"accumulator": 500}, ErrorCode.ADDRESS, "row 643"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refusals_name_value_and_limit(name):
    shape, kind, change, code, message = BAD[name]
    case = make(shape, TINY)
    checked(case)
    with pytest.raises(UnitError, match=message) as error:
        checked(spoiled(case, kind, **change(case)))
    assert error.value.code == code


def checked(case):
    """What the sequencer checks, then what the units do."""
    legality = Legality(TINY)
    for instruction in (*case.arrays, case.drain):
        legality.check(instruction, *GRAVITY)
    functional(case)


def test_weights_start_at_a_group():
    config = dataclasses.replace(TINY, array=dataclasses.replace(TINY.array, cols=8))
    case = make(Shape(), config)
    with pytest.raises(UnitError, match="weight beat 1 is not a multiple of 2") as error:
        functional(spoiled(case, Array, weight=1))
    assert error.value.code == ErrorCode.ADDRESS


def test_nested_algorithms_are_a_feature_of_their_own():
    plain = dataclasses.replace(TINY, features=("depthwise", "vector", "hfa"))
    nested = make(Shape(1, 1, (2, 2, 2), before=(1, 1, 1), after=(1, 1, 1)), TINY)
    flat = make(Shape(), TINY)
    for instruction in (*nested.arrays, nested.drain):
        Legality(TINY).check(instruction, *GRAVITY)
        with pytest.raises(UnitError, match="need the feature `hfa_nested`") as error:
            Legality(plain).check(instruction, *GRAVITY)
        assert error.value.code == ErrorCode.UNSUPPORTED
    for instruction in (*flat.arrays, flat.drain):
        Legality(plain).check(instruction, *GRAVITY)


@pytest.mark.parametrize("shape", [RAGGED, TEMPORAL, Shape(size=(1, 6, 10), window=(1, 2, 4))])
def test_accesses_are_what_is_touched(shape):
    """Intervals from the fields: rows outside may hold nothing, the ends are used."""
    case = make(shape, TINY)
    array, drain = case.arrays[0], case.drain
    reads = {a.memory: (a.low, a.high) for a in accesses(array, TINY) if not a.write}
    # What lies outside the interval may be unwritten, its ends may not.
    for memory in (Memory.ACTIVATION, Memory.WEIGHT):
        low, high = reads[memory]
        execute(case, (array,), {memory: (low, high)})
        for narrow in ((low + 1, high), (low, high - 1)):
            with pytest.raises(UnwrittenReadError):
                execute(case, (array,), {memory: narrow})
    state = execute(case, case.arrays, {})
    (written,) = [a for a in accesses(array, TINY) if a.write]
    assert (written.low, written.high) == (0, case.points - 1)
    (drained,) = [a for a in accesses(drain, TINY) if a.memory is Memory.ACCUMULATOR]
    assert (drained.low, drained.high) == (0, case.points - 1)
    machine = FunctionalMachine(TINY, np.zeros(64, np.uint8), (0, 64))
    before = state.activation.data[: state.activation.rows].copy()
    machine.state = state
    machine.execute(drain)
    changed = np.flatnonzero((state.activation.data[: len(before)] != before).any(axis=1))
    (result,) = [a for a in accesses(drain, TINY) if a.memory is Memory.ACTIVATION]
    assert (result.low, result.high) == (case.target[0], case.target[-1])
    assert changed.min() >= result.low and changed.max() <= result.high


def execute(case, instructions, only):
    """Run instructions on memories of which only some rows are written; returns the state."""
    machine = FunctionalMachine(TINY, np.zeros(64, np.uint8), (0, 64), check_reads=True)
    state = machine.state
    beats = [np.frombuffer(d, np.uint8).reshape(-1, 4) for d in (case.weights, case.parameters)]
    for memory, bank, data in (
        (Memory.ACTIVATION, state.activation, case.activations),
        (Memory.WEIGHT, state.weight, beats[0]),
        (Memory.PARAMETER, state.parameter, beats[1]),
    ):
        low, high = only.get(memory, (0, len(data) - 1))
        bank.write(np.arange(low, high + 1), data[low : high + 1])
    for instruction in instructions:
        machine.execute(instruction)
    return state


def test_a_linked_program_is_proven_and_gives_the_results():
    case = make(RAGGED, TINY)
    linked = program(case)
    memory = np.zeros(linked.memory_bytes, np.uint8)
    for address, data in linked.image:
        memory[address : address + len(data)] = np.frombuffer(data, np.uint8)
    steps = list(Sequencer.of(linked.instructions, TINY).steps())
    report = check_hazards(steps, TINY, linked.memory_bytes)
    assert report.instructions == 3 + 2 + 1 + 1
    machine = FunctionalMachine(TINY, memory, linked.store_window, check_reads=True)
    assert machine.run(linked.instructions).halt_code == 0
    stored = memory[linking.OUTPUT : linking.OUTPUT + case.expected.size]
    assert np.array_equal(stored.reshape(case.expected.shape), case.expected)


@pytest.mark.parametrize("unit", [Unit.ARRAY, Unit.DRAIN, Unit.STORE])
def test_a_missing_wait_is_found(unit):
    linked = program(make(RAGGED, TINY))
    code = [
        dataclasses.replace(i, waits=(0,) * len(Unit)) if unit_of(i) == unit else i
        for i in linked.instructions
    ]
    steps = list(Sequencer.of(code, TINY).steps())
    with pytest.raises(HazardError):
        check_hazards(steps, TINY, linked.memory_bytes)


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_run_and_are_proven(seed):
    linked = TransformedProgram(TINY, seed).build()
    machine = FunctionalMachine(TINY, linked.memory(), linked.store_window, check_reads=True)
    steps = []
    assert machine.run(linked.instructions, steps.append).halt_code == 0
    assert check_hazards(steps, TINY, linked.memory_bytes).instructions > 24
