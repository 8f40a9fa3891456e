"""Weights and requantization parameters of a tiled convolution on chip.

Weights come in pieces for each group of output blocks, parameters for as many groups as fit.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import numpy.typing as npt

from compiler.array.fields import weight_bytes
from compiler.array.job import Job, Piece, boxes
from compiler.emit.emitter import Emitter
from compiler.emit.schedule import Ring
from compiler.tile.geometry import Range, common, cuts, product
from compiler.tile.problem import Tiling
from hw.arch.isa import Space, UnitInstruction


class Constants:
    """Takes room for a layer's constants, and brings them there.

    Parameters
    ----------
    emitter, job, tiling: to where, of what, how it is computed.
    guest: the layer has half of the weight memory (compiler/backend/guests.py).

    Members
    -------
    pieces: of the weights of each group of output blocks.
    """

    def __init__(self, emitter: Emitter, job: Job, tiling: Tiling, guest: bool):
        self.emitter, self.config, self.job, self.tiling = emitter, emitter.config, job, tiling
        self._groups = cuts(job.problem.groups, tiling.group)
        sizes, config = tiling.pieces, emitter.config
        axes = job.problem.axes
        taps = boxes([cuts(a.kernel, n) for a, n in zip(axes, sizes.taps, strict=True)])
        whole = [
            Piece(blocks, box) for blocks in cuts(job.problem.reduced, sizes.blocks) for box in taps
        ]
        self.pieces = [piece for piece in whole if self.parts(piece)]
        blocks = sizes.blocks * product(sizes.taps) * tiling.group
        self._piece_beats = blocks * config.weight_block_beats
        self._weight_slots = self._slots(guest)
        self._weight_base = emitter.weights.take(self._piece_beats * self._weight_slots)
        parameter_beats = config.requantize_steps * config.parameter_row_beats
        self._parameter_beats = tiling.group * parameter_beats
        room = emitter.parameters.capacity // self._parameter_beats
        # As few transfers as can be: each is an instruction that has to be fetched.
        slots = 1 if len(self._groups) <= room else 2
        self._chunk = min(len(self._groups), max(1, room // slots))
        self._parameter_slots = min(slots, room)
        self._parameter_base = emitter.parameters.take(
            self._parameter_slots * self._chunk * self._parameter_beats
        )

    def _slots(self, guest: bool) -> int:
        """Pieces of the weights on chip at a time.

        Where they stream, half of the memory does, unless a tile needs more again: so the next
        layer's first ones come while the last ones here are used.
        """
        slots, per_group = self.tiling.pieces.slots, len(self.pieces)
        if slots >= len(self._groups) * per_group:
            return slots
        half = self.config.weight_beats // 2 // self._piece_beats
        return half if guest else min(slots, max(2, half, 2 * per_group))

    @property
    def resident(self) -> bool:
        """Whether all weights lie on chip."""
        return self._weight_slots >= len(self._groups) * len(self.pieces)

    def rings(self, free: bool) -> dict[str, Ring]:
        """Of weights and parameters; `free`: the weights need not wait (`Ring.free`)."""
        return {
            "weight": Ring(self._weight_slots, self._fill_weights, free=free),
            "parameter": Ring(self._parameter_slots, self._fill_parameters),
        }

    def chunk(self, group: int) -> int:
        """Number of what comes with the parameters of a group."""
        return group // self._chunk

    def weight(self, slot: int) -> int:
        """First beat of a piece of the weights."""
        return self._weight_base + slot * self._piece_beats

    def parameter(self, slot: int, group: int) -> int:
        """First beat of a group's parameters."""
        number = slot * self._chunk + group % self._chunk
        return self._parameter_base + number * self._parameter_beats

    def parts(self, piece: Piece) -> list[Piece]:
        """What of a piece each ARRAY instruction takes: packed blocks serve some lines each."""
        packing = self.job.packing
        if packing is None or packing.across is None:
            return [piece]
        parts = []
        for pairs, some in packing.spans:
            taps = list(piece.taps)
            taps[packing.across] = common(piece.taps[packing.across], pairs)
            blocks = common(piece.blocks, some)
            if blocks[1] > 0 and taps[packing.across][1] > 0:
                parts.append(Piece(blocks, (taps[0], taps[1], taps[2])))
        return parts

    def _fill_weights(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, tuple)
        data = self._weight_data(self.pieces[key[1]], self._groups[key[0]])
        return [self.emitter.load_constant(data, Space.WEIGHT, self.weight(slot))]

    def _weight_data(self, piece: Piece, group: Range) -> bytes:
        """A piece of the weights as it comes on chip."""
        algorithm = self.job.kernel.algorithm
        return b"".join(
            weight_bytes(self._weights(part, group), algorithm, self.config)
            for part in self.parts(piece)
        )

    def _weights(self, piece: Piece, group: Range) -> npt.NDArray[np.int8]:
        x, y, t, blocks, groups = (
            slice(first, first + count) for first, count in (*piece.taps, piece.blocks, group)
        )
        return self.job.weights[groups, blocks, t, y, x]

    def _fill_parameters(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int)
        chunk = self._groups[key * self._chunk : (key + 1) * self._chunk]
        first, last = chunk[0][0], sum(chunk[-1])
        data = b"".join(self.job.parameters[first:last])
        local = self._parameter_base + slot * self._chunk * self._parameter_beats
        return [self.emitter.load_constant(data, Space.PARAMETER, local)]
