"""Numbers are read back from the drawn artists, not from what the drawing was given."""

import dataclasses
import math

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from reports import theme
from reports.choice import Choice
from reports.figures import FIGURES, energy, layers, roofline, stalls, timeline
from reports.figures.common import MOST_ROWS, short
from reports.figures.roofline import above


def widths(axes):
    return [p.get_width() for p in axes.patches if isinstance(p, Rectangle)]


def dots(axes):
    found = {}
    for line in axes.lines:
        words = line.get_gid() or ""
        if words.startswith("tip:") and line.get_marker() == "o":
            found[words[4:].split(" (")[0]] = (line.get_xdata()[0], line.get_ydata()[0])
    return found


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
    (line,) = [x for x in roofline(report).axes[0].lines if x.get_gid() == "roof"]
    x, y = line.get_data()
    assert max(y) == 256
    assert y[0] / x[0] == pytest.approx(16)
    slower = roofline(dataclasses.replace(report, port_bytes=8))
    (other,) = [x for x in slower.axes[0].lines if x.get_gid() == "roof"]
    assert other.get_ydata()[0] / other.get_xdata()[0] == pytest.approx(8)


def test_layers_show_cycles_bound_and_utilization(report):
    left, right = layers(report).axes
    assert widths(left) == [x.cycles for x in report.layers]
    (marks,) = [c for c in left.collections if c.get_gid() == "bound"]
    np.testing.assert_array_equal(
        marks.get_offsets()[:, 0], [x.roofline_cycles for x in report.layers]
    )
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
    first, last = axes.get_xlim()
    drawn = {(p.get_x(), p.get_width()) for p in axes.patches if isinstance(p, Rectangle)}
    expected = {
        (s.issue, s.end - s.issue) for s in report.spans if s.issue < last and s.end > first
    }
    assert drawn == expected
    assert len(drawn) > 20


def test_pictures_are_the_same_every_time(report):
    for name, (draw, description) in FIGURES.items():
        first, second = (theme.inline_svg(draw(report), name, description) for _ in range(2))
        assert first == second, name


@pytest.mark.parametrize("name", FIGURES)
def test_pictures_can_be_written(report, tmp_path, name):
    draw, description = FIGURES[name]
    figure = draw(report)
    theme.save_png(figure, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    svg = theme.inline_svg(figure, name, description)
    assert "var(--ink)" in svg
    assert theme.INK not in svg


def test_a_run_without_multiplications_can_be_drawn(make):
    report = make(layers=2)
    rows = tuple(dataclasses.replace(x, macs=0, utilization=0.0) for x in report.layers)
    report = dataclasses.replace(report, layers=rows, macs=0)
    for draw, _ in FIGURES.values():
        figure = draw(report)
        assert math.prod(figure.get_size_inches()) > 0
        assert theme.inline_svg(figure, "x", "y").startswith("<svg")


def test_of_many_layers_the_largest_have_rows_and_the_others_one(make):
    report = make(layers=60, tiles=2)
    left, right = layers(report).axes
    cycles = widths(left)
    kept = sorted((x.cycles for x in report.layers), reverse=True)[: MOST_ROWS - 1]
    assert len(cycles) == MOST_ROWS and sorted(cycles[:-1], reverse=True) == kept
    assert sum(cycles) == sum(x.cycles for x in report.layers)
    assert left.get_yticklabels()[-1].get_text() == "13 others"
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
    words = [x.get_gid() or "" for x in roofline(shown).axes[0].lines]
    assert any("% above the roof" in x for x in words)
