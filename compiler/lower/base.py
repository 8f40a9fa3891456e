"""What a lowering says about an operator: whether it runs, in which lanes, how fast, and how."""

from __future__ import annotations

import abc
import dataclasses
import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from compiler.cost import Cost
from compiler.emit.emitter import Emitter, RefusedError
from compiler.emit.stream_trial import trial_cycles
from compiler.emit.streams import Stream, check, emit
from compiler.emit.transfers import tensor_of
from compiler.ops import Operation, Table
from compiler.policy import Policy
from compiler.tensor import TensorType
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import LaneMap, TensorLayout, ceil_div
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm

Op = TypeVar("Op", bound=Operation)


class Lanes(enum.Enum):
    """How the lanes of a result come about."""

    KEPT = "those of the only operand"
    MET = "those of its operands, which are equal or are copied as they lie"
    GATHERED = "blocks of its operands, which may leave lanes empty"
    CHOSEN = "any: weights are gathered by lane"
    OWN = "its own, whatever the operands'"


@dataclasses.dataclass(frozen=True, slots=True)
class Laid:
    """A tensor's type, and how it lies.

    Attributes
    ----------
    moved: beats of it that cross the memory port, where that is known: some of it may be on chip.
    """

    type: TensorType
    layout: TensorLayout
    moved: int | None = None

    def beats(self, config: AcceleratorConfig) -> int:
        """Beats of its real channels; padded lanes are the layout's own loss."""
        whole = ceil_div(self.layout.channels * self.layout.positions, config.port.bytes)
        return whole if self.moved is None else min(whole, self.moved)


