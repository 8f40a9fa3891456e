"""Lowering of operators on two tensors: each code of the result from one of each operand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from compiler.emit.emitter import Emitter, RefusedError
from compiler.emit.streams import Stream, Tile, flat, line_boxes, slot_rows, split_box
from compiler.emit.transfers import Box, Strided
from compiler.emit.vector import affine_fields
from compiler.ir import Pairwise, PairwiseKind
from compiler.lower.base import Lanes, Streamed
from compiler.lower.contracts import first_of, operand_differs
from compiler.lower.parted import Parting, computed
from compiler.tile.limits import MAX_COUNT
from hw.arch import isa
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ElementwiseOp, UnitInstruction, deltas
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.numerics import Affine, Factor, Product
from hw.arch.program import Tensor


def arithmetic_fields(op: Pairwise) -> dict[str, Any]:
    """Fields of ELEMENTWISE that say what is computed."""
    match op.arithmetic:
        case Affine():
            return {"op": ElementwiseOp.AFFINE, **affine_fields(op.arithmetic)}
        case Product():
            scale = op.arithmetic.scale
            return {
                "op": ElementwiseOp.PRODUCT,
                "multiplier_a": op.arithmetic.za & 0x1FF,
                "multiplier_b": scale.multiplier,
                "shift_b": scale.shift,
                "constant": op.arithmetic.zb,
                "zero_point": op.arithmetic.zero_point,
            }
        case None:
            one = Factor.of(1.0)
            extremum = op.kind is PairwiseKind.MAXIMUM
            return {
                "op": ElementwiseOp.MAX if extremum else ElementwiseOp.MIN,
                "multiplier_a": one.multiplier,
                "shift_a": one.shift,
                "multiplier_b": one.multiplier,
                "shift_b": one.shift,
            }


def _operand_box(view: Strided, box: Box, full: Strided) -> Box:
    """The part of an operand that meets a box of the result; axes of size 1 are repeated."""
    first = [0 if n == 1 else f for f, n in zip(box.first, view.sizes, strict=True)]
    size = [1 if n == 1 else s for s, n in zip(box.size, view.sizes, strict=True)]
    block, blocks = (box.block, box.blocks) if view.blocks == full.blocks else (0, 1)
    return Box((first[0], first[1], first[2]), (size[0], size[1], size[2]), block, blocks)


def spread_operand(op: Pairwise, maps: Sequence[LaneMap]) -> int | None:
    """The operand whose only channel ELEMENTWISE has to take from one lane for all; None if none.

    None also where that cannot be: sums are rounded in the order of their operands.
    """
    channels = max(lane_map.channels for lane_map in maps)
    for number, lane_map in enumerate(maps):
        if lane_map.channels < channels and (lane_map.table() < 0).any():
            return number if spreadable(op, number) else None
    return None


def spreadable(op: Pairwise, number: int) -> bool:
    """Whether an operand can be source 1 of ELEMENTWISE, which alone is spread."""
    return number == 1 or not isinstance(op.arithmetic, Affine)


def _turned(op: Pairwise) -> Pairwise:
    """The same with its operands exchanged, where their order does not matter."""
    arithmetic = op.arithmetic
    if isinstance(arithmetic, Product):
        arithmetic = dataclasses.replace(arithmetic, za=arithmetic.zb, zb=arithmetic.za)
    return dataclasses.replace(op, inputs=op.inputs[::-1], arithmetic=arithmetic)


def _strides(operand: Box, box: Box) -> tuple[int, ...]:
    """Rows per step of the result's x, y, t, block; 0 along repeated axes."""
    pitches = operand.pitches()
    sizes = (*operand.size, operand.blocks)
    wanted = (*box.size, box.blocks)
    return tuple(
        0 if n == 1 and m > 1 else p for p, n, m in zip(pitches, sizes, wanted, strict=True)
    )


def layer(
    op: Pairwise, sources: Sequence[Tensor], target: Tensor, config: AcceleratorConfig
) -> Stream:
    """An operator on two tensors, tile by tile."""
    spread = spread_operand(op, [source.layout.lane_map for source in sources])
    if "fold" not in config.features:
        spread = None  # a relayout has spread it (`emit`)
    if spread == 0:
        op, sources = _turned(op), sources[::-1]
    if op.lane_map is not None:
        return whole_layer(op, sources, target, config)
    views, to = [Strided.of(s) for s in sources], Strided.of(target)
    limit = min(slot_rows(3, config, target.layout.rows), MAX_COUNT)
    if all(v.dense and v.sizes == to.sizes and v.blocks == to.blocks for v in views):
        views, to = [flat(v) for v in views], flat(to)
        boxes = line_boxes(target.layout.rows, limit)
    else:
        whole = to.whole
        boxes = split_box(whole, limit)
    tiles = [Tile((_operand_box(views[0], b, to), _operand_box(views[1], b, to)), b) for b in boxes]
    fields = arithmetic_fields(op)
    if spread is not None:
        fields |= {"spread": 1, "lane": int(sources[1].layout.lane_map.first_lanes()[0])}

    def compute(tile: Tile, rows: Sequence[int], result: int) -> Iterator[UnitInstruction]:
        box = tile.target
        counts = (*box.size, box.blocks)
        yield isa.Elementwise(
            signed=(int(sources[0].signed), int(sources[1].signed)),
            counts=counts,
            source0=rows[0],
            source0_deltas=deltas(counts, _strides(tile.sources[0], box)),
            source1=rows[1],
            source1_deltas=deltas(counts, _strides(tile.sources[1], box)),
            destination=result,
            destination_deltas=deltas(counts, box.pitches()),
            low=op.low,
            high=op.high,
            **fields,
        )

    return Stream(views, to, tiles, compute)


