"""Assign every value a layout, and insert relayouts where operands would meet in other lanes.

Where an operator wants equal maps, the map is chosen that moves the fewest rows. Constants move for
nothing, and what a convolution makes, or the host writes, for a single reader is made where the
reader wants it. A ragged result of a concat or a slice of channels is made dense where its readers
save more than that costs, or where blocks would become many.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from compiler.arms import regrouped
from compiler.emit.transfers import tensor_of
from compiler.ir import (
    COMPILER,
    AnyOperation,
    CompilerError,
    Convolution,
    Graph,
    Pairwise,
    Path,
    Rearrange,
    Region,
    Relayout,
    Slice,
    Value,
    verify,
)
from compiler.lower import broken, lowering
from compiler.lower.base import Lanes, Placed
from compiler.lower.pairwise import LOWERING as PAIRWISE
from compiler.lower.parted import Parting, parted
from compiler.lower.rearrange import moves_of
from compiler.lower.relayout import selects
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import Channels, LaneMap, TensorLayout, ceil_div

LAYER_CYCLES = 500
"""What a layer costs however small it is: latencies of a load, the array, a drain and a store."""
MOST_BLOCKS = 2
"""Blocks of a ragged map for each block of a dense one, at most."""


@dataclasses.dataclass(frozen=True, slots=True)
class Assigned:
    """A graph whose operands meet.

    Attributes
    ----------
    graph: with relayouts.
    layouts: of every value.
    """

    graph: Graph
    layouts: Mapping[str, TensorLayout]


def assign_layout(graph: Graph, config: AcceleratorConfig) -> Assigned:
    """Propagate lane maps through a graph; see above. A graph that has relayouts keeps them.

    Raises
    ------
    CompilerError
        If an operator's contract does not hold afterwards; names it.
    """
    assigned = _Assignment(graph, config).run()
    check_layouts(assigned)
    return assigned


def check_layouts(assigned: Assigned) -> None:
    """Raise CompilerError where a layout is not its value's or a contract is broken."""
    verify(assigned.graph)
    for name, layout in assigned.layouts.items():
        if layout.shape != assigned.graph.type(name).shape:
            raise CompilerError(f"{name}: a layout of {layout.shape} is not that of its type")
    for op in assigned.graph.ops:
        check_operator(op, assigned.layouts)


def check_operator(op: AnyOperation, layouts: Mapping[str, TensorLayout]) -> None:
    """Raise CompilerError where the layouts of an operator's tensors break its contract."""
    why = broken(op, [layouts[name] for name in op.inputs], layouts[op.output])
    if why is not None:
        raise CompilerError(f"{op.name} ({type(op).__name__}): lanes do not meet: {why}")


