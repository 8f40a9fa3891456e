"""The whole core with stand-in compute units: transfers, control flow, waits."""

import dataclasses

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    Add,
    Array,
    Branch,
    Condition,
    Drain,
    Elementwise,
    Fence,
    Halt,
    Load,
    Loop,
    Next,
    Scalar,
    Set,
    Space,
    Store,
    Unit,
    deltas,
    strides,
)
from hw.arch.registers import (
    Status,
)
from hw.arch.timing import TOKEN_LATENCY
from tests.hw.bench import HALT, Bench, run, waits
from tests.marks import large

pytestmark = pytest.mark.rtl
TINY = AcceleratorConfig.load("tiny_direct")
BYTES = TINY.port.bytes
BANK = TINY.memory.activation_bank_rows
STALLS = pytest.mark.parametrize("stall", [0.0, 0.4])
ENDED = Status.DONE | Status.IRQ


def bytes_of(seed, count):
    return np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)


def copied(memory, instruction):
    """Bytes of a transfer, by strides and loops over its runs."""
    steps = strides(instruction.counts, instruction.dram_deltas)
    x, y, z = instruction.counts
    parts = []
    for k in range(z):
        for j in range(y):
            for i in range(x):
                start = instruction.dram + i * steps[0] + j * steps[1] + k * steps[2]
                parts.append(memory[start : start + instruction.beats * BYTES])
    return np.concatenate(parts)


@STALLS
def test_load_and_store_copy(stall):
    content = bytes_of(0, 40 * BYTES)
    program = [
        Load(dram=0x100, local=4, beats=40),
        Store(waits=waits(load=1), dram=0x1000, local=4, beats=40),
        HALT,
    ]
    result = run(program, data=[(0x100, content)], stall=stall)
    assert result.status == ENDED and result.error == 0 and result.halt == 0
    assert np.array_equal(result.memory[0x1000 : 0x1000 + content.size], content)
    assert not np.array_equal(result.memory[0x1000 : 0x1000 + content.size], content[::-1])
    assert result.counters["read_beats"] == result.counters["write_beats"] == 40
    assert result.counters["instructions"] == 4
    assert [unit for _, unit in result.done] == [Unit.LOAD, Unit.STORE]


@STALLS
@pytest.mark.parametrize("seed", [0, large(1)])
def test_nests_of_runs_across_pages(seed, stall):
    """Gather with a strided LOAD, scatter with a strided STORE, three of each, overlapping."""
    generator = np.random.default_rng(seed)
    content = bytes_of(seed, 0x4000)
    program, pairs = [], []
    for k in range(3):
        counts = tuple(int(c) for c in generator.integers(1, 4, 3))
        beats = int(generator.choice([1, 3, 17, 33]))
        runs = int(np.prod(counts))
        local = 2 * BANK * k + int(generator.integers(0, 10))
        step = tuple(int(s) * BYTES for s in generator.integers(-40, 60, 3))
        # Runs follow one another on chip; in DRAM the load's may overlap, the store's may not.
        rows = deltas(counts, (beats, beats * counts[0], beats * counts[0] * counts[1]))
        load = Load(
            dram=0x1FE0 + 4 * k,
            local=local,
            beats=beats,
            counts=counts,
            dram_deltas=deltas(counts, step),
            local_deltas=rows,
        )
        gap = (beats + 1) * BYTES
        spread = (gap, gap * counts[0], gap * counts[0] * counts[1])
        store = Store(
            waits=waits(load=3),
            dram=0x4F00 + 0x1000 * k,
            local=local,
            beats=beats,
            counts=counts,
            dram_deltas=deltas(counts, spread),
            local_deltas=rows,
        )
        if runs * beats > 2 * BANK:
            continue
        pairs.append((load, store))
    program = [load for load, _ in pairs]
    for k, (_, store) in enumerate(pairs):
        program.append(dataclasses.replace(store, waits=waits(load=len(pairs) - k)))
    result = run([*program, HALT], data=[(0, content)], seed=seed, stall=stall)
    assert result.error == 0 and result.halt == 0, result
    for load, store in pairs:
        assert np.array_equal(copied(result.memory, store), copied(result.memory, load))
        shifted = dataclasses.replace(load, dram=load.dram + BYTES)
        assert not np.array_equal(copied(result.memory, store), copied(result.memory, shifted))
    moved = sum(load.beats * int(np.prod(load.counts)) for load, _ in pairs)
    assert result.counters["write_beats"] == moved > 0


def test_spaces_other_than_activation_do_not_touch_it():
    program = [
        Load(dram=0x100, local=0, beats=8),
        Load(dram=0x200, space=Space.WEIGHT, local=0, beats=8),
        Load(dram=0x200, space=Space.PARAMETER, local=0, beats=8),
        Load(dram=0x200, space=Space.TABLE, local=0, beats=8),
        Store(waits=waits(load=1), dram=0x1000, local=0, beats=8),
        HALT,
    ]
    content = bytes_of(3, 32)
    result = run(program, data=[(0x100, content), (0x200, 255 - content)])
    assert result.error == 0 and np.array_equal(result.memory[0x1000:0x1020], content)


