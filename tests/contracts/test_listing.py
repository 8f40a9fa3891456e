"""Assembly with remarks: they name what the numbers stand for, and nothing reads them back."""

from __future__ import annotations

import dataclasses

import pytest

from hw.arch.assembly import parse_program
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Branch, Elementwise, ElementwiseOp, Load, Space, Store
from hw.arch.listing import ENUMERATIONS, Places, listing, remarks
from tests.sim.conftest import relu_program


@pytest.fixture(scope="module")
def program():
    return relu_program(AcceleratorConfig.load("tiny"), 100)


def test_lines_assemble_to_the_same_program(program):
    assert tuple(parse_program(listing(program))) == program.instructions


def test_tensors_and_offsets(program):
    lines = list(listing(program))
    assert "; relu (relu), stores relu_q" in lines
    load = next(line for line in lines if line.startswith("LOAD"))
    assert load.endswith("; 1, space ACTIVATION, from clip_q")
    assert next(x for x in lines if x.startswith("STORE")).endswith(", to relu_q")
    places = Places(program)
    assert places.name(0x1010) == "clip_q+0x10" and places.name(0x1000 + 192) == ""
    assert places.name(0) == "code" and places.name(64) == "code+0x40"


def test_every_kind_of_number_has_its_word(program):
    places = Places(program)
    assert "mode HFA_DEPTHWISE" in remarks(Array(mode=ArrayMode.HFA_DEPTHWISE), places)
    assert "transform_s F(4,3)" in remarks(Array(mode=ArrayMode.HFA, transform_s=2), places)
    assert remarks(Elementwise(op=ElementwiseOp.MAX), places)[0] == "op MAX"
    assert "space TABLE" in remarks(Load(space=Space.TABLE), places)
    assert remarks(Store(dram=0x2FFFF0), places) == []
    assert len(ENUMERATIONS) == 7


def test_of_tensors_that_share_memory_the_one_that_is_meant(program):
    """b lies where a lay, and is stored by the second layer, which reads a."""
    first, second = program.tensors
    shared = dataclasses.replace(second, name="b", address=first.address)
    layers = (
        dataclasses.replace(program.layers[0], tensors=()),
        dataclasses.replace(program.layers[0], name="second", tensors=("b",)),
    )
    several = dataclasses.replace(program, tensors=(first, shared), layers=layers)
    places = Places(several)
    assert places.name(0x1000) == "b or clip_q"
    assert places.name(0x1000, 1) == "clip_q", "read by the layer that stores b"
    assert places.name(0x1000, 1, store=True) == "b"
    assert places.name(0x1000, 2) == "b", "read later"
    assert places.name(0x1000, 0, store=True) == "b or clip_q", "stored by none: all are named"
    branching = dataclasses.replace(several, instructions=(*several.instructions, Branch()))
    assert Places(branching).name(0x1000, 2) == "b or clip_q"
