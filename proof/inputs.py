"""What a proof runs on: the recorded input, or a random one that spans the codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.program import Input, Tensor
from sim import host
from sim.build import Arrays, Build
from sim.errors import InputError
from sim.inputs import given

RECORDED = "recorded"
SEED = 0
COARSE = 8
"""Elements along each axis that share a value in half of a random input: pools must not see the
same mean everywhere."""
WIDTHS = (1 / 256, 1 / 16, 1.0, 4.0, 16.0, 64.0, 256.0, 4096.0)
"""Ranges tried for an input that the host computes with before it is quantized."""


def inputs_of(build: Build, record: Path | None = None) -> tuple[Arrays, str]:
    """Inputs by the graph's names, as the file types them, and a word on where they come from.

    Parameters
    ----------
    record: a file or folder to take them from.
    """
    if record is not None:
        return given(build, record).arrays, str(record)
    if build.golden:
        return build.inputs(), RECORDED
    rng = np.random.default_rng(SEED)
    result: Arrays = {}
    hosted: list[Input] = []
    for port in build.program.inputs:
        kind = np.dtype(port.dtype)
        readers = [
            build.program.tensor(feed.tensor)
            for feed in build.program.feeds
            if feed.source == port.name
        ]
        if kind in (np.uint8, np.int8):
            limits = np.iinfo(kind)
            result[port.name] = _spread(rng, port.shape, limits.min, limits.max + 1).astype(kind)
        elif readers:
            low, high = _range(readers)
            values = low + (high - low) * _spread(rng, port.shape)
            result[port.name] = np.asarray(values, kind)
        else:
            hosted.append(port)
    if hosted:
        _widest(build, result, hosted, rng)
    return result, f"random, seed {SEED}"


def _spread(
    rng: np.random.Generator, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0
) -> npt.NDArray[np.float64]:
    """Values of the whole range: half of them evenly spaced, half in blocks of equal ones."""
    fine = np.empty(shape)
    where = rng.random(shape) < 0.5
    count = int(np.count_nonzero(where))
    fine[where] = low + (high - low) * rng.permutation((np.arange(count) + 0.5) / max(count, 1))
    coarse = rng.uniform(low, high, [-(-n // COARSE) for n in shape])
    for axis, n in enumerate(shape):
        coarse = np.repeat(coarse, COARSE, axis=axis).take(np.arange(n), axis=axis)
    return np.where(where, fine, coarse)


def _range(readers: list[Tensor]) -> tuple[float, float]:
    """Reals that all codes of all readers stand for, and a little beyond."""
    limits = [np.iinfo(host.dtype(tensor)) for tensor in readers]
    ends = [
        (code - tensor.zero_point) * tensor.scale
        for tensor, limit in zip(readers, limits, strict=True)
        for code in (limit.min - 4, limit.max + 4)
    ]
    return min(ends), max(ends)


def _widest(build: Build, result: Arrays, hosted: list[Input], rng: np.random.Generator) -> None:
    """Give inputs of the host's part the range that leads to the most codes."""
    shapes = {port.name: _spread(rng, port.shape) for port in hosted}
    best, chosen = -1, dict[str, npt.NDArray[Any]]()
    for width in WIDTHS:
        for lowest in (0.0, -width):
            tried = {
                port.name: np.asarray(lowest + (width - lowest) * shapes[port.name], port.dtype)
                for port in hosted
            }
            try:
                with np.errstate(all="ignore"):
                    fed = host.feeds(build.program, result | tried, build.host_model)
            except InputError:  # an index out of bounds, no finite number: not this range
                continue
            codes = sum(np.unique(value).size for value in fed.values())
            if codes > best:
                best, chosen = codes, tried
    if best < 0:
        names = ", ".join(port.name for port in hosted)
        raise InputError(f"no random values of {names} pass through the host's part: record some")
    result.update(chosen)
