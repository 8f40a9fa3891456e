"""The tracker's waits: sufficient, and none that could be left out."""

import dataclasses

import numpy as np
import pytest

from compiler.backend.build import generate
from compiler.emit.dependencies import DependencyTracker
from compiler.emit.sent import Sent
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    MAX_WAIT,
    Array,
    ArrayMode,
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
TINY = AcceleratorConfig.load("tiny")


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


PLANE = Array(
    mode=ArrayMode.HFA,
    counts=(1, 1, 1, 1, 6, 6, 1, 1),
    transform_s=2,
    deltas=(1, 0, 1, 0, 0, 0, 0, 0),
    bounds=(6, 6, 1),
)
"""Reads rows 0 to 30, in bank 0."""


def tracked(*instructions):
    tracker = DependencyTracker(CONFIG)
    return [tracker.add(i) for i in instructions]


def test_what_waits_for_accumulators_alone_is_late():
    apart, across = Drain(destination=4 * BANK), Drain(destination=3)
    assert (tracked(apart, PLANE)[-1].late, waits(apart, PLANE)) == (1, (0, 0, 1, 0, 0))
    assert (tracked(across, PLANE)[-1].late, waits(across, PLANE)) == (0, (0, 0, 1, 0, 0))
    assert tracked(apart, Array(activation=0))[-1].late == 0, "outside mode HFA"
    other = Drain(destination=4 * BANK, accumulator=CONFIG.memory.accumulator_rows)
    assert (tracked(other, PLANE)[-1].late, waits(other, PLANE)) == (0, (0,) * len(Unit))
    # Rows of an earlier DRAIN, accumulators of a later one: one distance serves both, at the issue.
    rows = dataclasses.replace(across, accumulator=CONFIG.memory.accumulator_rows)
    assert (tracked(rows, apart, PLANE)[-1].late, waits(rows, apart, PLANE)[Unit.DRAIN]) == (0, 1)
    # But if another wait is behind that earlier one, nothing is in the way.
    copy = Elementwise(source0=3, destination=5)
    assert tracked(rows, copy, apart, PLANE)[-1].waits == (0, 0, 1, 1, 0)
    assert tracked(rows, copy, apart, PLANE)[-1].late == 1


def test_a_late_wait_implies_nothing_at_the_issue():
    load = Load(local=0, beats=8)
    waiting = Drain(destination=5)  # on LOAD, for the write port of bank 0
    plane = dataclasses.replace(PLANE, activation=BANK)
    aside = dataclasses.replace(load, local=BANK)
    both = tracked(load, aside, dataclasses.replace(waiting, destination=BANK + 100), plane)
    assert both[2].waits[Unit.LOAD] == 1
    assert (both[3].late, both[3].waits) == (1, (1, 0, 1, 0, 0))
    direct = Array(activation=BANK)
    assert tracked(*both[:3], direct)[-1].waits == (0, 0, 1, 0, 0)
    # The next ARRAY issues behind it, and knows what DRAIN knew.
    assert tracked(*both, plane)[-1].waits == (0,) * len(Unit)


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
    source = kind((20, 3, 30, 30))
    op, result = convolution(
        np.random.default_rng(0), source, 24, (1, 3, 3), pad_begin=(0, 1, 1), pad_end=(0, 1, 1)
    )
    yield network({"x": source}, [op], {"y": result})


@pytest.mark.parametrize("number, config", [(0, CONFIG), (1, CONFIG), (2, CONFIG), (3, TINY)])
def test_dropping_any_wait_is_a_hazard(number, config):
    program = generate(list(graphs())[number], config)
    code = list(program.instructions)

    def check(instructions):
        changed = dataclasses.replace(program, instructions=tuple(instructions))
        trace = dynamic_trace(changed, config, program.memory())
        check_hazards(trace, config, program.memory_bytes)

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
    if config is TINY:
        assert sum(i.late for i in code if isinstance(i, Array)) > 4
