"""Encode and decode: round trips over the whole range, and every kind of refusal."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.arch.assembly import AssemblyError, format_program, parse_line, parse_program
from hw.arch.encoding import Encodable, EncodingError
from hw.arch.isa import (
    CLASSES,
    INSTRUCTION_BYTES,
    OPCODE_BITS,
    Array,
    Elementwise,
    Fold,
    Load,
    Opcode,
    Permute,
    Reduce,
    Set,
    Unit,
    decode,
    deltas,
    encode,
    limit,
    strides,
    unit_of,
)


@st.composite
def instructions(draw):
    kind = draw(st.sampled_from(list(CLASSES.values())))
    values = {}
    for field in kind.layout():
        number = st.integers(field.low, field.high)
        values[field.name] = (
            draw(number) if field.length == 1 else draw(st.tuples(*[number] * field.length))
        )
    return kind(**values)


@given(instructions())
def test_round_trip(instruction):
    data = encode(instruction)
    assert len(data) == INSTRUCTION_BYTES
    assert decode(data) == instruction


@given(instructions(), st.data())
def test_one_flipped_bit_is_another_instruction_or_refused(instruction, data):
    bit = data.draw(st.integers(0, 8 * INSTRUCTION_BYTES - 1))
    word = int.from_bytes(encode(instruction), "little") ^ (1 << bit)
    try:
        other = decode(word.to_bytes(INSTRUCTION_BYTES, "little"))
    except EncodingError:
        return
    assert other != instruction


@given(instructions())
def test_assembly_round_trip(instruction):
    lines = list(format_program([instruction, Set(1, -2)]))
    assert parse_program(lines) == [instruction, Set(1, -2)]


@pytest.mark.parametrize("kind", CLASSES.values(), ids=lambda k: k.__name__)
def test_every_field_has_limits(kind):
    for field in kind.layout():
        for bad in (field.low - 1, field.high + 1):
            value = bad if field.length == 1 else (bad,) + (0,) * (field.length - 1)
            with pytest.raises(
                EncodingError, match=rf"{field.name} = {bad} is outside {field.low}\.\."
            ):
                encode(dataclasses.replace(kind(), **{field.name: value}))
        for end in (field.low, field.high):
            value = end if field.length == 1 else (end,) * field.length
            instruction = dataclasses.replace(kind(), **{field.name: value})
            assert decode(encode(instruction)) == instruction


def test_fields_do_not_overlap():
    """The all-ones instruction has exactly as many ones as the class has bits."""
    for kind in CLASSES.values():
        values = {}
        for field in kind.layout():
            ones = -1 if field.signed else field.high
            values[field.name] = ones if field.length == 1 else (ones,) * field.length
        word = int.from_bytes(encode(kind(**values)), "little") >> OPCODE_BITS
        assert word == (1 << kind.width()) - 1


def test_wrong_length_is_refused():
    with pytest.raises(EncodingError, match="counts has 2 elements, not 8"):
        encode(Array(counts=(1, 1)))
    with pytest.raises(EncodingError, match="64 bytes, not 63"):
        decode(encode(Load())[:-1])


@pytest.mark.parametrize("number", sorted(set(range(64)) - {int(o) for o in Opcode}))
def test_unknown_opcodes_are_refused(number):
    with pytest.raises(EncodingError, match=f"unknown opcode {number}"):
        decode(number.to_bytes(INSTRUCTION_BYTES, "little"))


def test_rest_must_be_zero():
    for kind in CLASSES.values():
        first = OPCODE_BITS + kind.width()
        word = int.from_bytes(encode(kind()), "little")
        for bit in {first, 8 * INSTRUCTION_BYTES - 1}:
            if bit < 8 * INSTRUCTION_BYTES:
                with pytest.raises(EncodingError, match="beyond the last field"):
                    decode((word | 1 << bit).to_bytes(INSTRUCTION_BYTES, "little"))


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(-50, 50)), min_size=1, max_size=5),
)
def test_deltas_walk_like_strides(nest):
    """Stepping one address by deltas visits what nested loops over strides visit."""
    counts, step = zip(*nest, strict=True)
    delta = deltas(counts, step)
    assert strides(counts, delta) == step
    address, counter, seen = 0, [0] * len(counts), []
    while True:
        seen.append(address == sum(c * s for c, s in zip(counter, step, strict=True)))
        level = 0
        while level < len(counts) and counter[level] == counts[level] - 1:
            counter[level] = 0
            level += 1
        if level == len(counts):
            break
        counter[level] += 1
        address += delta[level]
    assert all(seen)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("JUMP rd=1", "line 7: unknown mnemonic 'JUMP'"),
        ("SET colour=1", "SET has no field 'colour'"),
        ("SET rd", "SET has no field 'rd'"),
        ("SET rd=red", "bad value 'red' for rd"),
        ("LOAD waits=GPU:1", "bad value 'GPU:1' for waits"),
        ("LOAD counts=1,x,1", "bad value '1,x,1' for counts"),
    ],
)
def test_bad_lines_are_refused(line, message):
    with pytest.raises(AssemblyError, match=message):
        parse_line(line, 7)


def test_assembly_reads_like_the_page():
    text = "LOAD   waits=ARRAY:2,DRAIN:1 dram=0x4000 space=1 beats=256  ; comment"
    assert parse_line(text) == Load(waits=(0, 2, 1, 0, 0), dram=0x4000, space=1, beats=256)
    assert parse_line("; nothing here") is None
    assert parse_line("   ") is None


def test_units_are_named_once():
    assert {unit_of(k()) for k in CLASSES.values()} == {*Unit, None}


WIDTHS = {
    "ARRAY": 467,
    "DRAIN": 354,
    "ELEMENTWISE": 481,
    "REDUCE": 490,
    "FOLD": 497,
    "PERMUTE": 456,
    "FENCE": 11,
}


def test_every_class_fits_and_has_the_width_that_was_worked_out():
    for kind in CLASSES.values():
        bits = OPCODE_BITS + kind.width()
        assert bits <= 8 * INSTRUCTION_BYTES
        assert bits == WIDTHS.get(kind.OPCODE.name, bits)


def test_limits_come_from_the_fields():
    assert (limit(Array, "counts"), limit(Array, "steps"), limit(Array, "dilations")) == (
        4095,
        15,
        15,
    )
    assert (limit(Array, "starts"), limit(Reduce, "bounds")) == (2047, 2047)
    with pytest.raises(AttributeError, match="Load has no field 'colour'"):
        limit(Load, "colour")


def test_nests_of_the_vector_unit_lie_in_one_place():
    """Then choosing between the classes costs the unit nothing (decision 0013)."""

    def places(kind: type[Encodable], names: tuple[str, ...]) -> list[tuple[int, int]]:
        low, found = 0, {}
        for field in kind.layout():
            found[field.name] = (low, low + field.width)
            low += field.width
        return [found[name] for name in names]

    nest = ("counts", "source0", "source0_deltas", "source1", "source1_deltas")
    nest += ("destination", "destination_deltas")
    assert places(Elementwise, nest) == places(Fold, nest) == places(Permute, nest)
    assert places(Elementwise, ("multiplier_b", "shift_b")) == places(Fold, ("multiplier", "shift"))
