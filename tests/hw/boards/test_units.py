"""Rows of units, and the verdict against the part, from what Yosys counts."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from hw.arch.config import AcceleratorConfig
from hw.synthesis import ECP5_85F, Resources, SynthesisReport, summary, units_of

MODULES = {
    "\\accelerator": {"\\accelerator.core": 1, "\\accelerator.registers": 1, "LUT4": 3},
    "\\accelerator.registers": {"LUT4": 20, "TRELLIS_FF": 9},
    "\\accelerator.core": {"\\accelerator.core.array": 1, "\\accelerator.core.load": 1, "LUT4": 5},
    "\\accelerator.core.array": {"\\accelerator.core.array.column": 4, "CCU2C": 1},
    "\\accelerator.core.array.column": {"MULT18X18D": 4, "LUT4": 10, "TRELLIS_FF": 2},
    "\\accelerator.core.load": {"DP16KD": 2, "TRELLIS_DPR16X4": 1},
}


def test_a_row_counts_everything_inside_a_unit(tmp_path):
    content = {name: {"num_cells_by_type": cells} for name, cells in MODULES.items()}
    (tmp_path / "units.json").write_text("log line\n" + json.dumps({"modules": content}))
    rows = units_of(tmp_path)
    assert list(rows) == ["array", "registers", "load"], "the largest first"
    assert rows["array"] == Resources(lut=4 * 10 + 2, ff=8, bram=0, dsp=16)
    assert rows["registers"] == Resources(20, 9, 0, 0) and rows["load"] == Resources(4, 0, 2, 0)


@pytest.mark.parametrize(
    ("used", "words"),
    [
        ({"lut": 40_000}, "fits: lut 48% of the part at most"),
        ({"bram": 190}, "fits, but is hard to route above 80%: bram 91% of the part"),
        ({"dsp": 256}, "does not fit: dsp 164% of the part"),
    ],
)
def test_the_verdict_names_the_scarcest_resource(used, words):
    cells = dataclasses.replace(Resources(1, 1, 1, 1), **used)
    units = {"array": Resources(42, 8, 0, 16)}
    report = SynthesisReport(AcceleratorConfig.load("tiny"), cells, ECP5_85F, (), units)
    assert report.verdict == words
    lines = summary(report).splitlines()
    assert lines[0] == f"tiny on an ECP5-85F: {words}"
    assert lines[-2].split() == ["array", "42", "8", "0", "16"]
    assert report.as_dict()["units"]["array"] == {"lut": 42, "ff": 8, "bram": 0, "dsp": 16}


def test_rows_add_up_to_the_whole():
    units = {
        "array": Resources(400, 80, 0, 16),
        "reset_a": Resources(1, 1, 0, 0),
        "reset_b": Resources(1, 1, 0, 0),
    }
    whole = Resources(410, 79, 1, 16)
    report = SynthesisReport(AcceleratorConfig.load("tiny"), whole, ECP5_85F, (), units)
    rows = [re.split(r"\s{2,}", line.strip()) for line in summary(report).splitlines()[7:]]
    assert rows == [
        ["array", "400", "80", "0", "16"],
        ["2 of under 10 cells", "2", "2", "0", "0"],
        ["between them", "8", "-3", "1", "0"],
    ]