class Lowering(abc.ABC, Generic[Op]):
    """Everything that the back end knows about one class of operators.

    Members
    -------
    operation: the class.
    limits: what instruction fields hold at most, on every configuration, for docs/operators.md.
    """

    operation: type[Op]
    limits: tuple[str, ...]

    @abc.abstractmethod
    def kind(self, op: Op, config: AcceleratorConfig) -> str:
        """Its name in reports."""

    # What runs

    @abc.abstractmethod
    def refusal(
        self,
        op: Op,
        inputs: Sequence[TensorType],
        output: TensorType,
        config: AcceleratorConfig,
        policy: Policy | None,
    ) -> str | None:
        """Why it cannot run on a configuration, or None if it can; layouts are not known yet.

        Parameters
        ----------
        op, inputs, output: the operator with the types of its operands and its result.
        config: the accelerator.
        policy: given, what would be slower than its parts is refused, too.
        """

    # In which lanes

    @abc.abstractmethod
    def contract(self, op: Op, sources: Sequence[TensorLayout], result: TensorLayout) -> str | None:
        """How layouts break what it demands of lanes, or None; see compiler/lower/contracts.py."""

    @abc.abstractmethod
    def lanes(self, op: Op) -> Lanes:
        """How the lanes of its result come about."""

    def demands(self, op: Op, maps: Sequence[LaneMap]) -> list[LaneMap] | None:
        """The map that each operand shall have, told those that they have.

        None where all that have the result's channels shall have the same, whichever.
        """
        return list(maps)

    def spreads(self, op: Op, number: int, config: AcceleratorConfig) -> bool:
        """Whether its instruction takes an operand's only channel from one lane for all lanes."""
        return False

    def result(self, op: Op, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """The map of its result of some channels, where the operands lie as they shall."""
        return maps[0]

    def keeps_bytes(self, op: Op) -> bool:
        """Whether the result is the operands' bytes where they are: no instruction moves them."""
        return False

    def scattered(self, op: Op, number: int) -> bool:
        """Whether an operand's blocks may lie anywhere, and not one after another."""
        return True

    def scratch(self, op: Op, source: TensorLayout) -> int:
        """Bytes of DRAM that it stores beside its result."""
        return 0

    # How fast

    def bound(
        self,
        op: Op,
        sources: Sequence[Laid],
        result: Laid,
        config: AcceleratorConfig,
        algorithms: Sequence[Algorithm],
    ) -> int:
        """The least cycles it can take: here, each tensor crosses the memory port once.

        Parameters
        ----------
        op, sources, result, config: the operator, its tensors, for what.
        algorithms: transforms that it (of a chain: its temporal stage) can take.
        """
        return result.beats(config) + sum(source.beats(config) for source in sources)

    # How

    @abc.abstractmethod
    def emit(
        self, emitter: Emitter, op: Op, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """Emit it; returns the chosen tiling for the report.

        Raises
        ------
        RefusedError
            Where `refusal` has a reason, or the tensors' lanes are what does not fit.
        """


class Placed(Lowering[Op]):
    """A lowering that can be asked about tensors in any lanes."""

    @abc.abstractmethod
    def misfit(
        self, op: Op, sources: Sequence[Tensor], target: Tensor, config: AcceleratorConfig
    ) -> str | None:
        """Why it cannot run on tensors that lie as they do; where they lie does not matter."""

    def refusal(
        self,
        op: Op,
        inputs: Sequence[TensorType],
        output: TensorType,
        config: AcceleratorConfig,
        policy: Policy | None,
    ) -> str | None:
        """Why it cannot run on dense tensors."""
        lanes = config.lane_block
        sources = [tensor_of(kind, lanes) for kind in inputs]
        return self.misfit(op, sources, tensor_of(output, lanes), config)


class Timed(Placed[Op]):
    """A lowering of what is joined with others, if that takes no more (lower/compare.py)."""

    @abc.abstractmethod
    def cost(
        self,
        op: Op,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        policy: Policy,
    ) -> Cost:
        """What it takes as a layer of its own: emitted and timed (compiler/emit/trial.py).

        Raises
        ------
        RefusedError
            Where it does not fit.
        """


class Streamed(Timed[Op]):
    """A lowering whose tiles pass VECTOR, or nothing but the scratchpad, one after another."""

    def tables(self, op: Op) -> Sequence[Table | None]:
        """Lookup tables that its instructions name."""
        return ()

    @abc.abstractmethod
    def streams(
        self,
        op: Op,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        tables: Sequence[int],
    ) -> Iterable[Stream]:
        """What moves through the scratchpad; `tables` are the instruction fields of its tables.

        Raises
        ------
        RefusedError
            If no tiles can be found that fit.
        """

    def report(self, op: Op, streams: Sequence[Stream]) -> dict[str, Any]:
        """The chosen tiling."""
        return {}

    def misfit(
        self, op: Op, sources: Sequence[Tensor], target: Tensor, config: AcceleratorConfig
    ) -> str | None:
        """Why a stream does not fit the scratchpad or the instructions' fields."""
        fields = [int(table is not None) for table in self.tables(op)]
        return misfit_of(lambda: self.streams(op, sources, target, config, fields), config)

    def cost(
        self,
        op: Op,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        policy: Policy,
    ) -> Cost:
        """Of all its streams."""
        fields = [int(table is not None) for table in self.tables(op)]
        streams = list(self.streams(op, sources, target, config, fields))
        cycles = sum(trial_cycles(stream, config) for stream in streams)
        moved = sum(stream.moved_bytes for stream in streams)
        return Cost.of_streams(cycles, moved / config.port.bytes, 0, config)

    def emit(
        self, emitter: Emitter, op: Op, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """Load the tables, then stream."""
        fields = [emitter.table(table) for table in self.tables(op)]
        streams = list(self.streams(op, sources, target, emitter.config, fields))
        for stream in streams:
            emit(emitter, stream)
        return self.report(op, streams)


def misfit_of(streams: Callable[[], Iterable[Stream]], config: AcceleratorConfig) -> str | None:
    """Why streams do not run on a configuration, or None if they do."""
    try:
        for stream in streams():
            if stream.compute is not None and "vector" not in config.features:
                return f"configuration {config.name} has no vector unit"
            check(stream, config)
    except RefusedError as error:
        return str(error)
    return None


class Moved(Streamed[Op]):
    """A lowering that reads and writes every row of its result once."""

    def bound(
        self,
        op: Op,
        sources: Sequence[Laid],
        result: Laid,
        config: AcceleratorConfig,
        algorithms: Sequence[Algorithm],
    ) -> int:
        """The result crosses the memory port twice."""
        return 0 if self.keeps_bytes(op) else 2 * result.beats(config)


class Unmoved(Lowering[Op]):
    """A lowering without instructions: what its result is lies there already."""

    def facts(self, op: Op) -> dict[str, Any]:
        """What reports are told of it."""
        return {}

    def bound(
        self,
        op: Op,
        sources: Sequence[Laid],
        result: Laid,
        config: AcceleratorConfig,
        algorithms: Sequence[Algorithm],
    ) -> int:
        """Nothing is done."""
        return 0

    def emit(
        self, emitter: Emitter, op: Op, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """Nothing."""
        return self.facts(op)
