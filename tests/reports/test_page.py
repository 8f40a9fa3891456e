import dataclasses
import re
from html.parser import HTMLParser

import pytest

from reports import bundle
from reports.figures import FIGURES
from reports.page import page as build_page

VOID = {"meta", "br", "hr", "img", "input", "link"}
REQUESTS = re.compile(r"""(?:src|href)=["'](?!#)|url\((?!#)|@import|<link|<iframe""")


class Page(HTMLParser):
    """Collects text and tables; raises where tags do not match."""

    def __init__(self, content):
        super().__init__()
        self.open, self.words, self.ids, self.cells = [], [], [], []
        self.feed(content)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        attributes = dict(attributes)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if "data-value" in attributes:
            self.cells.append(attributes["data-value"])

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, words):
        if not {"style", "script"} & set(self.open):
            self.words.append(words)

    @property
    def text(self):
        return " ".join(self.words)


def write(report, folder):
    bundle.write(report, folder)
    return (folder / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def content(report, tmp_path_factory):
    return write(report, tmp_path_factory.mktemp("page") / "report")


def test_page_is_well_formed_and_complete(content, report):
    page = Page(content)
    for layer in report.layers:
        assert layer.label in page.words
        assert str(layer.cycles) in page.cells
        assert f"{layer.roofline_cycles / layer.cycles:.9g}" in page.cells
    assert "✓ Equal to the PyTorch reference, bit for bit, in 7 tensors" in page.words
    assert "a paper & its table" in page.words
    assert "0123456789abcdef" in page.text
    assert len(page.ids) == len(set(page.ids))


def test_parser_would_notice_a_lost_tag(content):
    with pytest.raises(AssertionError):
        Page(content.replace("</table>", "", 1))


def test_page_asks_for_nothing(content):
    assert not REQUESTS.search(content)
    assert REQUESTS.search(content.replace("<main>", '<main><img src="x.png">'))


def test_a_difference_is_the_first_thing_said(report):
    bad = dataclasses.replace(report, equal=False, first_difference="tensor 'a<b' at [3]")
    page = Page(build_page(bad, dict.fromkeys(FIGURES, "<svg></svg>")))
    assert "✗ Differs from the PyTorch reference: tensor 'a<b' at [3]" in page.words
    assert "✓" not in page.text


def test_a_long_run_stays_small(make, tmp_path):
    report = make(layers=60, tiles=110)
    assert len(report.spans) > 20_000
    content = write(report, tmp_path / "report")
    assert len(content.encode()) < 1_000_000
    Page(content)
