"""The page in a browser: three widths, two themes; nothing is clipped or overlaps, and it sorts."""

from __future__ import annotations

import dataclasses

import pytest

from reports.bundle import write
from reports.collect import summarize
from tests.reports.browser import opened
from tests.reports.conftest import make_result

pytestmark = pytest.mark.browser

WIDTHS = (390, 900, 1500)
HEIGHT = 900

CLIPPED = """
[...document.querySelectorAll("h1,h2,h3,p,li,dt,dd,figcaption,.card,nav,.scroll,footer")]
  .filter((e) => { const r = e.getBoundingClientRect();
                   return r.width && (r.left < -0.5 || r.right > innerWidth + 0.5); })
  .map((e) => e.tagName + ": " + e.textContent.slice(0, 40))
"""
OUTSIDE = """
[...document.querySelectorAll("svg.figure")].flatMap((svg) => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter((text) => {
    const r = text.getBoundingClientRect();
    return r.left < box.left - 2 || r.right > box.right + 2 || r.top < box.top - 2
        || r.bottom > box.bottom + 2;
  }).map((text) => svg.getAttribute("aria-label").slice(0, 20) + ": " + text.textContent);
})
"""
OVERLAPS = """
[...document.querySelectorAll("svg.figure")].flatMap((svg) => {
  const level = (text) => {
    for (let e = text; e && e !== svg; e = e.parentElement) {
      if (/rotate\\((?!-?0[ ,)])/.test(e.getAttribute("transform") || "")) return false;
    }
    return true;
  };
  const boxes = [...svg.querySelectorAll("text")].filter(level).map((text) => {
    const r = text.getBoundingClientRect();
    return {words: text.textContent, l: r.left, r: r.right, t: r.top, b: r.bottom};
  });
  const found = [];
  boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => {
    const w = Math.min(a.r, b.r) - Math.max(a.l, b.l), h = Math.min(a.b, b.b) - Math.max(a.t, b.t);
    const least = Math.min((a.r - a.l) * (a.b - a.t), (b.r - b.l) * (b.b - b.t));
    if (w > 0 && h > 0 && w * h > 0.15 * least) {
      found.push(svg.getAttribute("aria-label").slice(0, 20) + ": " + a.words + " / " + b.words);
    }
  }));
  return found;
})
"""
COLUMN = """
[...document.querySelector("#layers table").tBodies].map((b) => b.rows[0].cells[2].dataset.value)
"""
HEAD = """
(() => { const e = document.querySelectorAll('#layers th')[2]; e.scrollIntoView({block: 'center'});
         const r = e.getBoundingClientRect(); return [r.left + 2, r.bottom - 2]; })()
"""


def example():
    """A run with everything that a page can show."""
    result = make_result(layers=14, tiles=8)
    layers = list(result.layers)
    stages = [f"/a/rather/long/name/of/a/node/{i}/Conv" for i in range(5)]
    chain = {"stages": stages, "streamed": dict.fromkeys(stages, 1_000)}
    layers[3] = dataclasses.replace(layers[3], op="chain", tiling=layers[3].tiling | chain)
    slowest = max(range(len(layers)), key=lambda i: layers[i].cycles)
    name = "look/coarse/backbone/features/features.2/conv/conv.1/conv.1.0/Conv"
    layers[slowest] = dataclasses.replace(layers[slowest], name=name)  # stands in the lead
    memory = [
        {
            "kind": kind,
            "name": kind,
            "address": 65536 * i,
            "bytes": 50000,
            "first": i - 2,
            "last": i,
        }
        for i, kind in enumerate(("code", "image", "input", "tensor"))
    ]
    used = [{"activation": 900 - 50 * i, "weight": 30 * i} for i in range(len(layers))]
    pads = {"capacity": {"activation": 1024, "weight": 512}, "used": used}
    return dataclasses.replace(result, layers=tuple(layers), memory=tuple(memory), scratchpads=pads)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "report"
    write(summarize(example()), folder)
    return folder / "index.html"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_clipped_and_nothing_overlaps(page, width, theme):
    with opened(page, width, HEIGHT, theme) as tab:
        assert tab.run("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        assert tab.run(CLIPPED) == []
        assert tab.run(OUTSIDE) == []
        assert tab.run(OVERLAPS) == []
        ink = tab.run("getComputedStyle(document.body).color")
        paper = tab.run("getComputedStyle(document.body).backgroundColor")
        dark = [sum(map(int, c.strip("rgb()").split(","))) < 384 for c in (ink, paper)]
        assert dark == ([True, False] if theme == "light" else [False, True])
        assert tab.problems == []


def test_a_click_anywhere_in_a_title_sorts(page):
    with opened(page, 1500, HEIGHT, "light") as tab:
        before = [float(value) for value in tab.run(COLUMN)]
        assert before != sorted(before, reverse=True)
        tab.click(*tab.run(HEAD))
        assert [float(value) for value in tab.run(COLUMN)] == sorted(before, reverse=True)
        tab.click(*tab.run(HEAD))
        assert [float(value) for value in tab.run(COLUMN)] == sorted(before)
        notes = "document.querySelectorAll('#layers tbody tr.note').length"
        chained = (
            "[...document.querySelectorAll('#layers tr.note')]"
            ".every((n) => n.previousSibling.cells[1].textContent === 'chain')"
        )
        assert tab.run(notes) == 1 and tab.run(chained), "a note stays below its row"
        within = "document.querySelector('#layers tr.note details')"
        assert tab.run(f"{within}.offsetHeight") < 60
        assert tab.run(f"{within}.querySelector('summary').click(), {within}.open")
        assert tab.run(f"{within}.querySelectorAll('tbody').length") == 5
        assert tab.run(f"{within}.offsetHeight") > 120, "it opens into its operators"
        assert tab.run("document.documentElement.scrollWidth") <= 1500
        assert tab.problems == []


def test_what_goes_wrong_is_seen(page, tmp_path):
    """Twins: a word over another, a line that is too long, an error in the script."""
    text = page.read_text()
    over = '<svg class="figure" aria-label="twin" viewBox="0 0 99 20"><text y="9">one word</text>'
    wrong = text.replace("<nav>", f'{over}<text y="9" x="3">another</text></svg><nav>', 1)
    wide = '<p style="width:3000px;max-width:none">wide</p><script>throw new Error("x")</script>'
    wrong = wrong.replace("<nav>", f"{wide}<nav>", 1)
    (tmp_path / "wrong.html").write_text(wrong)
    with opened(tmp_path / "wrong.html", 900, HEIGHT, "light") as tab:
        assert tab.run("document.documentElement.scrollWidth") > 900
        assert tab.run(CLIPPED) == ["P: wide"]
        assert any("one word / another" in words for words in tab.run(OVERLAPS))
        assert any("Error: x" in words for words in tab.problems)
