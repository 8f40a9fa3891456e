"""Emission of a fused chain: temporal, depthwise and pointwise convolution of a strip on chip."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Hashable, Iterator
from typing import Any

from compiler.array.fields import Place
from compiler.array.gemm import BUSY
from compiler.array.tail import Tail
from compiler.emit.emitter import Emitter
from compiler.emit.schedule import Ring, Slots, Step, run
from compiler.emit.transfers import Box, Strided, load_box, store_box
from compiler.fused.choice import ranked, record
from compiler.fused.operand import OperandPath, dense
from compiler.fused.order import Work, turns
from compiler.fused.plan import FusedPlan, Links
from compiler.fused.stages import Pair
from compiler.fused.strips import Strip
from compiler.ir import Chain, CompilerError
from compiler.tile.geometry import Range
from hw.arch.isa import Space, UnitInstruction
from hw.arch.program import Tensor

STAGES = ("temporal", "window", "pointwise")
PIECE_BEATS = 768
"""Of constants in a transfer: one that runs ahead holds up what the array waits for."""


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
        self.operand = OperandPath(emitter, plan, self.items)
        self.weight_base, self.parameter_base = dict[str, int](), dict[str, int]()
        held, items = plan.held, plan.items
        weight = emitter.weights.take(sum(held[name] * items[name][0] for name in held))
        parameter = emitter.parameters.take(sum(held[name] * items[name][1] for name in held))
        for name in STAGES:
            if name in held:
                self.weight_base[name], self.parameter_base[name] = weight, parameter
                weight += held[name] * items[name][0]
                parameter += held[name] * items[name][1]

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
            "input": Ring(plan.slots["input"], self._fill_input, not_before=stored),
        }
        for name, held in plan.held.items():
            rings[name] = Ring(held, functools.partial(self._fill_constants, name))
        if self.links.tail is not None:
            rings["beside"] = Ring(2, self._fill_beside)
        busy = plan.parts["port"] > BUSY * plan.parts["array"]
        run(self.emitter, rings, steps, late=busy, short=True)

    # Order

    def _steps(self) -> Iterator[Step]:
        """The array's work in order; what the vector unit prepares comes before it."""
        count = len(self.items)
        prepared = means = 0
        for following, works in turns(self.plan, self.items):
            while prepared < min(following + self._ahead, count):
                for tile in range(means, self.operand.means_before(prepared)):
                    yield self._mean(tile)
                    means = tile + 1
                yield from self._prepare(prepared)
                prepared += 1
            for work in works:
                yield self._work(work)

    def _work(self, work: Work) -> Step:
        match work.stage:
            case "temporal":
                return self._temporal(work.item, work.part)
            case "window":
                return self._window(work.item, work.part)
            case _:
                return self._pointwise(work.item, work.part)

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

    def _fill_constants(self, name: str, key: Hashable, slot: int) -> list[UnitInstruction]:
        """Weights, then parameters, whose memory is small: they wait for the layer before."""
        assert isinstance(key, int)
        plan = self.plan
        if name == "window":
            first = key * plan.split[1]
            count = min(plan.split[1], plan.window.blocks - first)
            data = plan.window.weights(first, count), plan.window.parameters(first, count)
        else:
            stage = plan.temporal if name == "temporal" else plan.pointwise
            assert stage is not None
            data = stage.weights(key), stage.parameters(key)
        places = zip(
            data, (Space.WEIGHT, Space.PARAMETER), self._constants(name, slot), strict=True
        )
        return [load for each in places for load in self._constant_loads(*each)]

    def _constant_loads(self, data: bytes, space: Space, local: int) -> list[UnitInstruction]:
        """Transfers of constants that are short enough to let others in between."""
        size = PIECE_BEATS * self.config.port.bytes
        pieces = (data[first : first + size] for first in range(0, len(data), size))
        return [
            self.emitter.load_constant(piece, space, local + number * PIECE_BEATS)
            for number, piece in enumerate(pieces)
        ]

    def _constants(self, name: str, slot: int) -> tuple[int, int]:
        """First beats of the weights and parameters in a slot."""
        weight, parameter = self.plan.items[name]
        return self.weight_base[name] + slot * weight, self.parameter_base[name] + slot * parameter

    def _fill_input(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        if isinstance(key, tuple):
            return self.operand.mean_load(key[1], slot)
        assert isinstance(key, int)
        return self.operand.loads(key, slot)

    # Computation

    def _emit_pair(self, pair: Pair) -> None:
        arrays, drain = pair
        for array in arrays:
            self.emitter.emit(array)
        self.emitter.emit(drain)

    def _inner_place(self, number: int) -> Place:
        """New lines of the inner map; nothing is read of them where a strip only pads."""
        frames, strip = self.items[number]
        size = (self.links.inner.layout.width, max(strip.inner[1], 1), frames[1])
        first = (0, strip.inner[0], frames[0])
        return dense(self.plan.regions.get("inner", self.plan.regions["input"]).row, first, size)

    def _temporal(self, number: int, group: int) -> Step:
        stage = self.plan.temporal
        frames, strip = self.items[number]
        assert stage is not None

        def body(slots: Slots) -> None:
            operand = self.operand.operand(number, slots.get("input", 0))
            box = ((0, self.links.inner.layout.width), strip.inner, frames)
            constants = self._constants("temporal", slots["temporal"])
            for pair in stage.instructions(
                box, operand, self._inner_place(number), group, *constants, self.banks
            ):
                self._emit_pair(pair)

        needs: dict[str, Hashable] = {"temporal": group}
        return Step(needs if self.operand.prepares else {**needs, "input": number}, body)

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

    def _window(self, number: int, part: int) -> Step:
        plan = self.plan
        frames, strip = self.items[number]
        loaded = plan.temporal is None and strip.inner[1] > 0
        lines = plan.window.lines(frames[1], plan.split)[part]

        def body(slots: Slots) -> None:
            operand = self._inner_place(number)
            if loaded:
                operand = self.operand.operand(number, slots["input"])
            constants = self._constants("window", slots["window"])
            self._emit_pair(
                plan.window.instructions(
                    strip, lines, operand, self._result_place(number), *constants,
                    next(self.banks),
                )
            )  # fmt: skip

        needs: dict[str, Hashable] = {"window": lines.part}
        return Step({**needs, "input": number} if loaded else needs, body)

    def _pointwise(self, number: int, group: int) -> Step:
        frames, strip = self.items[number]
        lines, stage = strip.pointwise, self.plan.pointwise
        assert lines is not None
        box = ((0, stage.kernel.axes[0].out), lines, frames)
        target = self._target_box(number)
        row = self.plan.row("output", self._turns[number])
        place = Place(row, target.first, target.size, target.pitches())

        def body(slots: Slots) -> None:
            constants = self._constants("pointwise", slots["pointwise"])
            operand = self._result_place(number)
            for pair in stage.instructions(
                box, operand, place, group, *constants, self.banks, self.plan.pieces
            ):
                self._emit_pair(pair)
            self._store(number, group, row, slots.get("beside", 0))

        needs: dict[str, Hashable] = {"pointwise": group}
        if self.links.tail is not None:
            needs["beside"] = number
        return Step(needs, body)

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

    def _store(self, number: int, group: int, row: int, slot: int) -> None:
        """Store what a group of blocks makes of an item; join it with others before.

        Parameters
        ----------
        number, group: which.
        row: first row of the item's results.
        slot: of what they are joined with.
        """
        box = self._target_box(number)
        first = self.plan.pointwise.made(group - 1) if group else 0
        last = min(self.plan.pointwise.made(group), box.blocks)
        skipped = first * box.positions
        box = dataclasses.replace(box, block=first, blocks=last - first)
        row += skipped
        if self.links.tail is not None:
            beside = self.plan.regions["beside"].slot(slot, 2) + skipped
            joined = self.plan.row("joined", self._turns[number]) + skipped
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
