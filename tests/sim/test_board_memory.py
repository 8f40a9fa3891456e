"""A board's memory in the cycle model: times by hand, rates, turns, and what refreshes cost."""

from __future__ import annotations

import dataclasses

import pytest

from hw.arch.boards import BOARDS
from sim.cycle.board_memory import BoardMemory

BOARD = BOARDS["ulx3s_85f"]
BEAT = 8
"""Bytes: two words of the memory."""
MEASURED = {True: 3.732, False: 3.780}
"""Bytes per cycle of writes and reads in the simulated SoC (decision 0020)."""


def memory(**changed):
    controller = dataclasses.replace(BOARD.controller, **changed)
    return BoardMemory(dataclasses.replace(BOARD, controller=controller), BEAT)


def stream(found, write, bursts=512, beats=16):
    """One burst behind the other, as soon as its address is taken; the last one."""
    cycle = 0
    for number in range(bursts):
        cycle = max(cycle, found.free(write))
        last = found.serve(cycle, write, beats, number * beats * BEAT)
        cycle += 1
    return last


def test_a_read_by_hand():
    service = memory().serve(0, False, 4, 0)
    # Granted in 0, accepted in 1, begun in 3, its first word asked for in 4 and at its bank's head
    # in 6. The row opens in 7 and is open in 9; a word comes 5 later, and a beat 3 behind its
    # second word, which is issued in 10. Two words a beat: beats come every second cycle.
    assert (service.first, service.last, service.end) == (18, 24, 24)
    assert [service.passes(k) for k in range(4)] == [18, 20, 22, 24]


def test_a_write_by_hand():
    service = memory().serve(0, True, 4, 0)
    # Beats pass from 1 on, so that the burst begins in 3; the controller has looked for reads.
    assert (service.first, service.last) == (1, 4)
    # Words are issued from 13 on, the eighth in 20; it is taken in 21 and answered in 22.
    assert service.end == 22


@pytest.mark.parametrize("write", [False, True])
def test_rates_are_those_of_the_simulated_board(write):
    rate = 512 * 16 * BEAT / stream(memory(), write).end
    assert rate == pytest.approx(MEASURED[write], rel=0.005)
    # The twin: a wrong time of refreshes is seen.
    slow = 512 * 16 * BEAT / stream(memory(refresh_cycles=30), write).end
    assert slow != pytest.approx(MEASURED[write], rel=0.005)


def test_a_row_that_is_open_is_faster_than_another_one():
    found = memory()
    found.serve(0, False, 1, 0)
    same = found.serve(100, False, 1, 64).end - 100
    other = found.serve(200, False, 1, BOARD.row_bytes * BOARD.banks).end - 200
    closed = found.serve(300, False, 1, BOARD.row_bytes).end - 300
    assert same < closed < other
    controller = BOARD.controller
    assert other - closed == controller.precharge and closed - same == controller.activate + 1


def test_a_write_overtakes_reads_that_wait():
    """It begins behind the burst that is under way, not behind all that were granted before."""
    found, waited = memory(), memory()
    for number in range(3):
        reads = [one.serve(number, False, 16, 4096 + 128 * number) for one in (found, waited)]
    write = found.serve(3, True, 16, 0)
    late = waited.serve(reads[1].end + 3, True, 16, 0)
    assert write.end < late.end
    # And what it overtook comes later than without it.
    after = found.serve(60, False, 16, 8192), waited.serve(60, False, 16, 8192)
    assert after[0].end >= after[1].end - 40


def test_addresses_wait_while_the_converter_is_full():
    found = memory()
    for number in range(6):
        cycle = max(number, found.free(False))
        found.serve(cycle, False, 16, 128 * number)
    assert found.free(False) > 32
    assert found.free(True) == 0


def test_the_base_moves_rows():
    """Programs that do not start at a row's start cross rows elsewhere."""
    plain = BoardMemory(BOARD, BEAT).serve(0, False, 16, 0)
    crossing = BoardMemory(BOARD, BEAT, BOARD.row_bytes - 64).serve(0, False, 16, 0)
    assert crossing.end > plain.end
