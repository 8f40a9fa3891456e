"""The event model against times worked out by hand, and against what must always hold.

That it equals the circuit, instruction by instruction, is tests/ladder/test_cycle_rtl.py.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    INSTRUCTION_BYTES,
    Branch,
    Condition,
    Fence,
    Instruction,
    Load,
    Space,
    Store,
    Unit,
    deltas,
)
from hw.arch.registers import COUNTERS
from hw.arch.timing import MemoryTiming, transfer_beats
from hw.timeline.model import CoreModel
from hw.timeline.port import MemoryModel, MemoryPort, UniformMemory
from hw.timeline.transfers import bursts
from sim.backend import Options
from sim.cycle.backend import CycleBackend
from sim.functional.hazards import check_hazards
from sim.functional.sequencer import Sequencer
from tests.ladder.control import branching, looped
from tests.ladder.linking import DATA, OUTPUT, begin, halt, link
from tests.ladder.programs import RandomProgram

TINY = AcceleratorConfig.load("tiny")
BASE = AcceleratorConfig.load("base")


def simulate(
    code: list[Instruction], config: AcceleratorConfig = TINY, memory: MemoryModel | None = None
) -> CoreModel:
    program = link(config, code, [])
    steps = list(Sequencer.of(program.instructions, config).steps())
    model = CoreModel(config, steps, program.code_address, len(code), memory)
    model.run()
    return model


def test_one_load_by_hand() -> None:
    model = simulate([begin(TINY), Load(dram=DATA, beats=8), halt()])
    # The fetch asks in cycle 1 and is granted at once; 40 cycles after its acceptance in cycle 2
    # come the beats, one instruction (16 beats of 4 bytes) per burst on `tiny`; a beat is handed
    # over a cycle later and can be taken three after that.
    begin_taken = 2 + 40 + 15 + 4
    # The second burst follows without a gap (asked for in 3, accepted in 4).
    load_taken = begin_taken + 16
    dispatch = load_taken + 2
    issue = dispatch + 3
    assert model.units[Unit.LOAD].issue == [issue]
    # Three cycles to ask, one to the address, 40 to the first of 8 beats, one to write.
    done = issue + 3 + 1 + 40 + 7 + 1
    assert model.units[Unit.LOAD].done == [done]
    assert model.halt == done + 2
    assert model.cycles == done + 6
    assert model.fetch.beats == 3 * 16
    assert model.load.beats == 8


def test_one_store_by_hand() -> None:
    model = simulate([begin(TINY), Store(dram=OUTPUT, beats=8), halt()])
    issue = 2 + 40 + 15 + 4 + 16 + 2 + 3
    # First row read after 4, asked for 5 after the last read, address and two cycles to the first
    # beat, response 8 after the last, done one later.
    ask = issue + 4 + 7 + 5
    # The third instruction's burst occupies the memory until its last beat.
    first = max(ask + 1 + 2, 2 + 40 + 3 * 16 + 1)
    assert model.units[Unit.STORE].issue == [issue]
    assert model.units[Unit.STORE].done == [first + 7 + 8 + 1]


def test_bursts_split_at_pages_and_lengths() -> None:
    load = Load(
        dram=4096 - 5 * 4,
        beats=40,
        counts=(2, 2, 1),
        dram_deltas=deltas((2, 2, 1), (4096, 1 << 14, 0)),
    )
    lengths = bursts(load, TINY.port)
    assert [burst.beats for burst in lengths] == [5, 16, 16, 3] * 4
    assert [burst.last for burst in lengths] == [False] * 15 + [True]
    assert [burst.starts for burst in lengths] == [True, False, False, False] * 4
    assert [burst.frees for burst in lengths] == [False] * 12 + [True] + [False] * 3
    # The third run starts elsewhere: strides, not deltas, are what the runs walk.
    shifted = dataclasses.replace(load, dram_deltas=deltas((2, 2, 1), (4096, 4 * 10, 0)))
    lengths = bursts(shifted, TINY.port)
    assert [burst.beats for burst in lengths] == [5, 16, 16, 3] * 2 + [16, 16, 8] * 2


def test_port_serves_in_order_with_turnaround() -> None:
    port = MemoryPort(TINY.port, UniformMemory(MemoryTiming()))
    read = port.serve(0, False, 4, 0)
    assert (read.first, read.last, read.end) == (41, 44, 44)
    write = port.serve(1, True, 2, 0)
    assert (write.first, write.last, write.end) == (46, 47, 55)
    assert port.serve(2, True, 1, 0).first == 48
    assert port.serve(3, False, 1, 0).first == 50


def test_port_blocks_at_outstanding() -> None:
    port = MemoryPort(dataclasses.replace(TINY.port, outstanding=2), UniformMemory(MemoryTiming()))
    first = port.serve(0, False, 4, 0)
    port.serve(1, False, 4, 0)
    assert port.room_at(2) == first.end + 1
    assert port.room_at(first.end + 1) == first.end + 1


@pytest.mark.parametrize("config", [TINY, BASE], ids=lambda c: c.name)
def test_sustained_bandwidth(config: AcceleratorConfig) -> None:
    beats = 1024
    code: list[Instruction] = [begin(config)]
    for i in range(8):
        code.append(Load(dram=DATA + i * beats * config.port.bytes, beats=beats))
        code.append(Store(dram=OUTPUT, local=0, beats=beats))
    model = simulate([*code, halt()], config)
    moved = model.load.beats + model.store.beats
    busy = model.units[Unit.STORE].done[-1] - model.units[Unit.LOAD].issue[0]
    assert moved == 16 * beats
    assert moved / busy >= (0.95 if config is BASE else 0.85)  # `tiny` fetches 16 beats each


def test_reads_alone_lose_nothing() -> None:
    code = [begin(BASE), *(Load(dram=DATA, beats=1024) for _ in range(8)), halt()]
    model = simulate(code, BASE)
    times = model.units[Unit.LOAD]
    assert times.done[-1] - times.done[0] <= 7 * 1024 + 6 * 16


@pytest.mark.parametrize("seed", range(12))
def test_what_must_always_hold(seed: int) -> None:
    config = (TINY, BASE)[seed % 2]
    program = RandomProgram(config, seed).build()
    result = CycleBackend().run(program, config, program.memory(), Options())
    assert result.timeline is not None and result.trace is not None
    steps = [s for s in result.trace if s.unit is not None]
    lines = result.timeline
    done = {u: lines.end[lines.unit == u] for u in Unit}
    for step, issue, end in zip(steps, lines.issue, lines.end, strict=True):
        assert end > issue
        for unit, count in enumerate(step.awaits):
            assert not count or issue > done[Unit(unit)][count - 1]
    for unit in Unit:
        issues = lines.issue[lines.unit == unit]
        assert (np.diff(issues) > 0).all() and (np.diff(done[unit]) > 0).all()
    assert tuple(result.counters) == COUNTERS
    transfers = [s.instruction for s in steps]
    reads = sum(transfer_beats(i) for i in transfers if isinstance(i, Load))
    writes = sum(transfer_beats(i) for i in transfers if isinstance(i, Store))
    assert (result.counters["read_beats"], result.counters["write_beats"]) == (reads, writes)
    assert result.counters["instructions"] == len(result.trace)
    assert result.cycles == result.counters["cycles"]
    assert result.cycles >= reads + writes + result.counters["fetch_beats"]


def test_loop_refetches_its_body() -> None:
    program = looped(TINY, trips=5)
    result = CycleBackend().run(program, TINY, program.memory(), Options())
    body = 4 * INSTRUCTION_BYTES // TINY.port.bytes
    assert result.counters["fetch_beats"] >= 5 * body
    assert result.counters["instructions"] == 1 + 3 + 5 * 7 + 1


def test_slower_memory_is_slower() -> None:
    code = [begin(TINY), Load(dram=DATA, space=Space.ACTIVATION, beats=64), Fence(), halt()]
    fast, slow = simulate(code), simulate(code, memory=UniformMemory(MemoryTiming(read_latency=41)))
    assert slow.units[Unit.LOAD].done[0] == fast.units[Unit.LOAD].done[0] + 2


def test_a_taken_branch_to_the_next_instruction_flushes_the_prefetch() -> None:
    passed, *taken = (
        simulate([begin(TINY), Branch(condition=condition, target=2), halt()]).halt or 0
        for condition in (Condition.NOT_EQUAL, Condition.EQUAL, Condition.ALWAYS)
    )
    assert passed and taken[0] == taken[1] > passed + MemoryTiming().read_latency


def test_branching_programs_take_both_ways_and_have_no_race() -> None:
    seen = set()
    for seed in range(12):
        program = branching(TINY, seed)
        options = Options(check_reads=True)
        steps = CycleBackend().run(program, TINY, program.memory(), options).trace
        assert steps is not None
        check_hazards(steps, TINY, program.memory_bytes)
        branches = [s for s in steps if isinstance(s.instruction, Branch)]
        seen |= {(s.taken, s.instruction.target == s.pc + 1) for s in branches}
    assert seen == {(taken, near) for taken in (False, True) for near in (False, True)}
