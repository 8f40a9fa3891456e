"""How long the units with closed forms take (hw/arch/timing.py)."""

from __future__ import annotations

from hw.arch.config import TILE_POINTS, AcceleratorConfig
from hw.arch.isa import (
    Array,
    ArrayMode,
    Drain,
    Elementwise,
    Fold,
    Instruction,
    Permute,
    Reduce,
)
from hw.arch.timing import (
    TRANSFORM_SHARED,
    array_blocks,
    array_duration,
    array_occupancy,
    array_outputs,
    array_sets,
    array_start,
    drain_duration,
    vector_duration,
)
from hw.arch.transform_timing import ArrayTimes, array_times


def duration(instruction: Instruction, config: AcceleratorConfig) -> int:
    """Cycles from the issue of an instruction to its `done` (ARRAY: see `ArrayModel`)."""
    match instruction:
        case Drain():
            return drain_duration(instruction, config)
        case Elementwise() | Reduce() | Fold() | Permute():
            return vector_duration(instruction, config)
        case _:
            raise TypeError(f"{type(instruction).__name__} has no closed form")


class ArrayModel:
    """ARRAY: an instruction in mode HFA starts behind the end of the one before it.

    Parameters
    ----------
    config: of the accelerator.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._last: tuple[Array, ArrayTimes] | None = None

    def ready(self, instruction: Array, offered: int) -> int:
        """Earliest issue of the next instruction, which its queue offers from cycle `offered` on.

        Transforms run ahead of the stream only within one algorithm; any other change waits for
        the last address of the stream.
        """
        if self._last is None:
            return 0
        before, times = self._last
        idle = times.end - 1
        if instruction.mode != ArrayMode.HFA or _algorithm(before) != _algorithm(instruction):
            return idle
        return min(idle, max(offered, times.free) + TRANSFORM_SHARED)

    def issue(self, cycle: int, instruction: Array, drained: int | None = None) -> int:
        """Take an instruction; returns the cycle of its `done`.

        Parameters
        ----------
        drained: see `array_times`.
        """
        config = self._config
        before = self._last[1] if self._last else None
        if instruction.mode == ArrayMode.HFA:
            times = array_times(instruction, config, cycle, before, drained)
        else:
            end = cycle + array_occupancy(instruction, config) + 1
            done = cycle + array_duration(instruction, config)
            paced = before.paced if before else 0
            times = ArrayTimes(cycle + array_start(config), end, done, paced, end - 1)
        self._last = instruction, times
        return times.done


def _algorithm(instruction: Array) -> tuple[int, int]:
    """Transforms along time and space; (0, 0) outside mode HFA."""
    if instruction.mode != ArrayMode.HFA:
        return 0, 0
    return instruction.transform_t, instruction.transform_s


def array_vectors(instruction: Array) -> int:
    """Vectors that enter the array and produce a sum: the counter `array_vectors`."""
    if instruction.mode == ArrayMode.HFA:
        return array_outputs(instruction) * array_sets(instruction)
    if instruction.mode == ArrayMode.HFA_DEPTHWISE:
        return array_outputs(instruction)
    passes = array_blocks(instruction) // instruction.counts[3]
    return array_outputs(instruction) * passes


def array_products(instruction: Array, config: AcceleratorConfig) -> int:
    """Products in units of rows × cols: the counter `array_products`."""
    if instruction.mode != ArrayMode.HFA_DEPTHWISE:
        return array_vectors(instruction)
    x, y, t, co = instruction.counts[:4]
    return (x // 2 - 1) * (y - 1) * t * co * TILE_POINTS // config.array.rows
