"""Instructions of VECTOR that read a row behind the step that writes it are refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.isa import Elementwise, ElementwiseOp, Fold, FoldOp, Permute, Reduce, ReduceOp
from sim.functional.errors import OrderError
from sim.functional.machine import FunctionalMachine
from tests.machines import folding

CONFIG = folding("tiny")
BANK = CONFIG.memory.activation_bank_rows
COPY = Elementwise(
    op=ElementwiseOp.COPY,
    counts=(6, 1, 1, 1),
    source0=10,
    source0_deltas=(1, 1, 1, 1),
    destination_deltas=(1, 1, 1, 1),
)
GATE = Elementwise(
    op=ElementwiseOp.PRODUCT,
    counts=(4, 3, 1, 1),
    source0=BANK,
    source0_deltas=(1, 1, 1, 1),
    source1=2,
    source1_deltas=(0, 1, 1, 1),
    destination_deltas=(1, 1, 1, 1),
)
"""Four rows times row 2, four times row 3, four times row 4."""
POOL = Reduce(
    op=ReduceOp.MAX,
    counts=(3, 1, 1, 1),
    window=(2, 1, 1),
    source=20,
    source_deltas=(1, 1, 1, 1, 1, 1, 1),
    destination_deltas=(1, 1, 1, 1),
    steps=(2, 1, 1),
    bounds=(6, 1, 1),
)
LARGEST = Fold(
    op=FoldOp.MAX,
    counts=(4, 1, 3, 1),
    source0=30,
    source0_deltas=(1, 1, 1, 1),
    destination_deltas=(0, 0, 1, 1),
)
TURN = Permute(
    op=1,
    counts=(CONFIG.lane_block, 2, 1, 1),
    source0=40,
    source0_deltas=(1, 1, 1, 1),
    destination_deltas=(1, 1, 1, 1),
)


def refused(instruction, destination):
    machine = FunctionalMachine(CONFIG, np.ones(4096, np.uint8), (0, 4096))
    machine.state.activation.write(
        np.arange(CONFIG.memory.activation_rows),
        np.ones((CONFIG.memory.activation_rows, CONFIG.lane_block), np.uint8),
    )
    try:
        machine.execute(dataclasses.replace(instruction, destination=destination))
    except OrderError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("instruction", "destination", "row"),
    [
        (COPY, 10, None),  # in place
        (COPY, 9, None),  # down: every row has been read
        (COPY, 4, None),
        (COPY, 11, 11),  # up: row 11 is written in step 0, read in step 1
        (COPY, 15, 15),
        (COPY, 16, None),
        (GATE, BANK, None),
        (GATE, BANK + 1, BANK + 1),
        (GATE, 0, 2),  # row 2 is written in step 2 and read until step 3
        (GATE, 4, 4),
        (GATE, 5, None),
        (POOL, 20, None),  # row 21 is written in step 1, and was read in step 0
        (POOL, 22, 22),
        (POOL, 26, None),
        (LARGEST, 30, None),
        (LARGEST, 35, 35),
        (LARGEST, 42, None),
        (TURN, 40, None),
        (TURN, 41, 41),  # as if each row were written in the step that reads its like
        (TURN, 40 + 2 * CONFIG.lane_block, None),
    ],
)
def test_rows_that_are_read_and_written(instruction, destination, row):
    found = refused(instruction, destination)
    wanted = None if row is None else f"reads activation row {row} behind the step that writes it"
    assert found == wanted


def test_the_first_one_of_differences_is_read_in_place():
    """With `previous` a row has a step less than it reads."""
    difference = dataclasses.replace(COPY, op=ElementwiseOp.AFFINE, previous=1)
    assert refused(difference, 10) is None
    assert refused(difference, 13) == "reads activation row 13 behind the step that writes it"
