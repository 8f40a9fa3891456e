"""What holds a layer up, how full the lanes are, and the pictures that show memory."""

from __future__ import annotations

import dataclasses

import pytest

from reports import bounds, tables
from reports.choice import Choice
from reports.collect import members, summarize
from reports.drawing import Stairs
from reports.drawing.room import covered, meet
from reports.figures import dram, roofline, scratchpads
from reports.report import Live, Region, Span
from reports.timeline import coverage
from tests.reports.conftest import make_result


def spans(unit, *times):
    return [Span(unit, 0, i, i, first, last) for i, (first, last) in enumerate(times)]


@pytest.mark.parametrize(
    ("array", "vector", "moved", "expected"),
    [
        ([(0, 90)], [(90, 100)], 0, "array"),
        ([(0, 40)], [(10, 90)], 160, "vector"),
        ([(0, 40)], [(50, 90)], 1280, "memory"),
        ([(0, 40)], [(50, 90)], 16, "latency"),
        ([(0, 40), (60, 100)], [], 16, "array"),
    ],
)
def test_what_holds_a_layer_up(array, vector, moved, expected):
    units = {
        "ARRAY": coverage(spans("ARRAY", *array)),
        "VECTOR": coverage(spans("VECTOR", *vector)),
    }
    busy = bounds.shares(units, 0, 100, moved, 16)
    assert bounds.bound(busy) == expected
    assert busy["memory"] == moved / 1600
    assert busy["array"] == sum(b - a for a, b in array) / 100
    assert bounds.shares(units, 100, 100, moved, 16) == {} and bounds.bound({}) == ""


def chosen(name):
    return Choice(name, "cycles", "auto", "", (), {})


def test_lanes_filled():
    """3 of 16 lanes of a 16×16 array in use; and a transformed layer with a third of its lanes."""
    assert bounds.filled("conv", 3 * 16 * 1000, 1000, 256, None) == 3 / 16
    assert bounds.filled("conv", 2 * 256 * 1000, 3000, 256, chosen("F(4,3)")) == pytest.approx(
        1 / 3
    )
    assert bounds.gain(chosen("F(4×4,3×3)")) == 4 and bounds.gain(chosen("direct")) == 1
    assert bounds.filled("chain", 100, 10, 256, None) is None
    assert bounds.filled("max_pool", 0, 0, 256, None) is None


def test_over_100_percent_has_its_reason(report):
    layers = list(report.layers)
    layers[0] = dataclasses.replace(layers[0], utilization=1.2)
    table = tables.layers(dataclasses.replace(report, layers=tuple(layers)))
    assert table.rows[0][5].text == "120.0 %*" and table.remark.startswith("* over 100 %")
    assert table.remark in tables.plain(table)
    assert tables.layers(report).remark == ""


def test_chains_list_what_they_join(report):
    layers = list(report.layers)
    layers[2] = dataclasses.replace(layers[2], members=("a", "b"), tiling={})
    table = tables.layers(dataclasses.replace(report, layers=tuple(layers)))
    assert table.notes == {2: "joins a, b"}
    assert tables.plain(table).splitlines()[5].strip() == "joins a, b"


def test_a_region_says_how_well_it_was_foreseen(report):
    layers = list(report.layers)
    known = {**(layers[2].tiling or {}), "foreseen": 12_345}
    layers[2] = dataclasses.replace(layers[2], members=("a", "b"), tiling=known, cycles=12_000)
    table = tables.layers(dataclasses.replace(report, layers=tuple(layers)))
    assert table.notes == {2: "joins a, b: 12,345 cycles foreseen, 12,000 measured"}


@pytest.mark.parametrize(
    ("tiling", "expected"),
    [
        ({}, ()),
        ({"stages": ["t", "s", "p"]}, ("t", "s", "p")),
        ({"parts": ["conv", "add"]}, ("conv", "add")),
        # A chain that an Add follows has the name of its last stage.
        ({"stages": ["s", "p"], "parts": ["p", "add"]}, ("s", "p", "add")),
    ],
)
def test_what_is_computed_together(tiling, expected):
    assert members(tiling) == expected


