"""What is on chip is not loaded again: random layers leave the DRAM that they left before."""

import dataclasses
import itertools
import random

import numpy as np
import pytest

from compiler.emit import banks, moved, onchip, redirected
from compiler.emit.banks import groups
from compiler.emit.onchip import OnChip
from compiler.emit.touches import written
from compiler.flow.waits import filled
from hw.arch.isa import (
    Begin,
    Elementwise,
    ElementwiseOp,
    Halt,
    Load,
    Reduce,
    Store,
)
from sim.functional.errors import MachineError
from sim.functional.hazards import check_hazards
from sim.functional.machine import FunctionalMachine
from sim.functional.sequencer import Sequencer
from tests.compiler.backend.harness import CONFIGS
from tests.marks import large

CONFIG = CONFIGS["tiny"]
BEAT = CONFIG.port.bytes
BANK = CONFIG.memory.activation_bank_rows
BANKS = CONFIG.memory.activation_banks
TENSORS, ROWS = 5, 8
"""So few that they are read and written over again and again."""
UNITY = {"multiplier_a": 1 << 23, "shift_a": 21, "multiplier_b": 1 << 23, "shift_b": 21}
PLACES = 3
"""In which a tensor may lie in a bank."""


class Anywhere(OnChip):
    """Layers lie where they would gain nothing."""

    def _places(self, loads, found, own, wanted):
        draw = random.Random(len(self._code))
        shifts = np.zeros(BANKS, np.int64)
        touched = groups(own, BANK)
        sizes = [len(group) for group in touched]
        costs = [
            {n: banks.Cost(draw.random(), 0, 0, 0) for n in range(BANKS - size + 1)}
            for size in sizes
        ]
        for group, place in zip(touched, banks.laid(sizes, costs), strict=True):
            shifts[group.start : group.stop] = (place - group.start) * BANK
        return shifts


