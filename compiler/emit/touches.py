"""Which rows of the scratchpad instructions read and write, and the same instruction elsewhere."""

from __future__ import annotations

import bisect
import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from hw.arch.config import AcceleratorConfig
from hw.arch.fold_walk import fold_second, permute_wants_second
from hw.arch.isa import (
    ADDRESS_BITS,
    CLASSES,
    Array,
    Drain,
    Elementwise,
    Fold,
    Instruction,
    Load,
    Opcode,
    Permute,
    Reduce,
    Space,
    Store,
    UnitInstruction,
)
from hw.arch.nest import offsets, walked
from hw.arch.walk import (
    Access,
    Memory,
    accesses,
    drain_strides,
    two_sources,
    vector_produced,
)

Rows: TypeAlias = npt.NDArray[np.int64]
KEPT = 256
"""Touches of a bank that are remembered, at least."""


class Touch(NamedTuple):
    """Rows that an instruction reads or writes: its index in the program, first and last row."""

    number: int
    low: int
    high: int
    write: bool

    def meets(self, low: int, high: int) -> bool:
        """Whether it is one of these rows, as intervals."""
        return self.low <= high and low <= self.high


@dataclasses.dataclass(frozen=True, slots=True)
class Transfer:
    """A LOAD or STORE of the scratchpad.

    Attributes
    ----------
    index: of the instruction.
    rows, addresses: every row, and the DRAM address of its bytes.
    ordered: the same addresses, least first.
    reach: least and greatest address.
    """

    index: int
    rows: Rows
    addresses: Rows
    ordered: Rows
    reach: tuple[int, int]

    @classmethod
    def of(cls, index: int, instruction: Load | Store, beat: int) -> Transfer:
        """Of an instruction without registers; `beat` are the bytes of a row."""
        counts, beats = instruction.counts, instruction.beats
        rows, _ = _runs(counts, instruction.local_deltas, beats, 1)
        addresses, ordered = _runs(counts, instruction.dram_deltas, beats, beat)
        ordered = instruction.dram + ordered
        reach = int(ordered[0]), int(ordered[-1])
        return cls(index, instruction.local + rows, instruction.dram + addresses, ordered, reach)

    def meets(self, other: Transfer) -> bool:
        """Whether both reach the same addresses, as intervals."""
        return self.reach[0] <= other.reach[1] and other.reach[0] <= self.reach[1]

    def shares(self, other: Transfer) -> bool:
        """Whether both reach the same bytes."""
        return self.meets(other) and bool(other.reaches(self.addresses).any())

    def reaches(self, addresses: Rows) -> npt.NDArray[np.bool_]:
        """Which of some addresses are its own."""
        places = np.searchsorted(self.ordered, addresses)
        found: npt.NDArray[np.bool_] = self.ordered.take(places, mode="clip") == addresses
        return found

    @property
    def span(self) -> tuple[int, int]:
        """Least and greatest row."""
        return int(self.rows.min()), int(self.rows.max())


@functools.lru_cache(maxsize=1024)
def _runs(
    counts: tuple[int, ...], deltas: tuple[int, ...], beats: int, step: int
) -> tuple[Rows, Rows]:
    """Every place of a nest of runs, read-only: in order, and least first.

    Tiles of a layer walk the same few nests.
    """
    found = walked(0, counts, deltas)[..., None] + np.arange(beats, dtype=np.int64) * step
    places = found.ravel()
    ordered = np.sort(places)
    places.flags.writeable = ordered.flags.writeable = False
    return places, ordered


def touched(instruction: UnitInstruction, config: AcceleratorConfig) -> list[Access]:
    """Rows that an instruction reads and writes, in the order of `fields`."""
    found = accesses(instruction, config)
    return [access for access in found if access.memory is Memory.ACTIVATION]


def fields(
    instruction: UnitInstruction, own: Sequence[Access], config: AcceleratorConfig
) -> list[str]:
    """Names of the fields that hold rows, in the order of what an instruction touches."""
    match instruction:
        case Load() | Store():
            return ["local"]
        case Array():
            return ["activation"]
        case Drain():
            return ["destination"]
        case Reduce():
            # All that a window sees may be padding.
            return ["source", "destination"][-len(own) :]
        case Elementwise():
            second = two_sources(instruction)
        case Fold():
            second = fold_second(instruction) is not None
        case Permute():
            second = permute_wants_second(instruction, config)
    return ["source0", *(["source1"] if second else []), "destination"]


