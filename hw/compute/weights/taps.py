"""Reads the taps of HFA instructions in the order and at the pace of the weight transform."""

from amaranth.hdl import C, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.winograd_matrices import F2, F4, TRANSFORMS
from hw.common.agu import COUNT_BITS, Nest
from hw.common.ports import weight_read
from hw.compute.parts.latch import delayed

__all__ = ["MAX_POINTS", "TapReader", "group_period", "group_reads", "points_of"]

TAPS = 3
PLANE = TAPS * TAPS
MAX_POINTS = F4.points**2
"""Points of one temporal point: a *slab* has so many blocks at most."""


def points_of(temporal: int, spatial: int) -> int:
    """Points of a slab: all of the tile's, or those of one temporal point when nested."""
    return TRANSFORMS[spatial].points ** 2 if spatial else TRANSFORMS[temporal].points


def group_reads(temporal: int, spatial: int) -> list[int]:
    """Cycles of a group, counted from its first, in which a tap is read.

    The 1-D stage takes three values per transformed row, n cycles apart at least; when nested a
    value takes three reads.
    """
    if not spatial:
        return list(range(TAPS))
    if temporal:
        return list(range(TAPS * PLANE))
    pitch = TRANSFORMS[spatial].points
    return [row * pitch + tap for row in range(TAPS) for tap in range(TAPS)]


def group_period(temporal: int, spatial: int) -> int:
    """Cycles from one group's first read to the next one's."""
    return max(points_of(temporal, spatial), len(group_reads(temporal, spatial)))


