"""LOAD and STORE of boxes of a tensor."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from compiler.ir import CompilerError
from compiler.tensor import TensorType
from compiler.tile.limits import MAX_BEATS, MAX_COUNT
from hw.arch.isa import ADDRESS_BITS, Load, Space, Store, deltas
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.program import Tensor

RUN_LEVELS = 3
"""Levels of runs in a transfer."""


FIRST_PARTS, LEAST_BEATS = 4, 96
"""Transfers that a layer's first operand comes in at most, and their beats at least."""


def first_parts(blocks: int, rows: int) -> int:
    """Transfers that a layer's first operand comes in.

    The layer before may still be making the last blocks while the first ones come.
    """
    return max(1, min(FIRST_PARTS, rows // LEAST_BEATS, blocks))


class TransferError(CompilerError):
    """A box that one instruction cannot transfer."""


def row_field(row: int) -> int:
    """A scratchpad row as instructions carry it.

    The first position of a window may lie in the padding, and its row before row 0: addresses
    count modulo 2^16.
    """
    return row & ((1 << ADDRESS_BITS) - 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Strided:
    """A tensor in DRAM with some of its axes merged.

    Attributes
    ----------
    address: DRAM byte address of block 0.
    blocks: lane blocks.
    sizes: (x, y, t), innermost first.
    pitches: bytes between neighbours along x, y, t and between blocks.
    lanes: bytes of a row.
    places: addresses of all blocks where they are not evenly spaced; () where they are.
    """

    address: int
    blocks: int
    sizes: tuple[int, int, int]
    pitches: tuple[int, int, int, int]
    lanes: int
    places: tuple[int, ...] = ()

    @classmethod
    def of(cls, tensor: Tensor) -> Strided:
        """The whole tensor, axes as they are."""
        layout = tensor.layout
        lanes = layout.lanes
        row = layout.width * lanes
        frame = row * layout.height
        return cls(
            tensor.address,
            layout.blocks,
            (layout.width, layout.height, layout.frames),
            (lanes, row, frame, frame * layout.frames),
            lanes,
            tensor.places,
        )

    def shifted(self, moved: int) -> Strided:
        """The same so many bytes on."""
        places = tuple(place + moved for place in self.places)
        return dataclasses.replace(self, address=self.address + moved, places=places)

    @property
    def last(self) -> int:
        """Address of the last row."""
        inside = sum((n - 1) * pitch for n, pitch in zip(self.sizes, self.pitches, strict=False))
        if self.places:
            return self.places[-1] + inside
        return self.address + (self.blocks - 1) * self.pitches[3] + inside

    @property
    def dense(self) -> bool:
        """Whether rows follow one another through all blocks."""
        x, y, t = self.sizes
        pitches = self.lanes, x * self.lanes, x * y * self.lanes, x * y * t * self.lanes
        return not self.places and self.pitches == pitches

    def part(self, first: int, blocks: int, step: int = 1) -> Strided:
        """Some blocks, evenly spaced."""
        x, y, t, block = self.pitches
        if self.places:
            some = self.places[first : first + (blocks - 1) * step + 1 : step]
            return dataclasses.replace(self, address=some[0], blocks=blocks, places=some)
        return dataclasses.replace(
            self,
            address=self.address + first * block,
            blocks=blocks,
            pitches=(x, y, t, step * block),
        )

    def chosen(self, blocks: Sequence[int]) -> Strided:
        """Some blocks, ascending."""
        pitch = self.pitches[3]
        all_places = self.places or [self.address + n * pitch for n in range(self.blocks)]
        some = tuple(all_places[block] for block in blocks)
        return dataclasses.replace(self, address=some[0], blocks=len(some), places=some)

    @property
    def whole(self) -> Box:
        """All of it."""
        return Box((0, 0, 0), self.sizes, 0, self.blocks)

    def merged(self, levels: int) -> Strided:
        """Merge the innermost `levels` + 1 axes into x; 0 changes nothing."""
        x, y, t = self.sizes
        px, _, pt, pb = self.pitches
        if levels == 0:
            return self
        if levels == 1:
            return dataclasses.replace(self, sizes=(x * y, 1, t), pitches=(px, pt, pt, pb))
        return dataclasses.replace(self, sizes=(x * y * t, 1, 1), pitches=(px, pb, pb, pb))


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """A part of a view: first element and size along x, y, t, and a range of blocks."""

    first: tuple[int, int, int]
    size: tuple[int, int, int]
    block: int
    blocks: int

    @property
    def positions(self) -> int:
        """Rows of one block."""
        return self.size[0] * self.size[1] * self.size[2]

    @property
    def rows(self) -> int:
        """Rows of all blocks."""
        return self.positions * self.blocks

    def pitches(self) -> tuple[int, int, int, int]:
        """Rows between neighbours along x, y, t, block where the box lies densely packed."""
        x, y, _ = self.size
        return 1, x, x * y, self.positions

    def common(self, other: Box) -> Box | None:
        """What lies in both, or None."""
        mine = [*zip(self.first, self.size, strict=True), (self.block, self.blocks)]
        others = [*zip(other.first, other.size, strict=True), (other.block, other.blocks)]
        first = [max(a, b) for (a, _), (b, _) in zip(mine, others, strict=True)]
        size = [
            min(a + n, b + m) - f for (a, n), (b, m), f in zip(mine, others, first, strict=True)
        ]
        if min(size) < 1:
            return None
        return Box((first[0], first[1], first[2]), (size[0], size[1], size[2]), first[3], size[3])


def nest(
    dims: Iterable[tuple[int, int, int]], beat: int
) -> tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Merge (count, DRAM stride, local stride) levels, innermost first; innermost is the run."""
    levels: list[tuple[int, int, int]] = [(1, beat, 1)]
    for count, dram, local in dims:
        if count == 1:
            continue
        inner, inner_dram, inner_local = levels[-1]
        limit = MAX_BEATS if len(levels) == 1 else MAX_COUNT
        if dram == inner * inner_dram and local == inner * inner_local and inner * count <= limit:
            levels[-1] = (inner * count, inner_dram, inner_local)
        else:
            levels.append((count, dram, local))
    beats = levels[0][0]
    outer = levels[1:]
    if len(outer) > RUN_LEVELS:
        raise TransferError(f"a box of {len(outer)} levels of runs; a transfer has {RUN_LEVELS}")
    outer += [(1, 0, 0)] * (RUN_LEVELS - len(outer))
    counts = tuple(level[0] for level in outer)
    return (
        beats,
        counts,
        deltas(counts, [level[1] for level in outer]),
        deltas(counts, [level[2] for level in outer]),
    )


def _levels(
    view: Strided, box: Box, pitches: tuple[int, int, int, int]
) -> tuple[int, list[tuple[int, int, int]]]:
    address = view.address + box.block * view.pitches[3]
    dims = []
    for axis in range(3):
        address += box.first[axis] * view.pitches[axis]
        dims.append((box.size[axis], view.pitches[axis], pitches[axis]))
    dims.append((box.blocks, view.pitches[3], pitches[3]))
    return address, dims


def block_runs(tensor: Tensor, row: int, blocks: int) -> Iterator[tuple[int, int, int, int]]:
    """Evenly spaced ones of a tensor's blocks: how many come before, how many they are, where.

    Parameters
    ----------
    tensor: whose.
    row: counted through the tensor; its block is the first one.
    blocks: how many.

    Yields
    ------
    Blocks before and blocks of each run, address of the row in its first one, bytes between them.
    """
    if not tensor.places:
        yield 0, blocks, tensor.row_address(row), tensor.block_bytes
        return
    rows = tensor.layout.positions
    places = [tensor.row_address(row + n * rows) for n in range(blocks)]
    for first, count, step in _evenly(places):
        yield first, count, places[first], step


def _evenly(places: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """First, count and step of ascending, evenly spaced addresses."""
    first = 0
    while first < len(places):
        last = first + 1
        step = places[last] - places[first] if last < len(places) else 0
        while last < len(places) and step > 0 and places[last] - places[last - 1] == step:
            last += 1
        yield first, last - first, step
        first = last


def _even(view: Strided, box: Box) -> Iterator[tuple[Strided, int]]:
    """The box's blocks as views of evenly spaced ones, and how many blocks come before each."""
    if not view.places:
        yield view.part(box.block, box.blocks), 0
        return
    x, y, t, _ = view.pitches
    places = view.places[box.block : box.block + box.blocks]
    for first, count, step in _evenly(places):
        pitches = (x, y, t, step)
        even = Strided(places[first], count, view.sizes, pitches, view.lanes)
        yield even, first


def load_box(
    view: Strided, box: Box, row: int, pitches: tuple[int, int, int, int] | None = None
) -> list[Load]:
    """Bring a box into the scratchpad: one transfer, several where blocks are not evenly spaced.

    Parameters
    ----------
    view, box: what.
    row: scratchpad row of its first element.
    pitches: rows between neighbours along x, y, t, block; default: densely packed.
    """
    local_pitches = pitches or box.pitches()
    loads = []
    for even, before in _even(view, box):
        part = dataclasses.replace(box, block=0, blocks=even.blocks)
        address, dims = _levels(even, part, local_pitches)
        beats, counts, dram, local = nest(dims, view.lanes)
        loads.append(
            Load(
                dram=address,
                space=Space.ACTIVATION,
                local=row + before * local_pitches[3],
                beats=beats,
                counts=counts,
                dram_deltas=dram,
                local_deltas=local,
            )
        )
    return loads


def store_box(
    view: Strided, box: Box, row: int, pitches: tuple[int, int, int, int] | None = None
) -> Store:
    """Write a box back to DRAM; as `load_box`."""
    address, dims = _levels(view, box, pitches or box.pitches())
    beats, counts, dram, local = nest(dims, view.lanes)
    return Store(
        dram=address,
        local=row,
        beats=beats,
        counts=counts,
        dram_deltas=dram,
        local_deltas=local,
    )


def at(tensor: Tensor, address: int) -> Tensor:
    """The same tensor elsewhere."""
    places = tuple(place + address - tensor.address for place in tensor.places)
    return dataclasses.replace(tensor, address=address, places=places)


def tensor_of(kind: TensorType, lanes: int, lane_map: LaneMap | None = None) -> Tensor:
    """A tensor that lies nowhere, dense without `lane_map`; asked are layout and quantization."""
    layout = TensorLayout(lane_map or LaneMap.dense(kind.shape[0], lanes), *kind.shape[1:])
    return Tensor(
        "", 0, layout, kind.signed, kind.scale, kind.zero_point, kind.onnx_shape, kind.axes
    )
