# amaranth: UnusedElaboratable=no
"""The serial bridge: replies, accesses and what it drops, as a model of it in Python."""

from __future__ import annotations

import random

import pytest
from amaranth.sim import Simulator

from hw.arch.link import Command, LinkStatus, Request, find_reply, read_of, write_of
from hw.boards.bridge import SerialBridge
from hw.boards.uart import divisor_of
from tests.bridge_model import BridgeModel

pytestmark = pytest.mark.rtl

DIVISOR = 4
SILENCE = 100
MEMORY = 1 << 10
"""Bytes of the bus that answer; what lies beyond is an error."""


class Memory:
    """Words behind the bus, and every access in order."""

    def __init__(self):
        self.words, self.log = {}, []

    def __call__(self, address, value):
        self.log.append((address, value))
        if address >= MEMORY:
            return None
        if value is None:
            return self.words.get(address, address * 0x01010101 & 0xFFFFFFFF)
        self.words[address] = value
        return 0


class Line:
    """Host's side of the line, and the bus's slave, with random waits."""

    def __init__(self, memory, seed):
        self.dut = SerialBridge(DIVISOR, SILENCE)
        self.memory, self.random = memory, random.Random(seed)
        self.received = bytearray()

    async def send(self, ctx, data):
        for byte in data:
            for bit in (0, *(byte >> k & 1 for k in range(8)), 1):
                ctx.set(self.dut.rx, bit)
                await ctx.tick().repeat(DIVISOR)

    async def listen(self, ctx):
        while True:
            while ctx.get(self.dut.tx):
                await ctx.changed(self.dut.tx)
            await ctx.tick().repeat(DIVISOR // 2)
            byte = 0
            for bit in range(8):
                await ctx.tick().repeat(DIVISOR)
                byte |= ctx.get(self.dut.tx) << bit
            await ctx.tick().repeat(DIVISOR)
            assert ctx.get(self.dut.tx)
            self.received.append(byte)

    async def bus(self, ctx):
        dut = self.dut
        while True:
            while not ctx.get(dut.stb):
                await ctx.changed(dut.stb)
            await ctx.tick().repeat(self.random.randrange(1, 6))
            write, address = ctx.get(dut.we), 4 * ctx.get(dut.adr)
            found = self.memory(address, ctx.get(dut.dat_w) if write else None)
            ctx.set(dut.dat_r, found or 0)
            ctx.set(dut.ack if found is not None else dut.err, 1)
            await ctx.tick()
            ctx.set(dut.ack, 0)
            ctx.set(dut.err, 0)

    def run(self, pieces, quiet_for):
        """Send each piece, a silence behind it; returns the bytes received after each."""
        answers = []

        async def bench(ctx):
            for piece in pieces:
                await self.send(ctx, piece)
                quiet = seen = 0
                while quiet < quiet_for:
                    await ctx.tick().repeat(20)
                    quiet = quiet + 20 if len(self.received) == seen else 0
                    seen = len(self.received)
                answers.append(bytes(self.received))
                self.received.clear()

        simulator = Simulator(self.dut)
        simulator.add_clock(1e-8)
        simulator.add_testbench(bench)
        simulator.add_testbench(self.listen, background=True)
        simulator.add_testbench(self.bus, background=True)
        simulator.run()
        return answers


def both(pieces, seed=0, quiet_for=2 * SILENCE):
    """Replies and accesses of the circuit and of the model."""
    memory, other = Memory(), Memory()
    answers = Line(memory, seed).run(pieces, quiet_for)
    model = BridgeModel(other)
    expected = []
    for piece in pieces:
        expected.append(model.take(piece))
        model.silence()
    return (answers, memory.log), (expected, other.log)


def random_requests(dice, count):
    """Frames, some of them refused; and some that repeat the one before."""
    frames = [Request(Command.READ, 9, 1, 0).frame(), Request(Command.HELLO, 0).frame()]
    for sequence in range(1, count):
        words = dice.choice((1, 2, 3, 9))
        address = 4 * dice.randrange(MEMORY // 4 + 6)
        match dice.randrange(6):
            case 0:
                request = read_of(sequence, address, words)
            case 1:
                request = Request(dice.choice((0, 7)), sequence, words, address)
            case 2:
                request = Request(dice.choice((Command.READ, Command.WRITE)), sequence)
            case _:
                values = [dice.getrandbits(32) for _ in range(words)]
                request = write_of(sequence, address, values)
        frames += [request.frame()] * dice.choice((1, 1, 2))
    return frames


def test_requests_are_executed():
    got, expected = both(random_requests(random.Random(1), 16))
    assert got == expected
    statuses = {find_reply(answer, answer[1]).status for answer in got[0]}
    assert {LinkStatus(0), LinkStatus.FRESH, LinkStatus.UNKNOWN, LinkStatus.BUS_ERROR} <= statuses


@pytest.mark.parametrize(
    "seed, count", [(1, 12), *(pytest.param(n, 60, marks=pytest.mark.large) for n in range(2, 8))]
)
def test_what_is_damaged_is_dropped(seed, count):
    """Bytes lost, changed and added: nothing acts but whole requests."""
    dice = random.Random(seed)
    pieces = random_requests(dice, 2)
    for frame in random_requests(dice, count)[2:]:
        damaged = bytearray(frame)
        place = dice.randrange(len(damaged))
        match dice.randrange(4):
            case 0:
                del damaged[place]
            case 1:
                damaged[place] ^= 1 << dice.randrange(8)
            case 2:
                damaged.insert(place, dice.getrandbits(8))
        pieces.append(bytes(damaged))
    got, expected = both(pieces, seed)
    assert got == expected
    assert sum(not answer for answer in got[0]) > count // 4


def test_a_repeated_write_acts_once():
    frames = [Request(Command.HELLO, 0).frame(), *[write_of(1, 16, [5, 6]).frame()] * 3]
    frames += [write_of(2, 16, [5, 6]).frame()]
    (answers, log), _ = both(frames)
    assert log == [(16, 5), (20, 6)] * 2
    assert answers[1] == answers[2] == answers[3]


@pytest.mark.large
def test_the_largest_request():
    values = list(range(255))
    frames = [Request(Command.HELLO, 0).frame(), write_of(1, 4, values).frame()]
    frames.append(read_of(2, 4, 255).frame())
    (answers, log), _ = both(frames, quiet_for=255 * 10)
    assert log[:255] == [(4 + 4 * k, value) for k, value in enumerate(values)]
    words = [int.from_bytes(answers[2][3 + 4 * k : 7 + 4 * k], "little") for k in range(255)]
    assert words == values


def test_rates_that_the_clock_does_not_give_are_refused():
    assert divisor_of(50e6, 3e6) == 17
    with pytest.raises(ValueError, match="no 3,000,000 baud: 4 cycles a bit are 3,250,000"):
        divisor_of(13e6, 3e6)
    with pytest.raises(ValueError, match="silence must be more than 80 cycles, not 80"):
        SerialBridge(4, 80)