def test_frames_per_second_of_a_clip():
    result = make_result()
    for shape, frames in (
        ([1, 3, 16, 112, 112], 16),
        ([1, 16, 3, 112, 112], 16),
        ([1, 16, 112, 112, 3], 16),
        ([4, 3, 112, 112], 4),
        ([1, 3, 3, 112, 112], 0),
        ([1, 7], 0),
    ):
        run = dataclasses.replace(result, input={"shapes": {"x": shape}})
        report = summarize(run, clock_hz=2e8)
        assert report.pictures == frames, shape
        assert report.seconds == pytest.approx(result.cycles / 2e8)
    assert "runs/s at 200 MHz" in report.speed and "frames" not in report.speed


def test_names_in_the_roofline_overlap_nothing(make):
    """Many layers at almost one place: the largest eight at most are named, none over another."""
    report = make(layers=30, tiles=2)
    same = [
        dataclasses.replace(
            x, macs=10**6, read_bytes=900 + 60 * i, write_bytes=16, cycles=4000 + 100 * i
        )
        for i, x in enumerate(report.layers)
    ]
    axes = roofline(dataclasses.replace(report, layers=tuple(same))).axes[0]
    names = [word for word in axes.words if word.name == "name"]
    assert 0 < len(names) <= 8
    biggest = sorted(same, key=lambda x: -x.cycles)[:8]
    assert {word.words for word in names} <= {x.label for x in biggest}
    boxes = [covered(axes.text(word)) for word in axes.words]
    assert not any(meet(a, b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_second_roof_for_transformed_layers(report):
    layers = list(report.layers)
    layers[0] = dataclasses.replace(layers[0], choice=chosen("F(4×4,3×3)"))
    axes = roofline(dataclasses.replace(report, layers=tuple(layers))).axes[0]
    (roof,) = [line for line in axes.lines if line.name == "second roof"]
    assert max(y for _, y in roof.points) == 4 * report.multipliers < axes.y.high
    assert not [x for x in roofline(report).axes[0].lines if x.name == "second roof"]


def test_memory_shows_addresses_and_times(report):
    regions = (
        Region("code", "instructions", 0, 640, -1, len(report.layers)),
        Region("tensor", "a", 4096, 1000, 1, 3),
        Region("tensor", "y", 8192, 50, 2, -2),
    )
    capacity = {"activation": 100, "weight": 10}
    used = tuple({"activation": i, "weight": 5} for i in range(len(report.layers)))
    run = dataclasses.replace(report, regions=regions, capacity=capacity, used=used)
    code, a, y = dram(run).axes[0].boxes
    assert (code.x, code.width, code.height) == (0, report.cycles, 640)
    first, last = report.layers[1].first_cycle, report.layers[3].last_cycle
    assert (a.x, a.y, a.width) == (first, 4096, last - first)
    assert y.x + y.width == report.cycles
    bars = scratchpads(run).axes[0].boxes
    weights = bars[: len(report.layers)]
    assert {bar.height for bar in weights} == {0.84 * 0.5}
    activations = bars[len(report.layers) :]
    assert [bar.height for bar in activations] == pytest.approx(
        [0.84 * i / 100 for i in range(1, len(report.layers))]
    )
    marks = scratchpads(dataclasses.replace(run, live=None)).axes[0].marks
    assert not [x for x in marks if isinstance(x, Stairs)]
    live = Live(report.cycles / 4, {"activation": (10, 50, 40, 0), "weight": (0, 0, 1, 2.5)})
    marks = scratchpads(dataclasses.replace(run, live=live)).axes[0].marks
    weight, activation = [x for x in marks if isinstance(x, Stairs)]
    assert (weight.base, activation.base) == (0, 1)
    assert weight.values == pytest.approx([0, 0, 0.084, 0.21])
    assert [x - 1 for x in activation.values] == pytest.approx([0.084, 0.42, 0.336, 0])
    assert activation.edges == pytest.approx([report.cycles * i / 4 for i in range(5)])
    assert "activation: up to 50 rows alive, 50.0 %" in activation.tip
