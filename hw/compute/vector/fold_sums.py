"""Sums and extrema over all lanes of a group."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.compute.parts.latch import delayed
from hw.compute.vector.element import GROUP_SUM_BITS, TERM_BITS

__all__ = ["INDEX_BITS", "TOTAL_BITS", "FoldSums", "tree_stages"]

TOTAL_BITS = 32
"""Signed, of a group's sum of terms: below 2^31 for exponentials, 2^26 for squares."""
INDEX_BITS = 16
LEVELS_PER_STAGE = 2


def tree_stages(width: int) -> int:
    """Registers of a tree over `width` lanes: two levels in front of each, one at least."""
    return max(1, -(-exact_log2(width) // LEVELS_PER_STAGE))


class FoldSums(wiring.Component):
    """Terms, elements and the largest element of a group, over steps of some lanes.

    Handshake: none; takes a step in every cycle in which `present` is high.
    Latency: `latency` cycles from a group's last step until `done`; the results stand for that
    cycle.

    Parameters
    ----------
    width: lanes of a step, a power of two.

    Members
    -------
    present: a step is there. opens, closes: it is its group's first, last one.
    terms: per lane, added up; a lane that does not count brings zero.
    elements: per lane, added up and compared; one that does not count brings zero, or -256 where
        the largest is wanted.
    done: the group of the results is complete.
    total: sum of terms. elements_total: sum of elements.
    largest: element. index: number of its first lane, counted over the group's steps.

    Tested range: |total| < 2^31, tests/hw/compute/vector/test_fold_sums.py.
    """

    def __init__(self, width: int):
        self._width = width
        super().__init__(
            {
                "present": In(1),
                "opens": In(1),
                "closes": In(1),
                "terms": In(data.ArrayLayout(signed(TERM_BITS), width)),
                "elements": In(data.ArrayLayout(signed(9), width)),
                "done": Out(1),
                "total": Out(signed(TOTAL_BITS)),
                "elements_total": Out(signed(GROUP_SUM_BITS)),
                "largest": Out(signed(9)),
                "index": Out(INDEX_BITS),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from a group's last step until `done`."""
        return tree_stages(self._width) + 1

    def elaborate(self, platform: object) -> Module:
        m = Module()
        terms = [self.terms[lane] for lane in range(self._width)]
        elements = [self.elements[lane] for lane in range(self._width)]
        term = self._added(m, terms, "terms")
        element = self._added(m, elements, "elements")
        largest, place = self._compared(m, elements)
        flags = delayed(
            m, Cat(self.present, self.opens, self.closes), tree_stages(self._width), "step"
        )
        present, opens, closes = flags[0], flags[1], flags[2]
        steps = Signal(INDEX_BITS - exact_log2(self._width), reset_less=True)
        best = Signal(signed(9), reset_less=True)
        number = Signal.like(steps, name="number")
        m.d.comb += number.eq(Mux(opens, 0, steps + 1))
        total, elements_total = (
            Signal(signed(TOTAL_BITS), name="total_register", reset_less=True),
            Signal(signed(GROUP_SUM_BITS), name="elements_register", reset_less=True),
        )
        index = Signal(INDEX_BITS, name="index_register", reset_less=True)
        m.d.sync += self.done.eq(present & closes)
        with m.If(present):
            m.d.sync += [
                steps.eq(number),
                total.eq(Mux(opens, 0, total) + term),
                elements_total.eq(Mux(opens, 0, elements_total) + element),
            ]
            with m.If(opens | (largest > best)):
                m.d.sync += [best.eq(largest), index.eq(Cat(place, number))]
        m.d.comb += [
            self.total.eq(total),
            self.elements_total.eq(elements_total),
            self.largest.eq(best),
            self.index.eq(index),
        ]
        return m

    def _stages(self, level: int) -> bool:
        """Whether registers follow a level of a tree."""
        last = exact_log2(self._width)
        return level == last or level % LEVELS_PER_STAGE == 0

    def _added(self, m: Module, values: list[Value], name: str) -> Value:
        level = 0
        while len(values) > 1 or level == 0:
            level += 1
            values = [
                values[k] + values[k + 1] if k + 1 < len(values) else values[k]
                for k in range(0, len(values), 2)
            ]
            if self._stages(level) or len(values) == 1:
                values = self._kept(m, values, f"{name}{level}")
        return values[0]

    def _compared(self, m: Module, values: list[Value]) -> tuple[Value, Value]:
        """(largest, its lane); the lower lane of equal ones."""
        bits = exact_log2(self._width)
        pairs: list[tuple[Value, Value]] = [(value, C(0, 0)) for value in values]
        level = 0
        while len(pairs) > 1 or level == 0:
            level += 1
            joined = []
            for k in range(0, len(pairs) - 1, 2):
                (low, low_place), (high, high_place) = pairs[k], pairs[k + 1]
                upper = Signal(name=f"upper{level}_{k}")
                m.d.comb += upper.eq(high > low)
                place = Cat(Mux(upper, high_place, low_place)[: level - 1], upper)
                joined.append((Mux(upper, high, low), place))
            pairs = joined or pairs
            if self._stages(level) or len(pairs) == 1:
                kept = self._kept(m, [value for value, _ in pairs], f"largest{level}")
                places = self._kept(m, [place for _, place in pairs], f"place{level}")
                pairs = list(zip(kept, places, strict=True))
        value, place = pairs[0]
        return value, place[:bits]

    def _kept(self, m: Module, values: list[Value], name: str) -> list[Value]:
        registers = []
        for k, value in enumerate(values):
            register = Signal(value.shape(), name=f"{name}_{k}", reset_less=True)
            m.d.sync += register.eq(value)
            registers.append(register)
        return registers
