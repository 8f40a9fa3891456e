"""Assembly with remarks: they name what the numbers stand for, and nothing reads them back."""

from __future__ import annotations

import pytest

from hw.arch.assembly import parse_program
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Elementwise, ElementwiseOp, Load, Space, Store
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
