"""Waits across arms, joins and trips: random programs, each run on several paths, have no race."""

import dataclasses
import itertools
import random

import pytest

from compiler.emit.dependencies import DependencyTracker
from compiler.emit.flight import Flight
from compiler.flow import waits
from hw.arch.isa import (
    LOOP_LEVELS,
    MAX_WAIT,
    Array,
    Begin,
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
    Store,
    Unit,
    UnitInstruction,
)
from hw.arch.program import Block
from proof.arms import forced
from sim.functional.hazards import HazardError, check_hazards
from sim.functional.sequencer import Sequencer
from tests.compiler.backend.harness import CONFIGS
from tests.marks import large

CONFIG = CONFIGS["tiny"]
BANK = CONFIG.memory.activation_bank_rows
DRAM = 1 << 12
ROWS = 6
DECIDED = 1
"""Register of a decision."""


class Code:
    """A random program: work, arms and Loops inside one another, in blocks as the compiler's."""

    def __init__(self, seed: int, first_of_all: bool = True):
        self.draw = random.Random(seed)
        self.instructions = [Begin(CONFIG.fingerprint)]
        self.blocks, self.first = [], 0
        if first_of_all:
            self.instructions += [self.work(unit) for unit in Unit]
        self.items(3, 0)
        self.instructions.append(Halt())
        self.close(())

    @property
    def here(self):
        return len(self.instructions)

    def close(self, following):
        self.blocks.append(Block(self.first, self.here, f"block {self.first}", following))
        self.first = self.here

    def work(self, unit):
        """Rows of two banks, and few bytes of DRAM: most instructions conflict with some other."""
        draw = self.draw
        row = draw.randrange(2) * BANK + draw.randrange(ROWS)
        dram = draw.randrange(4) * ROWS * CONFIG.port.bytes
        beats = draw.randint(1, ROWS)
        match unit:
            case Unit.LOAD:
                return Load(dram=dram, local=row, beats=beats)
            case Unit.STORE:
                return Store(dram=dram, local=row, beats=beats)
            case Unit.VECTOR:
                other = draw.randrange(2) * BANK + draw.randrange(ROWS)
                return Elementwise(source0=row, destination=other)
            case Unit.ARRAY:
                bank = draw.randrange(2) * CONFIG.memory.accumulator_rows
                return Array(activation=row, accumulator=bank, weight=draw.randrange(4))
            case _:
                bank = draw.randrange(2) * CONFIG.memory.accumulator_rows
                return Drain(accumulator=bank, destination=row)

    def items(self, depth, level):
        for _ in range(self.draw.randint(1, 3)):
            kind = self.draw.choice(("work", "fork", "loop") if depth else ("work",))
            if kind == "fork":
                self.fork(depth, level)
            elif kind == "loop" and level < LOOP_LEVELS:
                self.loop(depth, level)
            else:
                for _ in range(self.draw.randint(0, 70 if self.draw.random() < 0.1 else 6)):
                    self.instructions.append(self.work(self.draw.choice(list(Unit))))

    def fork(self, depth, level):
        """Two bytes decide: a jump after the first one leaves the second unread."""
        rows = [self.draw.randrange(ROWS) for _ in range(2)]
        self.instructions += [Load(dram=0, local=row, beats=1) for row in rows]
        self.close((self.here,))
        jumps = []
        for row in rows:
            self.instructions.append(Scalar(rd=DECIDED, row=row))
            jumps.append(self.here)
            self.instructions.append(Set())
        deciding = len(self.blocks)
        self.close(())
        then = self.here
        self.items(depth - 1, level)
        leave = self.here
        self.instructions.append(Set())
        leaving = len(self.blocks)
        self.close(())
        otherwise = self.here
        if self.draw.random() < 0.7:
            self.items(depth - 1, level)
            self.instructions.append(Set())
        joined = self.here
        self.close((joined,))
        self.instructions.append(Set())
        for jump in jumps:
            self.instructions[jump] = Branch(Condition.NOT_EQUAL, DECIDED, 0, otherwise)
        self.instructions[leave] = Branch(Condition.ALWAYS, 0, 0, joined)
        self.follow(deciding, then, otherwise)
        self.follow(leaving, joined)

    def follow(self, number, *following):
        block = self.blocks[number]
        self.blocks[number] = Block(block.first, block.last, block.name, following)

    def loop(self, depth, level):
        self.instructions.append(Loop(level=level, count=self.draw.randint(1, 3)))
        first = self.here
        self.close((first,))
        self.items(depth - 1, level + 1)
        self.instructions.append(Next(level=level))
        self.close((first, self.here))

    def filled(self):
        return waits.filled(self.instructions, self.blocks, {}, CONFIG)


def traces(code, seed, runs=3):
    """A program's steps, with decisions at random."""
    for run in range(runs):
        decide = random.Random(100 * seed + run)
        yield list(Sequencer.of(code, CONFIG, lambda _, d=decide: d.randrange(2)).steps())


def waited(code):
    return [i.waits for i in code if isinstance(i, UnitInstruction | Scalar)]


@pytest.mark.parametrize("part", [0, *(large(part) for part in range(1, 20))])
def test_random_programs(part):
    """No race, and no wait for what was not dispatched (the sequencer raises BAD_WAIT)."""
    seen = set()
    for seed in range(50 * part, 50 * part + 50):
        code = Code(seed).filled()
        for trace in traces(code, seed):
            check_hazards(trace, CONFIG, DRAM)
            seen |= {type(step.instruction) for step in trace}
    assert {Branch, Loop, Next, Scalar, Load, Store, Array, Drain, Elementwise} <= seen


