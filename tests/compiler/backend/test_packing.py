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
from tests.marks import large

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


@pytest.mark.parametrize("config", ["base", large("ecp5")])
@pytest.mark.parametrize("name", STEMS)
def test_every_form(name, config, packed_as):
    config = CONFIGS.get(config) or next(c for c in CONFIGS.values() if c.lane_block == 8)
    forms_of_it = found(name, config)
    assert forms_of_it
    for chosen in forms_of_it:
        packed_as(chosen)
        assert execute(graph(name, config), config).differing() == [], chosen


def stem_packings() -> list[Packing]:
    """Of 7×7 taps of three channels, along x across y."""
    axes = (Axis(26, 13, 7, 2, 1, 3), Axis(23, 12, 7, 2, 1, 3), Axis(1, 1))
    return [p for p in packings(axes, 3, LANES) if (p.axis, p.across) == (0, 1)]


def test_a_stem_takes_eleven_rows_in_pairs():
    """7×7 of three channels: 5, 2 × 2 and 5 pixels a pair of lines; of the seventh 5 and 2."""
    pairs, _ = stem_packings()
    assert pairs.spans == (((0, 3), (0, 3)), ((3, 1), (0, 2)))
    assert pairs.products == 11


def test_a_stem_takes_ten_rows_with_columns():
    """5 pixels of each of seven lines, 5 lines of two columns, 2×2 in the corner."""
    _, columns = stem_packings()
    blocks = columns.rectangles
    assert [(b.line, b.lines, b.tap, b.taps) for b in blocks if b.once] == [
        (0, 5, 5, 1), (0, 5, 6, 1), (5, 2, 5, 2)
    ]  # fmt: skip
    assert columns.spans == (((0, 1), (0, 5)), ((1, 2), (3, 2)), ((3, 1), (3, 1)))
    assert columns.products == 10
    # Every tap once, and nothing else.
    taps = [
        (line + 2 * pair, tap)
        for (first, pairs), (begin, some) in columns.spans
        for pair in range(first, first + pairs)
        for block in blocks[begin : begin + some]
        for line in range(block.line, block.line + block.lines)
        for tap in range(block.tap, block.tap + block.taps)
    ]
    assert sorted(taps) == [(line, tap) for line in range(7) for tap in range(7)]
    # Chosen where the array takes longer than VECTOR, which packs 24 rows for 14.
    source = kind((3, 1, 63, 62), zero_point=77)
    op, result = convolution(
        np.random.default_rng(2), source, 64, (1, 7, 7), stride=(1, 2, 2), pad_begin=(0, 3, 3)
    )
    program = generate(network({"x": source}, [op], {"y": result}), CONFIGS["base"])
    arrays = [i for i in program.instructions if isinstance(i, Array)]
    assert {(a.counts[4] * a.counts[5], a.counts[7]) for a in arrays} == {(1, 5), (2, 2), (1, 1)}


def test_columns_are_tried_where_they_are_fewer_rows():
    three = packings((Axis(9, 9, 7), Axis(9, 9, 3), Axis(1, 1)), 3, LANES)
    assert [(p.columns, p.products) for p in three if p.across == 1] == [(False, 5)]
    four = packings((Axis(9, 9, 7), Axis(9, 9, 7), Axis(1, 1)), 4, LANES)
    assert [p.products for p in four if p.across == 1] == [13]


def test_twin_lines_of_a_pair_exchanged(packed_as):
    config = CONFIGS["base"]
    (pair, *_) = [p for p in found("7x7 by 2", config) if p.across is not None and not p.columns]

    class Exchanged(Packing):
        __slots__ = ()

        def _places(self, each):
            return [
                (1 - line if each.lines == 2 else line, tap) for line, tap in super()._places(each)
            ]

    packed_as(Exchanged(**{f.name: getattr(pair, f.name) for f in dataclasses.fields(pair)}))
    assert execute(graph("7x7 by 2", config), config).differing() != []


def test_twin_columns_that_serve_every_line(packed_as):
    config = CONFIGS["base"]
    (columns, *_) = [p for p in found("7x7 by 2", config) if p.columns]

    class Everywhere(Packing):
        __slots__ = ()

        @property
        def spans(self):
            return (((0, 4), (0, len(self.rectangles))),)

        @property
        def rectangles(self):
            return tuple(dataclasses.replace(each, once=False) for each in super().rectangles)

    packed_as(Everywhere(**{f.name: getattr(columns, f.name) for f in dataclasses.fields(columns)}))
    assert execute(graph("7x7 by 2", config), config).differing() != []
