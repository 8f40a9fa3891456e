"""Closed forms of FOLD and PERMUTE against rows and groups counted one after another."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from hw.arch import timing
from hw.arch.isa import Fold, FoldOp, Permute
from tests.machines import folding

TINY = folding("tiny")
TWO = dataclasses.replace(TINY, lanes=dataclasses.replace(TINY.lanes, vector=2))
MACHINES = pytest.mark.parametrize("config", [TINY, TWO], ids=["rows", "steps"])
ENGINE = {FoldOp.SOFTMAX_COLLECT: 32, FoldOp.NORM_COLLECT: 64}
COUNTS = [(1, 1, 1, 1), (3, 2, 4, 2), (40, 1, 5, 1), (32, 1, 3, 1), (64, 1, 2, 2), (7, 9, 1, 6)]


def collected(group: int, groups: int, engine: int) -> int:
    """A group's rows stream while the engine works; it takes the groups in order."""
    streamed = busy = 0
    for _ in range(groups):
        streamed += group
        busy = max(busy, streamed) + engine
    return busy


@MACHINES
@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("op", ENGINE)
def test_collecting(config, counts, op):
    n0, n1, n2, n3 = counts
    group = n0 * n1 * config.vector_steps
    last = Fold(op=op, counts=counts, last=1)
    assert timing.vector_stream_cycles(last, config) == collected(group, n2 * n3, ENGINE[op])
    more = dataclasses.replace(last, last=0)
    assert timing.vector_stream_cycles(more, config) == n2 * n3 * group
    assert collected(group, n2 * n3, ENGINE[op]) > n2 * n3 * group


@MACHINES
@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_applying_and_selecting(config, counts):
    steps, cycles, serial = config.vector_steps, 0, 0
    coefficients = 0
    for n0, *_ in itertools.product(*map(range, counts)):
        coefficients += 6 if n0 == 0 else 0
        cycles += steps
        serial += max(steps, 2)
    for op in (FoldOp.DOT, FoldOp.MAX, FoldOp.ARGMAX, FoldOp.SOFTMAX_APPLY):
        assert timing.vector_stream_cycles(Fold(op=op, counts=counts), config) == cycles
    norm = Fold(op=FoldOp.NORM_APPLY, counts=counts)
    assert timing.vector_stream_cycles(norm, config) == cycles + coefficients
    assert timing.vector_stream_cycles(Permute(counts=counts), config) == cycles
    assert timing.vector_stream_cycles(Permute(counts=counts, serial=1), config) == serial


@MACHINES
def test_the_latency_of_folds_is_their_own(config):
    start = timing.VECTOR_START + config.vector_steps - 1
    assert timing.vector_duration(Permute(), config) == start + timing.VECTOR_LATENCY
    assert timing.vector_duration(Fold(), config) == start + timing.FOLD_LATENCY