def registered(instruction: UnitInstruction) -> bool:
    """Whether a register says where an instruction reads or writes."""
    return any(getattr(instruction, name) for name in _registers(instruction.OPCODE))


@functools.cache
def _registers(opcode: Opcode) -> tuple[str, ...]:
    return tuple(f.name for f in CLASSES[opcode].layout() if f.name.endswith("_register"))


def written(instruction: Instruction, config: AcceleratorConfig) -> Rows:
    """Every row of the scratchpad that an instruction writes."""
    match instruction:
        case Load():
            if instruction.space != Space.ACTIVATION:
                return np.zeros(0, np.int64)
            return Transfer.of(0, instruction, config.port.bytes).rows
        case Drain():
            counts = (config.array.blocks_per_row, *instruction.counts)
            found = offsets(counts, drain_strides(instruction, config))
            return np.asarray(instruction.destination + found, np.int64).ravel()
        case Elementwise() | Reduce() | Fold() | Permute():
            out = vector_produced(instruction, config)
            if out is None or 0 in out:
                return np.zeros(0, np.int64)
            return walked(instruction.destination, out, instruction.destination_deltas).ravel()
        case _:
            return np.zeros(0, np.int64)


def placed(
    instruction: UnitInstruction,
    own: Sequence[Access],
    shifts: npt.NDArray[np.int64],
    config: AcceleratorConfig,
) -> UnitInstruction:
    """An instruction whose rows move on.

    Parameters
    ----------
    own: what it touches.
    shifts: by bank of the first row that is touched: rows by which it moves.
    """
    bank = config.memory.activation_bank_rows
    new = {}
    # ARRAY reads no row where all of its taps are padding.
    for name, access in zip(fields(instruction, own, config), own, strict=False):
        place = getattr(instruction, name) + int(shifts[access.low // bank])
        new[name] = place % (1 << ADDRESS_BITS)
    return dataclasses.replace(instruction, **new) if new else instruction


class Touches:
    """Touches of every bank, in the order of the program: at least the last `KEPT` ones."""

    def __init__(self, config: AcceleratorConfig):
        self._bank = config.memory.activation_bank_rows
        self._banks: list[list[Touch]] = [[] for _ in range(config.memory.activation_banks)]
        self._from = [0] * len(self._banks)

    def banks(self, low: int, high: int) -> range:
        """Banks that hold rows."""
        return range(low // self._bank, high // self._bank + 1)

    def note(self, touch: Touch) -> None:
        """Remember one, wherever it stands in the program."""
        for bank in self.banks(touch.low, touch.high):
            own = self._banks[bank]
            if own and own[-1] > touch:
                bisect.insort(own, touch)
            else:
                own.append(touch)

    def remove(self, touch: Touch) -> None:
        """Forget one."""
        for bank in self.banks(touch.low, touch.high):
            own = self._banks[bank]
            place = bisect.bisect_left(own, touch)
            if place < len(own) and own[place] == touch:
                del own[place]

    def forget(self) -> None:
        """Keep the last ones only."""
        for bank, own in enumerate(self._banks):
            if len(own) > 2 * KEPT:
                del own[:-KEPT]
                self._from[bank] = own[0].number + 1

    def latest(self, bank: int) -> int:
        """Index of the last instruction that touched a bank; -1 if none has."""
        return self._banks[bank][-1].number if self._banks[bank] else -1

    def since(self, low: int, high: int) -> int:
        """Index from which on all touches of rows are known."""
        return max(self._from[bank] for bank in self.banks(low, high))

    def around(self, low: int, high: int) -> list[Touch]:
        """Those that meet rows, as far as they are remembered, in order."""
        banks = self.banks(low, high)
        if len(banks) == 1:
            return [touch for touch in self._banks[banks[0]] if touch.meets(low, high)]
        found = {t for bank in banks for t in self._banks[bank] if t.meets(low, high)}
        return sorted(found)