def races(seeds):
    """Programs, of those with seeds below a number, that have one."""
    for seed in range(seeds):
        code = Code(seed).filled()
        try:
            for trace in traces(code, seed):
                check_hazards(trace, CONFIG, DRAM)
        except HazardError:
            yield seed


@pytest.mark.parametrize(
    ("where", "name", "wrong"),
    [
        pytest.param(DependencyTracker, "flight", lambda self: Flight(), id="blocks begin anew"),
        pytest.param(Flight, "joined", lambda self, other: self, id="one path only"),
    ],
)
def test_twins_are_races(where, name, wrong, monkeypatch):
    monkeypatch.setattr(where, name, wrong)
    found = list(itertools.islice(races(40), 5))
    assert len(found) == 5


def test_what_no_wait_can_name_needs_a_fence():
    arm = [Load(dram=0, local=0), Elementwise(source0=0, destination=BANK)]
    behind = Store(dram=64, local=BANK)
    head = [
        Begin(CONFIG.fingerprint),
        Load(dram=0, local=9),
        Scalar(rd=DECIDED, row=9),
        Branch(Condition.NOT_EQUAL, DECIDED, 0, 6),
    ]

    def made(*fence):
        code = [*head, *arm, *fence, behind, Halt()]
        blocks = [Block(0, 4, "start", (4, 6)), Block(4, 6, "arm", (6,)), Block(6, len(code), "")]
        return waits.filled(code, blocks, {}, CONFIG)

    with pytest.raises(RuntimeError, match="VECTOR may be in flight"):
        made()
    code = made(Fence(units=1 << Unit.VECTOR))
    assert code[2].waits[Unit.LOAD] == 1
    assert code[-2].waits == (0,) * len(Unit), "VECTOR's end implies that LOAD's is over"
    for value in (0, 1):
        check_hazards(Sequencer.of(code, CONFIG, lambda _, v=value: v).steps(), CONFIG, DRAM)


def test_distances_are_those_of_the_shorter_path():
    """Three loads on one path, one on the other: a store behind both waits for the latest."""
    load = Load(dram=0, local=0)
    longer = [Load(dram=0, local=0), *(Load(dram=0, local=20 + n) for n in range(2))]
    code = [
        Begin(CONFIG.fingerprint),
        Load(dram=0, local=9),
        Scalar(rd=DECIDED, row=9),
        Branch(Condition.NOT_EQUAL, DECIDED, 0, 8),
        *longer,
        Branch(Condition.ALWAYS, 0, 0, 9),
        load,
        Store(dram=64, local=0),
        Halt(),
    ]
    blocks = [
        Block(0, 4, "start", (4, 8)),
        Block(4, 8, "then", (9,)),
        Block(8, 9, "else", (9,)),
        Block(9, 11, "after"),
    ]
    assert waits.filled(code, blocks, {}, CONFIG)[9].waits == (1, 0, 0, 0, 0)


def test_a_transfer_that_registers_move_is_one_of_all_its_places():
    step = 4 * CONFIG.port.bytes
    store = Store(dram=0, dram_register=3, local=0)
    for reach, distance in ((0, 0), (step, 1)):
        tracker = DependencyTracker(CONFIG)
        tracker.add(store, reach)
        assert tracker.add(Load(dram=step, local=BANK)).waits[Unit.STORE] == distance


def test_what_was_used_long_ago_is_over_with_the_oldest_that_can_be_named():
    tracker = DependencyTracker(CONFIG)
    for n in range(100):
        tracker.add(Load(local=n % 8, dram=0))
    flight = tracker.flight()
    assert flight.dispatched == (MAX_WAIT, 0, 0, 0, 0)
    later = DependencyTracker(CONFIG, flight.joined(flight))
    assert later.add(Store(local=3 * BANK, dram=256)).waits[Unit.LOAD] == MAX_WAIT
    assert later.add(Store(local=3, dram=256)).waits[Unit.LOAD] == 1


@dataclasses.dataclass(frozen=True)
class Small:
    """What `forced` knows of a program."""

    instructions: list
    blocks: tuple


def test_a_forced_decision_waits_as_it_would():
    """SCALAR waits for VECTOR's port, so that an arm need not; nor where a jump is forced."""
    code = [
        Begin(CONFIG.fingerprint),
        Load(dram=0, local=0, beats=2),
        Load(dram=0, local=9),
        Elementwise(counts=(2, 1, 1, 1), source0_deltas=(1, 1, 1, 1), destination=BANK),
        Scalar(rd=DECIDED, row=9),
        Branch(Condition.NOT_EQUAL, DECIDED, 0, 7),
        Load(dram=64, local=0, beats=2),
        Halt(),
    ]
    blocks = (
        Block(0, 4, "start", (4,)),
        Block(4, 6, "x?", (6, 7), "x"),
        Block(6, 7, "then", (7,)),
        Block(7, 8, "after"),
    )
    made = waits.filled(code, blocks, {}, CONFIG)
    assert made[4].waits[Unit.VECTOR] and not made[6].waits[Unit.VECTOR]
    for arm in (True, False):
        variant = forced(Small(made, blocks), {"x": arm}).instructions
        steps = list(Sequencer.of(variant, CONFIG, lambda _: 0).steps())
        assert (6 in {step.pc for step in steps}) == arm
        check_hazards(steps, CONFIG, DRAM)
    made[4] = Branch(Condition.ALWAYS, 0, 0, 6)
    with pytest.raises(HazardError):
        check_hazards(Sequencer.of(made, CONFIG, lambda _: 0).steps(), CONFIG, DRAM)
