"""Emission of a fused chain: temporal, depthwise and pointwise convolution of a strip on chip.

Order: S(n), T(n + 1), P(n). The temporal convolution's drain writes the inner map as soon as the
window has read it, and the pointwise convolution hides the drains of both.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator
from typing import Any

from compiler.codegen.emitter import Emitter
from compiler.codegen.fused_choice import best
from compiler.codegen.fused_plan import FusedPlan, Links
from compiler.codegen.fused_stages import Pair, parameter_beats
from compiler.codegen.fused_strips import Strip
from compiler.codegen.geometry import Range
from compiler.codegen.schedule import Ring, Slots, Step, run
from compiler.codegen.tiles import Place
from compiler.codegen.transfers import Box, View, load_box, row_field, store_box
from compiler.ir import Chain, CompilerError
from hw.arch.isa import Reduce, ReduceOp, Space, UnitInstruction, deltas
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
        rings = {
            "parameter": Ring(1, self._fill_parameters),
            "input": Ring(plan.input_slots, self._fill_input),
            "window": Ring(1, self._fill_window),
            "pointwise": Ring(plan.pointwise_slots, self._fill_pointwise),
        }
        if plan.temporal is not None:
            rings["temporal"] = Ring(len(plan.temporal.groups), self._fill_temporal)
        run(self.emitter, rings, list(self._steps()))

    # Order

    def _steps(self) -> Iterator[Step]:
        count = len(self.items)
        ahead = self.plan.input_slots
        first = self.plan.temporal is not None or self.plan.result_slots == 2
        prepared = 0
        for number in range(-1 if first else 0, count):
            while prepared < min(number + 1 + ahead, count):
                yield from self._prepare(prepared)
                prepared += 1
            if self.plan.temporal is not None:
                if number >= 0:
                    yield from self._window(number)
                if number + 1 < count:
                    yield from self._temporal(number + 1)
            elif not first:
                yield from self._window(number)
            elif number + 1 < count:
                yield from self._window(number + 1)
            if number >= 0:
                yield from self._pointwise(number)

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

    def _source_box(self, number: int) -> Box:
        """What is loaded for a strip: its new lines, and the frames that its results need."""
        frames, strip = self.items[number]
        first, count = self.plan.source_frames(frames)
        layout = self.links.source.layout
        line, lines = strip.inner
        return Box((0, line, first), (layout.width, lines, count), 0, layout.blocks)

    def _fill_input(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int)
        row = self.plan.regions["input"].slot(slot, self.plan.input_slots)
        return [load_box(View.of(self.links.source), self._source_box(key), row)]

    def _input_place(self, number: int, slot: int) -> Place:
        box = self._source_box(number)
        row = self.plan.regions["input"].slot(slot, self.plan.input_slots)
        return Place(row, box.first, box.size, box.pitches())

    # Packing

    def _packed_place(self, number: int) -> Place:
        frames, strip = self.items[number]
        slots = self.plan.input_slots
        row = self.plan.regions["packed"].slot(number % slots, slots)
        size = (self.links.source.layout.width, strip.inner[1], frames[1])
        return Place(
            row, (0, strip.inner[0], frames[0]), size, Box((0, 0, 0), size, 0, 1).pitches()
        )

    def _prepare(self, number: int) -> Iterator[Step]:
        """What the vector unit does before the array reads a strip."""
        stage = self.plan.temporal
        if stage is None or stage.job.packing is None or not self.items[number][1].inner[1]:
            return

        def body(slots: Slots) -> None:
            place = self._input_place(number, slots["input"])
            for block in range(stage.job.problem.blocks):
                self.emitter.emit(self._pack(number, block, place))

        yield Step({"input": number}, body)

    def _pack(self, number: int, block: int, source: Place) -> Reduce:
        """One packed block: neighbours along t side by side in the lanes."""
        stage = self.plan.temporal
        assert stage is not None and stage.job.packing is not None
        packing, axis = stage.job.packing, self.plan.temporal_axis
        target = self._packed_place(number)
        start = axis.start(target.first[2]) + block * packing.taps
        taps = min(packing.taps, axis.kernel - block * packing.taps)
        signed = stage.kernel.signed
        counts = (*target.size, 1)
        x, y, t, _ = source.pitches
        return Reduce(
            op=ReduceOp.PACK,
            signed=int(signed),
            counts=counts,
            window=(1, 1, taps),
            source=row_field(source.at((0, source.first[1], start))),
            source_deltas=deltas((1, 1, taps, *counts), (x, y, t, x, y, t * axis.stride, 0)),
            destination=target.row + block * target.pitches[3],
            destination_deltas=deltas(counts, target.pitches),
            starts=(0, 0, start),
            steps=(1, 1, axis.stride),
            bounds=(*target.size[:2], axis.size),
            pad=stage.kernel.zero_point & 0xFF,
            pack_lanes=packing.lanes,
            low=-128 if signed else 0,
            high=127 if signed else 255,
        )

    # Computation

    def _emit_pair(self, pair: Pair) -> None:
        for instruction in pair:
            self.emitter.emit(instruction)

    def _inner_place(self, number: int) -> Place:
        """New lines of the inner map."""
        frames, strip = self.items[number]
        size = (self.links.inner.layout.width, strip.inner[1], frames[1])
        pitches = Box((0, 0, 0), size, 0, 1).pitches()
        row = self.plan.regions["inner"].row
        return Place(row, (0, strip.inner[0], frames[0]), size, pitches)

    def _temporal(self, number: int) -> Iterator[Step]:
        stage = self.plan.temporal
        frames, strip = self.items[number]
        assert stage is not None
        if not strip.inner[1]:
            return
        packed = stage.job.packing is not None
        for group in range(len(stage.groups)):

            def body(slots: Slots, group: int = group) -> None:
                operand = (
                    self._packed_place(number)
                    if packed
                    else self._input_place(number, slots["input"])
                )
                box = ((0, self.links.inner.layout.width), strip.inner, frames)
                weight = self._temporal_weight(slots["temporal"])
                for pair in stage.instructions(
                    box, operand, self._inner_place(number), group, weight, self.parameter_base,
                    self.banks,
                ):  # fmt: skip
                    self._emit_pair(pair)

            needs: dict[str, Hashable] = {"parameter": 0, "temporal": group}
            yield Step(needs if packed else {**needs, "input": number}, body)

    def _result_place(self, number: int) -> Place:
        """Lines of the depthwise result that the pointwise convolution takes next."""
        frames, _ = self.items[number]
        lines = next(s.pointwise for _, s in self.items[number:] if s.pointwise is not None)
        window = self.plan.window
        size = (window.axes[0].out, lines[1], frames[1])
        frame = size[0] * size[1] + window.garbage
        slots = self.plan.result_slots
        row = self.plan.regions["result"].slot(self._turns[number] % slots, slots)
        first = (0, lines[0], frames[0])
        return Place(row, first, size, (1, size[0], frame, frame * frames[1]))

    def _window(self, number: int) -> Iterator[Step]:
        plan = self.plan
        frames, strip = self.items[number]
        loaded = plan.temporal is None and strip.inner[1] > 0
        weight = self.weight_base + self.temporal_beats
        for lines in plan.window.lines(frames[1], plan.split):

            def body(slots: Slots, lines: Any = lines) -> None:
                if plan.temporal is not None:
                    operand = self._inner_place(number)
                elif loaded:
                    operand = self._input_place(number, slots["input"])
                else:
                    operand = self._nothing(number)
                bank = next(self.banks)
                self._emit_pair(
                    plan.window.instructions(
                        strip, lines, operand, self._result_place(number), weight,
                        self.window_parameters, bank,
                    )
                )  # fmt: skip

            needs: dict[str, Hashable] = {"parameter": 0, "window": 0}
            yield Step({**needs, "input": number} if loaded else needs, body)

    def _nothing(self, number: int) -> Place:
        """A strip of padding only: nothing of it is read."""
        frames, strip = self.items[number]
        size = (self.links.inner.layout.width, 1, frames[1])
        pitches = Box((0, 0, 0), size, 0, 1).pitches()
        return Place(0, (0, strip.inner[0], frames[0]), size, pitches)

    def _pointwise(self, number: int) -> Iterator[Step]:
        frames, strip = self.items[number]
        lines = strip.pointwise
        if lines is None:
            return
        stage = self.plan.pointwise
        axes, pools = stage.kernel.axes, stage.kernel.pools
        box = ((0, axes[0].out), lines, frames)
        first = (0, lines[0] // pools[1], frames[0] // pools[2])
        size = (axes[0].out // pools[0], lines[1] // pools[1], frames[1] // pools[2])
        target = Box(first, size, 0, self.links.target.layout.blocks)
        row = self.plan.regions["output"].slot(self._turns[number] % 2, 2)
        place = Place(row, first, size, target.pitches())
        for group in range(len(stage.groups)):

            def body(slots: Slots, group: int = group) -> None:
                weight = self._pointwise_weight(slots["pointwise"])
                operand = self._result_place(number)
                for pair in stage.instructions(
                    box, operand, place, group, weight, self.pointwise_parameters, self.banks
                ):
                    self._emit_pair(pair)
                if group == len(stage.groups) - 1:
                    self.emitter.emit(store_box(View.of(self.links.target), target, row))

            yield Step({"parameter": 0, "pointwise": group}, body)


def lower(emitter: Emitter, op: Chain, source: Tensor, target: Tensor) -> dict[str, Any]:
    """Emit a chain; returns the tiling for the report.

    Raises
    ------
    CompilerError
        If no strip fits the memories.
    """
    plan = best(Links.of(op, source, target), emitter.config, emitter.policy)
    if plan is None:
        raise CompilerError(
            f"{op.name} (Chain): no strip of {len(op.stages)} operators fits {emitter.config.name}"
        )
    FusedEmission(emitter, plan).emit()
    return {"stages": [stage.name for stage in op.stages], **plan.describe()}
