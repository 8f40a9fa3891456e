"""Bytes per cycle through converter, LiteDRAM and SDRAM, in the simulated SoC."""

from __future__ import annotations

import pytest

from hw.arch.config import AcceleratorConfig
from sim.board.host import BoardHost
from sim.board.link import Link
from sim.board.soc import build
from sim.board.transport import SocTransport
from tests.cosim.traffic import BEATS, Traffic

pytestmark = pytest.mark.cosim

BURSTS = 512


@pytest.mark.parametrize("rate, least", [(1, 1.85), (2, 3.6)])
def test_bytes_per_cycle(monkeypatch, rate, least):
    """Bursts of 16 beats of 8 bytes, one behind the other, over many rows and refreshes."""
    monkeypatch.setattr("hw.boards.shell.Accelerator", Traffic)
    model = build(AcceleratorConfig.load("ecp5_85k"), "ulx3s_85f", rate)
    line = SocTransport(model.program, model.divisor)
    try:
        link = Link(line, model.divisor, model.board.silence)
        host = BoardHost(link, model.board)
        link.hello()
        host.make_usable()
        for write in (1, 0):
            link.write(model.board.registers, [BURSTS << 1 | write])
            link.wait(BURSTS * BEATS * 8)
            (cycles,) = link.read(model.board.registers, 1)
            figure = BURSTS * BEATS * 8 / cycles
            print(f"1:{rate}, {'writes' if write else 'reads'}: {figure:.3f} bytes per cycle")
            assert figure >= least
        # What was written is there: beats count up.
        words = link.read(model.board.memory, 64)
        assert [
            low | high << 32 for low, high in zip(words[::2], words[1::2], strict=True)
        ] == list(range(32))
    finally:
        line.close()
