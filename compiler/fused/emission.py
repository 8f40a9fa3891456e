"""Emission of a fused chain: temporal, depthwise and pointwise convolution of a strip on chip.

Order: S(n), T(n + 1), P(n). The temporal convolution's drain writes the inner map as soon as the
window has read it, and the pointwise convolution hides the drains of both.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Iterator
from typing import Any

from compiler.array.fields import Place
from compiler.array.gemm import Tail
from compiler.emit.emitter import Emitter
from compiler.emit.schedule import Ring, Slots, Step, run
from compiler.emit.transfers import Box, Strided, load_box, store_box
from compiler.fused.choice import ranked, record
from compiler.fused.operand import OperandPath, dense
from compiler.fused.plan import FusedPlan, Links
from compiler.fused.stages import Lines, Pair, parameter_beats
from compiler.fused.strips import Strip
from compiler.ir import Chain, CompilerError
from compiler.tile.geometry import Range
from hw.arch.isa import Space, UnitInstruction
from hw.arch.program import Tensor


class FusedEmission:
    """Emits one chain by a plan."""

    def __init__(self, emitter: Emitter, plan: FusedPlan):
        self.emitter, self.config, self.plan = emitter, emitter.config, plan
        self.links = plan.links
        self.items: list[tuple[Range, Strip]] = [
            (frames, strip) for frames in plan.frames for strip in plan.strips
        ]
        self.banks = itertools.cycle((0, 1))
        # Strips of the pointwise convolution before each item.
        taken = (strip.pointwise is not None for _, strip in self.items)
        self._turns = [0, *itertools.accumulate(taken)]
        temporal, window, pointwise = plan.temporal, plan.window, plan.pointwise
        self.operand = OperandPath(emitter, plan, self.items)
        self.temporal_beats = 0
        rows = window.blocks + pointwise.job.problem.groups
        if temporal is not None:
            self.temporal_beats = temporal.item_beats * len(temporal.groups)
            rows += temporal.job.problem.groups
        self.window_beats = window.blocks * window.problem.block_beats
        total = self.temporal_beats + self.window_beats
        self.weight_base = emitter.weights.take(total + plan.pointwise_slots * pointwise.item_beats)
        beats = parameter_beats(self.config)
        self.parameter_base = emitter.parameters.take(rows * beats)
        self.window_parameters = self.parameter_base
        if temporal is not None:
            self.window_parameters += temporal.job.problem.groups * beats
        self.pointwise_parameters = self.window_parameters + window.blocks * beats

    def emit(self) -> None:
        """Emit the whole chain."""
        plan = self.plan
        steps = list(self._steps())
        # Strips that take the mean frame are loaded when all of it is stored.
        means = [n for n, step in enumerate(steps) if isinstance(step.needs.get("input"), tuple)]
        stored: dict[Hashable, int] = dict.fromkeys(
            self.operand.with_mean, means[-1] + 1 if means else 0
        )
        rings = {
            "parameter": Ring(1, self._fill_parameters),
            "input": Ring(plan.slots["input"], self._fill_input, not_before=stored),
            "window": Ring(1, self._fill_window),
            "pointwise": Ring(plan.pointwise_slots, self._fill_pointwise),
        }
        if self.links.tail is not None:
            rings["beside"] = Ring(2, self._fill_beside)
        if plan.temporal is not None:
            rings["temporal"] = Ring(len(plan.temporal.groups), self._fill_temporal)
        run(self.emitter, rings, steps)

    # Order

    def _steps(self) -> Iterator[Step]:
        """S(n), T(n + 1), P(n); without T and with two results S(n + 1), P(n)."""
        count = len(self.items)
        first = self.plan.temporal is not None or self.plan.slots["result"] == 2
        prepared = means = 0
        for number in range(-1 if first else 0, count):
            while prepared < min(number + 1 + self._ahead, count):
                for tile in range(means, self.operand.means_before(prepared)):
                    yield self._mean(tile)
                    means = tile + 1
                yield from self._prepare(prepared)
                prepared += 1
            if self.plan.temporal is not None:
                if number >= 0:
                    yield from self._window(number)
                if number + 1 < count:
                    yield from self._temporal(number + 1)
            elif number + first < count:
                yield from self._window(number + first)
            if number >= 0:
                yield from self._pointwise(number)

    @property
    def _ahead(self) -> int:
        """Strips that the vector unit prepares before the array gets to them."""
        slots = self.plan.slots
        return slots.get("packed", slots.get("difference", 0))

    def _prepare(self, number: int) -> Iterator[Step]:
        if self.operand.prepares and self.items[number][1].inner[1]:
            yield Step({"input": number}, lambda s: self.operand.prepare(number, s["input"]))

    def _mean(self, tile: int) -> Step:
        return Step({"input": ("mean", tile)}, lambda s: self.operand.mean(tile, s["input"]))

    # Transfers

    def _fill_parameters(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        plan = self.plan
        data = b"" if plan.temporal is None else plan.temporal.parameters()
        data += plan.window.parameters() + plan.pointwise.parameters()
        return [self.emitter.load_constant(data, Space.PARAMETER, self.parameter_base)]

    def _fill_temporal(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        stage = self.plan.temporal
        assert stage is not None and isinstance(key, int)
        local = self._temporal_weight(slot)
        return [self.emitter.load_constant(stage.weights(key), Space.WEIGHT, local)]

    def _temporal_weight(self, slot: int) -> int:
        assert self.plan.temporal is not None
        return self.weight_base + slot * self.plan.temporal.item_beats

    def _fill_window(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        data = self.plan.window.weights(self.plan.split[1])
        local = self.weight_base + self.temporal_beats
        return [self.emitter.load_constant(data, Space.WEIGHT, local)]

    def _fill_pointwise(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int)
        data = self.plan.pointwise.weights(key)
        return [self.emitter.load_constant(data, Space.WEIGHT, self._pointwise_weight(slot))]

    def _pointwise_weight(self, slot: int) -> int:
        base = self.weight_base + self.temporal_beats + self.window_beats
        return base + slot * self.plan.pointwise.item_beats

    def _fill_input(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        if isinstance(key, tuple):
            return self.operand.mean_load(key[1], slot)
        assert isinstance(key, int)
        return self.operand.loads(key, slot)

    # Computation

    def _emit_pair(self, pair: Pair) -> None:
        for instruction in pair:
            self.emitter.emit(instruction)

    def _inner_place(self, number: int) -> Place:
        """New lines of the inner map; nothing is read of them where a strip only pads."""
        frames, strip = self.items[number]
        size = (self.links.inner.layout.width, max(strip.inner[1], 1), frames[1])
        first = (0, strip.inner[0], frames[0])
        return dense(self.plan.regions.get("inner", self.plan.regions["input"]).row, first, size)

    def _temporal(self, number: int) -> Iterator[Step]:
        stage = self.plan.temporal
        frames, strip = self.items[number]
        assert stage is not None
        if not strip.inner[1]:
            return
        for group in range(len(stage.groups)):

            def body(slots: Slots, group: int = group) -> None:
                operand = self.operand.operand(number, slots.get("input", 0))
                box = ((0, self.links.inner.layout.width), strip.inner, frames)
                weight = self._temporal_weight(slots["temporal"])
                for pair in stage.instructions(
                    box, operand, self._inner_place(number), group, weight, self.parameter_base,
                    self.banks,
                ):  # fmt: skip
                    self._emit_pair(pair)

            # Parameters come last: their memory is small, so that they wait for the layer before.
            needs: dict[str, Hashable] = {"temporal": group}
            if not self.operand.prepares:
                needs["input"] = number
            yield Step({**needs, "parameter": 0}, body)

    def _result_place(self, number: int) -> Place:
        """Lines of the depthwise result that the pointwise convolution takes next."""
        frames, _ = self.items[number]
        lines = next(s.pointwise for _, s in self.items[number:] if s.pointwise is not None)
        window = self.plan.window
        size = (window.axes[0].out, lines[1], frames[1])
        frame = size[0] * size[1] + window.garbage
        row = self.plan.row("result", self._turns[number])
        first = (0, lines[0], frames[0])
        return Place(row, first, size, (1, size[0], frame, frame * frames[1]))

    def _window(self, number: int) -> Iterator[Step]:
        plan = self.plan
        frames, strip = self.items[number]
        loaded = plan.temporal is None and strip.inner[1] > 0
        weight = self.weight_base + self.temporal_beats
        for lines in plan.window.lines(frames[1], plan.split):

            def body(slots: Slots, lines: Lines = lines) -> None:
                operand = self._inner_place(number)
                if loaded:
                    operand = self.operand.operand(number, slots["input"])
                bank = next(self.banks)
                self._emit_pair(
                    plan.window.instructions(
                        strip, lines, operand, self._result_place(number), weight,
                        self.window_parameters, bank,
                    )
                )  # fmt: skip

            needs: dict[str, Hashable] = {"window": 0}
            if loaded:
                needs["input"] = number
            yield Step({**needs, "parameter": 0}, body)

    def _pointwise(self, number: int) -> Iterator[Step]:
        frames, strip = self.items[number]
        lines = strip.pointwise
        if lines is None:
            return
        stage = self.plan.pointwise
        box = ((0, stage.kernel.axes[0].out), lines, frames)
        target = self._target_box(number)
        row = self.plan.row("output", self._turns[number])
        place = Place(row, target.first, target.size, target.pitches())
        for group in range(len(stage.groups)):

            def body(slots: Slots, group: int = group) -> None:
                weight = self._pointwise_weight(slots["pointwise"])
                operand = self._result_place(number)
                for pair in stage.instructions(
                    box, operand, place, group, weight, self.pointwise_parameters, self.banks
                ):
                    self._emit_pair(pair)
                if group == len(stage.groups) - 1:
                    self._store(number, row, slots.get("beside", 0))

            needs: dict[str, Hashable] = {"parameter": 0, "pointwise": group}
            if self.links.tail is not None and group == len(stage.groups) - 1:
                needs["beside"] = number
            yield Step(needs, body)

    def _target_box(self, number: int) -> Box:
        """What the pointwise convolution makes of an item, behind its pool."""
        frames, strip = self.items[number]
        lines, kernel = strip.pointwise, self.plan.pointwise.kernel
        assert lines is not None
        pools = kernel.pools
        first = (0, lines[0] // pools[1], frames[0] // pools[2])
        size = (kernel.axes[0].out // pools[0], lines[1] // pools[1], frames[1] // pools[2])
        return Box(first, size, 0, self.links.target.layout.blocks)

    def _fill_beside(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int) and self.links.tail is not None
        view = Strided.of(self.links.target)
        view = dataclasses.replace(view, address=view.address + self.links.tail.offset)
        return [*load_box(view, self._target_box(key), self.plan.regions["beside"].slot(slot, 2))]

    def _store(self, number: int, row: int, slot: int) -> None:
        """Store an item's results, which lie from a row on; join them with others before."""
        box = self._target_box(number)
        if self.links.tail is not None:
            beside = self.plan.regions["beside"].slot(slot, 2)
            joined = self.plan.row("joined", self._turns[number])
            for instruction in self.links.tail.instructions(box.rows, row, beside, joined):
                self.emitter.emit(instruction)
            row = joined
        self.emitter.emit(store_box(Strided.of(self.links.target), box, row))


def lower(
    emitter: Emitter, op: Chain, source: Tensor, target: Tensor, tail: Tail | None = None
) -> dict[str, Any]:
    """Emit a chain, and what is done with its results; returns the tiling for the report.

    Raises
    ------
    CompilerError
        If no strip fits the memories.
    """
    config, policy = emitter.config, emitter.policy
    plans = ranked(Links.of(op, source, target, tail), config, policy)
    if not plans:
        raise CompilerError(
            f"{op.name} (Chain): no strip of {len(op.stages)} operators fits {config.name}"
        )
    FusedEmission(emitter, plans[0]).emit()
    others = [plan for plan in plans[1:] if plan.lines != plans[0].lines][:3]
    return {
        "stages": [stage.name for stage in op.stages],
        **plans[0].describe(),
        "alternatives": [other.describe() for other in others],
        **record(plans, config, policy),
    }
