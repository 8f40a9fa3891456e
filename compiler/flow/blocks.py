"""Instructions of a graph with arms and Loops: basic blocks, decisions, joins and trips.

Work goes on across them: waits are filled in behind this, for every path (flow/waits.py).
A wait can only name an instruction of a unit that was given one on every path from the program's
start. For units of which that is not so, a FENCE stands where paths meet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from compiler.arms import Fork, Item, Trips, flattened
from compiler.emit.emitter import Emitter
from compiler.ir import AnyOperation, CompilerError, Graph, Join, Pick, Predicate, Put
from compiler.lower import trip_parts
from hw.arch.isa import (
    LOOP_LEVELS,
    REGISTERS,
    Add,
    Branch,
    Condition,
    Fence,
    Instruction,
    Load,
    Loop,
    Next,
    Scalar,
    Set,
    Space,
    Unit,
    UnitInstruction,
)
from hw.arch.program import Block, Layer, Tensor
from hw.arch.program import Trips as Body

START = "start"
VALUE, OTHER = 1, 2
"""Registers of a decision: the element that it is about, and what that is compared with."""
MOVING = range(3, REGISTERS)
"""Registers that say how far a trip's part of a tensor lies behind that of the first trip."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Jump:
    """A branch to an arm (or on with the trips, or behind them) whose place is not known yet."""

    condition: Condition
    rs: int
    rt: int
    arm: bool


