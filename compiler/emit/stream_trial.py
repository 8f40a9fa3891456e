"""Cycles of a stream: emitted and timed (compiler/emit/trial.py)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from compiler.emit import streams
from compiler.emit.streams import Stream, stream_key
from compiler.emit.trial import (
    AGAIN,
    BESIDE,
    PARTS,
    SOURCE,
    TARGET,
    Asked,
    Partly,
    Trial,
    behind,
    layer_cycles,
    placed,
    rest,
)
from hw.arch.config import AcceleratorConfig

SAMPLED = 16
"""Tiles of each part of a long stream."""


def trial_cycles(layer: Stream, config: AcceleratorConfig) -> int:
    """Cycles of a stream in a network; neither values nor the place of tensors change them."""
    sources = [placed(view, SOURCE + n * BESIDE) for n, view in enumerate(layer.sources)]
    plain = dataclasses.replace(layer, sources=sources, target=placed(layer.target, TARGET))
    key = "stream", repr((sources, plain.target, stream_key(plain, config)))
    return layer_cycles(Asked(key, lambda to, again: _Sampled(to, again, plain)), config)


class _Sampled(Partly):
    """The first tiles of a long stream; `again` behind itself, which stored its operand's end."""

    def __init__(self, emitter: Trial, again: bool, layer: Stream):
        self.emitter, self.layer = emitter, layer
        self._sizes = [tile.target.rows for tile in layer.tiles]
        if again:
            sources = [behind(layer.sources[0], layer.target), *layer.sources[1:]]
            target = placed(layer.target, AGAIN)
            self.layer = dataclasses.replace(layer, sources=sources, target=target)
        ends = tuple(n * SAMPLED for n in range(1, PARTS + 1))
        if ends[-1] * 3 // 2 < len(layer.tiles):
            self._ends = ends
            self.layer = dataclasses.replace(self.layer, tiles=layer.tiles[: ends[-1]])

    def emit(self) -> None:
        """Emit it."""
        streams.emit(self.emitter, self.layer)

    def left(self, stored: Sequence[int]) -> int:
        """Cycles of the tiles that are not emitted, told when the others are stored."""
        each = self.layer.pieces
        return rest(stored[each - 1 :: each], self._sizes, self._ends)
