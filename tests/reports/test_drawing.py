"""The SVG is read back: what stands in it against what was put into the axes."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from reports import theme
from reports.drawing import (
    Axes,
    Axis,
    Box,
    Dot,
    Key,
    Legend,
    Line,
    Picture,
    Stairs,
    Word,
    linear,
    logarithmic,
)
from reports.drawing.letters import width
from reports.drawing.marks import Text
from reports.drawing.room import covered, crossed, meet, within
from reports.figures import drawn, timeline

SVG = "{http://www.w3.org/2000/svg}"


def plain():
    """0 to 10 across and up, on 100 by 50 points from (20, 10)."""
    axes = Axes(Axis(0, 10), Axis(0, 10))
    axes.place(20, 10, 100, 50)
    return axes


def elements(axes, tag):
    root = ET.fromstring(Picture(150, 80, [axes], []).file("a picture"))
    return root.findall(SVG + tag)


def test_a_box_lies_where_its_numbers_say():
    axes = plain()
    axes.add(Box(2, 1, 3, 4, theme.BLUE, "cycles < 5", alpha=0.5, edge=theme.RED))
    _, box = elements(axes, "rect")  # the first is the surface
    places = [float(box.get(name)) for name in ("x", "y", "width", "height")]
    assert places == [40, 35, 30, 20]
    assert box.find(SVG + "title").text == "cycles < 5"
    assert (box.get("fill"), box.get("fill-opacity")) == (theme.BLUE, "0.5")
    assert box.get("stroke") == theme.RED


@pytest.mark.parametrize(
    ("box", "places"),
    [
        ((-5, 0, 10, 10), [20, 10, 50, 50]),
        ((8, 8, 9, 9), [100, 10, 20, 10]),
        ((11, 0, 5, 5), None),
        ((3, 0, 0, 5), None),
    ],
)
def test_a_box_ends_with_the_axes(box, places):
    axes = plain()
    axes.add(Box(*box, theme.BLUE))
    found = elements(axes, "rect")[1:]
    got = [[float(x.get(n)) for n in ("x", "y", "width", "height")] for x in found]
    assert got == ([] if places is None else [places])


def test_a_dot_a_line_and_words():
    axes = plain()
    axes.add(
        Dot(5, 5, 6, theme.GREEN, tip="here"),
        Line(((0, 0), (10, 0), (10, 10)), theme.RED, 2, name="way"),
        Word(0, 10, "a < b", theme.INK, 10, (3, 4), level="top", turn=45),
    )
    (disc,) = elements(axes, "circle")
    assert [float(disc.get(n)) for n in ("cx", "cy", "r")] == [70, 35, 3]
    assert disc.find(SVG + "title").text == "here"
    (way,) = [x for x in elements(axes, "path") if x.get("stroke") == theme.RED]
    assert way.get("d") == "M20 60H120V10" and way.get("fill") == "none"
    (word,) = elements(axes, "text")
    assert word.text == "a < b" and word.get("transform") == "rotate(-45 23 13.6)"
    assert (word.get("x"), word.get("y")) == ("23", "13.6")  # 10 - 4 + 0.76 * 10


def test_stairs_have_the_heights_of_their_values():
    axes = plain()
    axes.add(Stairs((2, 2, 6, 0), (0, 1, 2, 4, 10), 0, theme.SKY))
    (area,) = [x for x in elements(axes, "path") if x.get("fill") == theme.SKY]
    assert area.get("d") == "M20 60V50H40V30H60V60H120z"
    level = plain()
    level.add(Stairs((0.123, 3), (0, 4, 10), 0.123, theme.SKY))
    (area,) = [x for x in elements(level, "path") if x.get("fill") == theme.SKY]
    assert area.get("d").startswith("M20 59.38H60V"), "no sliver where the value is the base"
    other = plain()
    other.add(Stairs((2, 3, 6, 0), (0, 1, 2, 4, 10), 0, theme.SKY))
    (changed,) = [x for x in elements(other, "path") if x.get("fill") == theme.SKY]
    assert changed.get("d") != area.get("d")


@pytest.mark.parametrize("axis", [Axis(-3, 12), Axis(8, -2), Axis(0.1, 1000, log=True)])
def test_a_share_of_an_axis_leads_back_to_the_value(axis):
    assert (axis.share(axis.low), axis.share(axis.high)) == (0, pytest.approx(1))
    for share in (0.0, 0.25, 1.0):
        assert axis.share(axis.value(share)) == pytest.approx(share)
    assert axis.share(5) != pytest.approx(axis.share(5.1))


def test_numbers_of_axes_are_round():
    assert [words for _, words in linear(0, 17e6).ticks] == [
        "0",
        *(f"{n} M" for n in range(2, 17, 2)),
    ]
    assert [at for at, _ in linear(-38, 108, most=5).ticks] == [0, 50, 100]
    assert [words for _, words in logarithmic(0.5, 300).ticks] == ["1", "10", "100"]
    assert [words for _, words in logarithmic(3, 150).ticks] == ["5", "10", "20", "50", "100"]
    assert len(linear(7, 7).ticks) > 1, "a range of nothing is widened"


def test_room_of_words():
    level, aslant = (
        Text(10, 20, "word", theme.INK, 10),
        Text(10, 20, "word", theme.INK, 10, turn=90),
    )
    assert covered(level) == pytest.approx((10, 12.4, 10 + width("word", 10), 22.4))
    assert covered(aslant) == pytest.approx((2.4, 20 - width("word", 10), 12.4, 20))
    ended = Text(10, 20, "word", theme.INK, 10, "end")
    assert covered(ended)[2] == 10 and not meet(covered(ended), (10, 0, 99, 99))
    assert meet(covered(level), covered(aslant))
    assert within((1, 1, 2, 2), (0, 0, 3, 3)) and not within((1, 1, 4, 2), (0, 0, 3, 3))
    area = (10, 10, 20, 20)
    assert crossed(area, (0, 0), (30, 30)) and crossed(area, (15, 0), (15, 30))
    assert not crossed(area, (0, 5), (30, 5)) and not crossed(area, (0, 0), (7, 7))


def test_widths_are_those_of_the_font():
    pytest.importorskip("matplotlib")
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font

    for weight in ("normal", "bold"):
        font = FT2Font(findfont(FontProperties(family="DejaVu Sans", weight=weight)))
        font.set_size(100, 72)
        for words in ("conv4b/temporal", "MAC per cycle [%]", "12.5 M", "WAVE~|"):
            font.set_text(words)
            real = font.get_width_height()[0] / 64
            assert real - 10 <= width(words, 100, weight == "bold") <= 1.12 * real + 10, words


def test_a_legend_takes_the_room_that_it_says():
    keys = [Key(theme.BLUE, "one"), Key(theme.RED, "a longer one", "o"), Key(theme.SKY, "x", "D")]
    for columns in (1, 2, 3):
        legend = Legend(keys, columns)
        shapes = legend.shapes(5, 7)
        texts = [x for x in shapes if isinstance(x, Text)]
        area = (5, 7, 5 + legend.width + 0.01, 7 + legend.height)
        assert [x.words for x in texts] == [key.words for key in keys]
        assert all(within(covered(x), area) for x in texts)
        assert not meet(covered(texts[0]), covered(texts[1]))


def test_a_report_needs_no_plotting_library(result, tmp_path):
    """What loads it takes longer than all of the report; `--png` does, and is the twin."""
    result.save(tmp_path / "run.json")
    program = (
        "import sys; from reports.__main__ import main; code = main(sys.argv[1:]); "
        "print(code, *[m for m in ('matplotlib', 'torch', 'onnx', 'onnxruntime', 'amaranth')"
        " if m in sys.modules])"
    )
    for words, loaded in (([], "0"), (["--png"], "0 matplotlib")):
        command = [sys.executable, "-c", program, str(tmp_path), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == loaded


def test_a_long_run_is_no_larger_picture(make):
    """Shapes, and letters of curves, hang on the size of a picture, not on the run's length."""
    sizes = []
    for tiles in (30, 300):
        report = make(layers=9, tiles=tiles)
        assert len(report.spans) > 30 * tiles
        sizes.append(sum(len(draw(report).inline("x")) for draw, _ in drawn(report).values()))
    assert sizes[1] < 1.3 * sizes[0]
    curve = max(re.findall(r' d="([^"]*)"', timeline(report).inline("x")), key=len)
    assert 1000 < len(curve) < 12 * 2 * 480
