"""Channels of the burst converter: addresses that are judged, beats that become words, and back."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

__all__ = ["DECODE_ERROR", "OKAY", "OPEN", "SLAVE_ERROR", "Bursts", "Reads", "Writes"]

OKAY, SLAVE_ERROR, DECODE_ERROR = 0, 2, 3
INCREMENT = 1
OPEN = 16
"""Reads, and writes, that may be under way."""


class Bursts(wiring.Component):
    """Takes addresses of bursts and judges them: two registers, so that no sum meets another.

    Parameters
    ----------
    width: bits of a beat. size: bytes of the memory.

    Members
    -------
    i_valid, i_ready, address, beats, beat_size, kind: the AXI4 channel.
    valid: Out, a burst waits; taken: In, it goes.
    first: Out, number of its first beat in the memory. length: Out, beats − 1.
    error: Out, response.
    """

    def __init__(self, width: int, size: int):
        self._shift = exact_log2(width // 8)
        self._bits = exact_log2(size) - self._shift
        super().__init__(
            {
                "i_valid": In(1),
                "i_ready": Out(1, init=1),
                "address": In(32),
                "beats": In(8),
                "beat_size": In(3),
                "kind": In(2),
                "valid": Out(1),
                "taken": In(1),
                "first": Out(self._bits),
                "length": Out(8),
                "error": Out(2),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # What the first register holds waits for the second one. `i_ready` is a register itself:
        # the core's grants, and what follows them, wait for it. So bursts are accepted in every
        # other cycle; one beat of two words takes as long.
        held = ~self.i_ready
        first = Signal(32 - self._shift, reset_less=True)
        length = Signal(8, reset_less=True)
        known = Signal(reset_less=True)
        passes = ~self.valid | self.taken
        with m.If(passes):
            m.d.sync += self.i_ready.eq(1)
        with m.If(self.i_ready):
            m.d.sync += [
                self.i_ready.eq(~self.i_valid),
                first.eq(self.address >> self._shift),
                length.eq(self.beats),
                known.eq((self.kind == INCREMENT) & (self.beat_size == self._shift)),
            ]
        beyond = (first + length)[self._bits :].any()
        with m.If(passes):
            m.d.sync += [
                self.valid.eq(held),
                self.first.eq(first),
                self.length.eq(length),
                self.error.eq(Mux(beyond, DECODE_ERROR, Mux(known, OKAY, SLAVE_ERROR))),
            ]
        return m


class Writes(wiring.Component):
    """Beats of writes on their way to words.

    Members
    -------
    w_valid, w_ready, w_last, w_data, w_strobes: the AXI4 channel W.
    waits: Out, a word of which `ask` has not been high waits here.
    ask: In, the command of the next word is given.
    idle: Out, every word that was asked for has been taken.
    take: In, the controller takes the word in `data`, `enable`.
    b_valid, b_ready, b_response: the AXI4 channel B. error: In, the response of what is taken now.
    """

    def __init__(self, width: int, native: int, beats: int):
        self._width, self._native, self._beats = width, native, beats
        super().__init__(
            {
                "w_valid": In(1),
                "w_ready": Out(1),
                "w_last": In(1),
                "w_data": In(width),
                "w_strobes": In(width // 8),
                "waits": Out(1),
                "ask": In(1),
                "idle": Out(1),
                "take": In(1),
                "valid": Out(1),
                "data": Out(native),
                "enable": Out(native // 8),
                "error": In(2),
                "b_valid": Out(1),
                "b_ready": In(1),
                "b_response": Out(2),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ratio = self._width // self._native
        layout = data.StructLayout({"data": self._width, "strobes": self._width // 8, "last": 1})
        m.submodules.beats = beats = fifo.SyncFIFO(width=layout.size, depth=self._beats)
        m.submodules.answers = answers = fifo.SyncFIFO(width=2, depth=OPEN)
        incoming, beat = data.View(layout, beats.w_data), data.View(layout, beats.r_data)
        m.d.comb += [
            incoming.data.eq(self.w_data),
            incoming.strobes.eq(self.w_strobes),
            incoming.last.eq(self.w_last),
            beats.w_en.eq(self.w_valid),
            self.w_ready.eq(beats.w_rdy),
        ]
        # A word counts when it has reached the register that the controller reads.
        arrived = Signal()
        here = Signal(range((self._beats + 2) * ratio))
        asked = Signal.like(here)
        m.d.sync += [
            arrived.eq(beats.w_en & beats.w_rdy),
            here.eq(here + Mux(arrived, ratio, 0) - self.ask),
            asked.eq(asked + self.ask - self.take),
        ]
        m.d.comb += [self.waits.eq(here.any()), self.idle.eq(~asked.any())]

        part = Signal(range(ratio)) if ratio > 1 else Const(0, 1)
        ends = Signal()
        fills = beats.r_rdy & (~self.valid | self.take)
        m.d.comb += beats.r_en.eq(fills & (part == ratio - 1))
        with m.If(self.take):
            m.d.sync += self.valid.eq(0)
        with m.If(fills):
            m.d.sync += [
                self.valid.eq(1),
                self.data.eq(beat.data.word_select(part, self._native)),
                self.enable.eq(beat.strobes.word_select(part, self._native // 8)),
                ends.eq(beat.last & (part == ratio - 1)),
            ]
            if ratio > 1:
                m.d.sync += part.eq(part + 1)
        m.d.comb += [
            answers.w_en.eq(self.take & ends),
            answers.w_data.eq(self.error),
            self.b_valid.eq(answers.r_rdy),
            self.b_response.eq(answers.r_data),
            answers.r_en.eq(self.b_ready),
        ]
        return m


class Reads(wiring.Component):
    """Words that were read on their way to beats.

    Members
    -------
    begin: In, a read of `length` + 1 beats with the response `error` begins; only when `may_begin`.
    room: Out, one more word may be asked for; ask: In, it is.
    valid, data: In, a word comes.
    r_valid, r_ready, r_last, r_data, r_response: the AXI4 channel R.
    """

    def __init__(self, width: int, native: int, room: int):
        self._width, self._native, self._room = width, native, room
        super().__init__(
            {
                "may_begin": Out(1),
                "begin": In(1),
                "length": In(8),
                "error": In(2),
                "room": Out(1),
                "ask": In(1),
                "valid": In(1),
                "data": In(native),
                "r_valid": Out(1),
                "r_ready": In(1),
                "r_last": Out(1),
                "r_data": Out(width),
                "r_response": Out(2),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ratio = self._width // self._native
        m.submodules.words = words = fifo.SyncFIFO(width=self._native, depth=self._room)
        m.submodules.bursts = bursts = fifo.SyncFIFO(width=10, depth=OPEN)
        credits = Signal(range(self._room + 1), init=self._room)
        m.d.sync += credits.eq(credits - self.ask + (words.r_en & words.r_rdy))
        m.d.comb += [
            self.room.eq(credits.any()),
            words.w_en.eq(self.valid),
            words.w_data.eq(self.data),
            self.may_begin.eq(bursts.w_rdy),
            bursts.w_en.eq(self.begin),
            bursts.w_data.eq(Cat(self.length, self.error)),
        ]
        length, error = bursts.r_data[:8], bursts.r_data[8:]

        parts = Signal(self._width, reset_less=True)
        number = Signal(range(ratio)) if ratio > 1 else Const(0, 1)
        full = Signal()
        position = Signal(8)
        goes = bursts.r_rdy & (~self.r_valid | self.r_ready) & (error.any() | full)
        moves = goes & ~error.any()
        last = position == length
        m.d.comb += [words.r_en.eq(~full | moves), bursts.r_en.eq(goes & last)]
        with m.If(moves):
            m.d.sync += full.eq(0)
        with m.If(words.r_en & words.r_rdy):
            m.d.sync += [
                parts.eq(Cat(parts, words.r_data)[self._native :]),
                full.eq(number == ratio - 1),
            ]
            if ratio > 1:
                m.d.sync += number.eq(number + 1)
        with m.If(self.r_ready):
            m.d.sync += self.r_valid.eq(0)
        with m.If(goes):
            m.d.sync += [
                self.r_valid.eq(1),
                self.r_data.eq(Mux(error.any(), 0, parts)),
                self.r_response.eq(error),
                self.r_last.eq(last),
                position.eq(Mux(last, 0, position + 1)),
            ]
        return m