class BlockWriter:
    """Emits operators, forks and Loops.

    Parameters
    ----------
    graph: laid out.
    emitter: writes instructions; BEGIN is there already.
    layer: emits an operator and makes its layer.

    Members
    -------
    layers, loops: in program order.
    """

    def __init__(
        self, graph: Graph, emitter: Emitter, layer: Callable[[AnyOperation], Layer]
    ) -> None:
        self.layers: list[Layer] = []
        self.loops: list[Body] = []
        self._emitter = emitter
        self._layer = layer
        self._joins = {op.branch: op for op in graph.ops if isinstance(op, Join)}
        self._blocks: list[Block] = []
        self._first, self._name = 0, START
        picks = [op for op in graph.ops if isinstance(op, Pick)]
        self._picked = {emitter.tensors[op.inputs[0]].address for op in picks}
        self._level = 0
        self._free = list(MOVING)
        # Units that have an instruction on every path to here, and up to where that was counted.
        self._sure: set[Unit] = set()
        self._counted = 0

    def write(self, items: Iterable[Item]) -> tuple[Block, ...]:
        """Emit a whole graph; its blocks, () where it is a straight line. HALT is still to come."""
        self._items(items)
        if not self._blocks:
            return ()
        self._close((), halt=1)
        return tuple(self._blocks)

    @property
    def _here(self) -> int:
        """Index of the next instruction."""
        return len(self._emitter.instructions)

    def _items(self, items: Iterable[Item]) -> None:
        for item in items:
            if isinstance(item, Fork):
                self._fork(item)
            elif isinstance(item, Trips):
                self._trips(item)
            else:
                layer = self._layer(item)
                self.layers.append(dataclasses.replace(layer, block=len(self._blocks)))

    def _close(self, following: tuple[int, ...], halt: int = 0, condition: str = "") -> None:
        """End the block that is open."""
        last = self._here + halt
        self._blocks.append(Block(self._first, last, self._name, following, condition))

    def _open(self, name: str) -> None:
        self._first, self._name = self._here, name

    def _fork(self, fork: Fork) -> None:
        """Decide, emit both arms, and meet again."""
        join, emitter = self._joins[fork.branch], self._emitter
        tested = emitter.tensors[join.inputs[2]]
        entry, decision = self._decide(fork.branch, tested, join.predicate, join.condition)
        deciding = len(self._blocks) - 1
        before = self._count()
        then = self._here
        self._open(f"{fork.branch}: then")
        self._items(fork.then)
        skip = self._here
        emitter.instructions.append(Set())  # place of the jump to the join
        leaving = len(self._blocks)
        self._close(())
        emitter.restart()
        sure, self._sure = self._count(), set(before)
        otherwise = self._here
        self._open(f"{fork.branch}: else")
        self._items(fork.otherwise)
        if self._here == self._first > otherwise:
            emitter.instructions.append(Set())  # of a join in front of this one: where it begins
        joined = self._here
        self._close((joined,))
        self._open(f"after {fork.branch}")
        emitter.restart()
        self._sure = sure & self._count()
        fence = _fence(self._units(then) - self._sure)
        emitter.instructions += [fence] if fence else []
        emitter.instructions[skip] = Branch(condition=Condition.ALWAYS, target=joined)
        emitter.instructions[entry:then] = linked(decision, {True: then, False: otherwise})
        for place, following in ((deciding, (then, otherwise)), (leaving, (joined,))):
            self._blocks[place] = dataclasses.replace(self._blocks[place], following=following)

    def _decide(
        self, name: str, tested: Tensor, predicate: Predicate, condition: str
    ) -> tuple[int, list[Instruction | _Jump]]:
        """A block that decides: where it begins, and its instructions, whose places are kept."""
        first, emitter = self._here, self._emitter
        rows = self._load_rows(tested, predicate)
        emitter.restart()
        self._close((self._here,))
        self._open(f"{name}?")
        entry = self._here
        decision = decide(predicate, rows, tested)
        self.layers.append(
            Layer(
                name=name,
                op="decision",
                first=first,
                last=entry + len(decision),
                macs=0,
                roofline_cycles=0,
                tiling={"condition": condition},
                block=len(self._blocks),
            )
        )
        emitter.instructions += [Set()] * len(decision)
        self._close((), condition=condition)
        return entry, decision

    def _trips(self, item: Trips) -> None:
        """Count the trips, and run the body in each."""
        emitter = self._emitter
        if self._level == LOOP_LEVELS:
            raise CompilerError(f"{item.loop}: more than {LOOP_LEVELS} Loops inside one another")
        paces = self._move(item)
        emitter.instructions += [Set(rd=register) for register in paces]
        emitter.instructions.append(Loop(level=self._level, count=item.count))
        first = self._here
        self._close((first,))
        self._open(item.loop)
        emitter.restart()
        emitter.instructions.append(Set())  # place of a FENCE
        before = self._count()
        self._level += 1
        self._items(item.body)
        self._level -= 1
        leave, entry, deciding = item.exit, 0, 0
        if leave is not None and leave.predicate is not None:
            tested = emitter.tensors[leave.inputs[2]]
            name = f"{item.loop}: next"
            entry, decision = self._decide(name, tested, leave.predicate, leave.condition)
            deciding = len(self._blocks) - 1
            self._open(f"{item.loop}: again")
        again = self._here
        self._count()
        emitter.instructions[first] = _fence(self._units(first) - before) or Set()
        for register, bytes_ in paces.items():
            emitter.instructions.append(Add(rd=register, rs=register, immediate=bytes_))
        emitter.instructions.append(Next(level=self._level))
        behind = self._here
        self._close((first, behind))
        if leave is not None:
            emitter.instructions[entry:again] = linked(decision, {True: again, False: behind})
            block = dataclasses.replace(self._blocks[deciding], following=(again, behind))
            self._blocks[deciding] = block
        self.loops.append(Body(item.loop, first, behind, item.count))
        self._open(f"after {item.loop}")
        emitter.restart()
        self._free = sorted([*self._free, *paces])

    def _units(self, first: int) -> set[Unit]:
        """Units that have an instruction from here on."""
        given = self._emitter.instructions[first:]
        return {each.UNIT for each in given if isinstance(each, UnitInstruction)}

    def _count(self) -> set[Unit]:
        """Units that have an instruction on every path to here."""
        self._sure |= self._units(self._counted)
        self._counted = self._here
        return set(self._sure)

    def _move(self, item: Trips) -> dict[int, int]:
        """Give each distance from trip to trip a register; by register.

        Raises
        ------
        CompilerError
            There are more distances than registers.
        """
        emitter, paces = self._emitter, dict[int, int]()
        for op in flattened(item.body):
            if not isinstance(op, Pick | Put) or op.loop != item.loop:
                continue
            tensor = emitter.tensors[op.inputs[0] if isinstance(op, Pick) else op.stack]
            part = emitter.tensors[op.output]
            step = trip_parts.pace(tensor, op.axis, part.layout.shape[op.axis])
            if step not in paces.values():
                if not self._free:
                    raise CompilerError(
                        f"{item.loop} moves parts of tensors by more distances than there are "
                        f"registers ({len(MOVING)})"
                    )
                register = self._free.pop(0)
                paces[register] = step
                emitter.spans[register] = step * (item.count - 1)
            emitter.registers[op.output] = next(r for r, s in paces.items() if s == step)
            alone = part.address not in self._picked
            if isinstance(op, Pick) and alone and trip_parts.in_place(tensor.layout, op.axis):
                emitter.in_place[op.output] = (part.address, tensor.address, part.layout.nbytes)
        return paces

    def _load_rows(self, tested: Tensor, predicate: Predicate) -> dict[int, int]:
        """Bring the rows that hold the elements on chip: scratchpad row by DRAM address."""
        rows: dict[int, int] = {}
        for place in predicate.positions:
            address = _row_and_lane(tested, place)[0]
            if address not in rows:
                rows[address] = len(rows)
                local = rows[address]
                self._emitter.emit(Load(dram=address, space=Space.ACTIVATION, local=local, beats=1))
        return rows


