"""Layers that stream tiles through the vector unit, or straight from load to store."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Sequence

from compiler.codegen.allocate import split_banks
from compiler.codegen.emitter import Emitter
from compiler.codegen.geometry import balanced, cuts
from compiler.codegen.schedule import Ring, Slots, Step, run
from compiler.codegen.transfers import Box, View, load_box, store_box
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import UnitInstruction
from hw.arch.layout import ceil_div


@dataclasses.dataclass(frozen=True, slots=True)
class Tile:
    """What is read from each source for what is written."""

    sources: tuple[Box, ...]
    target: Box


Compute = Callable[[Tile, Sequence[int], int], None]
"""Emits the computation of a tile, told the rows of its operands and of its result."""


def flat(view: View) -> View:
    """A whole tensor as one line of rows, blocks included."""
    merged = view.merged(2)
    size = merged.sizes[0] * view.blocks
    pitch = view.lanes
    end = pitch * size
    return dataclasses.replace(merged, blocks=1, sizes=(size, 1, 1), pitches=(pitch, end, end, end))


def line_boxes(rows: int, limit: int) -> list[Box]:
    """Equal parts of a line of rows."""
    return [
        Box((first, 0, 0), (count, 1, 1), 0, 1)
        for first, count in cuts(rows, balanced(rows, limit))
    ]


def split_box(box: Box, limit: int, keep: Iterable[int] = ()) -> list[Box]:
    """Cut a box into boxes of at most `limit` rows, outer axes first (block, t, y, x).

    Axes in `keep` (0..2 for x, y, t) stay whole, however many rows that takes.
    """
    if box.rows <= limit:
        return [box]
    if box.blocks > 1:
        count = max(1, limit // box.positions)
        size = ceil_div(box.blocks, ceil_div(box.blocks, count))
        parts = [
            dataclasses.replace(box, block=box.block + first, blocks=n)
            for first, n in cuts(box.blocks, size)
        ]
        return [b for part in parts for b in split_box(part, limit, keep)]
    for axis in (2, 1, 0):
        if axis in keep or box.size[axis] == 1:
            continue
        rest = box.rows // box.size[axis]
        size = balanced(box.size[axis], max(1, limit // rest))
        parts = []
        for first, n in cuts(box.size[axis], size):
            begin, sizes = list(box.first), list(box.size)
            begin[axis] += first
            sizes[axis] = n
            parts.append(
                Box((begin[0], begin[1], begin[2]), (sizes[0], sizes[1], sizes[2]), box.block, 1)
            )
        return [b for part in parts for b in split_box(part, limit, keep)]
    return [box]


def slot_rows(streams: int, config: AcceleratorConfig) -> int:
    """Rows of one of two slots when the banks are shared equally by so many regions."""
    banks = config.memory.activation_banks // streams
    return banks * config.memory.activation_bank_rows // 2


def copy(emitter: Emitter, source: View, target: View, tiles: Sequence[Tile]) -> None:
    """Move boxes from one tensor to another without touching their bytes."""
    regions = split_banks([emitter.config.memory.activation_rows], emitter.config)
    assert regions is not None
    region, slots = regions[0], 4

    def fill(key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int)
        return [load_box(source, tiles[key].sources[0], region.slot(slot, slots))]

    def step(number: int) -> Step:
        def body(places: Slots) -> None:
            row = region.slot(places["input"], slots)
            emitter.emit(store_box(target, tiles[number].target, row))

        return Step({"input": number}, body)

    run(emitter, {"input": Ring(slots, fill)}, [step(n) for n in range(len(tiles))])


def copy_limit(config: AcceleratorConfig) -> int:
    """Rows of a tile of `copy`."""
    return config.memory.activation_rows // 4


def stream(
    emitter: Emitter,
    sources: Sequence[View],
    target: View,
    tiles: Sequence[Tile],
    compute: Compute,
) -> bool:
    """Load, compute and store tiles, each stage two tiles deep.

    Every operand and the result has banks of its own. Operands that do not fit twice are loaded
    when the tile before is done. Returns False, with nothing emitted, where they do not fit once.
    """
    count = len(sources)
    largest = [max(tile.sources[i].rows for tile in tiles) for i in range(count)]
    result_rows = 2 * max(tile.target.rows for tile in tiles)
    depth, regions = 2, None
    for depth in (2, 1):
        regions = split_banks([result_rows, *(depth * r for r in largest)], emitter.config)
        if regions is not None:
            break
    if regions is None:
        return False
    output, inputs = regions[0], regions[1:]

    def ring(i: int) -> Ring:
        def fill(key: Hashable, slot: int) -> list[UnitInstruction]:
            assert isinstance(key, Box)
            return [load_box(sources[i], key, inputs[i].slot(slot, depth))]

        return Ring(depth, fill)

    def step(number: int) -> Step:
        tile = tiles[number]

        def body(slots: Slots) -> None:
            rows = [inputs[i].slot(slots[str(i)], depth) for i in range(count)]
            result = output.slot(number % 2, 2)
            compute(tile, rows, result)
            emitter.emit(store_box(target, tile.target, result))

        # Boxes are the keys: an operand that tiles share is loaded once.
        return Step({str(i): tile.sources[i] for i in range(count)}, body)

    run(
        emitter,
        {str(i): ring(i) for i in range(count)},
        [step(number) for number in range(len(tiles))],
    )
    return True
