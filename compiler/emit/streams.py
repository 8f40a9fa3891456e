"""Layers that stream tiles through the vector unit, or straight from load to store.

A lowering describes such a layer (`Stream`); whether it fits (`check`) and how it is emitted
(`emit`) is the same for all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Sequence

from compiler.emit.emitter import Emitter, RefusedError
from compiler.emit.schedule import Ring, Slots, Step, run
from compiler.emit.transfers import Box, Strided, TransferError, load_box, store_box
from compiler.tile.geometry import balanced, cuts
from compiler.tile.regions import Region, last_banks, split_banks
from hw.arch.config import AcceleratorConfig
from hw.arch.encoding import EncodingError
from hw.arch.isa import Space, UnitInstruction
from hw.arch.layout import ceil_div
from hw.arch.timing import VectorInstruction, vector_duration


@dataclasses.dataclass(frozen=True, slots=True)
class Tile:
    """What is read from each source for what is written."""

    sources: tuple[Box, ...]
    target: Box


Compute = Callable[[Tile, Sequence[int], int], Iterable[UnitInstruction]]
"""The computation of a tile, told the rows of its operands, its scratch and its constants as far as
there are any, and of its result."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stream:
    """Tiles that pass through the scratchpad one after another.

    Attributes
    ----------
    sources, target: what is read, in the order of a tile's boxes, and what is written.
    tiles: in order.
    compute: what the vector unit does with a tile; None where its bytes are only moved.
    scratch: rows that only the vector unit writes and reads while it computes a tile.
    constant: whole rows that all tiles read.
    pieces: transfers in which a tile's blocks come and go, where it is computed in such pieces.
    whole: operands have a slot for every tile, if they fit so.
    """

    sources: Sequence[Strided]
    target: Strided
    tiles: Sequence[Tile]
    compute: Compute | None = None
    scratch: int = 0
    constant: bytes = b""
    pieces: int = 1
    whole: bool = False

    @property
    def beside(self) -> list[int]:
        """Rows that lie on chip as long as the layer runs, by region."""
        return [n for n in (self.scratch, len(self.constant) // self.target.lanes) if n]

    @property
    def moved_bytes(self) -> int:
        """Bytes that tiles are loaded from and stored to; what two of them share comes once."""
        rows, before = 0, list[Box]()
        for tile in self.tiles:
            rows += tile.target.rows + sum(b.rows for b in tile.sources if b not in before)
            before = [*tile.sources]
        return rows * self.target.lanes

    def operand_row(self, number: int, region: Region, slot: int, slots: int) -> int:
        """First row of a slot of an operand's region (`slot_row`)."""
        return slot_row(region, slot, slots, [tile.sources[number] for tile in self.tiles])


def slot_row(region: Region, slot: int, slots: int, boxes: Sequence[Box]) -> int:
    """First row of a slot of an operand or result, told its boxes, tile by tile.

    Where there is a slot for each tile they lie one behind the other, as they do in DRAM: what a
    tensor has on chip may then be read where it lies (compiler/emit/redirected.py).
    """
    if slots < len(boxes):
        return region.slot(slot, slots)
    return region.row + slot * max(box.rows for box in boxes)


def stream_key(layer: Stream, config: AcceleratorConfig) -> Hashable:
    """All that the times of a stream depend on, but for where its tensors lie."""
    sizes = layer.scratch, len(layer.constant), layer.pieces, layer.whole
    rows, done = [0] * (len(layer.sources) + len(layer.beside)), list[list[tuple[str, int]]]()
    if layer.compute is not None:
        ends = layer.tiles[0], layer.tiles[-1]
        done = [durations(layer.compute(tile, rows, 0), config) for tile in ends]
    return repr((layer.tiles, sizes, done))


def durations(
    instructions: Iterable[UnitInstruction], config: AcceleratorConfig
) -> list[tuple[str, int]]:
    """Kinds of VECTOR's instructions, and how long it takes for each."""
    return [
        (type(each).__name__, vector_duration(each, config))
        for each in instructions
        if isinstance(each, VectorInstruction)
    ]


def flat(view: Strided) -> Strided:
    """A whole tensor as one line of rows, blocks included."""
    assert view.dense, view
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


TILES = 4
"""Of a tensor that would fit as one, so that loading, computing and storing overlap."""
LEAST_ROWS = 64
"""Of such a tile: below, starts cost more than the overlap saves."""


def pieces_of(box: Box, pieces: int) -> list[Box]:
    """A box cut into about so many pieces of some blocks."""
    size = ceil_div(box.blocks, pieces)
    return [
        dataclasses.replace(box, block=box.block + first, blocks=count)
        for first, count in cuts(box.blocks, size)
    ]


def slot_rows(streams: int, config: AcceleratorConfig, rows: int = 0) -> int:
    """Rows of one of two slots when the banks are shared equally by so many regions.

    No more than a tensor of some rows needs to come in a few tiles.
    """
    banks = config.memory.activation_banks // streams
    most = banks * config.memory.activation_bank_rows // 2
    return min(most, max(ceil_div(rows, TILES), LEAST_ROWS)) if rows else most


COPY_SLOTS = 4
"""Tiles of a copy that are on their way at a time."""


def copy_limit(config: AcceleratorConfig) -> int:
    """Rows of a tile that is only moved."""
    return config.memory.activation_rows // COPY_SLOTS


@dataclasses.dataclass(frozen=True, slots=True)
class _Places:
    """Regions of a stream, with how many tiles on chip, and rows of what is beside."""

    inputs: Sequence[tuple[Region, int]]
    output: tuple[Region, int]
    beside: Sequence[int] = ()


def _places(layer: Stream, config: AcceleratorConfig) -> _Places | None:
    """Every operand and the result has banks of its own; None where they do not fit.

    Two tiles are on chip, or one, which is loaded when the one before is done; more where they fit
    the same banks: then less of what is on chip is overwritten (compiler/emit/onchip.py).
    """
    if layer.compute is None:
        regions = split_banks([config.memory.activation_rows], config)
        return None if regions is None else _Places([(regions[0], COPY_SLOTS)], (regions[0], 0))
    largest, result = largest_boxes(layer)
    own = layer.beside
    for depth in (*([len(layer.tiles)] if layer.whole else []), 2, 1):
        regions = last_banks([2 * result, *own, *(depth * rows for rows in largest)], config)
        if regions is not None:
            output, *others = regions
            beside = [region.row for region in others[: len(own)]]
            slots = [
                (region, _slots(region, rows, depth, len(layer.tiles)))
                for region, rows in zip(others[len(own) :], largest, strict=True)
            ]
            return _Places(slots, (output, _slots(output, result, 2, len(layer.tiles))), beside)
    return None


def _slots(region: Region, rows: int, least: int, tiles: int) -> int:
    """How many tiles of some rows a region holds, no more than there are."""
    return max(least, min(region.rows // rows, tiles))


def largest_boxes(layer: Stream) -> tuple[list[int], int]:
    """Rows of the largest box of each operand, and of the result."""
    operands = zip(*(tile.sources for tile in layer.tiles), strict=True)
    rows = [max(box.rows for box in boxes) for boxes in operands]
    return rows, max(tile.target.rows for tile in layer.tiles)


def check(layer: Stream, config: AcceleratorConfig) -> None:
    """Raise RefusedError unless tiles fit the scratchpad and instructions hold their fields."""
    places = _places(layer, config)
    if places is None:
        rows, result = largest_boxes(layer)
        memory = config.memory
        beside = f", {layer.beside} beside them" if layer.beside else ""
        raise RefusedError(
            f"no tile fits: operands of {rows} rows{beside} and two results of {result} need banks "
            f"of their own; {config.name} has {memory.activation_banks} of "
            f"{memory.activation_bank_rows} rows"
        )
    numbers = {0, len(layer.tiles) - 1}
    numbers.add(max(range(len(layer.tiles)), key=lambda n: layer.tiles[n].target.rows))
    try:
        for number in numbers:
            for instruction in _sample(layer, layer.tiles[number]):
                instruction.encode()
    except (EncodingError, TransferError) as error:
        raise RefusedError(f"an instruction cannot express it: {error}") from error


def _sample(layer: Stream, tile: Tile) -> Iterable[UnitInstruction]:
    for view, box in zip(layer.sources, tile.sources, strict=True):
        yield from load_box(view, box, 0)
    if layer.compute is not None:
        yield from layer.compute(tile, [0] * (len(tile.sources) + len(layer.beside)), 0)
    yield store_box(layer.target, tile.target, 0)


def operand_ring(layer: Stream, number: int, region: Region, depth: int) -> Ring:
    """Slots that boxes of an operand are brought into."""

    def fill(key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, Box)
        row = layer.operand_row(number, region, slot, depth)
        return [
            load
            for part in pieces_of(key, layer.pieces)
            for load in load_box(
                layer.sources[number], part, row + (part.block - key.block) * part.positions
            )
        ]

    return Ring(depth, fill)


def emit(emitter: Emitter, layer: Stream) -> None:
    """Load, compute and store tiles.

    Raises
    ------
    RefusedError
        If they do not fit (`check`).
    """
    check(layer, emitter.config)
    places = _places(layer, emitter.config)
    assert places is not None  # check
    output, kept = places.output
    if layer.constant:
        row = places.beside[-1]
        emitter.emit(emitter.load_constant(layer.constant, Space.ACTIVATION, row))

    # What was stored first is loaded first: the other one may still be on its way.
    order = sorted(
        range(len(layer.sources)), key=lambda i: emitter.stored(layer.sources[i].address)
    )

    results = [tile.target for tile in layer.tiles]

    def step(number: int) -> Step:
        tile = layer.tiles[number]

        def body(slots: Slots) -> None:
            rows = [
                layer.operand_row(i, region, slots[str(i)], depth)
                for i, (region, depth) in enumerate(places.inputs)
            ]
            result = rows[0]
            if layer.compute is not None:
                result = slot_row(output, number % kept, kept, results)
                for instruction in layer.compute(tile, [*rows, *places.beside], result):
                    emitter.emit(instruction)
            for part in pieces_of(tile.target, layer.pieces):
                row = result + (part.block - tile.target.block) * part.positions
                emitter.emit(store_box(layer.target, part, row))

        # Boxes are the keys: an operand that tiles share is loaded once.
        return Step({str(i): tile.sources[i] for i in order}, body)

    rings = {
        str(i): operand_ring(layer, i, region, depth)
        for i, (region, depth) in enumerate(places.inputs)
    }
    run(emitter, rings, [step(number) for number in range(len(layer.tiles))])
