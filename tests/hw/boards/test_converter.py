# amaranth: UnusedElaboratable=no
"""The burst converter: values and order at random pace, errors, and words without a gap."""

from __future__ import annotations

import itertools
import random

import pytest
from amaranth.sim import Simulator

from hw.boards.converter import BurstConverter
from hw.boards.converter_channels import DECODE_ERROR, OKAY, SLAVE_ERROR
from tests.hw.boards.native_memory import Burst, Master, NativeMemory
from tests.marks import large

pytestmark = pytest.mark.rtl

SIZE = 1 << 12
LIMIT = 40_000
"""Cycles, after which something hangs."""


def run(width, native, bursts, content, *, stalls=(0, 0), room=32):
    """Let a master and a memory meet; returns both."""
    dut = BurstConverter(width, native, SIZE, room=room)
    memory = NativeMemory(dut.port, content, 1, stalls[0])
    master = Master(dut.bus, bursts, 2, stalls[1])

    async def bench(ctx):
        for cycle in range(LIMIT):
            memory.drive(ctx)
            master.drive(ctx)
            memory.observe(ctx)
            taken = master.observe(ctx, cycle)
            if master.finished:
                return
            await ctx.tick()
            master.after(ctx, taken)
        raise AssertionError(f"{len(master.responses)}, {len(master.reads)} of {master.wanted}")

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return master, memory


def write_of(dice, width, address, beats, **changed):
    data = tuple(dice.getrandbits(width) for _ in range(beats))
    full = (1 << width // 8) - 1
    strobes = tuple(dice.choice((full, full, dice.getrandbits(width // 8))) for _ in range(beats))
    return Burst(True, address, beats, data, strobes, **changed)


def applied(content, burst, width):
    """What a write makes of a memory."""
    size = width // 8
    start = burst.address // size * size
    for k, (data, strobes) in enumerate(zip(burst.data, burst.strobes, strict=True)):
        for byte in range(size):
            if strobes >> byte & 1:
                content[start + k * size + byte] = data >> 8 * byte & 0xFF


def random_bursts(dice, width, count):
    """Writes to the lower half of the memory, reads of the upper; of both some that are refused."""
    bursts = []
    for _ in range(count):
        beats = dice.choice((1, 1, 2, 3, 16, dice.randrange(1, 40)))
        span = SIZE // 2 - beats * width // 8
        write = dice.random() < 0.5
        address = dice.randrange(0, span) + (0 if write else SIZE // 2)
        changed = {}
        match dice.randrange(8):
            case 0:
                address = dice.choice((SIZE - (beats - 1) * width // 8, SIZE, 0xFFFF_F000))
            case 1:
                changed["size"] = 0
            case 2:
                changed["kind"] = dice.choice((0, 2))
        made = write_of(dice, width, address, beats) if write else Burst(False, address, beats)
        bursts.append(Burst(made.write, address, beats, made.data, made.strobes, **changed))
    return bursts


def response_of(burst, width):
    first = burst.address // (width // 8)
    if first + burst.beats > SIZE // (width // 8):
        return DECODE_ERROR
    return SLAVE_ERROR if burst.kind != 1 or burst.size is not None else OKAY


def check(master, bursts, width, before, content):
    """The memory, and every answer, are those of the bursts."""
    expected = bytearray(before)
    answers, beats = [], []
    for burst in bursts:
        response = response_of(burst, width)
        if burst.write:
            answers.append(response)
            if response == OKAY:
                applied(expected, burst, width)
            continue
        start = burst.address // (width // 8) * (width // 8)
        for k in range(burst.beats):
            stored = before[start + k * width // 8 : start + (k + 1) * width // 8]
            value = int.from_bytes(stored, "little") if response == OKAY else 0
            beats.append((value, response, k == burst.beats - 1))
    assert master.responses == answers
    assert master.reads == beats
    assert content == expected


SHAPES = [(64, 16), (64, 32), (32, 32), large((128, 16)), large((64, 64)), large((16, 8))]


@pytest.mark.parametrize("stalls", [(0, 0), (0.4, 0), (0, 0.4), (0.3, 0.3)])
@pytest.mark.parametrize("shape", SHAPES)
def test_bursts_at_random_pace(shape, stalls):
    width, native = shape
    dice = random.Random(width * native)
    bursts = random_bursts(dice, width, 40)
    before = bytes(dice.randbytes(SIZE))
    content = bytearray(before)
    master, _ = run(width, native, bursts, content, stalls=stalls)
    check(master, bursts, width, before, content)
    assert set(master.responses) == {OKAY, SLAVE_ERROR, DECODE_ERROR}


@pytest.mark.parametrize("room", [1, 2])
def test_little_room_for_reads(room):
    """Words come only as far as there is room, however slow the master."""
    bursts = [Burst(False, SIZE // 2 + 64 * k, 8) for k in range(6)]
    before = bytes(random.Random(room).randbytes(SIZE))
    content = bytearray(before)
    master, _ = run(64, 16, bursts, content, stalls=(0, 0.7), room=room)
    check(master, bursts, 64, before, content)


def test_a_changed_byte_is_seen():
    """The check of this file fails where memory, data or response differ."""
    bursts = [Burst(False, SIZE // 2, 2), write_of(random.Random(3), 64, 0, 2)]
    before = bytes(SIZE)
    content = bytearray(before)
    master, _ = run(64, 16, bursts, content)
    check(master, bursts, 64, before, content)
    wrong = bytearray(content)
    wrong[5] ^= 1
    with pytest.raises(AssertionError):
        check(master, bursts, 64, before, wrong)
    with pytest.raises(AssertionError):
        check(master, bursts, 64, b"\1" * SIZE, content)
    master.responses[0] = SLAVE_ERROR
    with pytest.raises(AssertionError):
        check(master, bursts, 64, before, content)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("width, native", [(64, 16), (64, 32)])
def test_words_follow_each_other_without_a_gap(width, native, write):
    """Bursts of 16 beats: a word in every cycle, but for the way of the first and the last."""
    dice = random.Random(1)
    count, beats = 16, 16
    step = beats * width // 8
    bursts = [
        write_of(dice, width, k * step, beats) if write else Burst(False, k * step, beats)
        for k in range(count)
    ]
    content = bytearray(SIZE)
    master, _ = run(width, native, bursts, content)
    words = count * beats * width // native
    assert master.last_cycle < words + 24


def test_a_read_waits_for_one_burst_only():
    """Rule 2: reads and writes take turns, however many wait."""
    dice = random.Random(2)
    bursts = [write_of(dice, 64, 64 * k, 8) for k in range(8)]
    bursts += [Burst(False, SIZE // 2 + 64 * k, 8) for k in range(8)]
    _, memory = run(64, 16, bursts, bytearray(SIZE))
    kinds = memory.order[::32]
    assert len(kinds) == 16
    assert all(a != b for a, b in itertools.pairwise(kinds))


@pytest.mark.parametrize(
    "arguments", [(64, 24, SIZE), (64, 128, SIZE), (64, 16, 3000), (64, 12, SIZE)]
)
def test_sizes_that_do_not_fit_are_refused(arguments):
    with pytest.raises(ValueError, match="power of two"):
        BurstConverter(*arguments)
