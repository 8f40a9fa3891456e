"""What the engine asks of an operator that is computed strip by strip.

A region is a list of stages. Each reads what the one before it has made, and nobody else knows its
kind: which lines and frames of its operand a part of its result needs, what it computes at a time,
its instructions and constants, its sums for the estimate. Where operands and results lie (`Place`)
is the schedule's business (compiler/regions/emission.py).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Self, TypeAlias

from compiler.array.fields import Place
from compiler.emit.transfers import Box
from compiler.ir import Convolution
from compiler.tile.geometry import Range, Triple, product
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, Drain, UnitInstruction
from hw.arch.program import Tensor

Pair: TypeAlias = tuple[tuple[Array, ...], Drain]
"""What one after another adds to the same accumulators, and what empties them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Strip:
    """Lines of a stage in one step.

    Attributes
    ----------
    operand: that it takes; those that are new, where it keeps the ones above. May be none.
    result: that it makes, in front of its pool. May be none.
    stream: coordinates that a window streams, padding included.
    resume: the lines above are in the line buffer.
    """

    operand: Range
    result: Range
    stream: Range = (0, 0)
    resume: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """What a stage computes in one step.

    Attributes
    ----------
    strip: lines.
    source, frames: frames of its operand, and of its result in front of its pool.
    blocks: lane blocks that pass together; None for all.
    """

    strip: Strip
    source: Range
    frames: Range
    blocks: Range | None


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """What an array stage computes with one group of its constants.

    Attributes
    ----------
    number: of the group.
    units: blocks that have constants of their own, first and count.
    reads, makes: lane blocks of operand and result, first and count.
    span: frames or positions where a part has not all of them, first and count.
    entry: first line-buffer entry.
    """

    number: int
    units: Range
    reads: Range
    makes: Range
    span: Range = (0, 0)
    entry: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """What an array stage is told before it settles how much it computes at a time.

    Attributes
    ----------
    box: results of the largest strip along x, y, t, in front of the pool.
    blocks: lane blocks that pass together; None for all.
    keep: there are several strips: lines that are needed again stay in the line buffer.
    entry: its first free entry.
    parts: that blocks come in, at least.
    share: part of the weight memory that a group of blocks may take one of.
    rows: of the accumulators that a part may take; None for all of a bank.
    pieces: lane blocks of the operand that are summed up at a time.
    """

    box: Triple
    blocks: int | None
    keep: bool
    entry: int = 0
    parts: int = 1
    share: int = 1
    rows: int | None = None
    pieces: tuple[Range, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Where:
    """Where a part's operand, results and constants lie.

    Attributes
    ----------
    operand, result: block 0 is the tensor's; results are behind the pool.
    weight, parameter: first beats of the part's weights and parameters.
    """

    operand: Place
    result: Place
    weight: int = 0
    parameter: int = 0


def packed(row: int, first: Triple, size: Triple) -> Place:
    """A box that lies densely from `row` on."""
    return Place(row, first, size, Box(first, size, 0, 1).pitches())


class Stage:
    """An operator in strips; by default one that works on every position by itself.

    Parameters
    ----------
    name: of its operator.
    source, target: operand and result; only layout and quantization count.

    Members
    -------
    pools: of what it stores, along x, y, t.
    elastic: it takes lines as they come, fewer at a time at no cost.
    once: it makes every line once; what is behind it cannot ask for a line again.
    whole: it needs all frames at a time.
    by_block: a block of its result needs that block of its operand alone.
    single: it computes a map as one strip only.
    """

    pools: Triple = (1, 1, 1)
    elastic = once = whole = by_block = single = False

    def __init__(self, name: str, source: Tensor, target: Tensor):
        self.name, self.source, self.target = name, source, target

    @property
    def blocks(self) -> int:
        """Lane blocks of its result on chip."""
        return self.target.layout.blocks

    def strips(self, wanted: Sequence[Range]) -> list[list[Strip]]:
        """One or several strips for each range of lines of the result, in order."""
        return [[Strip(lines, lines)] for lines in wanted]

    def frames(self, wanted: Range) -> Range:
        """Frames of the operand that some of the result need."""
        return wanted

    def place(self, row: int, first: Triple, size: Triple) -> Place:
        """How a box of its result lies from a row on."""
        return packed(row, first, size)

    def room(self, size: Triple, blocks: int) -> int:
        """Rows that a box of some blocks of its result takes on chip."""
        return blocks * product(size)


class VectorStage(Stage, abc.ABC):
    """A stage on the vector unit, which prepares what the array reads."""

    def tables(self) -> Sequence[bytes | None]:
        """Lookup tables that its instructions name."""
        return ()

    @abc.abstractmethod
    def instructions(
        self, task: Task, operand: Place, result: Place, tables: Sequence[int]
    ) -> Iterator[UnitInstruction]:
        """What is done of a strip; `tables` are the instruction fields of its tables."""

    @abc.abstractmethod
    def reads(self, task: Task) -> tuple[int, int]:
        """Rows that it reads for a strip, and its instructions."""


class ArrayStage(Stage, abc.ABC):
    """A stage on the array.

    Parameters
    ----------
    config, op: accelerator and convolution.
    source, target: as in `Stage`.

    Members
    -------
    group: units whose constants come together; of what is `sized`.
    pieces: lane blocks of the operand of each ARRAY of a part, where there are several.
    """

    group = 0
    pieces: Sequence[Range] = ()

    def __init__(self, config: AcceleratorConfig, op: Convolution, source: Tensor, target: Tensor):
        super().__init__(op.name, source, target)
        self.config, self.op = config, op

    @abc.abstractmethod
    def sized(self, sizes: Sizes) -> Self | None:
        """The stage with parts as large as the memories allow; None where none fits."""

    @property
    @abc.abstractmethod
    def algorithm(self) -> str:
        """Name of how it is computed."""

    @property
    @abc.abstractmethod
    def unit_beats(self) -> tuple[int, int]:
        """Beats of the weights and of the parameters of a unit."""

    @property
    def group_beats(self) -> tuple[int, int]:
        """Beats of the weights and of the parameters of a group."""
        weights, parameters = self.unit_beats
        return self.group * weights, self.group * parameters

    @abc.abstractmethod
    def groups(self, blocks: Range | None) -> list[Range]:
        """Units of each group, of the lane blocks that pass together (`Task.blocks`)."""

    @property
    @abc.abstractmethod
    def step(self) -> int:
        """Lane blocks of its result that a group makes."""

    @property
    def entries(self) -> int:
        """Line-buffer entries that stay taken between strips."""
        return 0

    @property
    def brief(self) -> bool:
        """Whether the array takes no longer than the drain: it multiplies one vector a result."""
        return False

    @property
    def rows(self) -> int:
        """Accumulator rows of a part, as many as it has at most."""
        return self.config.memory.accumulator_rows

    @abc.abstractmethod
    def weights(self, units: Range) -> bytes:
        """Weights of a group, in the order of the array's nest."""

    @abc.abstractmethod
    def parameters(self, units: Range) -> bytes:
        """Requantization parameters of a group."""

    @abc.abstractmethod
    def parts(self, task: Task) -> list[Part]:
        """What is computed of a strip, in order."""

    @abc.abstractmethod
    def instructions(
        self, task: Task, part: Part, where: Where, banks: Iterator[int]
    ) -> Iterator[Pair]:
        """ARRAYs and DRAINs of a part, which take accumulator banks in turn."""

    @abc.abstractmethod
    def work(self, tasks: Sequence[Task], vectors: int, pairs: int) -> tuple[int, float]:
        """What the array does for a stage.

        Parameters
        ----------
        tasks: over all strips.
        vectors, pairs: rows that its instructions multiply by blocks of weights, and their DRAINs.

        Returns
        -------
        Products in units of rows × cols, and the energy of the array in picojoules.
        """
