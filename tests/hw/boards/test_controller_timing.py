"""Times of the memory controller in the board's description are those that LiteDRAM works with."""

from __future__ import annotations

import math

import pytest
from amaranth.hdl import Fragment

from hw.arch.boards import BOARDS
from hw.arch.config import AcceleratorConfig
from hw.boards import soc

pytestmark = pytest.mark.large


def test_times_are_those_of_litedram(monkeypatch):
    made = []
    make = soc._soc
    monkeypatch.setattr(soc, "_soc", lambda *args: made.append(make(*args)) or made[0])
    board = BOARDS["ulx3s_85f"]
    parts = soc.simulated_parts(AcceleratorConfig.load("tiny"), board)
    Fragment.get(parts.shell, None)  # a circuit that is made is used
    settings = made[0].sdram.controller.settings
    timing, phy, geometry = settings.timing, settings.phy, settings.geom
    crossbar, ours = made[0].sdram.crossbar, board.controller
    assert (ours.precharge, ours.activate) == (timing.tRP, timing.tRCD)
    assert (ours.row_open, ours.row_cycle) == (timing.tRAS, timing.tRC)
    write_latency = math.ceil(phy.cwl / phy.nphases)
    assert ours.write_recovery == write_latency + timing.tWR + timing.tCCD
    assert ours.write_to_read == timing.tWTR + write_latency + timing.tCCD
    assert ours.read_to_write == phy.read_latency
    assert ours.read_latency == crossbar.read_latency
    assert ours.write_latency == crossbar.write_latency
    assert ours.refresh_interval == timing.tREFI
    # Two cycles to notice, to grant and to say so each, and the sequence itself.
    assert ours.refresh_cycles > timing.tRP + timing.tRFC
    assert (board.banks, board.row_bytes) == (
        1 << geometry.bankbits,
        (1 << geometry.colbits) * phy.databits // 8,
    )
    assert settings.address_mapping == "ROW_BANK_COL" and settings.cmd_buffer_depth == 8