class _Assignment:
    """The pass at work: operators in order, each operand moved where it has to be."""

    def __init__(self, graph: Graph, config: AcceleratorConfig):
        self.graph, self.config, self.lanes = graph, config, config.lane_block
        self.values = dict(graph.values)
        self.layouts: dict[str, TensorLayout] = {}
        self.ops: list[AnyOperation] = []
        self.readers, self.uses = graph.consumers(), graph.uses()
        self.makers: dict[str, AnyOperation] = {}
        self.moved: dict[tuple[str, LaneMap], list[str]] = {}
        self.paths = dict(graph.paths)
        self.origins: dict[str, str] = {}
        self.thinned: dict[str, str] = {}
        for name, value in graph.values.items():
            if value.constant is not None:
                self._lay(name, LaneMap.dense(value.type.shape[0], self.lanes))
        for port in graph.inputs:
            self._lay(port.value, LaneMap.dense(graph.type(port.value).shape[0], self.lanes))

    def run(self) -> Assigned:
        """Assign all."""
        for op in self.graph.ops:
            names = [self.thinned.get(name, name) for name in op.inputs]
            wanted = self._fitting(op, names, self._wanted(op, names))
            names = [
                self._in_lanes(name, lane_map, self.graph.path_of(op, place))
                for place, (name, lane_map) in enumerate(zip(names, wanted, strict=True))
            ]
            op = op.reading(names)
            if isinstance(op, Pairwise):
                op = self._parted(op, wanted)
            self._append(op)
            self._lay(op.output, self._result(op, wanted))
            if lowering(op).lanes(op) is Lanes.GATHERED:
                self._thin_out(op.output)
        ops = regrouped(self.ops, lambda name: self.paths.get(name, ()))
        graph = dataclasses.replace(self.graph, paths=self.paths).replaced(ops, self.values)
        return Assigned(graph, {name: self.layouts[name] for name in graph.values})

    def _append(self, op: AnyOperation) -> None:
        self.ops.append(op)
        self.makers[op.output] = op

    def _lay(self, name: str, lane_map: LaneMap) -> None:
        _, frames, height, width = self.values[name].type.shape
        self.layouts[name] = TensorLayout(lane_map, frames, height, width)

    def _map(self, name: str) -> LaneMap:
        return self.layouts[name].lane_map

    def _dense(self, channels: int) -> LaneMap:
        return LaneMap.dense(channels, self.lanes)

    # Contracts

    def _wanted(self, op: AnyOperation, names: Sequence[str]) -> list[LaneMap]:
        """The map that each operand shall have."""
        demanded = lowering(op).demands(op, [self._map(name) for name in names])
        return self._meeting(op, names) if demanded is None else demanded

    def _result(self, op: AnyOperation, maps: Sequence[LaneMap]) -> LaneMap:
        """The map of a result whose operands lie as they shall."""
        return lowering(op).result(op, maps, self.values[op.output].type.shape[0])

    def _fitting(
        self, op: AnyOperation, names: Sequence[str], wanted: list[LaneMap]
    ) -> list[LaneMap]:
        """Those maps, or dense ones where ragged operands do not fit the memories."""
        if not isinstance(op, Convolution | Region) or wanted[0].is_dense:
            return wanted
        kinds = [self.values[name].type for name in names]
        sources = [tensor_of(k, self.lanes, m) for k, m in zip(kinds, wanted, strict=True)]
        result = self.values[op.output].type
        target = tensor_of(result, self.lanes, self._result(op, wanted))
        known = lowering(op)
        assert isinstance(known, Placed), op.name
        if known.misfit(op, sources, target, self.config) is None:
            return wanted
        return [self._dense(kinds[0].shape[0]), *wanted[1:]]

    def _meeting(self, op: AnyOperation, names: Sequence[str]) -> list[LaneMap]:
        """The map for all operands that moves the fewest rows.

        The only channel of an operand is spread over all lanes, unless the instruction does that.
        """
        channels = self.values[op.output].type.shape[0]
        full = [name for name in names if self._map(name).channels == channels]
        choices = dict.fromkeys([*map(self._map, full), self._dense(channels)])
        chosen = min(choices, key=lambda m: self._moved_rows(op, full, m))
        known = lowering(op)
        return [
            chosen
            if name in full
            else self._map(name)
            if known.spreads(op, number, self.config)
            else LaneMap.spread(self.lanes)
            for number, name in enumerate(names)
        ]

    def _moved_rows(self, op: AnyOperation, names: Sequence[str], lane_map: LaneMap) -> int:
        """Rows that relayouts of operands read and write, and what else a wide result costs."""
        shape = self.values[op.output].type.shape
        total = len(lane_map.blocks) * math.prod(shape[1:])
        return total + sum(self._cost(name, lane_map) for name in names)

    # Parts

    def _parted(self, op: Pairwise, wanted: Sequence[LaneMap]) -> Pairwise:
        """The operator with a result whose readers get full blocks, where that is worth it."""
        shape = self.values[op.output].type.shape
        full = next(m for m in wanted if m.channels == shape[0])
        spread = any(m.channels < shape[0] and (m.table() < 0).any() for m in wanted)
        if not selects(self.config) or spread:
            return op
        takers = self._takers(op.output, np.arange(shape[0]))
        parts = list({tuple(sorted(channels)): channels for channels, _ in takers}.values())
        if sum(map(len, parts)) != shape[0] or np.unique(np.concatenate(parts)).size != shape[0]:
            return op
        lane_map = parted(full, parts)
        positions = math.prod(shape[1:])
        before, after = (
            [len(m.taken(sorted(channels))[1]) for channels, _ in takers] for m in (full, lane_map)
        )
        saved = sum(
            (a - b) * self._cycles_of_a_block(reader, positions)
            for a, b, (_, reader) in zip(before, after, takers, strict=True)
        )
        blocks = len(full.blocks) + len(lane_map.blocks)
        longer = max(Parting(full, lane_map).cycles(self.config), blocks) - 2 * len(full.blocks)
        if saved <= max(0, longer) * positions:
            return op
        changed = dataclasses.replace(op, lane_map=lane_map)
        sources = [
            tensor_of(self.values[name].type, self.lanes, lanes)
            for name, lanes in zip(op.inputs, wanted, strict=True)
        ]
        target = tensor_of(self.values[op.output].type, self.lanes, lane_map)
        fits = PAIRWISE.misfit(changed, sources, target, self.config) is None
        return changed if fits else op

    def _takers(self, name: str, channels: Channels) -> list[tuple[Channels, AnyOperation]]:
        """What readers take of a value, by its maker's channels, through all that only renames."""
        found: list[tuple[Channels, AnyOperation]] = []
        for reader in self.readers[name]:
            if isinstance(reader, Slice) and reader.axis == 0:
                found.append((channels[reader.start : reader.stop : reader.step], reader))
                continue
            moves = None
            if isinstance(reader, Rearrange):
                moves = moves_of(reader.source, reader.target)
            if moves is not None and moves.renames:
                renamed = np.empty_like(channels)
                renamed[moves.channel[moves.lane, 0]] = channels
                found += self._takers(reader.output, renamed)
            else:
                found.append((channels, reader))
        return found

    # Relayouts

    def _in_lanes(self, name: str, lane_map: LaneMap, path: Path) -> str:
        """The value in other lanes, for a reader in some arm; itself where it lies there already.

        What is moved in an arm is there in that arm only.
        """
        if self._map(name) == lane_map:
            return name
        name = self.origins.get(name, name)
        if self._map(name) == lane_map:
            return name
        for known in self.moved.get((name, lane_map), ()):
            arm = self.paths.get(known, ())
            if path[: len(arm)] == arm:
                return known
        line = self._path(name)
        if line and self._detour(line, lane_map) <= self._relayout_rows(name, lane_map):
            for made in line:
                self._lay(made, lane_map)
            return name
        value = self.values[name]
        moved = self._new_name(name)
        self.values[moved] = Value(moved, value.type, value.constant, COMPILER)
        if value.constant is None:
            self._append(Relayout(name=moved, inputs=(name,), output=moved, lane_map=lane_map))
            if path:
                self.paths[moved] = path
        self._lay(moved, lane_map)
        self.moved.setdefault((name, lane_map), []).append(moved)
        self.origins[moved] = name
        return moved

    def _cost(self, name: str, lane_map: LaneMap) -> int:
        """Rows that pass because a value shall lie in other lanes, roughly."""
        if self._map(name) == lane_map or self.values[name].constant is not None:
            return 0
        rows = self._relayout_rows(name, lane_map)
        path = self._path(name)
        return min(rows, self._detour(path, lane_map)) if path else rows

    def _relayout_rows(self, name: str, lane_map: LaneMap) -> int:
        layout = self.layouts[name]
        return (layout.blocks + len(lane_map.blocks)) * layout.positions + LAYER_CYCLES

    def _path(self, name: str) -> list[str]:
        """Values that can all be made in other lanes, so that a value is; () where they cannot.

        From the value back to a convolution or an input, which choose the lanes of what they make.
        Nothing else reads them.
        """
        path = [name]
        while self.uses[path[-1]] == 1:
            op = self.makers.get(path[-1])
            if op is None or lowering(op).lanes(op) is Lanes.CHOSEN:
                return path if self.values[path[-1]].constant is None else []
            if lowering(op).lanes(op) is not Lanes.KEPT:
                return []
            path.append(op.inputs[0])
        return []

    def _detour(self, path: Sequence[str], lane_map: LaneMap) -> int:
        """Rows that pass because the values of a path are made in other lanes, roughly."""
        extra = len(lane_map.blocks) - self.layouts[path[0]].blocks
        if extra <= 0:
            return 0
        rows = sum(2 * self.layouts[name].positions for name in path)
        maker = self.makers.get(path[-1])
        if isinstance(maker, Convolution):
            source = self.layouts[maker.inputs[0]]
            results = math.prod(maker.convolved(self.values[maker.inputs[0]].type)[1:])
            rows += results * source.blocks * math.prod(maker.kernel)
        return extra * rows

    def _new_name(self, name: str) -> str:
        number, reserved = 1, self.graph.reserved
        while (new := f"{name}:lanes{number}") in self.values or new in reserved:
            number += 1
        return new

    def _thin_out(self, name: str) -> None:
        """Let later readers of a ragged tensor read a dense one where that is worth it."""
        layout = self.layouts[name]
        dense = self._dense(layout.channels)
        extra = layout.blocks - len(dense.blocks)
        many = layout.blocks > MOST_BLOCKS * len(dense.blocks)
        readers = self.readers[name]
        if not readers or extra <= 0:
            return
        cost = (layout.blocks + len(dense.blocks)) * layout.positions + LAYER_CYCLES
        saved = sum(self._cycles_of_a_block(op, layout.positions) for op in readers) * extra
        if many or saved > cost:
            self.thinned[name] = self._in_lanes(name, dense, self.graph.path(name))

    def _cycles_of_a_block(self, op: AnyOperation, positions: int) -> int:
        """Cycles that an operator takes for one more block of its operand, roughly."""
        first = op.parts[0] if isinstance(op, Region) else op
        if isinstance(first, Convolution) and not first.depthwise:
            results = math.prod(first.convolved(self.values[first.inputs[0]].type)[1:])
            taps = math.prod(first.kernel)
            return results * taps * ceil_div(first.out_channels, self.config.array.cols)
        return positions
