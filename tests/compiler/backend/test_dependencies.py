"""The tracker's waits: sufficient, and none that could be left out."""

import dataclasses

import numpy as np
import pytest

from compiler.backend.build import generate
from compiler.emit.dependencies import DependencyTracker
from compiler.emit.sent import Sent
from hw.arch.isa import (
    MAX_WAIT,
    Array,
    Drain,
    Elementwise,
    Load,
    Permute,
    Space,
    Store,
    Unit,
    unit_of,
)
from sim.functional.backend import dynamic_trace
from sim.functional.hazards import HazardError, check_hazards
from tests.compiler.backend.harness import CONFIGS, convolution, kind, network
from tests.compiler.backend.test_vector import residual
from tests.machines import folding

CONFIG = CONFIGS["tiny"]
BANK = CONFIG.memory.activation_bank_rows


def waits(*instructions):
    """Waits of the last of several instructions."""
    tracker = DependencyTracker(CONFIG)
    return [tracker.add(i) for i in instructions][-1].waits


def test_read_after_write():
    found = waits(Load(local=3, beats=4), Store(local=6, dram=4096))
    assert found == (1, 0, 0, 0, 0)


def test_what_was_stored_later_is_told():
    sent = Sent(CONFIG)
    for dram in (8192, 4096):
        sent.add(Store(local=0, dram=dram))
    assert sent.stored(4096) > sent.stored(8192) > sent.stored(12288) == 0
    assert (sent.dispatched(Unit.STORE), sent.dispatched(Unit.LOAD)) == (2, 0)


def test_no_wait_without_overlap():
    assert waits(Load(local=3, beats=3), Store(local=6, dram=4096)) == (0,) * len(Unit)


def test_write_after_read_names_the_right_one():
    found = waits(Store(local=0), Store(local=9), Store(local=20), Load(local=9, dram=4096))
    assert found[Unit.STORE] == 2


def test_one_owner_of_a_bank_port():
    copy = Elementwise(source0=4 * BANK, destination=5)
    assert waits(copy, Load(local=9, dram=4096))[Unit.VECTOR] == 1
    assert waits(copy, Load(local=BANK + 9, dram=4096)) == (0,) * len(Unit)


def test_array_and_drain_share_no_accumulator_bank():
    drain = Drain(accumulator=3)
    assert waits(drain, Array(accumulator=9, activation=500))[Unit.DRAIN] == 1
    rows = CONFIG.memory.accumulator_rows
    other_bank = Array(accumulator=9 + rows, activation=500)
    assert waits(drain, other_bank)[Unit.DRAIN] == 0


def test_implied_waits_are_left_out():
    # STORE waits for VECTOR, which waited for LOAD.
    copy = Elementwise(source0=0, destination=BANK)
    assert waits(Load(local=0), copy, Store(local=BANK)) == (0, 0, 0, 1, 0)


def test_weights_made_on_chip():
    """VECTOR's are awaited by ARRAY; a bank has one writer, and its reader is awaited."""
    config = folding("tiny")
    bank = config.weight_bank_beats

    def last(*instructions):
        tracker = DependencyTracker(config)
        return [tracker.add(i) for i in instructions][-1].waits

    made = Permute(space=1, source0=5 * BANK, destination=3 * bank)
    array = Array(weight=3 * bank, activation=500)
    assert last(made, array) == (0, 0, 0, 1, 0)
    assert last(made, dataclasses.replace(array, weight=bank)) == (0,) * len(Unit)
    load = Load(space=Space.WEIGHT, local=4 * bank - 1)
    assert last(made, load) == (0, 0, 0, 1, 0)
    assert last(load, made) == (1, 0, 0, 0, 0)
    assert last(dataclasses.replace(load, local=bank), made) == (0,) * len(Unit)
    assert last(array, made) == (0, 1, 0, 0, 0)


def test_distances_beyond_the_field_become_stricter():
    loads = [Load(local=n, dram=64 * n) for n in range(100)]
    assert waits(*loads, Store(local=2, dram=1 << 20))[Unit.LOAD] == MAX_WAIT


def graphs():
    source = kind((20, 3, 9, 10))
    op, result = convolution(
        np.random.default_rng(0), source, 24, (3, 1, 1), pad_begin=(1, 0, 0), pad_end=(1, 0, 0)
    )
    yield network({"x": source}, [op], {"y": result})
    op, result = convolution(np.random.default_rng(0), source, 20, (1, 3, 3), groups=20)
    yield network({"x": source}, [op], {"y": result})
    yield residual((9, 4, 24, 24))


@pytest.mark.parametrize("number", range(3))
def test_dropping_any_wait_is_a_hazard(number):
    program = generate(list(graphs())[number], CONFIG)
    code = list(program.instructions)

    def check(instructions):
        changed = dataclasses.replace(program, instructions=tuple(instructions))
        trace = dynamic_trace(changed, CONFIG, program.memory())
        check_hazards(trace, CONFIG, program.memory_bytes)

    check(code)
    places = [
        (at, unit)
        for at, i in enumerate(code)
        if unit_of(i) is not None
        for unit in Unit
        if i.waits[unit]
    ]
    assert len(places) > 20
    for at, unit in places[:: max(1, len(places) // 40)]:
        less = list(code[at].waits)
        less[unit] = 0
        broken = [*code[:at], dataclasses.replace(code[at], waits=tuple(less)), *code[at + 1 :]]
        with pytest.raises(HazardError):
            check(broken)
