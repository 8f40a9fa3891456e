"""Random programs in which hFA instructions mix with the others."""

from __future__ import annotations

import dataclasses
import itertools
import math

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Drain, deltas
from hw.arch.timing import STRIP_LINES
from hw.arch.walk import transformed_nest
from hw.arch.winograd import ALGORITHMS, Algorithm
from tests.ladder.programs import RandomProgram

ROW, PLANE = 12, 12 * 6
"""Scratchpad rows of a line and of a frame."""


class TransformedProgram(RandomProgram):
    """As RandomProgram; two of three ARRAY and DRAIN instructions transform.

    Parameters
    ----------
    config: the accelerator; feature hfa.
    seed: of everything that is drawn.
    steps: random unit instructions between the first loads and the last stores.
    """

    def __init__(self, config: AcceleratorConfig, seed: int, steps: int = 24):
        super().__init__(config, seed, steps)
        self.accumulators = min(256, config.memory.accumulator_rows)
        self._read = config.memory.activation_rows

    def array(self) -> None:
        """A transformed convolution, or what RandomProgram draws."""
        if "hfa_depthwise" in self.config.features and self._draw(0, 1):
            self._tiled_depthwise()
        elif self._draw(0, 2):
            self._transformed_array()
        else:
            super().array()

    def drain(self) -> None:
        """Results of tiles from whatever the accumulators hold, or a plain drain."""
        if self._draw(0, 2):
            self._transformed_drain()
        else:
            super().drain()

    def _algorithm(self) -> Algorithm:
        nested = "hfa_nested" in self.config.features
        return self.random.choice(
            [
                a
                for a in ALGORITHMS
                if (a.temporal, a.spatial) != (2, 2)
                and (nested or not (a.temporal and a.spatial))
                and math.prod(a.points) <= self.accumulators
            ]
        )

    def _tiles(self, algorithm: Algorithm) -> tuple[tuple[int, int, int], int]:
        """Tiles along x, y, t and output blocks whose points fit U and an accumulator bank."""
        points = math.prod(algorithm.points)
        room = min(self.config.memory.transformed_rows, self.accumulators) // points
        tiles = []
        for largest in (4, 3, 2):
            tiles.append(self._draw(1, max(1, min(largest, room))))
            room //= tiles[-1]
        x, y, t = tiles
        blocks = self.accumulators // (points * math.prod(tiles))
        return (x, y, t), self._draw(1, min(2, blocks))

    def _transformed_array(self) -> None:
        draw = self._draw
        algorithm = self._algorithm()
        (x, y, t), co = self._tiles(algorithm)
        (pt, py, px), (mt, my, mx) = algorithm.points, algorithm.outputs
        kt = pt if algorithm.temporal else draw(1, 3)
        ci = draw(1, 3)
        dilation = (draw(1, 2), draw(1, 2), draw(1, 2))
        step = 1 if algorithm.temporal else draw(1, 2)
        tiled = (mx * dilation[0], my * dilation[1], mt * dilation[2] if mt > 1 else step)
        if not algorithm.spatial:
            tiled = (1, 1, tiled[2])
        spans = (1, ROW, PLANE)
        pixel = tuple(d * s for d, s in zip(dilation, spans, strict=True))
        tile = tuple(d * s for d, s in zip(tiled, spans, strict=True))
        counts = (x, y, t, co, px, py, kt, ci)
        stride = (*pixel, *tile, pixel[2], draw(0, 1))
        starts = tuple(draw(-2, 1) for _ in range(3))
        corner = draw(200, self._read - 3 * PLANE)
        blocks = math.prod(algorithm.kernel) * co * ci * (1 if algorithm.temporal else kt)
        self.code.append(
            Array(
                mode=ArrayMode.HFA,
                transform_t=algorithm.temporal,
                transform_s=algorithm.spatial,
                accumulate=draw(0, 1),
                signed=draw(0, 1),
                zero_point=draw(0, 255),
                activation=corner + sum(s * d for s, d in zip(starts, spans, strict=True)),
                weight=self._weights(blocks),
                accumulator=self._accumulator(math.prod((x, y, t, co, *algorithm.points))),
                counts=counts,
                deltas=deltas(transformed_nest(counts, algorithm.temporal), stride),
                starts=starts,
                steps=(1, 1, step),
                dilations=dilation,
                bounds=(draw(2, 8), draw(2, 6), draw(1, 3)),
            )
        )

    def _tiled_depthwise(self) -> None:
        draw = self._draw
        x, y = 2 * draw(2, 5), draw(2, 4)
        ragged_x, ragged_y = draw(0, 1), draw(0, 1)
        results = (x - 2 - ragged_x) * (2 * y - 2 - ragged_y)
        room = max(1, self.accumulators // results)
        t = draw(1, min(3, room))
        co = draw(1, min(3, max(1, room // t)))
        if results * t * co > self.accumulators:
            return
        counts = (x, y, t, co, 1, self.config.tap_blocks, 1, 1)
        stride = (ROW, 1, STRIP_LINES * ROW, PLANE, draw(0, 1), 0, 0, 0)
        starts = tuple(draw(-2, 1) for _ in range(3))
        corner = draw(200, self.config.memory.activation_rows - 4 * PLANE)
        spans = (1, ROW, PLANE)
        self.code.append(
            Array(
                mode=ArrayMode.HFA_DEPTHWISE,
                transform_s=1,
                window_x=3,
                window_y=3,
                emit_x=1 + ragged_x,
                emit_y=1 + ragged_y,
                accumulate=draw(0, 1),
                signed=draw(0, 1),
                zero_point=draw(0, 255),
                activation=corner + sum(s * d for s, d in zip(starts, spans, strict=True)),
                weight=self._weights(co * self.config.tap_blocks),
                accumulator=self._accumulator(results * t * co),
                counts=counts,
                deltas=deltas((STRIP_LINES, x, y, t, co, 1, 1, 1), stride),
                starts=starts,
                bounds=(draw(2, 8), draw(2, 6), draw(1, 3)),
            )
        )

    def _transformed_drain(self) -> None:
        draw = self._draw
        algorithm = self._algorithm()
        tiles, co = self._tiles(algorithm)
        points, outputs = algorithm.points[::-1], algorithm.outputs[::-1]
        window = tuple(self.random.choice([w for w in (1, 1, 2, 4) if m % w == 0]) for m in outputs)
        counts = []
        for n, m, w in zip(tiles, outputs, window, strict=True):
            counts.append(n * m // w - draw(0, m // w - 1))
        x, y, t = counts
        inner = (*tiles, *points)
        place = list(itertools.accumulate(inner, int.__mul__, initial=1))
        nest = (*points, *tiles, co)
        pitch = draw(1, 2)
        width = self.config.array.blocks_per_row
        rows = pitch * width * math.prod(counts) * co
        self.code.append(
            Drain(
                transform_t=algorithm.temporal,
                transform_s=algorithm.spatial,
                accumulator=self._accumulator(math.prod(inner) * co),
                counts=(x, y, t, co),
                window=window,
                accumulator_deltas=deltas(nest, (*place[3:6], *place[:3], place[6])),
                destination=self._rows(rows),
                destination_deltas=(
                    pitch * x * y * t,
                    pitch,
                    pitch * x,
                    pitch * x * y,
                    pitch * x * y * t * width,
                ),
                parameter=0,
                zero_point=draw(0, 255),
                low=draw(0, 20),
                high=draw(100, 255),
            )
        )


class LateProgram(TransformedProgram):
    """ARRAYs in mode HFA and DRAINs alone; many ARRAYs wait for accumulators, and nothing else.

    Three of four DRAINs write to the upper half of the activations, of which no ARRAY reads; three
    of four ARRAYs have the algorithm of the one before.
    """

    def __init__(self, config: AcceleratorConfig, seed: int, steps: int = 24):
        super().__init__(config, seed, steps)
        self._read //= 2
        self._latest: Algorithm | None = None

    def array(self) -> None:
        """A transformed convolution."""
        self._transformed_array()

    def drain(self) -> None:
        """Results of tiles, seldom where ARRAYs read."""
        self._transformed_drain()
        drain = self.code[-1]
        assert isinstance(drain, Drain)
        if drain.destination < self._read and self._draw(0, 3):
            moved = drain.destination + self._read
            self.code[-1] = dataclasses.replace(drain, destination=moved)

    elementwise, transfer, reduce = array, drain, drain

    @property
    def folds(self) -> bool:
        """Whether VECTOR folds; it does nothing here."""
        return False

    def _algorithm(self) -> Algorithm:
        if self._latest is None or not self._draw(0, 3):
            self._latest = super()._algorithm()
        return self._latest
