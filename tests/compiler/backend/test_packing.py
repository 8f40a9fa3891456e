"""Thin operands in every packed form, against the integer reference."""

import dataclasses

import numpy as np
import pytest

from compiler.array import choice, forms
from compiler.array.packing import Packing, packings
from compiler.backend.build import generate
from compiler.tile.geometry import Axis
from hw.arch.isa import Array
from tests.compiler.backend.harness import CONFIGS, convolution, execute, kind, network

LANES = 16
STEMS = {
    "7x7 by 2": ((3, 1, 23, 26), (1, 7, 7), {"stride": (1, 2, 2), "pad_begin": (0, 3, 3)}),
    "7x7": ((3, 1, 12, 13), (1, 7, 7), {"pad_begin": (0, 3, 3), "pad_end": (0, 3, 3)}),
    "7x7 by 3": ((3, 1, 25, 22), (1, 7, 7), {"stride": (1, 3, 3), "pad_end": (0, 2, 3)}),
    "7x7x7": ((3, 6, 11, 12), (7, 7, 7), {"stride": (1, 2, 2), "pad_begin": (3, 3, 3)}),
    "5x7x7 with a pool": (
        (3, 5, 12, 16),
        (5, 7, 7),
        {"pad_begin": (2, 3, 3), "pad_end": (2, 3, 3), "pool": (1, 2, 2)},
    ),
    "7 wide, 4 high": ((3, 2, 9, 12), (1, 4, 7), {"pad_begin": (0, 1, 3), "stride": (1, 4, 1)}),
    "11x11 of one": ((1, 1, 19, 40), (1, 11, 19), {"stride": (1, 2, 1), "pad_begin": (0, 5, 9)}),
}


def graph(name: str, config):
    shape, kernel, attributes = STEMS[name]
    if config.lane_block < LANES:  # as many neighbours do not fit a narrower row
        shape = (max(1, shape[0] * config.lane_block // LANES), *shape[1:])
    source = kind(shape, zero_point=77, signed=name == "7x7")
    op, result = convolution(np.random.default_rng(2), source, 20, kernel, **attributes)
    return network({"x": source}, [op], {"y": result})


@pytest.fixture
def packed_as(monkeypatch):
    """Let only one form of packing be tried."""

    def only(chosen: Packing) -> None:
        monkeypatch.setattr(forms, "packings", lambda *_: [chosen])
        jobs = forms.jobs
        monkeypatch.setattr(choice, "jobs", lambda *a, **k: jobs(*a, **k)[1:])

    return only


def found(name: str, config) -> list[Packing]:
    """The packings of a stem."""
    seen: list[Packing] = []
    asked = forms.packings
    try:
        forms.packings = lambda *a: seen.extend(asked(*a)) or []
        generate(graph(name, config), config)
    finally:
        forms.packings = asked
    return list(dict.fromkeys(seen))


@pytest.mark.parametrize("config", ["base", "ecp5"])
@pytest.mark.parametrize("name", STEMS)
def test_every_form(name, config, packed_as):
    config = CONFIGS.get(config) or next(c for c in CONFIGS.values() if c.lane_block == 8)
    forms_of_it = found(name, config)
    assert forms_of_it
    for chosen in forms_of_it:
        packed_as(chosen)
        assert execute(graph(name, config), config).differing() == [], chosen


def test_a_stem_takes_eleven_rows():
    """7×7 of three channels: 5, 2 × 2 and 5 pixels a pair of lines; of the seventh 5 and 2."""
    axes = (Axis(26, 13, 7, 2, 1, 3), Axis(23, 12, 7, 2, 1, 3), Axis(1, 1))
    (pair,) = [p for p in packings(axes, 3, LANES) if (p.axis, p.across) == (0, 1)]
    blocks, kernel = len(pair.rectangles), pair.axes(axes)[1].kernel
    assert (blocks, kernel, pair.last_blocks) == (3, 4, 2)
    assert blocks * (kernel - 1) + pair.last_blocks == 11
    program = generate(graph("7x7 by 2", CONFIGS["base"]), CONFIGS["base"])
    arrays = [i for i in program.instructions if isinstance(i, Array)]
    assert {(a.counts[4] * a.counts[5], a.counts[7]) for a in arrays} == {(3, 3), (1, 2)}


def test_twin_lines_of_a_pair_exchanged(packed_as):
    config = CONFIGS["base"]
    (pair, *_) = [p for p in found("7x7 by 2", config) if p.across is not None]

    class Exchanged(Packing):
        __slots__ = ()

        def _places(self, each):
            return [
                (1 - line if each.lines == 2 else line, tap) for line, tap in super()._places(each)
            ]

    packed_as(Exchanged(**{f.name: getattr(pair, f.name) for f in dataclasses.fields(pair)}))
    assert execute(graph("7x7 by 2", config), config).differing() != []
