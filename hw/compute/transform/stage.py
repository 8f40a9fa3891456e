"""The 1-D input transform of exact integer Winograd, and the memory that turns a tile.

The input transform composes these two parts (hw/arch/winograd.py has the matrices); weights and
results have stages of their own (weights/stage.py, drain/output_stage.py) in the same streams. All
take vectors without back-pressure and find the ends of groups and tiles by counting.
"""

import dataclasses
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.winograd_matrices import DIRECT, F2, F4, TRANSFORMS
from hw.common.ports import NO_COLLISION
from hw.compute.parts.latch import register_of

__all__ = ["BYPASS", "F23", "F43", "TransformStage", "Turn"]

BYPASS, F23, F43 = (TRANSFORMS.index(t) for t in (DIRECT, F2, F4))
"""Values of `select`; the same as in the instruction fields."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Step:
    """One point as (first − second) + sign·(third − fourth)·2^shift.

    An operand is (index of the value, left shift) or None for zero.
    """

    first: tuple[int, int] | None
    second: tuple[int, int] | None
    third: tuple[int, int] | None
    fourth: tuple[int, int] | None = None
    negative: bool = False
    shift: int = 0

    def coefficients(self, length: int) -> tuple[int, ...]:
        """The row of Bᵀ that this step computes."""
        row = [0] * length
        scale = (-1 if self.negative else 1) << self.shift
        operands = (self.first, self.second, self.third, self.fourth)
        for operand, factor in zip(operands, (1, -1, scale, -scale), strict=True):
            if operand is not None:
                source, shift = operand
                row[source] += factor * 2**shift
        return tuple(row)


_STEPS = {
    BYPASS: (_Step(None, None, (0, 0)),),
    F23: (
        _Step(None, None, (0, 0), (2, 0)),
        _Step((2, 0), None, (1, 0)),
        _Step((2, 0), None, (1, 0), negative=True),
        _Step(None, None, (1, 0), (3, 0)),
    ),
    F43: (
        _Step((4, 0), (2, 0), (0, 0), (2, 0), shift=2),
        _Step((2, 2), (4, 0), (1, 2), (3, 0)),
        _Step((2, 2), (4, 0), (1, 2), (3, 0), negative=True),
        _Step((4, 0), (2, 0), (3, 0), (1, 0), shift=1),
        _Step((4, 0), (2, 0), (3, 0), (1, 0), negative=True, shift=1),
        _Step((5, 0), (3, 0), (1, 0), (3, 0), shift=2),
    ),
}
_PARTS = ("first", "second", "third", "fourth", "negative", "shift")
"""What a step is made of."""
_LANES_PER_COPY = 4
"""Lanes whose multiplexers follow the same flip-flops: more lie too far apart."""


def _check_steps() -> None:
    """The steps are the matrices of the contract."""
    for select, transform in enumerate(TRANSFORMS):
        computed = tuple(step.coefficients(transform.points) for step in _STEPS[select])
        if computed != transform.input_rows:
            raise AssertionError(f"the steps of {transform.name} are not its matrix")


_check_steps()


def _choices(part: str) -> list[Any]:
    """The different values that a part of a step takes, in order of appearance."""
    return list(dict.fromkeys(getattr(step, part) for row in _STEPS.values() for step in row))


def _rotated(part: str, copy: int) -> list[Any]:
    """`_choices`, counted from another one on in every copy."""
    choices = _choices(part)
    start = copy % len(choices)
    return choices[start:] + choices[:start]


class TransformStage(wiring.Component):
    """Bᵀ along one axis: groups of n values in, groups of n points out, `lanes` side by side.

    n = 4 for F(2,3) and 6 for F(4,3); with `BYPASS` a group is one value and passes as it is.
    Values of a group come in the order of their axis and points leave in it.

    Handshake: a value is taken in every cycle with `i_valid`, with or without gaps; nothing stalls.
    The last values of two successive groups must lie at least as many cycles apart as the earlier
    group has points, which groups of one size always do.
    Latency: the last value of a group in cycle t gives its points in t + LATENCY, t + LATENCY + 1,
    and so on, without gaps.

    Parameters
    ----------
    lanes: independent transforms under the same control.
    in_bits, out_bits: signed widths of values and points; points are modulo 2^out_bits.

    Members
    -------
    select: `BYPASS`, `F23` or `F43`; stable while a group comes in, free to change after its last
        value.
    clear: forget what came in; `o_valid` is low from the next cycle on.
    i_valid, i: a value of every lane.
    o_valid, o: a point of every lane.

    Tested range: tests/hw/compute/transform/test_transform.py.
    """

    LATENCY = 3

    def __init__(self, lanes: int, in_bits: int, out_bits: int):
        if lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {lanes}")
        if not 0 < in_bits <= out_bits:
            raise ValueError(f"out_bits must be at least in_bits ({in_bits}), not {out_bits}")
        self.lanes, self.in_bits, self.out_bits = lanes, in_bits, out_bits
        super().__init__(
            {
                "select": In(range(len(TRANSFORMS))),
                "clear": In(1),
                "i_valid": In(1),
                "i": In(signed(in_bits)).array(lanes),
                "o_valid": Out(1),
                "o": Out(signed(out_bits)).array(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._index = Signal(3)
        self._complete = Signal()
        m.d.comb += self._complete.eq(self.i_valid & (self._index == _last(self.select)))
        with m.If(self.i_valid):
            m.d.sync += self._index.eq(self._index + 1)
        with m.If(self._complete | self.clear):
            m.d.sync += self._index.eq(0)
        running, codes = self._emission(m)
        # cycle t + 1: operands and differences; cycle t + 2: the two halves
        half_valid = Signal()
        negative, shift = (Signal.like(codes[0][part]) for part in ("negative", "shift"))
        m.d.sync += [
            half_valid.eq(running & ~self.clear),
            self.o_valid.eq(half_valid & ~self.clear),
            negative.eq(codes[0]["negative"]),
            shift.eq(codes[0]["shift"]),
        ]
        shifts, minus = _choices("shift"), negative == _choices("negative").index(True)
        width = min(self.out_bits, self.in_bits + 3)
        for lane in range(self.lanes):
            held = self._hold(m, lane)
            number, copy = lane // _LANES_PER_COPY, codes[lane // _LANES_PER_COPY]
            first, second, third, fourth = (
                self._operand(m, held, copy[part], _rotated(part, number), f"{part}{lane}")
                for part in _PARTS[:4]
            )
            left = Signal(signed(width), name=f"left{lane}", reset_less=True)
            right = Signal(signed(width), name=f"right{lane}", reset_less=True)
            with m.If(running):
                m.d.sync += [left.eq(first - second), right.eq(third - fourth)]
            shifted = Signal(signed(width + max(shifts)), name=f"shifted{lane}")
            with m.Switch(shift):
                for code, places in enumerate(shifts):
                    with m.Case(code):
                        m.d.comb += shifted.eq(right << places)
            result = register_of(m, self.o[lane])
            with m.If(half_valid):
                m.d.sync += result.eq(Mux(minus, left - shifted, left + shifted))
        return m

    def _emission(self, m: Module) -> tuple[Signal, list[dict[str, Signal]]]:
        """Counter of a group's points, from the cycle after the last value.

        Returns
        -------
        Whether a point is formed in this cycle, and which choice each part of its step takes, in
        a copy for every _LANES_PER_COPY lanes. The choices are flip-flops, so that only the
        multiplexers lie in front of the adders; copy k counts them in the order `_rotated(…, k)`,
        so that synthesis does not make one flip-flop of them again.
        """
        running = Signal()
        number, last = Signal(3), Signal(3)
        select = Signal.like(self.select)
        following = Signal.like(number)
        m.d.comb += following.eq(number + 1)
        with m.If(self._complete):
            m.d.sync += [running.eq(1), last.eq(_last(self.select))]
        with m.Elif(running):
            m.d.sync += running.eq(number != last)
        with m.If(self.clear):
            m.d.sync += running.eq(0)
        m.d.sync += [
            select.eq(Mux(self._complete, self.select, select)),
            number.eq(Mux(self._complete, 0, following)),
        ]
        point = Cat(following, select)
        return running, [
            {part: self._code(m, point, part, copy) for part in _PARTS}
            for copy in range(-(-self.lanes // _LANES_PER_COPY))
        ]

    def _code(self, m: Module, point: Value, part: str, copy: int) -> Signal:
        """Which choice a part of the next step takes.

        Where a group completes it is of its first point, else of `point` (number, algorithm). That
        a group completes is known last: both codes wait for it.
        """
        choices = _rotated(part, copy)
        shape = range(len(choices))
        code, first, then = (
            Signal(shape, name=f"{name}_{part}{copy}", reset_less=name == "choice")
            for name in ("choice", "first", "then")
        )
        with m.Switch(self.select):
            for s, row in _STEPS.items():
                with m.Case(s):
                    m.d.comb += first.eq(choices.index(getattr(row[0], part)))
        with m.Switch(point):
            for s, row in _STEPS.items():
                for k, step in enumerate(row):
                    with m.Case((s << 3) | k):
                        m.d.comb += then.eq(choices.index(getattr(step, part)))
        m.d.sync += code.eq(Mux(self._complete, first, then))
        return code

    def _hold(self, m: Module, lane: int) -> list[Signal]:
        """The group before the one that is coming in, of one lane."""
        shape = signed(self.in_bits)
        value = self.i[lane]
        length = F4.points
        ends = {transform.points - 1: s for s, transform in enumerate(TRANSFORMS)}
        coming = [
            Signal(shape, name=f"coming{lane}_{k}", reset_less=True) for k in range(length - 1)
        ]
        held = [Signal(shape, name=f"held{lane}_{k}", reset_less=True) for k in range(length)]
        for k, register in enumerate(coming):
            with m.If(self.i_valid & (self._index == k)):
                m.d.sync += register.eq(value)
        with m.If(self._complete):
            for k, register in enumerate(held):
                if k == length - 1:
                    m.d.sync += register.eq(value)
                elif k in ends:
                    m.d.sync += register.eq(Mux(self.select == ends[k], value, coming[k]))
                else:
                    m.d.sync += register.eq(coming[k])
        return held

    def _operand(
        self, m: Module, held: list[Signal], code: Signal, choices: list[Any], name: str
    ) -> Signal:
        """One operand of the sum, as chosen by the step."""
        widest = max((choice[1] for choice in choices if choice is not None), default=0)
        operand = Signal(signed(self.in_bits + widest), name=name)
        with m.Switch(code):
            for number, choice in enumerate(choices):
                with m.Case(number):
                    if choice is not None:
                        m.d.comb += operand.eq(held[choice[0]] << choice[1])
        return operand


class Turn(wiring.Component):
    """Turns a tile: values come with one axis running fastest and leave with the other one.

    A tile of inner × outer values comes with its inner index running fastest and leaves with its
    outer index running fastest. With inner = outer = 1 values pass in their order. Two halves: a
    tile leaves while the next one comes in.

    Handshake: a value is taken in every cycle with `i_valid`, with or without gaps; nothing stalls.
    The last values of two successive tiles must lie at least as many cycles apart as the earlier
    tile has values. A stream without gaps of tiles of one size may come.
    Latency: the last value of a tile in cycle t gives its values in t + LATENCY, t + LATENCY + 1,
    and so on, without gaps.

    Parameters
    ----------
    lanes, bits: a value is `lanes` signed numbers of `bits` bits.
    depth: the largest inner·outer.

    Members
    -------
    inner, outer: at least 1; stable while a tile comes in, free to change after its last value.
    clear: forget what came in; `o_valid` is low from the next cycle on.
    i_valid, i, o_valid, o: the values.

    Tested range: tests/hw/compute/transform/test_transform.py.
    """

    LATENCY = 2

    def __init__(self, lanes: int, bits: int, depth: int):
        if depth < 2:
            raise ValueError(f"depth must be at least 2, not {depth}")
        self.lanes, self.bits, self.depth = lanes, bits, depth
        super().__init__(
            {
                "inner": In(range(depth + 1)),
                "outer": In(range(depth + 1)),
                "clear": In(1),
                "i_valid": In(1),
                "i": In(signed(bits)).array(lanes),
                "o_valid": Out(1),
                "o": Out(signed(bits)).array(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        half = 1 << (self.depth - 1).bit_length()
        m.submodules.rows = rows = memory.Memory(
            shape=data.ArrayLayout(signed(self.bits), self.lanes),
            depth=2 * half,
            init=[],
            attrs=NO_COLLISION,
        )
        write, read = rows.write_port(), rows.read_port()
        side, complete = Signal(), Signal()
        # cycle t: write
        place = Signal(range(half))
        in_inner, in_outer = Signal.like(self.inner), Signal.like(self.inner)
        inner_end = in_inner == self.inner - 1
        m.d.comb += [
            complete.eq(self.i_valid & inner_end & (in_outer == self.outer - 1)),
            write.en.eq(self.i_valid),
            write.addr.eq(Cat(place, side)),
        ]
        m.d.comb += [write.data[k].eq(self.i[k]) for k in range(self.lanes)]
        with m.If(self.i_valid):
            m.d.sync += [place.eq(place + 1), in_inner.eq(in_inner + 1)]
            with m.If(inner_end):
                m.d.sync += [in_inner.eq(0), in_outer.eq(in_outer + 1)]
        with m.If(complete | self.clear):
            m.d.sync += [place.eq(0), in_inner.eq(0), in_outer.eq(0)]
        with m.If(complete):
            m.d.sync += side.eq(~side)
        self._read(m, complete, side, read)
        m.d.comb += [self.o[k].eq(read.data[k]) for k in range(self.lanes)]
        return m

    def _read(self, m: Module, complete: Value, side: Value, read: memory.ReadPort) -> None:
        """cycle t + 1: address; cycle t + 2: data."""
        inner, outer = Signal.like(self.inner), Signal.like(self.inner)
        reading, from_side = Signal(), Signal()
        place = Signal(len(read.addr) - 1)
        out_inner, out_outer = Signal.like(self.inner), Signal.like(self.inner)
        outer_end = out_outer == outer - 1
        m.d.comb += [read.en.eq(reading), read.addr.eq(Cat(place, from_side))]
        with m.If(complete):
            m.d.sync += [inner.eq(self.inner), outer.eq(self.outer), from_side.eq(side)]
            m.d.sync += [reading.eq(1), out_inner.eq(0), out_outer.eq(0), place.eq(0)]
        with m.Elif(reading):
            m.d.sync += [out_outer.eq(out_outer + 1), place.eq(place + inner)]
            with m.If(outer_end):
                m.d.sync += [out_outer.eq(0), out_inner.eq(out_inner + 1), place.eq(out_inner + 1)]
                with m.If(out_inner == inner - 1):
                    m.d.sync += reading.eq(0)
        with m.If(self.clear):
            m.d.sync += reading.eq(0)
        m.d.sync += self.o_valid.eq(reading & ~self.clear)


def _last(select: Value) -> Value:
    """Values of a group, less one, by a run-time `select`."""
    ends = [C(transform.points - 1, 3) for transform in TRANSFORMS]
    return Mux(select == F43, ends[F43], Mux(select == F23, ends[F23], ends[BYPASS]))