class TapReader(wiring.Component):
    """Walks the pairs of an instruction; a pair is one slab, or one per temporal point when nested.

    A slab is all row groups of a pair (rows / LW of them), each of which takes `group_period`
    cycles. Non-nested taps are read once, linear in memory; nested ones once per temporal point,
    kt fastest.

    Handshake: `start` is remembered until the instruction before has been read, and, if that was
    another algorithm, until `clear` says that nothing of it is in the pipeline any more. A slab
    starts when `room` is high; `room` may be one cycle late, except that it is right again two
    cycles after `enter`.
    Latency: `start` in cycle t gives the first read in t + 5 (everything empty).

    Members
    -------
    start, temporal, spatial, counts, base, abort: as in `WeightTransform`.
    clear: no value is in the pipeline behind.
    room: TWB takes a whole slab.
    enter: a slab starts.
    points: its blocks, while it is read or waits.
    group: a group starts.
    weight: read port of the weight scratchpad, `data` not used.
    select_t, select_s: algorithm of the values in the pipeline.
    tap: which tap along t the data, one cycle after `enable`, hold; 0 unless nested.
    temporal_point: the same for the temporal point.
    valid: in the cycle of the data.
    busy: an instruction has taps left.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._nested = "hfa_nested" in config.features
        port = weight_read(config)
        super().__init__(
            {
                "start": In(1),
                "temporal": In(2),
                "spatial": In(2),
                "counts": In(COUNT_BITS).array(3),
                "base": In(len(port.create().address)),
                "abort": In(1),
                "clear": In(1),
                "room": In(1),
                "enter": Out(1),
                "points": Out(range(MAX_POINTS + 1)),
                "group": Out(1),
                "weight": Out(port),
                "select_t": Out(2),
                "select_s": Out(2),
                "tap": Out(range(TAPS)),
                "temporal_point": Out(range(F4.points)),
                "valid": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._begin(m)
        self._slabs(m)
        self._read(m)
        return m

    def _algorithms(self) -> list[tuple[int, int]]:
        single = [(t, 0) for t in (1, 2)] + [(0, s) for s in (1, 2)]
        return single + ([(1, 1), (1, 2), (2, 1)] if self._nested else [])

    def _selected(self, values: dict[tuple[int, int], int], width: int) -> Value:
        """A constant per algorithm, by the registered selection."""
        result: Value = C(0, width)
        for (t, s), value in values.items():
            result = Mux((self.select_t == t) & (self.select_s == s), C(value, width), result)
        return result

    def _begin(self, m: Module) -> None:
        """Take an instruction over: at once, or in the last cycle of the one before."""
        m.submodules.nest = self._nest = nest = Nest((3, COUNT_BITS, COUNT_BITS, COUNT_BITS))
        pending, self._active = Signal(), Signal()
        # The outermost count is only looked at a cycle behind `begin`: the field still stands.
        counts = [Signal(COUNT_BITS, name=f"count{k}", reset_less=True) for k in range(2)]
        # A cycle late, as `pending` is. Where the selection has just changed, an instruction with
        # the selection before it cannot be pending (`ArrayControl` lets only equal ones overlap).
        following = Signal()
        m.d.sync += following.eq((self.temporal == self.select_t) & (self.spatial == self.select_s))
        self._ending = Signal()
        self._start = begin = Signal()
        m.d.comb += begin.eq(
            pending & Mux(self._active, self._ending & following, following | self.clear)
        )
        with m.If(self.start):
            m.d.sync += pending.eq(1)
        with m.Elif(begin):
            m.d.sync += pending.eq(0)
        with m.If(self._ending):
            m.d.sync += self._active.eq(0)
        with m.If(begin):
            m.d.sync += [
                count.eq(value) for count, value in zip(counts, self.counts[:2], strict=True)
            ]
            m.d.sync += [
                self._active.eq(1),
                self.select_t.eq(self.temporal),
                self.select_s.eq(self.spatial),
            ]
        with m.If(self.abort):
            m.d.sync += [pending.eq(0), self._active.eq(0)]
        nested = (self.select_t != 0) & (self.select_s != 0) if self._nested else C(0)
        # The counters start a cycle late; their ends are looked at in a group's second phase first.
        self._begun = begun = Signal()
        m.d.sync += begun.eq(begin)
        m.d.comb += [
            nest.load.eq(begun),
            nest.counts[0].eq(Mux(nested, Mux(self.select_t == 2, F4.points, F2.points), 1)),
            nest.counts[3].eq(self.counts[2]),
            self.points.eq(
                self._selected({a: points_of(*a) for a in self._algorithms()}, len(self.points))
            ),
            self.busy.eq(pending | self._active),
        ]
        m.d.comb += [nest.counts[1 + k].eq(count) for k, count in enumerate(counts)]

    def _slabs(self, m: Module) -> None:
        """Phase in the group, group in the slab."""
        groups = self._config.weight_block_groups
        nest = self._nest
        self._inside = Signal()
        self._phase = phase = Signal(range(MAX_POINTS))
        self._group = group = Signal(range(groups))
        self._pass = Signal(range(F4.points))
        periods = {a: group_period(*a) - 1 for a in self._algorithms()}
        group_end, slab_end, step = Signal(), Signal(), Signal()
        last_phase = Signal.like(phase)
        # Ends are known a cycle ahead, since much follows from them; a group has three phases or
        # more, so that the other counters stand still then.
        near = self._inside & ~group_end & (phase + 1 == last_phase) & ~self.abort
        slab_near = near & (group == groups - 1)
        m.d.sync += [
            group_end.eq(near),
            slab_end.eq(slab_near),
            step.eq(slab_near & ~nest.last),
            self._ending.eq(slab_near & nest.last),
        ]
        # `room` and `last_phase` follow the selection by a cycle.
        settled = Signal()
        m.d.sync += settled.eq(~self._start)
        # Constant while an instruction is read.
        m.d.sync += last_phase.eq(self._selected(periods, len(phase)))
        m.d.comb += [
            nest.step.eq(step),
            self.enter.eq(
                self.room
                & Mux(self._inside, step | (slab_end & self._start), self._active & settled)
                & ~self.abort
            ),
            self.group.eq(self.enter | (group_end & ~slab_end)),
        ]
        with m.If(self._inside):
            m.d.sync += phase.eq(phase + 1)
        with m.If(group_end):
            m.d.sync += [phase.eq(0), group.eq(group + 1)]
        with m.If(slab_end):
            m.d.sync += [group.eq(0), self._inside.eq(0), self._pass.eq(self._pass + 1)]
            with m.If(nest.wrap[0]):
                m.d.sync += self._pass.eq(0)
        with m.If(self.enter):
            m.d.sync += self._inside.eq(1)
        with m.If(self.abort):
            m.d.sync += [self._inside.eq(0), phase.eq(0), group.eq(0), self._pass.eq(0)]

    def _read(self, m: Module) -> None:
        """The register in front of the port; the data's tags."""
        port, phase = self.weight, self._phase
        reads = Signal()
        wanted: Value = C(0)
        for t, s in self._algorithms():
            here = (self.select_t == t) & (self.select_s == s)
            wanted = wanted | (here & phase.matches(*group_reads(t, s)))
        m.d.comb += reads.eq(self._inside & wanted)
        m.d.sync += [port.enable.eq(reads & ~self.abort), self.valid.eq(port.enable & ~self.abort)]
        if not self._nested:
            delta: Value = C(1)
        else:
            delta = self._nested_walk(m, reads)
        # A tap of the instruction before may still stand at the port when the next one begins.
        with m.If(self._begun):
            m.d.sync += port.address.eq(self.base)
        with m.Elif(port.enable):
            m.d.sync += port.address.eq(port.address + delta)

    def _nested_walk(self, m: Module, reads: Value) -> Value:
        """Taps of a nested group, kt fastest; every temporal point reads the pair again."""
        groups = self._config.weight_block_groups
        nested = (self.select_t != 0) & (self.select_s != 0)
        tap = Signal(range(TAPS))
        step = Signal(len(self.weight.address), reset_less=True)
        group_last = self._phase == TAPS * PLANE - 1
        with m.If(reads & nested):
            m.d.sync += tap.eq(Mux(tap == TAPS - 1, 0, tap + 1))
        with m.If(self.abort):
            m.d.sync += tap.eq(0)
        again = group_last & (self._group == groups - 1) & ~self._nest.final[0]
        rewind = TAPS * PLANE * groups - 1
        m.d.sync += step.eq(
            Mux(
                ~nested | (group_last & ~again),
                1,
                Mux(again, C(-rewind), Mux(tap == TAPS - 1, C(1 - 2 * PLANE), C(PLANE))),
            )
        )
        m.d.comb += [
            self.tap.eq(delayed(m, tap, 2, "tap")),
            self.temporal_point.eq(delayed(m, self._pass, 2, "temporal_point")),
        ]
        return step
