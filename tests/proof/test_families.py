"""The table of families: what fails a row, what is said of what did not run; a subset of it."""

from __future__ import annotations

import json

import pytest

from compiler.output import write_config
from proof import families
from proof.families import EQUAL, StepError, main
from tests.machines import folding

SUBSET = ("vtn_decoder", "vtn_online", "xwisenet")
"""Networks with attention, with a state, with pooling by scores."""
BUILT = {"proof": {"tensors": 12, "compiler": 2}}
CYCLES = {"cycles": 1234}
RTL = {"equal": True, "tensors_compared": 10, "first_difference": None}


@pytest.fixture
def answers(monkeypatch, tmp_path):
    """Answers of the commands by their first words; an exception is raised."""
    known = {"models": {}, "compiler": BUILT, "cycle": CYCLES, "rtl": RTL}

    def command(*words):
        key = words[words.index("--on") + 1] if "--on" in words else words[0]
        answer = known[key]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(families, "command", command)
    monkeypatch.setattr(families, "FOLDER", tmp_path)
    return known


def table(capsys, *words):
    code = main(["--networks", "vtn_decoder", "--variants", "norm=none", "--json", *words])
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    return code, row


def test_a_row_that_is_equal_everywhere(answers, capsys):
    code, row = table(capsys)
    assert code == 0
    assert (row["tensors"], row["cycles"], row["functional"], row["rtl"]) == (
        10,
        1234,
        EQUAL,
        EQUAL,
    )


@pytest.mark.parametrize(
    ("step", "answer", "column"),
    [
        ("compiler", StepError("op (Softmax): refused"), "functional"),
        ("cycle", StepError("a hazard"), "rtl"),
        ("rtl", StepError("no verilator"), "rtl"),
        ("rtl", {**RTL, "equal": False, "first_difference": "y"}, "rtl"),
        ("rtl", {**RTL, "tensors_compared": 9}, "rtl"),
        ("rtl", {**RTL, "tensors_compared": 0}, "rtl"),
    ],
)
def test_a_refusal_a_difference_or_a_missing_tensor_fails(step, answer, column, answers, capsys):
    answers[step] = answer
    code, row = table(capsys)
    assert code == 1
    assert row["failed"]
    assert not row[column].startswith(EQUAL)


@pytest.mark.parametrize("words", [("--no-rtl",), ()])
def test_what_was_not_run_is_never_equal(words, answers, capsys, monkeypatch):
    monkeypatch.setattr(families, "unbuilt", lambda config: "not run: no circuit")
    code, row = table(capsys, *words)
    assert code == 0
    assert row["rtl"].startswith("not run")


def test_an_unknown_network_is_an_error(answers):
    with pytest.raises(SystemExit):
        main(["--networks", "nonesuch"])


@pytest.mark.large
@pytest.mark.parametrize("network", SUBSET)
def test_every_variant_is_equal_in_functional(network, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(families, "FOLDER", tmp_path)
    code = main(["--networks", network, "--config", written(tmp_path), "--no-rtl", "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert code == 0
    for row in rows:
        assert row["functional"] == EQUAL, row


@pytest.mark.cosim
def test_every_variant_of_the_decoder_is_equal_in_rtl(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(families, "FOLDER", tmp_path)
    code = main(["--networks", "vtn_decoder", "--config", written(tmp_path)])
    out = capsys.readouterr().out
    assert code == 0, out
    assert "3 in RTL" in out


def written(folder):
    """The configuration of the smallest array with attention, as a file."""
    path = folder / "attention.yaml"
    write_config(folding("tiny_direct", weight_bits=9), path)
    return str(path)
