"""Which way runs took: rows by path, steps in order."""

import dataclasses

import pytest

from reports import bundle, paths, tables
from reports.figures.decisions import decisions
from sim.result import StepResult

THEN = ("start", "b?", "b: then", "after b")
ELSE = ("start", "b?", "b: else", "after b")


def step(path, cycles, energy):
    return StepResult(True, 3, cycles, 64, energy, 0, path)


@pytest.fixture
def branched(report):
    """A run of five steps, two of them by the second arm; its first layer did not run."""
    steps = [step(THEN, 100, 2e-6), step(THEN, 98, 2e-6), *[step(ELSE, 30, 1e-6)] * 2]
    steps.append(step(THEN, 104, 2e-6))
    first = dataclasses.replace(report.layers[0], executions=0)
    return dataclasses.replace(
        report, path=THEN, steps=tuple(steps), layers=(first, *report.layers[1:])
    )


def test_a_row_for_each_path(branched):
    table = paths.paths(branched)
    cells = [[cell.value for cell in row] for row in table.rows]
    assert cells == [
        ["A", "b: then", 3, 0.6, 100, 98, 104, 2e-6],
        ["B", "b: else", 2, 0.4, 30, 30, 30, 1e-6],
    ]
    assert [cell.value for cell in table.total][1:5] == ["A A B B A", 5, 1.0, 362]
    assert table.total[-1].value == pytest.approx(8e-6)


def test_trips_of_a_clip_are_its_steps(branched):
    clip = dataclasses.replace(branched, steps=(), trips=branched.steps)
    assert paths.paths(clip) == paths.paths(branched)
    figure = decisions(clip)
    bars = [box.height for box in figure.axes[0].boxes]
    assert bars == [100, 98, 30, 30, 104]
    assert figure.axes[0].title == "Cycles of each step; the way changes 2 times"
    assert [box.width for box in figure.axes[1].boxes] == [3, 2]


def test_layers_that_did_not_run_have_no_row(report, branched):
    assert len(tables.layers(branched).rows) == len(tables.layers(report).rows) - 1


def test_the_page_says_what_was_decided(report, branched, tmp_path):
    pages = []
    for name, each in (("branched", branched), ("straight", report)):
        bundle.write(each, tmp_path / name)
        pages.append((tmp_path / name / "index.html").read_text(encoding="utf-8"))
    assert "The accelerator decided in each of 5 steps. 1 layers of other arms" in pages[0]
    assert "A A B B A" in pages[0] and "b: else" in pages[0]
    assert "The accelerator decided" not in pages[1]
