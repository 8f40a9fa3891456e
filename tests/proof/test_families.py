"""The table of families: what fails a row, what is said of what did not run; a subset of it."""

from __future__ import annotations

import json

import pytest

from compiler.output import write_config
from proof import families, paper
from proof.families import EQUAL, main
from proof.steps import StepError
from tests.machines import folding
from tests.marks import large

BUILT = {"proof": {"tensors": 12, "compiler": 2, "passes": [{}]}}
CYCLES = {"cycles": 1234}
RTL = {
    "equal": True,
    "tensors_compared": 10,
    "first_difference": None,
    "cycles": 1234,
}
TIMES = {"unit": ["LOAD", "STORE"], "pc": [1, 2], "issue": [5, 9], "start": [6, 9], "end": [8, 12]}


@pytest.fixture
def answers(monkeypatch, tmp_path):
    """Answers of the commands by their first words; an exception is raised."""
    known = {"models": {}, "compiler": BUILT, "cycle": CYCLES, "rtl": RTL}
    known["functional"] = {"tensors_compared": 7}

    def command(*words):
        key = words[words.index("--on") + 1] if "--on" in words else words[0]
        answer = known[key]
        if isinstance(answer, Exception):
            raise answer
        if "--on" not in words:
            return answer
        path = tmp_path / f"{key}.json"
        path.write_text(json.dumps({"instructions": {**TIMES, **answer.get("times", {})}}))
        return {**answer, "files": [str(path)]}

    monkeypatch.setattr(families, "command", command)
    monkeypatch.setattr(families, "FOLDER", tmp_path)
    return known


def table(capsys, *words):
    code = main(
        ["--networks", "vtn_decoder", "--variants", "norm=none", "--jobs", "1", "--json", *words]
    )
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    return code, row


def test_a_row_that_is_equal_everywhere(answers, capsys):
    code, row = table(capsys)
    assert code == 0
    assert (row["tensors"], row["cycles"], row["times"]) == (10, 1234, [0, 2])
    assert (row["functional"], row["rtl"]) == (EQUAL, EQUAL)


@pytest.mark.parametrize(
    ("step", "answer", "column"),
    [
        ("compiler", StepError("op (Softmax): refused"), "functional"),
        ("cycle", StepError("a hazard"), "rtl"),
        ("rtl", StepError("no verilator"), "rtl"),
        ("rtl", {**RTL, "equal": False, "first_difference": "y"}, "rtl"),
        ("rtl", {**RTL, "tensors_compared": 9}, "rtl"),
        ("rtl", {**RTL, "cycles": 1235}, "times"),
        ("rtl", {**RTL, "times": {"issue": [5, 10]}}, "times"),
        ("rtl", {**RTL, "times": {name: values[:1] for name, values in TIMES.items()}}, "times"),
        ("rtl", {**RTL, "times": {key: [] for key in TIMES}}, "times"),
        ("rtl", {**RTL, "tensors_compared": 0}, "rtl"),
    ],
)
def test_a_refusal_a_difference_or_a_missing_tensor_fails(step, answer, column, answers, capsys):
    answers[step] = answer
    code, row = table(capsys)
    assert code == 1
    assert row["failed"]
    assert column == "times" or not row[column].startswith(EQUAL)


def test_what_was_not_run_is_never_equal(answers, capsys):
    code, row = table(capsys, "--no-rtl")
    assert code == 0
    assert row["rtl"].startswith("not run")


def test_rows_at_paper_size(answers, capsys):
    assert main(["--size", "paper", "--jobs", "1"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:-1]
    assert len(rows) == len(paper.ROWS)
    for each, row in zip(paper.ROWS, rows, strict=True):
        assert row.startswith(f"{each.network} {each.variant}".strip())
        assert ("not run: functional only" in row) == bool(each.unrun) != ("0 of 2" in row)


def test_layers_are_cut_out_of_the_whole_network(answers, monkeypatch, tmp_path):
    said = []
    monkeypatch.setattr(families, "command", lambda *words: said.append(words) or BUILT | CYCLES)
    row = families.Row("eacnet_r50", "inside=/mgte.4/+/ate/", "not run: here")
    families.filled(row, "paper", "base", tmp_path)
    (_, _, *whole), (_, _, given, *cut), (_, _, built, *_) = said[:3]
    assert given == whole[-1] and cut[:4] == ["--inside", "/mgte.4/", "--inside", "/ate/"]
    assert built == cut[-1] != given and row.tensors == 10 and not row.failed


def test_a_command_in_this_process_that_fails_says_why():
    with pytest.raises(StepError, match="nonesuch"):
        families.command("compiler", "build", "nonesuch.onnx")


def test_of_branches_a_run_compares_what_it_takes(answers, capsys):
    answers["compiler"] = {"proof": BUILT["proof"] | {"passes": [{}, {}]}}
    code, row = table(capsys)
    assert code == 1 and "(10 of 7 tensors compared)" in row["rtl"]
    answers["rtl"] = RTL | {"tensors_compared": 7}
    assert table(capsys)[0] == 0


def test_an_unknown_network_is_an_error(answers):
    with pytest.raises(SystemExit):
        main(["--networks", "nonesuch"])


@pytest.mark.parametrize(
    "network",
    [
        large("vtn_decoder"),
        pytest.param("vtn_online", marks=pytest.mark.cosim),
        large("xwisenet"),
    ],
)
def test_every_variant_is_equal_in_functional(network, tmp_path, monkeypatch, capsys):
    """Networks with attention, with a state, with pooling by scores."""
    monkeypatch.setattr(families, "FOLDER", tmp_path)
    code = main(
        ["--networks", network, "--config", written(tmp_path), "--no-rtl", "--jobs", "1", "--json"]
    )
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert code == 0
    for row in rows:
        assert row["functional"] == EQUAL, row


@pytest.mark.cosim
def test_every_variant_of_the_decoder_is_equal_in_rtl(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(families, "FOLDER", tmp_path)
    code = main(["--networks", "vtn_decoder", "--config", written(tmp_path), "--jobs", "1"])
    out = capsys.readouterr().out
    assert code == 0, out
    assert "3 in RTL" in out


def written(folder):
    """The configuration of the smallest array with attention, as a file."""
    path = folder / "attention.yaml"
    write_config(folding("tiny_direct", weight_bits=9), path)
    return str(path)
