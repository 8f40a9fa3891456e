"""Errors of the memory at every beat, aborts and resets in every cycle: what the host is told, that
the core is idle afterwards, and that the next run, without a reset, is right.

Runs are thousands, in one process: trials.py. Every second run is compared with the functional
simulator's memory.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    INSTRUCTION_BYTES,
    Elementwise,
    ErrorCode,
    Load,
    Space,
    Store,
    Unit,
)
from hw.arch.program import Program
from hw.arch.registers import SEQUENCER_UNIT, Status
from tests.cosim import trials
from tests.cosim.trials import Outcome, Trial
from tests.ladder.linking import CODE, DATA, OUTPUT, begin, halt, link, place_waits
from tests.ladder.programs import RandomProgram

pytestmark = pytest.mark.cosim

CONFIG = AcceleratorConfig.load("tiny_direct")
BYTES = CONFIG.port.bytes
BANK = CONFIG.memory.activation_bank_rows
SLVERR, DECERR = 2, 3
GOOD = Status.DONE | Status.IRQ
FAILED = GOOD | Status.ERROR
ENDING = 12
"""Cycles at the end of a run in which an abort may come too late to be an error."""
PATIENCE = 400
"""Cycles after an abort or an error in which a run has ended."""


def short() -> Program:
    """Two loads (one across 4 KiB), a sum of rows, two stores; no jumps, so nothing is stale."""
    rows = dict(counts=(20, 1, 1, 1), source0_deltas=(1, 0, 0, 0), destination_deltas=(1, 0, 0, 0))
    body = [
        Load(dram=DATA + 4096 - 8 * BYTES, space=Space.ACTIVATION, local=0, beats=20),
        Load(dram=DATA, space=Space.ACTIVATION, local=BANK, beats=12),
        Elementwise(source0=0, destination=2 * BANK, **rows),
        Store(dram=OUTPUT + 4096 - 8 * BYTES, local=2 * BANK, beats=20),
        Store(dram=OUTPUT, local=BANK, beats=12),
    ]
    data = np.random.default_rng(5).integers(0, 256, 8192, dtype=np.uint8).tobytes()
    return link(CONFIG, [begin(CONFIG), *place_waits(body, CONFIG), halt()], [(DATA, data)])


def check_again(outcome: Outcome, clean: Outcome, exact: bool = True) -> None:
    """The run after it is as if nothing had been."""
    assert outcome.again_interrupt and outcome.again_code == ErrorCode.NONE and outcome.again_equal
    assert not exact or outcome.again_cycles == clean.cycles


def check_failed(outcome: Outcome, code: ErrorCode, unit: int) -> None:
    """The run ended with an error, the memory is at rest and nothing foreign was written."""
    assert outcome.interrupt and outcome.idle and outcome.outside
    assert (outcome.code, outcome.unit, outcome.halt) == (code, unit, 0)
    assert outcome.status == FAILED


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The short program, left alone."""
    (outcome,) = trials.run(CONFIG, short(), [Trial("n")], tmp_path_factory.mktemp("clean"))
    assert outcome.interrupt and outcome.code == ErrorCode.NONE and outcome.status == GOOD
    check_again(outcome, outcome)
    return outcome


@pytest.mark.parametrize("stalls", [0, 30])
def test_errors_at_every_beat_that_is_read(stalls: int, clean: Outcome, tmp_path: Path) -> None:
    program = short()
    code_beats = len(program.instructions) * INSTRUCTION_BYTES // BYTES
    beats = code_beats + 20 + 12
    tried = [Trial("r", beat, value) for beat in range(beats + 1) for value in (SLVERR, DECERR)]
    outcomes = trials.run(CONFIG, program, tried, tmp_path, stalls=stalls)
    where: Counter[int] = Counter()
    for trial, outcome in zip(tried, outcomes, strict=True):
        check_again(outcome, clean, exact=not stalls)
        if trial.place == beats:  # there are no more
            assert not outcome.failed and outcome.code == ErrorCode.NONE
            continue
        assert outcome.failed
        inside = CODE <= outcome.address < CODE + len(program.instructions) * INSTRUCTION_BYTES
        unit = SEQUENCER_UNIT if inside else Unit.LOAD
        check_failed(outcome, ErrorCode.AXI_RESPONSE, unit)
        assert outcome.pc < len(program.instructions)
        where[unit] += 1
    assert where == {SEQUENCER_UNIT: 2 * code_beats, Unit.LOAD: 2 * 32}


