"""The cycle model with a board's memory against the simulated SoC, by network and by layer."""

from __future__ import annotations

import dataclasses

import pytest

from hw.arch.boards import BOARDS
from proof.board_memory import MOST, compared, made
from sim.board.backend import SocBackend
from sim.cycle.backend import CycleBackend

pytestmark = pytest.mark.cosim

BOARD = BOARDS["ulx3s_85f"]
NETWORKS = [
    "vtn_decoder",
    *(pytest.param(n, marks=pytest.mark.slow) for n in ("fsb_c3d", "liteeval")),
]


@pytest.mark.parametrize("network", NETWORKS)
def test_cycles_of_a_network(network, monkeypatch, tmp_path):
    monkeypatch.setattr("proof.board_memory.FOLDER", tmp_path)
    built = made(network, "tiny")
    soc = SocBackend()
    try:
        found = compared(built, soc, CycleBackend(BOARD))
    finally:
        soc.close()
    print(found.text())
    assert abs(found.error) <= MOST
    assert sum(found.soc[:-1]) <= found.soc[-1] and len(found.names) > 5
    # The twin: a memory that is half as fast is seen.
    slow = dataclasses.replace(BOARD.controller, read_latency=30, refresh_cycles=120)
    wrong = CycleBackend(dataclasses.replace(BOARD, controller=slow))
    assert abs(compared(built, CycleBackend(BOARD), wrong).error) > MOST
