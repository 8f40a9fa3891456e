"""On-chip memories: poisoned when the core starts, range-checked, optionally tracked."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.config import AcceleratorConfig
from hw.arch.instructions.fold import STATISTICS
from hw.arch.isa import ErrorCode, Space
from hw.arch.numerics import PARAMETER_BYTES
from sim.functional.errors import UnitError, UnwrittenReadError

Bytes = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int64]

POISON_BYTE = 0xA5
POISON_ACCUMULATOR = 0x5A5A5A5A5


class Bank:
    """A memory of rows.

    Parameters
    ----------
    name: for messages.
    rows: number of rows.
    shape, dtype, poison: of a row, and what an unwritten one holds.
    track: remember which rows were written; reading another one raises `UnwrittenReadError`.

    Attributes
    ----------
    data: [rows + 1, *shape]; the last row is scratch for readers (padding).
    """

    def __init__(
        self,
        name: str,
        rows: int,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        poison: int,
        track: bool,
    ):
        self.name = name
        self.rows = rows
        self.data: npt.NDArray[Any] = np.full((rows + 1, *shape), poison, dtype)
        self._written = np.zeros(rows, np.bool_) if track else None

    def check_read(self, index: Index) -> None:
        """Refuse rows that do not exist (or, if tracked, were not written)."""
        self._check(index, "reads")
        if self._written is not None:
            seen = self._written[index]
            if not seen.all():
                row = int(index[~seen].min())
                raise UnwrittenReadError(f"reads {self.name} {row}, which nothing has written")

    def check_write(self, index: Index) -> None:
        """Refuse rows that do not exist; remember the others as written."""
        self._check(index, "writes")
        if self._written is not None:
            self._written[index] = True

    def _check(self, index: Index, verb: str) -> None:
        # In one pass: below 0 is, without its sign, beyond the last row.
        if index.size and index.view(np.uint64).max() >= self.rows:
            low, high = int(index.min()), int(index.max())
            raise UnitError(
                ErrorCode.ADDRESS,
                f"{verb} {self.name} {low if low < 0 else high}; there are {self.rows}",
            )

    def read(self, index: Index) -> npt.NDArray[Any]:
        """Rows, [*index.shape, *shape]."""
        self.check_read(index)
        return self.data[index]

    def read_padded(
        self, index: Index, inside: npt.NDArray[np.bool_] | None, padding: int
    ) -> npt.NDArray[Any]:
        """Rows where `inside` (None: everywhere), elsewhere `padding`."""
        if inside is None:
            return self.read(index)
        self.check_read(index[inside])
        self.data[self.rows] = padding
        return np.asarray(self.data[np.where(inside, index, self.rows)])

    def write(self, index: Index, value: npt.NDArray[Any]) -> None:
        """Write rows in C order of `index`; where rows repeat, the last one stays."""
        self.check_write(index)
        self.data[index] = value


class Statistics:
    """What VECTOR keeps of groups between a collecting pass and the applying one.

    Parameters
    ----------
    track: as `Bank`'s.

    Attributes
    ----------
    sums: i64 [entries, 2]: sum of exponentials, or of elements and of their squares.
    reciprocal, shift: i64 [entries], of complete sums.
    """

    def __init__(self, track: bool):
        self.sums = np.zeros((STATISTICS, 2), np.int64)
        self.reciprocal = np.zeros(STATISTICS, np.int64)
        self.shift = np.zeros(STATISTICS, np.int64)
        self._holds = np.full(STATISTICS, "", "<U16")
        self._track = track

    def expect(self, entries: slice, what: str) -> None:
        """Refuse entries that hold something else than `what`, where reads are tracked."""
        if self._track and np.any(self._holds[entries] != what):
            wrong = entries.start + int(np.argmax(self._holds[entries] != what))
            found = self._holds[wrong] or "nothing"
            raise UnwrittenReadError(f"reads {what} of entry {wrong}, which holds {found}")

    def hold(self, entries: slice, what: str) -> None:
        """Remember what the entries hold."""
        self._holds[entries] = what


class State:
    """All on-chip memories of a core.

    Attributes
    ----------
    activation: u8 [rows, L]. weight, parameter, table: u8 [beats, port bytes].
    accumulator: i64 [2·rows, cols], values wrapped to `accumulator_bits`.
    statistics: of groups, VECTOR's own.
    lines: i16 [line_pixels, 2, L], centred pixels above a depthwise window, the nearer line first.
    saturated, requantized: requantized values at a clamp limit, and all of them.
    """

    def __init__(self, config: AcceleratorConfig, track: bool):
        beat = config.port.bytes
        parameter_beats = config.memory.parameter_columns * PARAMETER_BYTES // beat

        def byte_bank(name: str, rows: int) -> Bank:
            return Bank(name, rows, (beat,), np.uint8, POISON_BYTE, track)

        self.config = config
        self.activation = byte_bank("activation row", config.memory.activation_rows)
        self.weight = byte_bank("weight beat", config.weight_beats)
        self.parameter = byte_bank("parameter beat", parameter_beats)
        self.table = byte_bank("table beat", config.memory.tables * config.table_beats)
        self.accumulator = Bank(
            "accumulator row",
            2 * config.memory.accumulator_rows,
            (config.array.cols,),
            np.int64,
            POISON_ACCUMULATOR & ((1 << (config.memory.accumulator_bits - 1)) - 1),
            track,
        )
        self.lines = Bank(
            "line-buffer entry", config.memory.line_pixels, (2, beat), np.int16, POISON_BYTE, track
        )
        self.statistics = Statistics(track)
        self.saturated = 0
        self.requantized = 0

    def space(self, space: int) -> Bank:
        """The memory that a load's `space` field names."""
        match Space(space):
            case Space.ACTIVATION:
                return self.activation
            case Space.WEIGHT:
                return self.weight
            case Space.PARAMETER:
                return self.parameter
            case Space.TABLE:
                return self.table

    def wrap(self, value: Index) -> Index:
        """Reduce to the accumulator's width, two's complement."""
        half = np.int64(1) << np.int64(self.config.memory.accumulator_bits - 1)
        return np.asarray(((value + half) & (2 * half - 1)) - half, np.int64)

    def look_up(self, field: int, codes: Bytes) -> Bytes:
        """Apply table `field − 1` to stored bytes; 0 leaves them."""
        if field == 0:
            return codes
        beats = self.config.table_beats
        rows = np.arange((field - 1) * beats, field * beats)
        return np.asarray(self.table.read(rows).reshape(-1)[codes], np.uint8)
