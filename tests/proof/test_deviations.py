"""The page says how often operators differ from ONNX Runtime on scales that are short decimals."""

import dataclasses

import pytest

from proof.deviations import BEGIN, CASES, END, measure, model_of
from proof.limits import PAGE

ROWS = PAGE.read_text().split(BEGIN)[1].split(END)[0].splitlines()[2:]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_page_says_what_is_measured(case):
    (row,) = [r for r in ROWS if r.startswith(f"| {case} |")]
    said = [float(cell.strip(" %")) / 100 for cell in row.strip("|").split("|")[1:]]
    for share, known in zip(measure(case), said, strict=True):
        assert abs(share - known) <= 0.001


def test_the_page_has_no_other_rows():
    assert len(ROWS) == len(CASES)


def test_twin_another_rule_is_seen(monkeypatch):
    """Were Add's zero point added after rounding everywhere, ENABLE_ALL would differ."""
    from models import tables

    monkeypatch.setitem(tables.PAIRS, "Add", tables.add_float_table)
    assert measure(CASES[0])[1] > 0.01


def test_twin_a_wrong_scale_is_more_than_a_step(monkeypatch):
    right = model_of(CASES[0])
    other = model_of(dataclasses.replace(CASES[0], result=0.5))
    monkeypatch.setattr("proof.deviations.Reference", lambda model: _reference(other))
    assert right != other
    with pytest.raises(ValueError, match="differs by"):
        measure(CASES[0])


def _reference(model):
    from models.reference import Reference

    return Reference(model)