class Layers:
    """Random layers: tensors are loaded in parts, copied or compared in VECTOR, and stored."""

    def __init__(self, seed: int):
        self.seed, self.draw = seed, random.Random(seed)
        self.code = [Begin(CONFIG.fingerprint)]
        self.ends = []
        for _ in range(self.draw.randint(3, 8)):
            self.layer()
            self.ends.append(len(self.code))

    def layer(self):
        draw = self.draw
        banks = draw.sample(range(BANKS), 3)
        target = draw.randrange(TENSORS)
        sources = [draw.randrange(TENSORS) for _ in range(draw.randint(1, 2))]
        pieces = draw.choice((1, 2, 4))
        size = ROWS // pieces
        slots = draw.randint(1, pieces)
        # Operands come whole, or part by part into few slots.
        parts = draw.random() < 0.5
        behind = slots == pieces and draw.random() < 0.5
        places = [bank * BANK + ROWS * draw.randrange(PLACES) for bank in banks]
        astride = not parts and pieces > 1 and {banks[0] + 1} - {BANKS, *banks}
        if astride and draw.random() < 0.5:
            # Halves in two banks, each loaded and read by itself; one instruction may make both.
            places[0] = (banks[0] + 1) * BANK - ROWS // 2
        if not parts:
            for source, place in zip(sources, places, strict=False):
                some = ROWS // draw.choice((1, 2, 4) if place % BANK < BANK - ROWS else (2, 4))
                for first in range(0, ROWS, some):
                    self.code.append(self.transfer(Load, source, first, place + first, some))
            if draw.random() < 0.5:
                self.scratch(places)
        late = []
        for piece in range(pieces):
            slot = (piece if not parts else piece % slots) * size
            if parts:
                for source, place in zip(sources, places, strict=False):
                    self.code.append(self.transfer(Load, source, piece * size, place + slot, size))
            result = places[-1] + piece % slots * size
            # A gate's rows are read several times, each for a run of the first operand's.
            run = draw.choice([n for n in (1, 1, 2, 4) if n <= size])
            self.code.append(
                Elementwise(
                    op=ElementwiseOp.MAX if len(sources) > 1 else ElementwiseOp.COPY,
                    counts=(run, size // run, 1, 1),
                    source0=places[0] + slot,
                    source0_deltas=(1, 1, 1, 1),
                    source1=places[1] + slot if len(sources) > 1 else 0,
                    source1_deltas=(int(run == 1), 1, 1, 1),
                    destination=result,
                    destination_deltas=(1, 1, 1, 1),
                    **(UNITY if len(sources) > 1 else {}),
                )
            )
            store = self.transfer(Store, target, piece * size, result, size)
            (late if behind else self.code).append(store)
        self.code += late
        if draw.random() < 0.3:
            self.go_on(target, places)

    def scratch(self, places):
        """Every second row beside the result is written, and not stored."""
        beside = (places[-1] % BANK + ROWS) % (PLACES * ROWS)
        self.code.append(
            Elementwise(
                op=ElementwiseOp.COPY,
                counts=(ROWS // 2, 1, 1, 1),
                source0=places[0],
                source0_deltas=(1, 1, 1, 1),
                destination=places[-1] // BANK * BANK + beside,
                destination_deltas=(2, 1, 1, 1),
            )
        )

    def go_on(self, tensor, places):
        """What the layer has stored is loaded, copied and stored elsewhere by itself."""
        self.code += [
            self.transfer(Load, tensor, 0, places[0], ROWS),
            Elementwise(
                op=ElementwiseOp.COPY,
                counts=(ROWS, 1, 1, 1),
                source0=places[0],
                source0_deltas=(1, 1, 1, 1),
                destination=places[-1],
                destination_deltas=(1, 1, 1, 1),
            ),
            self.transfer(Store, self.draw.randrange(TENSORS), 0, places[-1], ROWS),
        ]

    def transfer(self, kind_of, tensor, first, row, rows):
        return kind_of(dram=(tensor * ROWS + first) * BEAT, local=row, beats=rows)

    def with_on_chip(self):
        """The same layers without LOADs of what is on chip; every second program lies anywhere."""
        made = self.code[:1]
        follower = (Anywhere if self.seed % 2 else OnChip)(CONFIG, made)
        for first, end in zip([1, *self.ends], self.ends, strict=False):
            begin = len(made)
            made += self.code[first:end]
            follower.layer(begin)
        return made


def left(code):
    """DRAM after instructions, whose waits are proven on the way."""
    code = [*filled(code, (), {}, CONFIG), Halt()]
    size = TENSORS * ROWS * BEAT
    memory = np.random.default_rng(1).integers(0, 256, size).astype(np.uint8)
    check_hazards(Sequencer.of(code, CONFIG).steps(), CONFIG, size)
    machine = FunctionalMachine(CONFIG, memory, (0, size), check_reads=True)
    machine.run(code)
    return machine.memory


def loads(code):
    return sum(isinstance(i, Load) for i in code)


@pytest.mark.parametrize("block", [0, *(large(block) for block in range(1, 20))])
def test_random_layers_leave_the_same(block):
    fewer = moves = 0
    for seed in range(40 * block, 40 * block + 40):
        layers = Layers(seed)
        before, after = left(layers.code), layers.with_on_chip()
        np.testing.assert_array_equal(left(after), before)
        fewer += loads(after) < loads(layers.code)
        moves += [i for i in after if isinstance(i, Store)] != [
            i for i in layers.code if isinstance(i, Store)
        ]
    assert fewer > 20
    assert moves > 4


MOVE = moved._Finder.move


def anywhere(finder, *group):
    """A move whose rows are not said to stay together."""
    move = MOVE(finder, *group)
    return move and dataclasses.replace(move, spans=())


TWINS = {
    "moves what then lies in two places": (moved._Finder, "move", anywhere),
    "moves to banks in use": (OnChip, "_free", lambda *_: True),
    "moves to rows that are used before": (moved, "_alone", lambda *_: True),
    "moves what others read": (moved._Finder, "_read_behind", lambda *_: False),
    "takes rows for others": (onchip.OnChip, "_holds", lambda self, load, rows: len(rows) > 2),
    "reads what is overwritten": (redirected._Finder, "_overwritten", lambda _: ()),
    "reads what it overwrites itself": (redirected._Finder, "_until", lambda _, last: range(last)),
    "reads two rows of a bank at a time": (redirected._Finder, "_on_one_port", lambda _: ()),
    "reads two distances as one": (redirected._Finder, "_mixed", lambda _: ()),
    "reads what the layer itself stores over": (onchip, "_stored_before", lambda *_: []),
    "keeps rows that are overwritten": (onchip, "written", lambda *_: np.zeros(0, np.int64)),
    "lays groups over one another": (banks, "laid", lambda sizes, costs: [0] * len(sizes)),
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_wrong_one_is_found(monkeypatch, twin):
    monkeypatch.setattr(*TWINS[twin])
    wrong = 0
    for seed in range(1500):
        layers = Layers(seed)
        try:
            wrong += not np.array_equal(left(layers.with_on_chip()), left(layers.code))
        except (MachineError, KeyError):
            wrong += 1
        if wrong:
            return
    pytest.fail("nothing went wrong")


def test_rows_that_are_written():
    """Every row that the machine changes, and no other one."""
    for instruction in (
        Elementwise(counts=(3, 2, 1, 1), destination=7, destination_deltas=(2, 5, 0, 0)),
        Reduce(
            counts=(2, 2, 1, 1), bounds=(9, 9, 9), destination=BANK, destination_deltas=(3, 1, 0, 0)
        ),
        Load(local=5, beats=2, counts=(2, 1, 1), local_deltas=(4, 0, 0)),
    ):
        machine = FunctionalMachine(CONFIG, np.ones(4096, np.uint8), (0, 4096))
        before = np.full((CONFIG.memory.activation_rows, CONFIG.lane_block), 77, np.uint8)
        before[0] = 1
        rows = np.arange(len(before))
        machine.state.activation.write(rows, before)
        machine.execute(instruction)
        changed = (machine.state.activation.read(rows) != before).any(axis=1)
        assert sorted(written(instruction, CONFIG)) == np.flatnonzero(changed).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_groups_lie_where_they_cost_least(seed):
    """Beside all ways to lay them."""
    draw = random.Random(seed)
    sizes = [draw.randint(1, 3) for _ in range(draw.randint(1, 4))]
    free = 8
    costs = [
        {
            first: banks.Cost(*(draw.randint(-3, 3) for _ in range(4)))
            for first in range(free - size + 1)
        }
        for size in sizes
    ]
    ways = {}
    for places in itertools.product(*costs):
        taken = [
            b for first, size in zip(places, sizes, strict=True) for b in range(first, first + size)
        ]
        if len(set(taken)) == len(taken):
            total = banks.NOTHING
            for first, cost in zip(places, costs, strict=True):
                total = total.plus(cost[first])
            ways[places] = total
    found = banks.laid(sizes, costs)
    if not ways:
        assert found is None
    else:
        assert ways[tuple(found)] == min(ways.values())