@pytest.mark.parametrize("stalls", [0, 30])
def test_errors_at_every_burst_that_is_written(stalls: int, clean: Outcome, tmp_path: Path) -> None:
    tried = [Trial("w", burst, value) for burst in range(6) for value in (SLVERR, DECERR)]
    outcomes = trials.run(CONFIG, short(), tried, tmp_path, stalls=stalls)
    failed = [outcome for outcome in outcomes if outcome.failed]
    addresses = sorted({outcome.address for outcome in failed})
    assert addresses == [OUTPUT, OUTPUT + 4096 - 8 * BYTES, OUTPUT + 4096]
    assert len(failed) == 2 * len(addresses)
    for outcome in outcomes:
        check_again(outcome, clean, exact=not stalls)
        if outcome.failed:
            check_failed(outcome, ErrorCode.AXI_RESPONSE, Unit.STORE)
        else:
            assert outcome.code == ErrorCode.NONE


@pytest.mark.parametrize("stalls", [0, 30])
def test_aborts_in_every_cycle(stalls: int, clean: Outcome, tmp_path: Path) -> None:
    tried = [Trial("a", cycle) for cycle in range(clean.cycles)]
    for trial, outcome in zip(
        tried, trials.run(CONFIG, short(), tried, tmp_path, stalls=stalls), strict=True
    ):
        check_again(outcome, clean, exact=not stalls)
        if outcome.code == ErrorCode.NONE:
            assert trial.place >= clean.cycles - ENDING and outcome.status == GOOD
        else:
            check_failed(outcome, ErrorCode.ABORTED, SEQUENCER_UNIT)
        assert outcome.cycles <= trial.place + PATIENCE


@pytest.mark.parametrize("length", [1, 5])
def test_resets_in_every_cycle(length: int, clean: Outcome, tmp_path: Path) -> None:
    tried = [Trial("x", cycle, length) for cycle in range(clean.cycles)]
    for outcome in trials.run(CONFIG, short(), tried, tmp_path):
        check_again(outcome, clean)
        assert not outcome.interrupt and outcome.idle and outcome.outside
        assert (outcome.status, outcome.code, outcome.unit, outcome.pc, outcome.halt) == (0,) * 5


def test_random_places_of_a_long_program(tmp_path: Path) -> None:
    program = RandomProgram(CONFIG, 11, steps=200).build()
    (whole,) = trials.run(CONFIG, program, [Trial("n")], tmp_path)
    assert whole.cycles > 10_000 and whole.code == ErrorCode.NONE
    dice = random.Random(3)
    tried = [Trial("a", dice.randrange(whole.cycles - ENDING)) for _ in range(40)]
    tried += [Trial("x", dice.randrange(whole.cycles), dice.randint(1, 9)) for _ in range(40)]
    tried += [Trial("r", dice.randrange(5_000), dice.choice((SLVERR, DECERR))) for _ in range(40)]
    tried += [Trial("w", dice.randrange(60), dice.choice((SLVERR, DECERR))) for _ in range(20)]
    seen: Counter[tuple[str, int]] = Counter()
    outcomes = trials.run(CONFIG, program, tried, tmp_path, stalls=10)
    (same,) = trials.run(CONFIG, program, [Trial("n")], tmp_path, stalls=10)
    assert same.again_equal
    for trial, outcome in zip(tried, outcomes, strict=True):
        check_again(outcome, whole, exact=False)
        seen[trial.kind, outcome.code] += 1
        if trial.kind == "a":
            check_failed(outcome, ErrorCode.ABORTED, SEQUENCER_UNIT)
        elif outcome.failed:
            unit = Unit.STORE if trial.kind == "w" else outcome.unit
            assert unit in (Unit.STORE, Unit.LOAD, SEQUENCER_UNIT)
            check_failed(outcome, ErrorCode.AXI_RESPONSE, unit)
    assert seen["a", ErrorCode.ABORTED] == 40
    assert seen["r", ErrorCode.AXI_RESPONSE] > 20 and seen["w", ErrorCode.AXI_RESPONSE] > 10


def test_twin_the_answer_of_a_beat_decides(tmp_path: Path) -> None:
    """Other data with a good answer are no error of the memory, but of the program."""
    (outcome,) = trials.run(CONFIG, short(), [Trial("r", 20, 0)], tmp_path)
    assert outcome.failed and outcome.code not in (ErrorCode.NONE, ErrorCode.AXI_RESPONSE)


def test_twin_a_wrong_byte_after_the_second_run_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = trials.expected(CONFIG, short())
    memory[OUTPUT + 12 * BYTES - 1] ^= 1
    monkeypatch.setattr(trials, "expected", lambda *_: memory)
    (outcome,) = trials.run(CONFIG, short(), [Trial("n")], tmp_path)
    assert outcome.again_code == ErrorCode.NONE and not outcome.again_equal
