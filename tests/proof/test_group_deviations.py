"""The page says how often softmax, norms and products of activations differ, and how little."""

import re

import pytest

from proof.group_deviations import BEGIN, END, ROWS, main, measure, name
from proof.limits import PAGE

LINES = PAGE.read_text().split(BEGIN)[1].split(END)[0].splitlines()[2:]
MOST = {"MatMul": 1e-5, "Softmax": 2e-5, "LayerNormalization": 4e-4}


def said(row):
    """Elements, and those that differ, as the page has them."""
    (line,) = [r for r in LINES if r.startswith(f"| {name(row)} |")]
    return tuple(int(cell.replace(",", "")) for cell in re.findall(r"\| ([\d,]+) ", line))


def test_the_page_has_a_line_for_every_row_and_no_other():
    assert len(LINES) == len(ROWS)
    assert sum(said(row)[0] for row in ROWS if row.op == "Softmax") >= 10**7


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_what_the_page_says_is_within_the_bounds(row):
    size, written, full = said(row)
    assert written <= MOST[row.op] * size
    if row.op == "MatMul" and not row.signed[0]:
        assert full == 0


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_a_part_of_it_is_as_rare(row):
    size, written, _ = measure(row, part=0.05)
    # As often as the bound allows, and what chance adds to it.
    most = MOST[row.op] * size
    assert size >= 40_000 and written <= most + 4 * most**0.5 + 3


@pytest.mark.large
@pytest.mark.parametrize("row", ROWS, ids=name)
def test_the_page_says_what_is_measured(row):
    size, written, full = measure(row)
    known = said(row)
    assert size == known[0]
    for found, expected in zip((written, full), known[1:], strict=True):
        assert abs(found - expected) <= 5 + 0.05 * expected


def test_twin_a_256th_of_a_step_is_seen(monkeypatch):
    from models import grouped

    finish = grouped._finish
    monkeypatch.setattr(grouped, "_finish", lambda fixed, to: finish(fixed + (1 << 36), to))
    row = next(r for r in ROWS if r.op == "Softmax")
    size, written, _ = measure(row, part=0.05)
    assert written > 1e-3 * size


def test_the_command_writes_between_its_marks(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    monkeypatch.setattr("proof.group_deviations.ROWS", ROWS[:1])
    main([str(page)])
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}| operator ") and text.endswith(f"{END}after\n")
    assert "old" not in text and name(ROWS[0]) in text
