"""Random programs that are valid by construction: stimuli for RTL, cycle and functional simulation.

A program loads random rows, weights and parameters, runs random instructions of every unit on
them, and stores what they produced. Dependencies are placed by `place_waits`, which knows nothing
but what instructions touch (hw/arch/walk.py).
"""

from __future__ import annotations

import math

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    FIXED_POINT,
    Array,
    ArrayMode,
    Drain,
    Elementwise,
    ElementwiseOp,
    Load,
    Reduce,
    ReduceOp,
    Space,
    Store,
    deltas,
)
from hw.arch.program import Program
from tests.ladder.folds import FoldDraws
from tests.ladder.linking import DATA, OUTPUT, begin, halt, link, place_waits


class RandomProgram(FoldDraws):
    """Draws instructions; `build` links them.

    Parameters
    ----------
    config: the accelerator.
    seed: of everything that is drawn.
    steps: random unit instructions between the first loads and the last stores.
    """

    def __init__(self, config: AcceleratorConfig, seed: int, steps: int = 24):
        super().__init__(config, seed)
        self.steps = steps

    def build(self) -> Program:
        """Return the linked program; its memory holds random data, weights and parameters."""
        config = self.config
        self.load_banks()
        self.code += [self._load_weights(), self._load_parameters()]
        self.code += [self._clear_accumulators(bank) for bank in range(2)]
        kinds = [self.array, self.array, self.drain, self.transfer]
        if "vector" in config.features:
            kinds += [self.elementwise, self.reduce]
        if self.folds:
            self.load_tables()
            kinds += [self.dot, self.extreme, self.softmax, self.norm, self.permute]
        for _ in range(self.steps):
            self.random.choice(kinds)()
        for bank in range(config.memory.activation_banks):
            self.code.append(self._store_bank(bank))
        return link(config, [begin(config), *place_waits(self.code, config), halt()], self.data())

    # Drawing.

    def _rows(self, rows: int) -> int:
        """First of `rows` scratchpad rows inside one bank."""
        size = self.config.memory.activation_bank_rows
        bank = self._draw(0, self.config.memory.activation_banks - 1)
        return bank * size + self._draw(0, size - rows)

    def _nest(self, levels: int, largest: int) -> tuple[tuple[int, ...], int]:
        """Counts whose product stays small, and the rows of their dense span."""
        counts = []
        left = largest
        for _ in range(levels):
            count = self._draw(1, max(1, min(5, left)))
            left //= count
            counts.append(count)
        self.random.shuffle(counts)
        return tuple(counts), math.prod(counts)

    def _dense(self, counts: tuple[int, ...]) -> tuple[int, ...]:
        strides = [math.prod(counts[:i]) for i in range(len(counts))]
        return deltas(counts, strides)

    def array(self) -> None:
        """A GEMM of random taps with random clipping, or a depthwise window."""
        if "depthwise" in self.config.features and self.random.random() < 0.4:
            self._depthwise()
        else:
            self._gemm()

    def _gemm(self) -> None:
        draw = self._draw
        x, y, t = draw(1, 4), draw(1, 3), draw(1, 2)
        kx, ky, kt, co, ci = draw(1, 2), draw(1, 2), draw(1, 2), draw(1, 2), draw(1, 2)
        step = tuple(self._stride() for _ in range(3))
        row, plane = 12, 12 * 6
        spans = (1, row, plane)
        counts = (x, y, t, co, kx, ky, kt, ci)
        stride = (
            *(s * d for s, d in zip(step, spans, strict=True)),
            0,
            *spans,
            self.random.choice((0, 1)),
        )
        starts = tuple(draw(-1, 1) for _ in range(3))
        corner = draw(100, self.config.memory.activation_rows - 3 * plane)
        base = corner + sum(s * d for s, d in zip(starts, spans, strict=True))
        self.code.append(
            Array(
                mode=ArrayMode.GEMM,
                accumulate=draw(0, 1),
                signed=draw(0, 1),
                zero_point=draw(0, 255),
                activation=base,
                weight=self._weights(math.prod(counts[3:])),
                accumulator=self._accumulator(x * y * t * co),
                counts=counts,
                deltas=deltas(counts, stride),
                starts=starts,
                steps=step,
                dilations=(1, 1, 1),
                bounds=(draw(2, 8), draw(2, 6), draw(1, 3)),
                **self._weight_codes(),
            )
        )

    def _weight_codes(self) -> dict[str, int]:
        """How weights are read, where the machine has a choice."""
        if "attention" not in self.config.features:
            return {}
        unsigned = self._draw(0, 1)
        low = 0 if unsigned else -128
        return {"weight_unsigned": unsigned, "weight_zero_point": self._draw(low, low + 255)}

    def _stride(self) -> int:
        """A coordinate step: a small one, or one of four bits."""
        return self._draw(8, 15) if self.random.random() < 0.2 else self._draw(1, 2)

    def _depthwise(self) -> None:
        draw = self._draw
        window = (draw(1, 3), draw(1, 3))
        passes = -(-window[0] * window[1] // self.config.array.rows)
        emit = (draw(1, 3), draw(1, 3))
        x, y, t = draw(3, 7), draw(window[1], 5), draw(1, 2)
        counts = (x, y, t, 1, 1, passes, draw(1, 2), 1)
        stride = (1, 8, 48, 0, 0, 0, 48, 0)
        starts = (draw(-1, 0), draw(-1, 0), 0)
        width, height = min(x, 7), min(y, 5)
        emitted = ((x - window[0]) // emit[0] + 1) * ((y - window[1]) // emit[1] + 1) * t
        bank = self.config.memory.activation_bank_rows
        base = self._draw(0, self.config.memory.activation_banks - 1) * bank + 9
        self.code.append(
            Array(
                mode=ArrayMode.DEPTHWISE,
                accumulate=draw(0, 1),
                zero_point=draw(0, 255),
                activation=base + starts[0] + 8 * starts[1],
                weight=self._depthwise_weights(window[0] * window[1], passes, counts[6]),
                accumulator=self._accumulator(emitted),
                counts=counts,
                deltas=deltas(counts, stride),
                starts=starts,
                bounds=(width, height, draw(1, 3)),
                window_x=window[0],
                window_y=window[1],
                emit_x=emit[0],
                emit_y=emit[1],
            )
        )

    def _weights(self, blocks: int, end: int | None = None) -> int:
        step = self.config.weight_block_beats
        room = min(self.config.weight_beats, 256 * step, end or 256 * step) // step - blocks
        return self._draw(0, room) * step

    def _depthwise_weights(self, taps: int, passes: int, repeats: int) -> int:
        """First beat of blocks whose rows beyond the window's taps are zero."""
        # Rows without a tap stay zero: no bank that VECTOR writes.
        first = self._weights(passes * repeats, self.config.weight_bank_beats)
        array = self.config.array
        for repeat in range(repeats):
            start = first * self.config.port.bytes + repeat * passes * array.multipliers
            self._no_taps.append((start + taps * array.cols, start + passes * array.multipliers))
        return first

    def _accumulator(self, rows: int) -> int:
        size = self.config.memory.accumulator_rows
        return self._draw(0, 1) * size + self._draw(0, self.accumulators - rows)

    def drain(self) -> None:
        """Requantize some accumulator rows, with or without a pooling window."""
        draw = self._draw
        window = (draw(1, 2), draw(1, 2), 1)
        x, y = draw(1, 4), draw(1, 3)
        width = x * window[0]
        inner = (*window, x, y, 1, 1)
        stride = (1, width, 0, window[0], width * window[1], 0, 0)
        counts = (x, y, 1, 1)
        out = (self.config.array.blocks_per_row, *counts)
        self.code.append(
            Drain(
                accumulator=self._accumulator(width * y * window[1]),
                counts=counts,
                window=window,
                accumulator_deltas=deltas(inner, stride),
                destination=self._rows(math.prod(out)),
                destination_deltas=self._dense(out),
                parameter=draw(0, 1)
                * self.config.requantize_steps
                * self.config.parameter_row_beats,
                zero_point=draw(0, 255),
                low=draw(0, 20),
                high=draw(100, 255),
            )
        )

    def elementwise(self) -> None:
        """Copy, affine, product, maximum, minimum, or a difference in time."""
        draw = self._draw
        op = ElementwiseOp(draw(0, 4))
        previous = int(op is ElementwiseOp.AFFINE and self.random.random() < 0.4)
        counts, rows = self._nest(4, 40)
        if previous:
            counts = (counts[0] + 1, *counts[1:])
            rows = math.prod(counts)
        out = (counts[0] - previous, *counts[1:])
        first, second, third = self.random.sample(range(self.config.memory.activation_banks), 3)
        size = self.config.memory.activation_bank_rows
        spread = {}
        if self.folds and not previous and op is not ElementwiseOp.COPY:
            spread = {"spread": 1, "lane": draw(0, self.config.lane_block - 1)}
        self.code.append(
            Elementwise(
                op=op,
                previous=previous,
                **(spread if self.folds and draw(0, 1) else {}),
                signed=(draw(0, 1), draw(0, 1)),
                counts=counts,
                source0=first * size + draw(0, size - rows),
                source0_deltas=self._dense(counts),
                source1=second * size + draw(0, size - rows),
                source1_deltas=self._dense(counts),
                destination=third * size + draw(0, size - rows),
                destination_deltas=self._dense(out),
                zero_point=draw(0, 255),
                low=draw(0, 20),
                high=draw(100, 255),
                **self._scales(op),
            )
        )

    def _scales(self, op: ElementwiseOp) -> dict[str, int]:
        draw = self._draw
        match op:
            case ElementwiseOp.AFFINE:
                return {
                    "multiplier_a": draw(1 << 23, (1 << 24) - 1),
                    "shift_a": draw(18, 22),
                    "multiplier_b": draw(1 << 23, (1 << 24) - 1),
                    "shift_b": draw(18, 22),
                    "negative_b": draw(0, 1),
                    "constant": draw(-(1 << 23), 1 << 23),
                    "shift_k": draw(20, 28),
                }
            case ElementwiseOp.PRODUCT:
                return {
                    "multiplier_a": draw(0, 255),
                    "multiplier_b": draw(1 << 23, (1 << 24) - 1),
                    "shift_b": draw(8, 14),
                    "constant": draw(0, 255),
                }
            case _:  # one is 2^23·2^21 in units of 2^-44
                one, shift = 1 << 23, FIXED_POINT - 23
                return {
                    "multiplier_a": one,
                    "shift_a": shift,
                    "multiplier_b": one,
                    "shift_b": shift,
                }

    def reduce(self) -> None:
        """Windowed maximum, sum or pack with clipping."""
        draw = self._draw
        op = ReduceOp(draw(0, 2))
        x, y, t = draw(1, 4), draw(1, 3), draw(1, 2)
        window = (draw(1, 3), draw(1, 3), draw(1, 2))
        if op is ReduceOp.PACK:
            window = (draw(1, 2), draw(1, 2), 1)
        step = (self._stride(), self._stride(), 1)
        if op is ReduceOp.MAX:  # whose windows all lie inside, in one bank
            step = (draw(1, 2), draw(1, 2), 1)
        counts = (x, y, t, 1)
        spans = (1, 10, 80)
        starts = (draw(-1, 0), draw(-1, 0), 0)
        bounds = (draw(2, 9), draw(2, 7), draw(1, 2))
        if op is ReduceOp.MAX:  # every window must hold something
            starts = (-(window[0] // 2), -(window[1] // 2), 0)
            bounds = tuple(
                start + (count - 1) * s + 1 + draw(0, 1)
                for start, count, s in zip(starts, counts[:3], step, strict=True)
            )
            bounds = tuple(max(b, 1) for b in bounds)
        nest = (*window, *counts)
        stride = (*spans, *(s * d for s, d in zip(step, spans, strict=True)), 0)
        first, second = self.random.sample(range(self.config.memory.activation_banks), 2)
        size = self.config.memory.activation_bank_rows
        lanes = self.config.array.rows
        self.code.append(
            Reduce(
                op=op,
                signed=draw(0, 1),
                counts=counts,
                window=window,
                source=first * size + 11 + starts[0] + 10 * starts[1],
                source_deltas=deltas(nest, stride),
                destination=second * size + draw(0, size - math.prod(counts)),
                destination_deltas=self._dense(counts),
                starts=starts,
                steps=step,
                bounds=bounds,
                pad=draw(0, 255),
                pack_lanes=max(1, lanes // math.prod(window)),
                multiplier=draw(1 << 23, (1 << 24) - 1),
                shift=draw(14, 20),
                zero_point=draw(0, 255),
                add_first=draw(0, 1),
                low=draw(0, 20),
                high=draw(100, 255),
            )
        )

    def transfer(self) -> None:
        """A strided load or store."""
        draw = self._draw
        size = self.config.port.bytes
        beats, counts = draw(1, 40), (draw(1, 3), draw(1, 2), 1)
        runs = math.prod(counts)
        pitch = size * draw(beats, beats + 20)
        dram = deltas(counts, (pitch, pitch * counts[0], 0))
        local = deltas(counts, (beats, beats * counts[0], 0))
        if self.random.random() < 0.5:
            address = DATA + size * draw(0, 500)
            self.code.append(
                Load(
                    dram=address,
                    space=Space.ACTIVATION,
                    local=self._rows(beats * runs),
                    beats=beats,
                    counts=counts,
                    dram_deltas=dram,
                    local_deltas=local,
                )
            )
        else:
            self.code.append(
                Store(
                    dram=OUTPUT + size * draw(0, 500),
                    local=self._rows(beats * runs),
                    beats=beats,
                    counts=counts,
                    dram_deltas=dram,
                    local_deltas=local,
                )
            )
