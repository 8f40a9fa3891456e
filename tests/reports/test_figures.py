"""Numbers are read back from what is drawn, not from what the drawing was given."""

import dataclasses

import numpy as np
import pytest

from reports.choice import Choice
from reports.collect import summarize
from reports.drawing.png import save
from reports.figures import FIGURES, drawn, energy, layers, roofline, stalls, timeline
from reports.figures.common import MOST_ROWS, short
from reports.figures.roofline import above
from tests.reports.conftest import clashes
from tests.reports.test_browser import example


def widths(axes):
    return [box.width for box in axes.boxes]


def dots(axes):
    return {dot.name: (dot.x, dot.y) for dot in axes.dots if dot.shape == "o"}


def test_roofline_places_every_layer_with_work(report):
    figure = roofline(report)
    expected = {
        x.label: (x.macs / (x.read_bytes + x.write_bytes), x.macs / x.cycles)
        for x in report.layers
        if x.macs
    }
    found = dots(figure.axes[0])
    assert found.keys() == expected.keys()
    for name, place in expected.items():
        assert found[name] == pytest.approx(place)


def test_roof_has_the_machine_s_peak_and_slope(report):
    (line,) = [x for x in roofline(report).axes[0].lines if x.name == "roof"]
    x, y = zip(*line.points, strict=True)
    assert max(y) == 256
    assert y[0] / x[0] == pytest.approx(16)
    slower = roofline(dataclasses.replace(report, port_bytes=8))
    (other,) = [x for x in slower.axes[0].lines if x.name == "roof"]
    assert other.points[0][1] / other.points[0][0] == pytest.approx(8)


def test_layers_show_cycles_bound_and_utilization(report):
    left, right = layers(report).axes
    assert widths(left) == [x.cycles for x in report.layers]
    marks = [dot.x for dot in left.dots if dot.name == "bound"]
    assert marks == [x.roofline_cycles for x in report.layers]
    assert widths(right) == pytest.approx([100 * x.utilization for x in report.layers])


def test_energy_bars_add_up_to_the_run(report):
    top, bottom = energy(report).axes
    joules = sum(sum(x.energy.values()) for x in report.layers)
    assert sum(widths(top)) == pytest.approx(joules)
    assert sum(widths(bottom)) == pytest.approx(joules)
    first = report.layers[0]
    more = dataclasses.replace(first, energy={**first.energy, "dram": 1.0})
    changed = dataclasses.replace(report, layers=(more, *report.layers[1:]))
    assert sum(widths(energy(changed).axes[1])) > joules + 0.99


def test_stalls_fill_the_run_for_every_unit(report):
    (axes,) = stalls(report).axes
    count = len(report.units)
    values = np.array(widths(axes)).reshape(4, count)
    np.testing.assert_allclose(values.sum(axis=0), 100)
    np.testing.assert_allclose(values[1], [100 * u.memory / report.cycles for u in report.units])


def test_zoom_draws_the_instructions_at_their_cycles(report):
    axes = timeline(report).axes[1]
    first, last = axes.x.low, axes.x.high
    found = {(box.x, box.width) for box in axes.boxes}
    expected = {
        (s.issue, s.end - s.issue) for s in report.spans if s.issue < last and s.end > first
    }
    assert found == expected
    assert len(found) > 20


def test_pictures_are_the_same_every_time(report):
    for name, (draw, description) in FIGURES.items():
        first, second = (draw(report).inline(description) for _ in range(2))
        assert first == second, name


@pytest.mark.parametrize("name", FIGURES)
def test_pictures_can_be_written(report, tmp_path, name):
    draw, description = FIGURES[name]
    picture = draw(report)
    save(picture, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    inline, file = picture.inline(description), picture.file(description)
    assert "var(--ink)" in inline and "#1b1f26" not in inline
    assert "#1b1f26" in file and "var(" not in file
    assert file.count("<text") == inline.count("<text") > 5


def test_a_run_without_multiplications_can_be_drawn(make):
    report = make(layers=2)
    rows = tuple(dataclasses.replace(x, macs=0, utilization=0.0) for x in report.layers)
    report = dataclasses.replace(report, layers=rows, macs=0)
    for draw, _ in FIGURES.values():
        assert draw(report).inline("y").startswith("<svg")
    assert "no layer has both" in roofline(report).inline("y")


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 6), (60, 20)])
def test_no_word_meets_another_or_the_edge(make, size):
    report = make(layers=size[0], tiles=size[1])
    for name, (draw, _) in drawn(report).items():
        assert clashes(draw(report)) == [], name


def test_no_word_of_the_memory_meets_another():
    report = summarize(example())
    assert {"dram", "scratchpads"} <= drawn(report).keys()
    for name, (draw, _) in drawn(report).items():
        assert clashes(draw(report)) == [], name


def test_a_word_too_long_is_noticed(report):
    """The twin: names that are made longer behind the drawing's back."""
    picture = stalls(report)
    axes = picture.axes[0]
    axes.x = dataclasses.replace(axes.x, ticks=tuple((at, "9" * 40) for at, _ in axes.x.ticks))
    assert any(" / " in words for words in clashes(picture))
    assert "9" * 40 in clashes(picture)


def test_of_many_layers_the_largest_have_rows_and_the_others_one(make):
    report = make(layers=60, tiles=2)
    left, right = layers(report).axes
    cycles = widths(left)
    kept = sorted((x.cycles for x in report.layers), reverse=True)[: MOST_ROWS - 1]
    assert len(cycles) == MOST_ROWS and sorted(cycles[:-1], reverse=True) == kept
    assert sum(cycles) == sum(x.cycles for x in report.layers)
    assert left.y.ticks[-1][1] == "13 others"
    joules = sum(sum(x.energy.values()) for x in report.layers)
    assert sum(widths(energy(report).axes[1])) == pytest.approx(joules)
    used = sum(x.cycles * x.utilization for x in report.layers)
    assert np.dot(cycles, widths(right)) / 100 == pytest.approx(used)


def test_long_names_leave_room():
    assert short("/block/conv") == "/block/conv"
    long = "/blocks.0/attention/mix/MatMul_output_0_QuantizeLinear_Output:lanes1"
    assert short(long).startswith("…") and long.endswith(short(long)[1:])
    assert len(short(long)) == 34 and len(short(long, 10)) == 10


def test_a_dot_above_the_roof_says_why(report):
    """The three ways in which a layer gets there, and none for a layer below it."""
    layer = dataclasses.replace(
        report.layers[0], macs=4096, read_bytes=256, write_bytes=0, choice=None
    )
    inside = above(report, dataclasses.replace(layer, cycles=16))
    ahead = above(report, dataclasses.replace(layer, cycles=15))
    assert inside == ""
    assert ahead == "; 6.7 % above the roof: bytes of it moved ahead, under an earlier layer"
    many = dataclasses.replace(layer, macs=8192, cycles=20)
    assert "done ahead" in above(report, many)
    fast = dataclasses.replace(many, choice=Choice("F(4,3)", "cycles", "auto", "", (), {}))
    assert "needs fewer products" in above(report, fast)
    shown = dataclasses.replace(report, layers=(dataclasses.replace(layer, cycles=15),))
    assert any("% above the roof" in dot.tip for dot in roofline(shown).axes[0].dots)
