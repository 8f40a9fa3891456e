"""Runs side by side: every figure beside the first run's, layers paired by name."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest

from reports.__main__ import main


@pytest.fixture
def runs(result, tmp_path):
    """A run; one with a slower second layer and without the last; one on another machine."""
    layers = list(result.layers)
    layers[1] = dataclasses.replace(layers[1], cycles=layers[1].cycles + 100)
    shifted = [
        dataclasses.replace(
            x, first_cycle=x.first_cycle + 100 * (i > 1), last_cycle=x.last_cycle + 100 * (i > 0)
        )
        for i, x in enumerate(layers)
    ]
    slower = dataclasses.replace(result, cycles=result.cycles + 100, layers=tuple(shifted))
    other = dataclasses.replace(result, config="tiny", multipliers=16, backend="rtl")
    paths = []
    for name, run in (("a", result), ("b", slower), ("c", other)):
        (tmp_path / name).mkdir()
        run.save(tmp_path / name / "run.json")
        paths.append(str(tmp_path / name))
    return paths


def test_cycles_of_layers_with_their_difference(runs, result, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["compare", *runs[:2], "--csv", "-o", str(page)]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["layer", "operator", "A", "B", "B - A", "B / A - 1"]
    for i, (row, layer) in enumerate(zip(rows[1:], result.layers, strict=True)):
        extra = 100 if i == 1 else 0
        assert [int(row[2]), int(row[3]), int(row[4])] == [
            layer.cycles,
            layer.cycles + extra,
            extra,
        ]
        assert float(row[5]) == pytest.approx(extra / layer.cycles)
    text = page.read_text()
    assert "<h1>2 runs</h1>" in text and "A takes the least time" in text


def test_layers_that_a_run_lacks_have_no_difference(runs, result, tmp_path, capsys):
    renamed = dataclasses.replace(result.layers[-1], name="another")
    fewer = dataclasses.replace(result, layers=(*result.layers[:-1], renamed))
    (tmp_path / "d").mkdir()
    fewer.save(tmp_path / "d" / "run.json")
    words = ["compare", runs[0], str(tmp_path / "d"), "--json", "-o", str(tmp_path / "p.html")]
    assert main(words) == 0
    *_, first, last = json.loads(capsys.readouterr().out)["Cycles of layers"]
    assert first["A"] == last["B"] == result.layers[-1].cycles
    assert first["B"] is first["B - A"] is first["B / A - 1"] is None
    assert last["A"] is last["B - A"] is last["B / A - 1"] is None


def test_machines_clocks_and_resources(runs, result, tmp_path, capsys):
    synthesis = {
        "config": "tiny",
        **{key: {"used": 1000 + i} for i, key in enumerate(("lut", "ff", "bram", "dsp"))},
        "fmax_mhz": [84.5, 84.0],
    }
    path = tmp_path / "synth.json"
    path.write_text(json.dumps(synthesis))
    words = ["compare", runs[0], runs[2], "--clock", "100", "50", "--resources", str(path)]
    assert main([*words, "--json", "-o", str(tmp_path / "p.html")]) == 0
    rows = json.loads(capsys.readouterr().out)["Whole runs"]
    found = {row["figure"]: (row["A"], row["B"], row["B / A - 1"]) for row in rows}
    assert found["multipliers"] == (256, 16, -0.9375)
    assert found["seconds"][1] == pytest.approx(2 * found["seconds"][0])
    assert found["LUTs"] == (None, 1000, None) and found["fmax"][1] == 84e6
    assert found["configuration"] == ("base", "tiny", None)
    assert main([*words, "-o", str(tmp_path / "p.html")]) == 0
    out = capsys.readouterr().out
    assert "A: made_up on base, cycle simulation" in out and "-93.8 %" in out


def test_what_cannot_be_compared(runs, tmp_path, capsys):
    page = tmp_path / "p.html"
    (tmp_path / "bad.json").write_text("[]")
    for words, message in (
        ([runs[0]], "1 run to compare; at least two"),
        ([runs[0], str(tmp_path / "none")], "no run with cycles"),
        ([*runs, "--clock", "1", "2"], "2 clocks for 3 runs"),
        ([*runs, "--clock", "0"], "a clock must be positive"),
        ([*runs, "--resources", str(tmp_path / "bad.json")], "no output of hw synth --json"),
    ):
        assert main(["compare", *words, "-o", str(page)]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
        assert not page.exists()
