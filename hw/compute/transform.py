"""The 1-D transform of exact integer Winograd, and the memory that turns a tile between two axes.

Input and weight transform are compositions of these two parts, the output transform one of
`OutputStage`s (same stream, wide arithmetic) and `Turn`s; hw/arch/winograd.py has the matrices.
All take a stream of vectors without back-pressure and are told nothing but where a group or a tile
ends, by counting.
"""

import dataclasses
from collections.abc import Iterable

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.winograd import DIRECT, F2, F4, TRANSFORMS, Transform
from hw.common.ports import NO_COLLISION

__all__ = ["BYPASS", "F23", "F43", "TransformStage", "Turn"]

BYPASS, F23, F43 = (TRANSFORMS.index(t) for t in (DIRECT, F2, F4))
"""Values of `select`; the same as in the instruction fields."""

KINDS = ("input", "weight")


@dataclasses.dataclass(frozen=True, slots=True)
class _Step:
    """One point as (first ± second) + sign·(third ± fourth)·2^shift.

    An operand is (index of the value, left shift) or None for zero. Whether second and fourth are
    added or subtracted is a matter of the kind, not of the point.
    """

    first: tuple[int, int] | None
    second: tuple[int, int] | None
    third: tuple[int, int] | None
    fourth: tuple[int, int] | None = None
    negative: bool = False
    shift: int = 0

    def coefficients(self, length: int, polarity: int) -> tuple[int, ...]:
        """The row of the matrix that this step computes."""
        row = [0] * length
        scale = (-1 if self.negative else 1) << self.shift
        for operand, factor in (
            (self.first, 1),
            (self.second, polarity),
            (self.third, scale),
            (self.fourth, polarity * scale),
        ):
            if operand is not None:
                source, shift = operand
                row[source] += factor * 2**shift
        return tuple(row)


