"""Which layer the cycles of a run belong to."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hw.arch.program import Program

Numbers: TypeAlias = npt.NDArray[np.int64]


def layer_of(program: Program) -> Numbers:
    """Layer index of every instruction of the program; −1 for none."""
    result = np.full(len(program.instructions), -1, np.int64)
    for index, layer in enumerate(program.layers):
        result[layer.first : layer.last] = index
    return result


def attributed(layer: Numbers, done: Numbers, layers: int) -> Numbers:
    """Cycles of each layer: by how much its instructions move the end of the run on.

    Parameters
    ----------
    layer: of every instruction of a unit, in the order of dispatch; −1 for none. So a layer of a
        Loop's body gets its part of every trip.
    done: the cycle in which each of them was done.
    layers: how many there are.
    """
    added = np.diff(np.maximum.accumulate(done), prepend=0)
    return np.bincount(layer[layer >= 0], added[layer >= 0], layers).astype(np.int64)