def whole_layer(
    op: Pairwise,
    sources: Sequence[Tensor],
    target: Tensor,
    config: AcceleratorConfig,
    positions: int | None = None,
) -> Stream:
    """The same in tiles of all blocks of some positions, where the result may lie in other lanes.

    `positions`: of a tile, at most.
    """
    full = next(s for s in sources if s.layout.channels == target.layout.channels)
    parting = Parting(full.layout.lane_map, target.layout.lane_map)
    views, to = [Strided.of(s) for s in sources], Strided.of(target)
    blocks = full.layout.blocks
    # Operands and result have two slots in two banks each, as far as there are so many.
    room = slot_rows(4, config, max(full.layout.rows, target.layout.rows))
    most = min(parting.positions(config), positions or room // max(blocks, to.blocks))
    tiles = []
    for part in split_box(Box((0, 0, 0), to.sizes, 0, 1), max(1, most)):
        whole = dataclasses.replace(part, blocks=blocks)
        boxes = [
            _operand_box(view, whole, dataclasses.replace(to, blocks=blocks)) for view in views
        ]
        tiles.append(Tile((boxes[0], boxes[1]), dataclasses.replace(part, blocks=to.blocks)))
    fields = {
        **arithmetic_fields(op),
        "signed": (int(sources[0].signed), int(sources[1].signed)),
        "low": op.low,
        "high": op.high,
    }
    bank = config.memory.activation_bank_rows

    def compute(tile: Tile, rows: Sequence[int], result: int) -> Iterator[UnitInstruction]:
        n = tile.target.positions
        scratch = rows[2] if parting.made else 0
        whole = dataclasses.replace(tile.target, blocks=blocks)
        steps = [_strides(box, whole) for box in tile.sources]
        for results in parting.results(n, scratch, result, bank):
            yield from computed(fields, tile, rows[:2], steps, results)
        yield from parting.selects(n, scratch, result, target.zero_point, config)

    largest = max(tile.target.positions for tile in tiles)
    return Stream(views, to, tiles, compute, parting.scratch(largest, config))


class PairwiseLowering(Streamed[Pairwise]):
    """Both operands in VECTOR, in equal lanes."""

    operation = Pairwise
    limits = ()

    def kind(self, op: Pairwise, config: AcceleratorConfig) -> str:
        """Add, multiply and so on."""
        return op.kind.value

    def contract(
        self, op: Pairwise, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """Equal lanes, or one channel in all of them; or the result has the lanes that it names."""
        if op.lane_map is not None:
            if op.lane_map != result.lane_map:
                return "it makes other lanes"
            full = next(s for s in sources if s.channels == result.channels)
            result = dataclasses.replace(result, lane_map=full.lane_map)
        return first_of(
            operand_differs(source, result, spreadable(op, number))
            for number, source in enumerate(sources)
        )

    def spreads(self, op: Pairwise, number: int, config: AcceleratorConfig) -> bool:
        """Source 1 of ELEMENTWISE."""
        return "fold" in config.features and spreadable(op, number)

    def lanes(self, op: Pairwise) -> Lanes:
        """Two operands have to meet."""
        return Lanes.MET

    def demands(self, op: Pairwise, maps: Sequence[LaneMap]) -> list[LaneMap] | None:
        """Equal maps."""
        return None

    def result(self, op: Pairwise, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """That of the operands which have all channels, if it names no other."""
        return op.lane_map or next(m for m in maps if m.channels == channels)

    def streams(
        self,
        op: Pairwise,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        tables: Sequence[int],
    ) -> Iterable[Stream]:
        """Tile by tile."""
        return [layer(op, sources, target, config)]

    def emit(
        self, emitter: Emitter, op: Pairwise, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """Refused where only ELEMENTWISE with `spread` could take a channel to all lanes."""
        spread = spread_operand(op, [source.layout.lane_map for source in sources])
        if spread is not None and "fold" not in emitter.config.features:
            raise RefusedError(
                f"one lane for all needs the feature `fold` of {emitter.config.name}"
            )
        return super().emit(emitter, op, sources, target)

    def report(self, op: Pairwise, streams: Sequence[Stream]) -> dict[str, Any]:
        """Rows of a tile."""
        return {"rows": streams[0].tiles[0].target.rows}


LOWERING = PairwiseLowering()