_INPUT = {
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
_WEIGHT = {
    BYPASS: (_Step((0, 0), None, None),),
    F23: (
        _Step((0, 0), None, None),
        _Step((0, 0), (2, 0), (1, 0)),
        _Step((0, 0), (2, 0), (1, 0), negative=True),
        _Step(None, (2, 0), None),
    ),
    F43: (
        _Step((0, 0), None, None),
        _Step((0, 0), (2, 0), (1, 0)),
        _Step((0, 0), (2, 0), (1, 0), negative=True),
        _Step((0, 0), (2, 2), (1, 0), shift=1),
        _Step((0, 0), (2, 2), (1, 0), negative=True, shift=1),
        _Step(None, (2, 0), None),
    ),
}
_STEPS = {"input": (_INPUT, -1), "weight": (_WEIGHT, 1)}
"""Per kind: steps by `select`, and the polarity of second and fourth operands."""


def _matrix(kind: str, transform: Transform) -> tuple[tuple[int, ...], ...]:
    rows: tuple[tuple[int, ...], ...] = getattr(transform, f"{kind}_rows")
    return rows


def _check_steps() -> None:
    """The steps are the matrices of the contract."""
    for kind, (steps, polarity) in _STEPS.items():
        for select, transform in enumerate(TRANSFORMS):
            rows = _matrix(kind, transform)
            computed = tuple(step.coefficients(len(rows[0]), polarity) for step in steps[select])
            if computed != rows:
                raise AssertionError(f"{kind} transform {transform.name} is not its matrix")


_check_steps()


class TransformStage(wiring.Component):
    """One axis of a transform: groups of values in, groups of results out, `lanes` side by side.

    input: Bᵀ, n values give n points. weight: G, 3 taps give n points. n = 4 for F(2,3) and 6 for
    F(4,3); with `BYPASS` a group is one value and passes as it is. Values of a group come in the
    order of their axis and results leave in it. Arithmetic is modulo 2^out_bits.

    Handshake: a value is taken in every cycle with `i_valid`, with or without gaps; nothing stalls.
    The last values of two successive groups must lie at least as many cycles apart as the earlier
    group has results. Values of the input kind may therefore always come without gaps; the weight
    kind needs n cycles for every three taps.
    Latency: the last value of a group in cycle t gives its results in t + LATENCY, t + LATENCY + 1,
    and so on, without gaps.

    Parameters
    ----------
    kind: "input" or "weight".
    lanes: independent transforms under the same control.
    in_bits, out_bits: signed widths of values and results.

    Members
    -------
    select: `BYPASS`, `F23` or `F43`; stable while a group comes in, free to change after its last
        value.
    clear: forget what came in; `o_valid` is low from the next cycle on.
    i_valid, i: a value of every lane.
    o_valid, o: a result of every lane.

    Tested range: tests/hw/compute/test_transform.py.
    """

    LATENCY = 3

    def __init__(self, kind: str, lanes: int, in_bits: int, out_bits: int):
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        if lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {lanes}")
        if not 0 < in_bits <= out_bits:
            raise ValueError(f"out_bits must be at least in_bits ({in_bits}), not {out_bits}")
        self.kind, self.lanes, self.in_bits, self.out_bits = kind, lanes, in_bits, out_bits
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

    @classmethod
    def sizes(cls, kind: str, select: int) -> tuple[int, int]:
        """Values and results of a group."""
        rows = _matrix(kind, TRANSFORMS[select])
        return len(rows[0]), len(rows)

    def _number(self, which: int, select: Value) -> Value:
        """Values (0) or results (1) of a group, minus one, by a run-time `select`."""
        sizes = [self.sizes(self.kind, s)[which] - 1 for s in range(len(TRANSFORMS))]
        return Mux(select == F43, C(sizes[F43], 3), Mux(select == F23, sizes[F23], sizes[BYPASS]))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._index = Signal(3)
        self._complete = Signal()
        m.d.comb += self._complete.eq(self.i_valid & (self._index == self._number(0, self.select)))
        with m.If(self.i_valid):
            m.d.sync += self._index.eq(self._index + 1)
        with m.If(self._complete | self.clear):
            m.d.sync += self._index.eq(0)
        self._gather(m)
        return m

    def _emission(self, m: Module, load: Value, select: Value) -> tuple[Signal, Signal]:
        """Counter of a group's results, from the cycle after `load`; (running, number)."""
        running, number, last = Signal(), Signal(3), Signal(3)
        with m.If(load):
            m.d.sync += [running.eq(1), number.eq(0), last.eq(self._number(1, select))]
        with m.Elif(running):
            m.d.sync += [number.eq(number + 1), running.eq(number != last)]
        with m.If(self.clear):
            m.d.sync += running.eq(0)
        return running, number

    def _gather(self, m: Module) -> None:
        """Hold a whole group; form one point per cycle in two steps."""
        steps, polarity = _STEPS[self.kind]
        length = self.sizes(self.kind, F43)[0]
        select = Signal.like(self.select, reset_less=True)
        running, number = self._emission(m, self._complete, self.select)
        with m.If(self._complete):
            m.d.sync += select.eq(self.select)
        # Which step stands in the operand registers' cycle; one bit each.
        steps_now = [
            (step, (select == s) & (number == k))
            for s, row in steps.items()
            for k, step in enumerate(row)
        ]
        # cycle t + 1: operands and sums; cycle t + 2: the two halves
        half_valid, negative = Signal(), Signal(reset_less=True)
        shift = Signal(2, reset_less=True)
        m.d.sync += [
            half_valid.eq(running & ~self.clear),
            negative.eq(_any(here for step, here in steps_now if step.negative)),
            self.o_valid.eq(half_valid & ~self.clear),
        ]
        m.d.sync += [
            shift[bit].eq(_any(here for step, here in steps_now if step.shift >> bit & 1))
            for bit in range(2)
        ]
        width = min(self.out_bits, self.in_bits + 3)
        ends = {self.sizes(self.kind, s)[0] - 1: s for s in range(len(TRANSFORMS))}
        for lane in range(self.lanes):
            held = self._hold(m, lane, length, ends)
            first, second, third, fourth = (
                self._operand(held, steps_now, name)
                for name in ("first", "second", "third", "fourth")
            )
            left = Signal(signed(width), name=f"left{lane}", reset_less=True)
            right = Signal(signed(width), name=f"right{lane}", reset_less=True)
            with m.If(running):
                m.d.sync += [
                    left.eq(first + second if polarity > 0 else first - second),
                    right.eq(third + fourth if polarity > 0 else third - fourth),
                ]
            shifted = Mux(shift[1], right << 2, Mux(shift[0], right << 1, right))
            with m.If(half_valid):
                m.d.sync += self.o[lane].eq(Mux(negative, left - shifted, left + shifted))

    def _hold(self, m: Module, lane: int, length: int, ends: dict[int, int]) -> list[Signal]:
        """The group before the one that is coming in, of one lane."""
        shape = signed(self.in_bits)
        value = self.i[lane]
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

    def _operand(self, held: list[Signal], steps: list[tuple[_Step, Value]], name: str) -> Value:
        """One operand of the sum, chosen by the step."""
        choices: dict[tuple[int, int], list[Value]] = {}
        for step, here in steps:
            operand = getattr(step, name)
            if operand is not None:
                choices.setdefault(operand, []).append(here)
        result: Value = C(0, signed(1))
        for (source, shift), conditions in choices.items():
            result = Mux(_any(conditions), held[source] << shift, result)
        return result


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

    Tested range: tests/hw/compute/test_transform.py.
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


def _any(conditions: Iterable[Value]) -> Value:
    """1 if one of the conditions holds; 0 if there is none."""
    result: Value = C(0, 1)
    for condition in conditions:
        result = result | condition
    return result
