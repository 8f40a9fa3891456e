"""Control flow, dependency distances, transfers and the errors of a run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.isa import (
    Add,
    Array,
    ArrayMode,
    Begin,
    Branch,
    Condition,
    Drain,
    Elementwise,
    ErrorCode,
    Fence,
    Halt,
    Load,
    Loop,
    Next,
    Reduce,
    Scalar,
    Set,
    Space,
    Store,
    Unit,
    deltas,
    encode,
)
from sim.functional import MachineError, Sequencer


def trace(config, *instructions):
    """Dispatched steps of a program that needs no data."""
    program = [Begin(config.fingerprint, 0), *instructions, Halt()]
    return [s for s in Sequencer.of(program, config).steps() if s.unit is not None]


def test_loops_nest_and_registers_move_addresses(tiny):
    body = trace(
        tiny,
        Set(1, 0),
        Loop(0, 3),
        Loop(1, 2),
        Load(dram=0x100, dram_register=1, local=5),
        Add(1, 1, 0, 16),
        Next(1),
        Next(0),
    )
    assert [s.instruction.dram for s in body] == [0x100 + 16 * i for i in range(6)]
    assert all(s.instruction.dram_register == 0 for s in body)
    assert [s.ordinal for s in body] == [1, 2, 3, 4, 5, 6]


def test_loop_count_register_adds(tiny):
    body = trace(tiny, Set(2, 3), Loop(0, 1, count_register=2), Load(), Next(0))
    assert len(body) == 4
    assert len(trace(tiny, Loop(0, 0), Load(), Next(0))) == 1


def test_distances_count_back_from_dispatch(tiny):
    body = trace(
        tiny,
        Load(),
        Load(),
        Load(),
        Store(waits=(1, 0, 0, 0, 0)),
        Store(waits=(3, 0, 0, 0, 1)),
    )
    assert body[3].awaits == (3, 0, 0, 0, 0)
    assert body[4].awaits == (1, 0, 0, 0, 1)
    with pytest.raises(MachineError, match="4th latest instruction of LOAD, which got 3") as error:
        trace(tiny, Load(), Load(), Load(), Store(waits=(4, 0, 0, 0, 0)))
    assert error.value.code is ErrorCode.BAD_WAIT
    assert error.value.pc == 4


@pytest.mark.parametrize(
    ("condition", "a", "b", "taken"),
    [
        (Condition.ALWAYS, 0, 1, True),
        (Condition.EQUAL, 4, 4, True),
        (Condition.EQUAL, 4, 5, False),
        (Condition.NOT_EQUAL, 4, 5, True),
        (Condition.LESS, -1, 0, True),
        (Condition.LESS, 0, -1, False),
        (Condition.GREATER_EQUAL, 0, -1, True),
        (Condition.GREATER_EQUAL, -2, -1, False),
    ],
)
def test_branches(tiny, condition, a, b, taken):
    body = trace(tiny, Set(1, a), Set(2, b), Branch(condition, 1, 2, 5), Load(), Load())
    assert len(body) == (1 if taken else 2)


def test_scalar_reads_the_scratchpad(bench):
    bench.put_rows(9, np.array([[1, 2, 0x83, 4]], np.uint8))
    bench.memory[:16] = np.arange(16)
    outcome = bench.run(
        Scalar(rd=3, row=9, lane=2, signed=1),
        Add(3, 3, 0, 125),  # -125 + 125
        Branch(Condition.EQUAL, 3, 0, 5),
        Halt(7),
        Load(local=0),
    )
    assert outcome.halt_code == 0
    assert outcome.dispatched[Unit.LOAD] == 1
    with pytest.raises(MachineError, match="SCALAR needs data"):
        trace(bench.config, Scalar())


def test_register_zero_stays_zero(tiny):
    assert len(trace(tiny, Set(0, 9), Loop(0, 1), Load(dram_register=0), Next(0))) == 1


def test_halt_code_is_reported(bench):
    assert bench.machine.run([bench.begin(), Fence(), Halt(5)]).halt_code == 5


CONTROL_ERRORS = [
    ([Next(2)], ErrorCode.LOOP, "loop 2, which is not open"),
    ([Branch(Condition.ALWAYS, 0, 0, 99)], ErrorCode.FETCH_RANGE, "branches to 99; .* 3 instr"),
    ([Branch(6, 0, 0, 1)], ErrorCode.FIELD, "condition is 4; condition = 6"),
    ([Branch(Condition.ALWAYS, 0, 0, 1)], ErrorCode.WATCHDOG, "without a dispatch"),
]


@pytest.mark.parametrize(("body", "code", "message"), CONTROL_ERRORS, ids=lambda v: str(v))
def test_control_errors(tiny, body, code, message):
    with pytest.raises(MachineError, match=message) as error:
        trace(tiny, *body)
    assert error.value.code is code
    assert error.value.unit is None


@pytest.mark.parametrize("target", [3, 99])
def test_a_branch_out_of_the_program_is_at_fault_itself(tiny, target):
    """As in the circuit: the error has the branch's index, and only if the branch is taken."""
    with pytest.raises(MachineError, match=f"branches to {target}; .* has 3 instr") as error:
        trace(tiny, Branch(Condition.EQUAL, 0, 0, target))
    assert (error.value.code, error.value.pc) == (ErrorCode.FETCH_RANGE, 1)
    assert trace(tiny, Branch(Condition.NOT_EQUAL, 0, 0, target)) == []
    with pytest.raises(MachineError, match="2 instructions only") as error:
        list(Sequencer.of([Begin(tiny.fingerprint, 0), Fence()], tiny).steps())
    assert (error.value.code, error.value.pc) == (ErrorCode.FETCH_RANGE, 2)


