"""Every instruction class is known everywhere: executor, energy, timing, accesses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch import timing
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    CLASSES,
    Begin,
    ErrorCode,
    Fold,
    Halt,
    Instruction,
    Opcode,
    Permute,
    Scalar,
    UnitInstruction,
    unit_of,
)
from hw.arch.walk import accesses
from sim.energy import Action, count_actions
from sim.functional import FunctionalMachine, MachineError, Sequencer
from tests.machines import folding

CONFIG = folding("tiny")
UNIT_CLASSES = [k for k in CLASSES.values() if unit_of(k()) is not None]
NEEDS = {
    Opcode.NEXT: (ErrorCode.LOOP, "not open"),
    Opcode.FOLD: (ErrorCode.BANK_CONFLICT, "sources 0 and 0 lie in one bank"),
}
"""What every machine refuses of an instruction of defaults."""


def test_every_opcode_has_a_class():
    assert set(CLASSES) == set(Opcode)
    assert all(kind.OPCODE is opcode for opcode, kind in CLASSES.items())


@pytest.mark.parametrize("opcode", sorted(set(Opcode) - {Opcode.BEGIN}))
def test_machine_knows_every_instruction(opcode):
    instruction: Instruction = CLASSES[opcode]()
    if opcode is Opcode.BRANCH:
        instruction = dataclasses.replace(instruction, target=2)
    machine = FunctionalMachine(CONFIG, np.zeros(4096, np.uint8), (0, 4096))
    program = [Begin(CONFIG.fingerprint), instruction, Halt()]
    if opcode in NEEDS:
        code, message = NEEDS[opcode]
        with pytest.raises(MachineError, match=message) as error:
            machine.run(program)
        assert error.value.code is code
    else:
        assert machine.run(program).halt_code == 0


@pytest.mark.parametrize("kind", UNIT_CLASSES, ids=lambda k: k.__name__)
def test_accesses_energy_and_trace_know_every_unit_instruction(kind):
    instruction = kind()
    touched = accesses(instruction, CONFIG)
    assert any(a.write for a in touched)
    actions = count_actions(instruction, CONFIG)
    assert sum(actions.values()) > actions[Action.FETCH] > 0
    program = [Begin(CONFIG.fingerprint), instruction, Halt()]
    steps = list(Sequencer.of(program, CONFIG).steps())
    assert [s.unit for s in steps] == [None, unit_of(instruction), None]


def test_every_unit_instruction_has_a_timing_rule():
    """The times of LOAD and STORE depend on the port; their beats are closed forms."""
    rules = {
        Opcode.LOAD: timing.transfer_beats,
        Opcode.STORE: timing.transfer_beats,
        Opcode.ARRAY: lambda i: timing.array_stream_cycles(i, CONFIG),
        Opcode.DRAIN: lambda i: timing.drain_stream_cycles(i, CONFIG),
        Opcode.ELEMENTWISE: lambda i: timing.vector_stream_cycles(i, CONFIG),
        Opcode.REDUCE: lambda i: timing.vector_stream_cycles(i, CONFIG),
        Opcode.FOLD: lambda i: timing.vector_stream_cycles(i, CONFIG),
        Opcode.PERMUTE: lambda i: timing.vector_stream_cycles(i, CONFIG),
    }
    assert {k.OPCODE for k in UNIT_CLASSES} == set(rules)
    for opcode, rule in rules.items():
        assert rule(CLASSES[opcode]()) >= 1


def test_unions_hold_every_class():
    assert set(UnitInstruction.__args__) == set(UNIT_CLASSES)
    assert set(CLASSES.values()) - set(UNIT_CLASSES) > {Scalar, Halt}


@pytest.mark.parametrize("kind", [Fold, Permute])
def test_machines_without_the_feature_refuse(kind):
    plain = AcceleratorConfig.load("tiny_direct")
    machine = FunctionalMachine(plain, np.zeros(4096, np.uint8), (0, 4096))
    with pytest.raises(MachineError, match=r"feature `fold`; .*'tiny_direct'") as error:
        machine.run([Begin(plain.fingerprint), kind(), Halt()])
    assert error.value.code is ErrorCode.UNSUPPORTED