def _fence(units: Iterable[Unit]) -> Fence | None:
    """Waits for units that no wait behind it can name on every path; None for none."""
    mask = sum(1 << unit for unit in units)
    return Fence(units=mask) if mask else None


def _row_and_lane(tensor: Tensor, place: tuple[int, int, int, int]) -> tuple[int, int]:
    """DRAM address of the row that holds an element, and its lane."""
    channel, t, y, x = place
    layout = tensor.layout
    block, lane = divmod(int(layout.lane_map.first_lanes()[channel]), layout.lanes)
    position = (t * layout.height + y) * layout.width + x
    return tensor.row_address(block * layout.positions + position), lane


def decide(predicate: Predicate, rows: dict[int, int], tested: Tensor) -> list[Instruction | _Jump]:
    """What the sequencer does to take an arm; the first arm follows it.

    Parameters
    ----------
    rows: scratchpad rows of the elements' rows, by their DRAM address.
    """
    reads = []
    for place in predicate.positions:
        address, lane = _row_and_lane(tested, place)
        reads.append((rows[address], lane))
    yes = not predicate.negated
    if predicate.index is None:
        return _in_intervals(predicate, _read(VALUE, reads[0], tested), yes, tested)
    made: list[Instruction | _Jump] = [_read(VALUE, reads[predicate.index], tested)]
    for i, read in enumerate(reads):
        if i == predicate.index:
            continue
        made.append(_read(OTHER, read, tested))
        # It is not the greatest if another one is greater, or as great and counts first.
        if (i < predicate.index) != predicate.last:
            made.append(_Jump(Condition.GREATER_EQUAL, OTHER, VALUE, not yes))
        else:
            made.append(_Jump(Condition.LESS, VALUE, OTHER, not yes))
    return [*made, *_finally(yes)]


def _finally(arm: bool) -> list[Instruction | _Jump]:
    """Where a decision goes that jumped to no arm; the first arm follows it."""
    return [] if arm else [_Jump(Condition.ALWAYS, 0, 0, arm)]


def _read(register: int, place: tuple[int, int], tested: Tensor) -> Scalar:
    return Scalar(rd=register, row=place[0], lane=place[1], signed=int(tested.signed))


def _in_intervals(
    predicate: Predicate, read: Scalar, yes: bool, tested: Tensor
) -> list[Instruction | _Jump]:
    """Jump where the code is in an interval, which ascend; below one it is in no later one."""
    made: list[Instruction | _Jump] = [read]
    least, greatest = (-128, 127) if tested.signed else (0, 255)
    for low, high in predicate.intervals:
        if low > least:
            made.append(Set(rd=OTHER, immediate=low))
            made.append(_Jump(Condition.LESS, VALUE, OTHER, not yes))
        if high < greatest:
            made.append(Set(rd=OTHER, immediate=high + 1))
            made.append(_Jump(Condition.LESS, VALUE, OTHER, yes))
        else:
            made.append(_Jump(Condition.ALWAYS, 0, 0, yes))
    return [*made, *_finally(not yes)]


def linked(decision: Sequence[Instruction | _Jump], arms: dict[bool, int]) -> list[Instruction]:
    """A decision with its jumps to the arms."""
    return [
        Branch(condition=each.condition, rs=each.rs, rt=each.rt, target=arms[each.arm])
        if isinstance(each, _Jump)
        else each
        for each in decision
    ]