def test_program_for_another_machine_is_refused(tiny):
    for begin, code in (
        (Begin(tiny.fingerprint ^ 1, 0), ErrorCode.FINGERPRINT),
        (Begin(tiny.fingerprint, 0xFFFF), ErrorCode.UNSUPPORTED),
        (Halt(), ErrorCode.FINGERPRINT),
    ):
        with pytest.raises(MachineError) as error:
            list(Sequencer.of([begin, Halt()], tiny).steps())
        assert error.value.code is code


def test_unknown_opcode_stops_when_it_is_reached(bench):
    code = b"".join(encode(i) for i in (bench.begin(), Halt())) + bytes(64)
    assert bench.machine.run(code).halt_code == 0
    with pytest.raises(MachineError, match="unknown opcode 0") as error:
        bench.machine.run(encode(bench.begin()) + bytes(64))
    assert (error.value.code, error.value.pc) == (ErrorCode.OPCODE, 1)


def strided(kind, dram, local, beats, counts, far, near, **fields):
    return kind(
        dram=dram,
        local=local,
        beats=beats,
        counts=counts,
        dram_deltas=deltas(counts, far),
        local_deltas=deltas(counts, near),
        **fields,
    )


def test_transfers_walk_both_sides(bench):
    rng = np.random.default_rng(20)
    bench.memory[:] = rng.integers(0, 256, bench.memory.size)
    source = bench.memory[0x400:].copy()
    counts, far, near = (3, 2, 1), (64, 256, 0), (10, 100, 0)
    bench.run(
        strided(Load, 0x400, 7, 5, counts, far, near),
        strided(Store, 0x8000, 7, 5, counts, near and (20, 60, 0), near),
    )
    for j in range(2):
        for i in range(3):
            run = source[64 * i + 256 * j :][:20]
            rows = bench.rows(7 + 10 * i + 100 * j, 5).reshape(-1)
            assert np.array_equal(rows, run)
            assert np.array_equal(bench.memory[0x8000 + 20 * i + 60 * j :][:20], run)


@pytest.mark.parametrize("space", list(Space))
def test_every_space_has_an_end(bench, space):
    state = bench.machine.state
    last = state.space(space).rows - 1
    bench.run(Load(space=space, local=last))
    with pytest.raises(MachineError, match=f"{last + 1}; there are") as error:
        bench.run(Load(space=space, local=last, beats=2))
    assert error.value.code is ErrorCode.ADDRESS
    assert error.value.unit is Unit.LOAD


def test_transfer_errors(bench):
    end = bench.memory.size
    bench.put_rows(0, np.zeros((2, 4), np.uint8))
    for instruction, code in (
        (Load(dram=end), ErrorCode.AXI_RESPONSE),
        (Load(dram=2), ErrorCode.ADDRESS),
        (Store(dram=end - 4, beats=2), ErrorCode.AXI_RESPONSE),
    ):
        with pytest.raises(MachineError) as error:
            bench.run(instruction)
        assert error.value.code is code
    bench.machine.store_window = (0x100, 0x108)
    bench.run(Store(dram=0x100, beats=2))
    for address in (0xFC, 0x104):
        with pytest.raises(MachineError, match="outside the window") as error:
            bench.run(Store(dram=address, beats=2))
        assert error.value.code is ErrorCode.STORE_WINDOW


DISPATCH_ERRORS = [
    (Load(beats=0), "beats"),
    (Store(counts=(1, 0, 1)), "counts"),
    (Array(counts=(1, 1, 1, 1, 1, 0, 1, 1)), "counts"),
    (Array(mode=ArrayMode.DEPTHWISE, emit_x=0), "emit"),
    (Drain(window=(0, 1, 1)), "window"),
    (Elementwise(op=5), "last operation is 4; op = 5"),
    (Elementwise(table=9), "table = 9, .*'tiny' has memory.tables = 8"),
    (Reduce(op=3), "last operation is 2; op = 3"),
    (Reduce(window=(1, 1, 0)), "window"),
]


@pytest.mark.parametrize(("instruction", "message"), DISPATCH_ERRORS, ids=lambda v: str(v)[:30])
def test_fields_are_checked_at_dispatch(tiny, instruction, message):
    with pytest.raises(MachineError, match=message) as error:
        trace(tiny, instruction)
    assert error.value.code is ErrorCode.FIELD
    assert error.value.unit is None


def test_gravest_error_first(tiny_direct):
    """UNSUPPORTED before BAD_WAIT before FIELD, as the hardware decides."""
    config = dataclasses.replace(tiny_direct, features=())
    instruction = Elementwise(waits=(1, 0, 0, 0, 0), table=7)
    for machine, code in ((config, ErrorCode.UNSUPPORTED), (tiny_direct, ErrorCode.BAD_WAIT)):
        with pytest.raises(MachineError) as error:
            trace(machine, instruction)
        assert error.value.code is code
    with pytest.raises(MachineError, match=r"feature `vector`; space = 3, .* has features none"):
        trace(config, Load(space=Space.TABLE))
    with pytest.raises(MachineError, match=r"lane = 4, .* lane_block = 4") as error:
        trace(tiny_direct, Scalar(lane=4))
    assert error.value.code is ErrorCode.ADDRESS


def test_features_are_those_of_the_configuration(tiny_direct):
    config = dataclasses.replace(tiny_direct, features=())
    assert trace(config, Load(), Store())
