"""Rules of legality: what the simulators refuse, what the decoder's circuit refuses, and a list.

The list (`REFUSED`) is written down by hand; it is the oracle. Everything else compares the readers
with one another: every field's edge values, and random mixtures of them.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from amaranth.hdl import C, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from compiler.backend.link import features_of
from hw.arch.config import FEATURES, AcceleratorConfig
from hw.arch.instructions.elementwise import UNIT_MULTIPLIER, UNIT_SHIFT
from hw.arch.isa import (
    CLASSES,
    INSTRUCTION_BYTES,
    MAX_WAIT,
    RULES,
    Array,
    ArrayMode,
    Begin,
    Branch,
    Drain,
    Elementwise,
    ElementwiseOp,
    ErrorCode,
    Fence,
    Fold,
    FoldOp,
    Instruction,
    Load,
    Permute,
    PermuteOp,
    Reduce,
    ReduceOp,
    Scalar,
    Space,
    Store,
    Unit,
    encode,
    is_built,
)
from hw.arch.rules import Fields, Literal, Rule, nonzero, predicate, specialised
from hw.control.decoder import Decoder
from sim.functional.errors import UnitError
from sim.functional.legality import GRAVITY, Legality
from tests.hw.simulation import Simulation
from tests.machines import folding, plain
from tests.marks import large

pytestmark = pytest.mark.rtl
TINY = plain("tiny")
DIRECT = AcceleratorConfig.load("tiny_direct")
BARE = dataclasses.replace(DIRECT, features=())
FLAT = dataclasses.replace(TINY, features=("depthwise", "vector", "hfa"))
WHOLE = folding("tiny")
WIDE = folding("large", attention=False)
FOLDING = folding("tiny", attention=False)
DEEP = dataclasses.replace(WHOLE, memory=dataclasses.replace(WHOLE.memory, weight_bytes=1 << 19))
CONFIGS = {"tiny": TINY, "direct": DIRECT, "bare": BARE, "flat": FLAT, "whole": WHOLE}
NAMES = pytest.mark.parametrize("name", ["whole", "bare", *map(large, ("tiny", "direct", "flat"))])
LINE = TINY.memory.line_pixels
BASES: tuple[Instruction, ...] = (
    *(kind() for kind in CLASSES.values() if kind is not Begin),
    Begin(TINY.fingerprint),
    Array(mode=ArrayMode.DEPTHWISE, counts=(7, 5, 2, 1, 1, 3, 1, 1), window_x=3, window_y=3),
    Array(mode=ArrayMode.DEPTHWISE, counts=(7, 2, 2, 1, 1, 3, 1, 1), window_x=3, window_y=3,
          keep=1, resume=1),
    Array(mode=ArrayMode.HFA, counts=(2, 1, 1, 1, 6, 6, 3, 1), transform_s=2),
    Array(mode=ArrayMode.HFA, counts=(2, 1, 1, 1, 1, 1, 4, 1), transform_t=1),
    Array(mode=ArrayMode.HFA, counts=(1, 1, 1, 1, 4, 4, 4, 1), transform_t=1, transform_s=1),
    Array(mode=ArrayMode.HFA_DEPTHWISE, counts=(6, 2, 1, 1, 1, TINY.tap_blocks, 1, 1),
          window_x=3, window_y=3, transform_s=1),
    Drain(window=(4, 2, 1), transform_s=2),
    Drain(window=(2, 2, 2), transform_t=1, transform_s=1),
    Elementwise(op=ElementwiseOp.MAX, multiplier_a=UNIT_MULTIPLIER, shift_a=UNIT_SHIFT,
                multiplier_b=UNIT_MULTIPLIER, shift_b=UNIT_SHIFT),
    Reduce(op=ReduceOp.PACK, pack_lanes=1),
    Fold(op=FoldOp.NORM_COLLECT, elements=9, counts=(3, 3, 2, 4)),
    Fold(op=FoldOp.NORM_APPLY, counts=(8, 3, 2, 4), elements=9, coefficient_shift=20),
    Fold(op=FoldOp.SOFTMAX_APPLY, counts=(3, 2, 8, 8), table=5),
    Fold(op=FoldOp.ARGMAX, counts=(25, 1, 3, 2)),
    Permute(op=PermuteOp.TRANSPOSE, counts=(4, 7, 2, 1)),
)  # fmt: skip
"""Legal on TINY (or on WHOLE): where fields are changed from."""


class DecoderAlone(wiring.Component):
    """The decoder behind a word: `fault` and `sound` two cycles later, nothing dispatched."""

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({"word": In(8 * INSTRUCTION_BYTES), "fault": Out(6), "sound": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        decoder = Decoder(self._config)
        decoder.take(m, self.word, {unit: C(MAX_WAIT, 6) for unit in Unit})
        decoder.check(m, C(1, 1))
        m.d.comb += [self.fault.eq(decoder.fault), self.sound.eq(decoder.sound)]
        return m


@functools.cache
def decoder(config: AcceleratorConfig) -> Simulation:
    return Simulation(DecoderAlone(config))


def decoded(config: AcceleratorConfig, instructions: Iterable[Instruction]) -> list[int]:
    """What the circuit finds wrong with each instruction; they come one per cycle."""
    simulation = decoder(config)
    dut = simulation.dut
    found: list[int] = []

    async def scenario(ctx: Any) -> None:
        words = [int.from_bytes(encode(i), "little") for i in instructions]
        for number, word in enumerate([*words, 0, 0]):
            if number >= 2:
                found.append(ctx.get(dut.fault))
                assert ctx.get(dut.sound) == (found[-1] == 0)
            ctx.set(dut.word, word)
            await ctx.tick()

    simulation.run(scenario)
    return found


def refused(config: AcceleratorConfig, instruction: Instruction) -> int:
    """What the simulators find wrong with it."""
    try:
        legality(config).check(instruction, *GRAVITY)
    except UnitError as error:
        return error.code
    return 0


legality = functools.lru_cache(maxsize=None)(Legality)


def at(config: AcceleratorConfig, base: Instruction) -> Instruction:
    """BEGIN names its machine."""
    return Begin(config.fingerprint) if isinstance(base, Begin) else base


def edges(base: Instruction, numbers: set[int]) -> Iterator[Instruction]:
    """The instruction with every element of every field at its ends and beside `numbers`."""
    for field in base.layout():
        wanted = {field.low, field.low + 1, -1, 0, 1, field.high - 1, field.high, *numbers}
        values = sorted(v for v in wanted if field.low <= v <= field.high)
        for value in values:
            if field.length == 1:
                yield dataclasses.replace(base, **{field.name: value})
                continue
            before = getattr(base, field.name)
            yield dataclasses.replace(base, **{field.name: (value,) * field.length})
            for index in range(field.length):
                changed = (*before[:index], value, *before[index + 1 :])
                yield dataclasses.replace(base, **{field.name: changed})


def interesting(kind: type[Instruction], config: AcceleratorConfig) -> set[int]:
    """Numbers that the rules of a class compare with, and their neighbours."""
    found = set()
    for rule in RULES[kind]:
        condition = specialised(rule.condition, config.features, config)
        found |= {n.value for n in Rule(rule.code, condition, "").nodes if isinstance(n, Literal)}
    return {number + d for number in found for d in (-1, 0, 1)}


def compare(config: AcceleratorConfig, instructions: list[Instruction]) -> dict[int, int]:
    """Demand the same error of all readers; returns how often each was found."""
    counted: dict[int, int] = {}
    for instruction, code in zip(instructions, decoded(config, instructions), strict=True):
        expected = refused(config, instruction)
        assert code == expected, (instruction, ErrorCode(code).name, ErrorCode(expected).name)
        lacking = features_of([instruction]) & ~config.feature_mask
        if lacking:
            assert code in (ErrorCode.UNSUPPORTED, ErrorCode.FINGERPRINT), instruction
        counted[code] = counted.get(code, 0) + 1
    return counted


@NAMES
def test_edge_values_are_refused_alike(name):
    config = CONFIGS[name]
    instructions = []
    for base in (at(config, base) for base in BASES):
        instructions += edges(base, interesting(type(base), config))
    counted = compare(config, instructions)
    assert {0, ErrorCode.FIELD, ErrorCode.ADDRESS, ErrorCode.UNSUPPORTED} <= counted.keys()


@NAMES
def test_random_mixtures_are_refused_alike(name):
    config = CONFIGS[name]
    dice = random.Random(7)
    instructions = []
    for base in (at(config, base) for base in BASES):
        near = sorted(interesting(type(base), config) | {0, 1, 2, 3, 4})
        for _ in range(60):
            changes = {}
            for field in dice.sample(base.layout(), min(3, len(base.layout()))):
                fitting = [n for n in near if field.low <= n <= field.high]
                new = tuple(dice.choice(fitting) for _ in range(field.length))
                changes[field.name] = new[0] if field.length == 1 else new
            instructions.append(dataclasses.replace(base, **changes))
    counted = compare(config, instructions)
    assert counted[ErrorCode.FIELD] > 50


U, F, A = ErrorCode.UNSUPPORTED, ErrorCode.FIELD, ErrorCode.ADDRESS
DEPTHWISE, KEPT, PLANE, TIME, NESTED, TILES = BASES[17:23]
POOLED, BOTH, LARGEST, PACKED, COLLECT, APPLY, SOFTMAX, ARGMAX, TURN = BASES[23:]


def change(base: Instruction, **fields: Any) -> Instruction:
    """Fields replaced; `counts_2` is one element."""
    for name in [n for n in fields if n[-1].isdigit() and n[:-2] in dir(base)]:
        values = list(getattr(base, name[:-2]))
        values[int(name[-1])] = fields.pop(name)
        base = dataclasses.replace(base, **{name[:-2]: tuple(values)})
    return dataclasses.replace(base, **fields)


REFUSED: list[tuple[AcceleratorConfig, Instruction, int]] = [
    (TINY, Begin(TINY.fingerprint ^ 1), ErrorCode.FINGERPRINT),
    (TINY, Begin(TINY.fingerprint, 1 << 15), U),
    (DIRECT, Begin(DIRECT.fingerprint, TINY.feature_mask), U),
    (TINY, Branch(condition=5), F),
    (TINY, Scalar(lane=4), A),
    (TINY, Scalar(lane=3), 0),
    (TINY, Fence(units=0), F),
    (TINY, Fence(units=16), 0),
    (BARE, Load(space=Space.TABLE), U),
    (BARE, Load(), 0),
    (TINY, Load(beats=0), F),
    (TINY, Load(counts=(1, 1, 0)), F),
    (TINY, Store(beats=0), F),
    (TINY, Store(counts=(1, 0, 1)), F),
    # ARRAY
    (BARE, DEPTHWISE, U),
    (DIRECT, DEPTHWISE, 0),
    (DIRECT, PLANE, U),
    (DIRECT, Array(transform_t=1), U),
    (FLAT, PLANE, 0),
    (FLAT, NESTED, U),
    (FLAT, TILES, U),
    (TINY, NESTED, 0),
    (TINY, TILES, 0),
    (TINY, change(PLANE, transform_t=2, counts_6=6), U),
    (TINY, Array(weight_unsigned=1), U),
    (TINY, Array(weight_zero_point=-1), U),
    (WHOLE, Array(weight_unsigned=1, weight_zero_point=128), 0),
    (WHOLE, change(DEPTHWISE, weight_zero_point=1), F),
    (TINY, Array(steps=(15, 8, 9)), 0),
    (TINY, Array(counts=(1, 1, 1, 1, 1, 1, 1, 0)), F),
    (TINY, change(DEPTHWISE, window_x=0), F),
    (TINY, change(DEPTHWISE, emit_y=0), F),
    (TINY, change(DEPTHWISE, counts_0=2), F),
    (TINY, change(DEPTHWISE, counts_0=LINE), 0),
    (TINY, change(DEPTHWISE, counts_0=LINE + 1), F),
    (TINY, change(DEPTHWISE, counts_0=LINE + 1, window_y=1), 0),
    (TINY, change(DEPTHWISE, counts_1=2), F),
    (TINY, change(DEPTHWISE, counts_4=2), F),
    (TINY, change(DEPTHWISE, counts_5=2), F),
    (TINY, change(DEPTHWISE, counts_5=2, window_x=2), 0),
    (TINY, change(DEPTHWISE, resume=1), F),
    (TINY, KEPT, 0),
    (TINY, change(KEPT, line=LINE - 1), 0),
    (TINY, change(KEPT, line=LINE), A),
    (TINY, change(DEPTHWISE, line=LINE), 0),
    (TINY, change(PLANE, late=1), 0),
    (TINY, change(DEPTHWISE, late=1), F),
    (TINY, Array(late=1), F),
    (TINY, change(PLANE, transform_s=0), F),
    (TINY, change(PLANE, transform_s=1), F),
    (TINY, change(PLANE, transform_s=3), F),
    (TINY, change(PLANE, counts_4=4), F),
    (TINY, change(PLANE, counts_5=5), F),
    (TINY, change(PLANE, counts_6=9), 0),
    (TINY, change(PLANE, steps_1=2), F),
    (TINY, change(PLANE, steps_2=2), 0),
    (TINY, change(TIME, counts_6=6), F),
    (TINY, change(TIME, counts_4=2), F),
    (TINY, change(TIME, steps_2=2), F),
    (TINY, change(TIME, steps_0=2), 0),
    (TINY, change(TILES, counts_0=5), F),
    (TINY, change(TILES, counts_0=2), F),
    (TINY, change(TILES, counts_0=LINE + 2), F),
    (TINY, change(TILES, counts_1=1), F),
    (TINY, change(TILES, counts_5=2), F),
    (TINY, change(TILES, counts_6=2), F),
    (TINY, change(TILES, window_x=2), F),
    (TINY, change(TILES, emit_y=3), F),
    (TINY, change(TILES, transform_s=2), F),
    (TINY, change(TILES, keep=1), F),
    (TINY, change(TILES, steps_0=2), F),
    (TINY, change(TILES, dilations_1=2), F),
    (TINY, change(TILES, dilations_2=2), 0),
    # DRAIN
    (DIRECT, Drain(transform_t=1), U),
    (FLAT, BOTH, U),
    (TINY, BOTH, 0),
    (TINY, Drain(transform_t=2, transform_s=2), U),
    (TINY, Drain(transform_t=3), F),
    (TINY, Drain(window=(0, 1, 1)), F),
    (TINY, Drain(counts=(1, 1, 1, 0)), F),
    (TINY, Drain(window=(7, 5, 3)), 0),
    (TINY, POOLED, 0),
    (TINY, change(POOLED, window=(3, 1, 1)), F),
    (TINY, change(POOLED, window=(1, 1, 2)), F),
    (TINY, change(POOLED, window=(4, 1, 1), transform_s=1), F),
    # VECTOR
    (BARE, Elementwise(), U),
    (BARE, Reduce(), U),
    (TINY, Elementwise(op=5), F),
    (TINY, Elementwise(counts=(1, 0, 1, 1)), F),
    (TINY, Elementwise(table=3), F),
    (TINY, Elementwise(table=2), 0),
    (TINY, LARGEST, 0),
    (TINY, change(LARGEST, multiplier_a=0), F),
    (TINY, change(LARGEST, shift_a=22), F),
    (TINY, change(LARGEST, multiplier_b=1), F),
    (TINY, change(LARGEST, negative_b=1), F),
    (TINY, change(LARGEST, constant=-1), F),
    (TINY, change(LARGEST, op=ElementwiseOp.AFFINE, constant=-1, shift_a=3), 0),
    (TINY, Elementwise(spread=1, op=ElementwiseOp.AFFINE), U),
    (TINY, Elementwise(lane=1), U),
    (WHOLE, Elementwise(spread=1, op=ElementwiseOp.AFFINE, lane=3), 0),
    (WHOLE, Elementwise(spread=1, op=ElementwiseOp.AFFINE, lane=4), A),
    (WHOLE, Elementwise(spread=1, op=ElementwiseOp.AFFINE, previous=1), F),
    (WHOLE, Elementwise(lane=1), F),
    (TINY, Reduce(op=3), F),
    (TINY, Reduce(counts=(0, 1, 1, 1)), F),
    (TINY, Reduce(window=(1, 1, 0)), F),
    (TINY, Reduce(table=3), F),
    (TINY, Reduce(steps=(15, 8, 9)), 0),
    (TINY, Reduce(op=ReduceOp.PACK), F),
    (TINY, PACKED, 0),
    (TINY, Reduce(op=ReduceOp.SUM, add_first=1), 0),
    (WHOLE, Array(weight_unsigned=1, weight_zero_point=-1), F),
    (WHOLE, Array(weight_unsigned=1, weight_zero_point=255), 0),
    (WHOLE, Array(weight_zero_point=-128), 0),
    (WHOLE, Array(weight_zero_point=-129), F),
    (WHOLE, Array(weight_zero_point=128), F),
    (TINY, Fold(), U),
    (TINY, Permute(), U),
    (WHOLE, Fold(op=7), F),
    (WHOLE, Fold(counts=(1, 1, 1, 0)), F),
    (WHOLE, Fold(table=8), 0),
    (WHOLE, Fold(table=9), F),
    (WHOLE, COLLECT, 0),
    (WHOLE, change(COLLECT, entry=57), F),
    *(
        (WHOLE, change(COLLECT, entry=entry, counts_2=n, counts_3=m), code)
        for n, m in ((7, 9), (9, 7), (7, 8), (3, 21), (16, 4))
        for entry, code in ((64 - n * m, 0), (65 - n * m, F))
    ),
    (WHOLE, change(COLLECT, elements=0), F),
    (WHOLE, change(COLLECT, elements=1025), F),
    (WHOLE, APPLY, 0),
    (WHOLE, change(APPLY, entry=57), F),
    (WHOLE, change(APPLY, valid=5), F),
    (WHOLE, change(APPLY, elements=0), F),
    (WHOLE, change(APPLY, coefficient_shift=4), F),
    (WHOLE, change(APPLY, coefficient_shift=5), 0),
    (WHOLE, change(APPLY, coefficient_shift=28), 0),
    (WHOLE, change(APPLY, coefficient_shift=29), F),
    (WHOLE, SOFTMAX, 0),
    (WHOLE, change(SOFTMAX, table=6), F),
    (WHOLE, change(SOFTMAX, table=0), F),
    (WHOLE, change(SOFTMAX, counts_2=9), F),
    (WHOLE, ARGMAX, 0),
    (WHOLE, change(ARGMAX, counts_1=2), F),
    (WHOLE, change(ARGMAX, counts_0=4095), 0),
    (WIDE, change(ARGMAX, counts_0=2048), 0),
    (WIDE, change(ARGMAX, counts_0=2049), F),
    (WHOLE, change(ARGMAX, gather=1), F),
    (WHOLE, Fold(gather=1), F),
    (WHOLE, Fold(gather=1, lanes=1), 0),
    (WHOLE, Fold(op=FoldOp.MAX, gather=1), 0),
    (WHOLE, change(COLLECT, gather=1), F),
    (WHOLE, Permute(space=1), 0),
    (WHOLE, Permute(counts=(0, 1, 1, 1)), F),
    (FOLDING, Permute(space=1), U),
    (DEEP, Permute(space=1), U),
    (WHOLE, Permute(select=(8, *(0,) * 15)), F),
    (WHOLE, Permute(select=(8, *(0,) * 15), op=PermuteOp.TRANSPOSE), 0),
    (WHOLE, Permute(op=2), F),
    (WHOLE, TURN, 0),
    (WHOLE, change(TURN, counts_0=5), F),
    (WHOLE, change(TURN, serial=1), F),
    (WHOLE, Permute(serial=1), 0),
    (WIDE, Permute(), U),
]  # fmt: skip


def test_what_is_refused_by_hand():
    for config in {id(config): config for config, _, _ in REFUSED}.values():
        rows = [(i, code) for c, i, code in REFUSED if c is config]
        found = decoded(config, [i for i, _ in rows])
        for (instruction, code), circuit in zip(rows, found, strict=True):
            assert (refused(config, instruction), circuit) == (code, code), instruction


def test_every_rule_is_broken_by_the_list():
    """No rule without a line above; those that hide behind a graver one count as well."""
    for kind, rules in RULES.items():
        for rule in rules:
            broken = [
                instruction
                for config, instruction, _ in REFUSED
                if type(instruction) is kind and violates(config, instruction, rule)
            ]
            assert broken, (kind.__name__, rule.text)


def violates(config: AcceleratorConfig, instruction: Instruction, rule: Rule) -> bool:
    return predicate(specialised(rule.condition, config.features, config))(instruction)


def test_a_changed_rule_shows():
    """The twin: one condition more in one reader, and the comparison finds it."""
    rules = RULES[Load]
    RULES[Load] = (*rules, Rule(F, nonzero(Fields(Load).dram), "none"))
    instruction = Load(dram=64)
    try:
        with pytest.raises(UnitError, match="none; dram = 64"):
            Legality(TINY).check(instruction, *GRAVITY)
    finally:
        RULES[Load] = rules
    assert decoded(TINY, [instruction]) == [0] and refused(TINY, instruction) == 0


def test_a_machine_has_the_classes_of_its_features():
    def missing(features):
        return {kind for kind in CLASSES.values() if not is_built(kind, features)}

    assert missing(TINY.features) == {Fold, Permute}
    assert missing(()) == {Elementwise, Reduce, Fold, Permute}
    assert missing(FEATURES) == set()
