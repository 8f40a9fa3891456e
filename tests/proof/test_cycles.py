"""The table of cycles: what makes a row fail, and that a row of it is what a command measures."""

from __future__ import annotations

import json

import pytest

from proof import cycles

NETWORK, KEY = "recurrent", "recurrent tiny"
WORDS = ("--networks", NETWORK, "--sizes", "tiny", "--jobs", "1")


@pytest.fixture
def table(monkeypatch, tmp_path):
    """The folder's own table; what it returns sets the table's row and what is measured."""
    path = tmp_path / "cycles.json"
    monkeypatch.setattr(cycles, "TABLE", path)
    monkeypatch.setattr(cycles, "BUILD", tmp_path)

    def prepare(known, found):
        path.write_text(json.dumps(known))
        monkeypatch.setattr(cycles, "cycles_of", lambda row: found)
        return path

    return prepare


@pytest.mark.parametrize(
    ("known", "found", "code"),
    [
        ({KEY: 10_000}, 10_000, 0),
        ({KEY: 10_000}, 9_000, 0),
        ({KEY: 10_000}, 10_020, 0),
        ({KEY: 10_000}, 10_021, 1),
        ({KEY: 10_000}, None, 1),
        ({KEY: None}, None, 0),
        ({KEY: None}, 10_000, 0),
        ({}, 10_000, 1),
        ({}, None, 1),
    ],
)
def test_what_fails_a_row(table, known, found, code):
    table(known, found)
    assert cycles.main(WORDS) == code


def test_an_update_writes_what_was_found(table):
    path = table({KEY: 10_000, "other tiny": 5}, 20_000)
    assert cycles.main([*WORDS, "--update"]) == 0
    assert json.loads(path.read_text()) == {KEY: 20_000, "other tiny": 5}


def test_a_row_as_commands_measure_it(monkeypatch, tmp_path):
    known = json.loads(cycles.TABLE.read_text())
    monkeypatch.setattr(cycles, "BUILD", tmp_path)
    assert cycles.main(WORDS) == 0
    assert cycles.cycles_of((NETWORK, "tiny")) == known[KEY]


def test_a_network_that_is_no_network_is_an_error():
    with pytest.raises(SystemExit):
        cycles.main(["--networks", "nonesuch"])