def numbers(*values):
    """DRAM content for `leave`: number k in the k-th beat from 0x2000."""
    return [(0x2000 + BYTES * k, value.to_bytes(BYTES, "little")) for k, value in enumerate(values)]


def trail(result, count):
    """What `leave` wrote, one number per trip."""
    return [int(v) for v in result.memory[0x1000 : 0x1000 + count * BYTES].view("<u4")]


def leave(register, position):
    """Copy the number that `register` points at to the trail; `position` is its next place."""
    return [
        Load(waits=waits(store=0), dram=0x2000, dram_register=register, local=0, beats=1),
        Store(waits=waits(load=1), dram=0x1000, dram_register=position, local=0, beats=1),
        Fence(),
        Add(rd=position, rs=position, immediate=BYTES),
    ]


@STALLS
def test_nested_loops_and_registers(stall):
    program = [
        Set(rd=1, immediate=0),  # source
        Set(rd=2, immediate=0),  # destination
        Set(rd=5, immediate=1),
        Loop(level=0, count=3),
        Loop(level=3, count=1, count_register=5),  # twice
        *leave(1, 2),
        Next(level=3),
        Add(rd=1, rs=1, immediate=BYTES),
        Next(level=0),
        HALT,
    ]
    result = run(program, data=numbers(10, 20, 30, 40), stall=stall)
    assert result.error == 0
    assert trail(result, 7) == [10, 10, 20, 20, 30, 30, 0]


def test_a_loop_runs_at_least_once_and_register_zero_is_zero():
    program = [
        Set(rd=0, immediate=BYTES),  # discarded
        Set(rd=3, immediate=-7),
        Loop(level=1, count=2, count_register=3),
        *leave(0, 2),
        Next(level=1),
        HALT,
    ]
    result = run(program, data=numbers(10, 20))
    assert result.error == 0 and trail(result, 2) == [10, 0]


def test_branches():
    bench = Bench()

    async def scenario(ctx):
        for condition, left, right, taken in (
            (Condition.ALWAYS, 0, 0, True),
            (Condition.EQUAL, 5, 5, True),
            (Condition.EQUAL, 5, -5, False),
            (Condition.NOT_EQUAL, 5, -5, True),
            (Condition.NOT_EQUAL, 5, 5, False),
            (Condition.LESS, -1, 0, True),
            (Condition.LESS, 0, 0, False),
            (Condition.GREATER_EQUAL, 0, -(1 << 31), True),
            (Condition.GREATER_EQUAL, -1, 0, False),
        ):
            program = [
                Set(rd=1, immediate=left),
                Set(rd=2, immediate=right),
                Branch(condition=condition, rs=1, rt=2, target=5),
                Halt(1),
                Halt(2),
            ]
            result = await bench.run(ctx, program)
            assert result.halt == (2 if taken else 1), (condition, left, right)

    bench.simulate(scenario)


def test_add_and_backward_branch():
    program = [
        Set(rd=1, immediate=3),
        Add(rd=4, rs=4, rt=1, immediate=100),  # 103, 205, 306
        Add(rd=1, rs=1, immediate=-1),
        Branch(condition=Condition.NOT_EQUAL, rs=1, rt=0, target=2),
        Set(rd=5, immediate=306),
        Branch(condition=Condition.EQUAL, rs=4, rt=5, target=8),
        Halt(9),
        HALT,
    ]
    result = run(program)
    assert (result.error, result.halt) == (0, 0)
    assert result.counters["instructions"] == 1 + 1 + 3 * 3 + 2 + 1


@pytest.mark.parametrize("signed, expected", [(0, 0x91), (1, 0x91 - 256)])
def test_scalar_waits_and_extends(signed, expected):
    program = [
        Set(rd=6, immediate=2),
        Load(dram=0x100, local=BANK, beats=4),
        Scalar(waits=waits(load=1), rd=1, row=BANK + 1, row_register=6, lane=2, signed=signed),
        Set(rd=2, immediate=expected),
        Branch(condition=Condition.EQUAL, rs=1, rt=2, target=7),
        Halt(1),
        HALT,
    ]
    content = bytearray(16)
    content[3 * BYTES + 2] = 0x91
    result = run(program, data=[(0x100, content)])
    assert (result.error, result.halt) == (0, 0)
    assert run(program, data=[(0x100, bytes(16))]).halt == 1


def test_waits_order_units_and_distances_count_back():
    program = [
        Array(),
        Array(),
        Drain(waits=waits(array=2)),
        Drain(waits=waits(array=1)),
        Elementwise(waits=waits(drain=1)),
        Fence(),
        HALT,
    ]
    result = run(program)
    assert result.error == 0
    issue = {}
    done = {}
    for log, times in ((result.issue, issue), (result.done, done)):
        for cycle, unit in log:
            times.setdefault(unit, []).append(cycle)
    assert issue[Unit.DRAIN][0] == done[Unit.ARRAY][0] + TOKEN_LATENCY
    assert issue[Unit.DRAIN][1] > done[Unit.ARRAY][1]
    assert issue[Unit.VECTOR][0] == done[Unit.DRAIN][1] + TOKEN_LATENCY
