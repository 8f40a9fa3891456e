"""What the scratchpad holds of DRAM already: such rows are not loaded again.

Every layer is emitted as if all that it reads lay in DRAM. Here, when it stands, its LOADs are
compared with what is on chip:

* Rows that still hold what would be loaded, for an earlier layer loaded it to the same place or
  stored it from there, are not loaded.
* What an earlier layer has stored from rows of its own, where nobody else read it, is written to
  where this layer wants it instead: the instructions that made it and the STORE get other rows
  (compiler/emit/moved.py). Then it is on chip.
* A layer may lie in any banks: all of its rows move on by whole banks where more need not be loaded
  then, or where the banks have not been used for longer.

Waits are filled in behind this. docs/decisions/0038-what-is-on-chip.md.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from compiler.emit.banks import Placing, Shifts
from compiler.emit.moved import Move, moves
from compiler.emit.redirected import redirected
from compiler.emit.touches import (
    Rows,
    Touch,
    Touches,
    Transfer,
    placed,
    registered,
    touched,
    written,
)
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Instruction, Load, Space, Store, UnitInstruction
from hw.arch.walk import Access

UNKNOWN = -1
"""Address of what is nowhere in DRAM."""
STORES = 64
"""Latest STOREs that are looked at: banks have been used since by what is further back."""


class OnChip:
    """Follows the layers of a piece of program that is executed from its first instruction on.

    Parameters
    ----------
    config: the accelerator.
    instructions: of the program so far, without waits; changed in place.
    """

    def __init__(self, config: AcceleratorConfig, instructions: list[Instruction]):
        self._config = config
        self._code = instructions
        self._beat = config.port.bytes
        self._bank = config.memory.activation_bank_rows
        self._total = config.memory.activation_rows
        self.forget()

    def forget(self) -> None:
        """What comes next can be reached from elsewhere, or does not follow what was seen."""
        self._contents = np.full(self._total, UNKNOWN, np.int64)
        self._touches = Touches(self._config)
        self._stores: deque[Transfer] = deque(maxlen=STORES)

    def layer(self, first: int, wanted: Sequence[tuple[int, int]] = ()) -> None:
        """Change the instructions of a layer, those from one on, and those before it.

        Parameters
        ----------
        first: index of the layer's first instruction.
        wanted: addresses, first and the one behind, that later layers load.
        """
        code, config = self._code, self._config
        new = [each for each in code[first:] if isinstance(each, UnitInstruction)]
        if len(new) < len(code) - first or any(map(registered, new)):
            self.forget()
            return
        own = [touched(each, config) for each in new]
        loads = self._loads(new)
        found = moves(loads.values(), self._stores, own, code, self._touches, config)
        shifts = self._places(loads, found, own, wanted)
        if shifts.any():
            new = [placed(i, t, shifts, config) for i, t in zip(new, own, strict=True)]
            own = [[self._moved_on(access, shifts) for access in each] for each in own]
        # All are asked before the first one is moved: they may share banks.
        for move in [move for move in found if self._free(move, shifts)]:
            self._move(move, shifts)
        del code[first:]
        for instruction, accesses in self._read_in_place(new, own):
            self._add(instruction, accesses)
        self._touches.forget()

    # Where a layer lies

    def _places(
        self,
        loads: Mapping[int, Transfer],
        found: Sequence[Move],
        own: Sequence[Sequence[Access]],
        wanted: Sequence[tuple[int, int]],
    ) -> Shifts:
        """By bank: how far a layer's rows move on (compiler/emit/banks.py)."""
        needed = np.zeros(self._total, bool)
        for first, behind in wanted:
            needed |= (self._contents >= first) & (self._contents < behind)
        contents, touches = self._contents, self._touches
        return Placing(self._config, contents, touches, own, loads, found, needed).shifts()

    def _moved_on(self, access: Access, shifts: Shifts) -> Access:
        """What an instruction touches that has been placed."""
        by = int(shifts[access.low // self._bank])
        return access.moved(by)

    def _placed(self, rows: Rows, shifts: Shifts) -> Rows:
        """Rows that have moved on."""
        return rows + shifts[rows // self._bank]

    def _holds(self, load: Transfer, rows: Rows) -> bool:
        """Whether rows hold what a LOAD would bring to them."""
        contents, addresses = self._contents, load.addresses
        # The first one says no of nearly all.
        return bool(contents[rows[0]] == addresses[0] and (contents[rows] == addresses).all())

    # What is moved

    def _free(self, move: Move, shifts: Shifts) -> bool:
        """Whether nothing has touched the banks to which rows move since they were made."""
        if any(shifts[a // self._bank] != shifts[b // self._bank] for a, b in move.spans):
            return False
        places = set((self._placed(move.rows, shifts) // self._bank).tolist())
        return all(self._touches.latest(bank) < move.first for bank in places)

    def _move(self, move: Move, shifts: Shifts) -> None:
        """Let what an earlier layer has stored be made where this one reads it."""
        for index, by in move.makers:
            self._replace(index, "destination", by, shifts)
        for store, by in move.stores:
            self._replace(store.index, "local", by, shifts)
            held = self._contents[store.rows] == store.addresses
            self._contents[store.rows[held]] = UNKNOWN
            rows = self._placed(store.rows + by, shifts)
            self._contents[rows] = store.addresses
            place = next(n for n, each in enumerate(self._stores) if each.index == store.index)
            self._stores[place] = dataclasses.replace(store, rows=rows)

    def _replace(self, index: int, name: str, by: int, shifts: Shifts) -> None:
        """Let an instruction read (`local` of a STORE) or write (`destination`) other rows."""
        old, write = self._code[index], name == "destination"
        assert isinstance(old, UnitInstruction)
        own = [each for each in touched(old, self._config) if each.write == write]
        by += int(shifts[(own[0].low + by) // self._bank])
        new = dataclasses.replace(old, **{name: getattr(old, name) + by})
        for instruction, change in ((old, self._touches.remove), (new, self._touches.note)):
            for access in touched(instruction, self._config):
                if access.write == write:
                    change(Touch(index, access.low, access.high, write))
        self._code[index] = new

    # What is on chip

    def _read_in_place(
        self, new: Sequence[UnitInstruction], own: Sequence[Sequence[Access]]
    ) -> Iterator[tuple[UnitInstruction, Sequence[Access]]]:
        """The layer without LOADs of what lies elsewhere on chip, and what each one touches."""
        stores = [
            Transfer.of(number, each, self._beat)
            for number, each in enumerate(new)
            if isinstance(each, Store)
        ]
        loads = {
            number: load
            for number, load in self._loads(new).items()
            if not self._holds(load, load.rows)
        }
        for number in _stored_before(loads.values(), stores):
            del loads[number]
        made, accesses = redirected(new, own, loads, self._contents, self._config)
        for instruction, each in zip(made, accesses, strict=True):
            if instruction is not None:
                yield instruction, each

    def _loads(self, new: Sequence[UnitInstruction]) -> dict[int, Transfer]:
        """LOADs into the scratchpad, by number."""
        return {
            number: Transfer.of(number, each, self._beat)
            for number, each in enumerate(new)
            if isinstance(each, Load) and each.space == Space.ACTIVATION
        }

    def _add(self, instruction: UnitInstruction, own: Sequence[Access]) -> None:
        """Append an instruction, unless it loads what is there, and follow what it does."""
        index, contents = len(self._code), self._contents
        if isinstance(instruction, Load) and instruction.space == Space.ACTIVATION:
            load = Transfer.of(index, instruction, self._beat)
            if self._holds(load, load.rows):
                return
            contents[load.rows] = load.addresses
        elif isinstance(instruction, Store):
            store = Transfer.of(index, instruction, self._beat)
            low, high = store.reach
            near = np.flatnonzero((contents >= low) & (contents <= high))
            contents[near[store.reaches(contents[near])]] = UNKNOWN
            contents[store.rows] = store.addresses
            self._stores = deque([s for s in self._stores if not s.shares(store)], STORES)
            self._stores.append(store)
        else:
            contents[written(instruction, self._config)] = UNKNOWN
        self._code.append(instruction)
        for access in own:
            self._touches.note(Touch(index, access.low, access.high, access.write))


def _stored_before(loads: Iterable[Transfer], stores: Sequence[Transfer]) -> list[int]:
    """LOADs of what their own layer has stored: what was on chip before is another value's."""
    least = min((store.reach[0] for store in stores), default=0)
    greatest = max((store.reach[1] for store in stores), default=-1)
    return [
        load.index
        for load in loads
        if load.reach[0] <= greatest and least <= load.reach[1]
        if any(store.index < load.index and store.meets(load) for store in stores)
    ]
