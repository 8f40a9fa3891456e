import dataclasses

import pytest

from reports import tables


def test_layers_carry_the_run_s_numbers(report):
    table = tables.layers(report)
    titles = [c.title for c in table.columns]
    assert [row[0].value for row in table.rows] == [x.label for x in report.layers]
    for row, layer in zip(table.rows, report.layers, strict=True):
        value = dict(zip(titles, (cell.value for cell in row), strict=True))
        cycles = layer.cycles
        assert value["cycles"] == cycles
        assert value["of run"] == pytest.approx(cycles / report.cycles)
        assert value["bound / cycles"] == pytest.approx(layer.roofline_cycles / cycles)
        assert value["DRAM"] == layer.read_bytes + layer.write_bytes
        assert value["energy"] == pytest.approx(sum(layer.energy.values()))
        if layer.macs:
            assert value["MAC / mult / cycle"] == pytest.approx(layer.macs / (256 * cycles))
        else:
            assert value["MAC / mult / cycle"] is None


def test_headline_sets_runs_side_by_side(report):
    slower = dataclasses.replace(report, cycles=2 * report.cycles, config="tiny")
    table = tables.headline([report, slower])
    rows = {row[0].text: row[1:] for row in table.rows}
    assert [c.title for c in table.columns[1:]] == [report.title, slower.title]
    first, second = rows["MAC per multiplier and cycle"]
    assert first.value == pytest.approx(2 * second.value)


@pytest.mark.parametrize(
    ("equal", "words"),
    [
        (True, "equal to the PyTorch reference, bit for bit, in 7 tensors"),
        (False, "differs from the PyTorch reference: pixel 3"),
        (None, "not compared with anything; run with --check"),
    ],
)
def test_verdict(report, equal, words):
    run = dataclasses.replace(report, equal=equal, first_difference="pixel 3")
    assert tables.headline([run]).rows[0][1].text == words


def test_units_add_up(report):
    for row in tables.units(report).rows:
        assert sum(cell.value for cell in row[1:5]) == pytest.approx(1)


def test_plain_text_is_aligned(report):
    lines = tables.plain(tables.layers(report)).splitlines()
    assert len(lines) == len(report.layers) + 4
    ends = [len(line) for line in lines]
    assert len(set(ends)) == 1
    assert lines[1] == lines[-2]
    assert set(lines[1]) == {"-", " "}


def test_a_tiling_reads_as_words():
    choice = {"tile": [8, 14, 14], "order": "x, y", "hfa": {"share": 0.25}}
    assert tables.described(choice) == "tile 8 × 14 × 14 · order x, y · hfa share 0.25"


def test_tilings_show_choice_estimate_and_measurement(report):
    table = tables.tiling(report)
    tiled = [x for x in report.layers if x.macs]
    assert len(table.rows) == len(tiled)
    for row, layer in zip(table.rows, tiled, strict=True):
        shown = dict(zip((c.title for c in table.columns), row, strict=True))
        assert shown["load tile"].text == "14 × 7 × 2"
        assert shown["choices"].text == "order tile, group · weight slots 2"
        assert shown["bounded by"].text == "port"
        assert shown["measured"].value == layer.cycles
        assert shown["estimate"].value == layer.cycles + 3
        assert shown["next best"].value == layer.cycles + 30
