"""A fixed row of graphs through everything, and damaged files."""

import onnx
import pytest

from fuzz.__main__ import describe, main
from fuzz.campaign import Task, run, write_failures
from fuzz.flips import GOOD, flips
from tests.marks import large

SEED = 2026


@pytest.mark.parametrize("seed", [SEED, large(SEED + 1), large(SEED + 2)])
def test_a_row_of_graphs(seed, tmp_path):
    task = Task(seed, 60)
    summary = run(task, 1)
    text, _ = describe(summary)
    print(text)
    assert not summary.failures, "\n".join(write_failures(summary, task, tmp_path, 5, 5))
    assert summary.outcomes["accepted"] >= 0.8 * task.count, text


@pytest.mark.slow
def test_ten_thousand_graphs(tmp_path, capsys):
    assert main(["-n", "10000", "--jobs", "2", "-o", str(tmp_path)]) == 0, capsys.readouterr().out


def test_damaged_files():
    bad = [flip for flip in flips(36, SEED, "tiny") if flip.outcome not in GOOD]
    assert not bad, "\n".join(f"{f.file} of {f.number}, bit {f.bit}: {f.detail}" for f in bad)


@pytest.mark.slow
def test_many_damaged_files():
    assert main(["--flips", "2000"]) == 0


def test_a_file_is_judged_again(tmp_path, capsys):
    from fuzz.generate import draw

    path = tmp_path / "graph.onnx"
    onnx.save(draw(SEED, 1).model, str(path))
    main(["--replay", str(path), "--hfa", "off"])
    assert capsys.readouterr().out.split(":")[0] in ("accepted", "refused", "wrong")
