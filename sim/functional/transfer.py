"""LOAD and STORE: runs of beats between DRAM and the on-chip memories."""

from __future__ import annotations

import numpy as np

from hw.arch.isa import ErrorCode, Load, Store, strides
from hw.arch.walk import offsets
from sim.functional.errors import UnitError
from sim.functional.state import Bytes, Index, State


def _dram_beats(instruction: Load | Store, memory: Bytes, beat: int) -> Index:
    """DRAM beat numbers, [runs, beats], every one inside `memory`."""
    step = strides(instruction.counts, instruction.dram_deltas)
    start = instruction.dram + offsets(instruction.counts, step).reshape(-1, 1)
    if np.any(start % beat):
        wrong = int(start[start % beat != 0][0])
        raise UnitError(
            ErrorCode.ADDRESS, f"DRAM address {wrong:#x} is not a multiple of {beat} bytes"
        )
    index = start // beat + np.arange(instruction.beats)
    if int(index.min()) < 0 or int(index.max()) >= memory.size // beat:
        low, high = int(index.min()) * beat, int(index.max() + 1) * beat
        raise UnitError(
            ErrorCode.AXI_RESPONSE,
            f"DRAM addresses {low:#x}..{high - 1:#x} leave the memory of {memory.size:#x} bytes",
        )
    return index


def _local_rows(instruction: Load | Store) -> Index:
    step = strides(instruction.counts, instruction.local_deltas)
    start = instruction.local + offsets(instruction.counts, step).reshape(-1, 1)
    return np.asarray(start + np.arange(instruction.beats), np.int64)


def _as_beats(memory: Bytes, beat: int) -> Bytes:
    return memory[: memory.size // beat * beat].reshape(-1, beat)


def execute_load(instruction: Load, state: State, memory: Bytes) -> None:
    """Copy DRAM beats into the space that the instruction names."""
    beat = state.config.port.bytes
    source = _dram_beats(instruction, memory, beat)
    state.space(instruction.space).write(_local_rows(instruction), _as_beats(memory, beat)[source])


def execute_store(
    instruction: Store, state: State, memory: Bytes, window: tuple[int, int]
) -> tuple[int, int]:
    """Copy scratchpad rows to DRAM; return the byte interval [first, past the end) touched."""
    beat = state.config.port.bytes
    target = _dram_beats(instruction, memory, beat)
    low, high = int(target.min()) * beat, (int(target.max()) + 1) * beat
    if low < window[0] or high > window[1]:
        raise UnitError(
            ErrorCode.STORE_WINDOW,
            f"stores {low:#x}..{high - 1:#x} outside the window {window[0]:#x}..{window[1] - 1:#x}",
        )
    _as_beats(memory, beat)[target] = state.activation.read(_local_rows(instruction))
    return low, high
