"""Direct or transformed: figures worked out by hand from made-up records."""

import dataclasses
import json

import pytest

from reports import bundle, hfa, hfa_tables, hfa_words, tables
from reports.__main__ import main
from reports.collect import read, summarize
from reports.figures import drawn
from reports.figures.hfa import hfa as figure
from reports.page import page as build_page
from reports.report import ReportError
from reports.summary import summary
from tests.reports.conftest import clashes

PRICES = {"multiply": 0.3, "multiply_transformed": 0.01, "tree_add_transformed": 0.002}
PRICES |= {"transformed_read": 20.0, "transformed_write": 30.0, "divide": 1.5}
ACTIONS = {"multiply_transformed": 10**9, "tree_add_transformed": 10**8}
ACTIONS |= {"transformed_read": 4000, "transformed_write": 1000, "divide": 2000}


def way(cycles, multiplications, energy_uj=None):
    found = {"cycles": cycles, "multiplications": multiplications, "dram_bytes": 64}
    return found if energy_uj is None else {**found, "energy_uj": energy_uj}


def record(chosen, ways, reason="", refused=None, objective="cycles"):
    return {
        "chosen": chosen,
        "objective": objective,
        "asked": "auto",
        "reason": reason,
        "candidates": ways,
        "refused": refused or {},
    }


def records():
    """Layer → record: dearer, cheaper, without energy, direct by choice, depthwise."""
    dearer = {"F(4,3)": way(600, 3000, 12.0), "direct": way(1000, 6000, 10.0)}
    cheaper = {"direct": way(900, 9000, 8.0), "F(4×4,3×3)": way(300, 3000, 6.0)}
    chain = {"direct": way(800, 4000), "F(2,3)": way(700, 3200)}
    slow = {"direct": way(500, 2000, 3.0), "F(2,3)": way(510, 1500, 3.5)}
    return {
        0: record("F(4,3)", dearer, refused={"F(2×2,3×3)": "1 tap along x instead of 3"}),
        1: record("direct", {}, "depthwise: one row per cycle"),
        2: record("F(4×4,3×3)", cheaper),
        5: record("F(2,3)", chain),
        6: record("direct", slow, "cycles: 500 direct, 510 with F(2,3)"),
    }


def with_records(result, found, prices=PRICES):
    layers = list(result.layers)
    for index, entry in found.items():
        tiling = {**layers[index].tiling, "hfa": entry}
        layers[index] = dataclasses.replace(layers[index], tiling=tiling)
    reference = {**result.energy_reference, "action_pj": prices}
    return dataclasses.replace(
        result,
        layers=tuple(layers),
        actions={**result.actions, **ACTIONS},
        energy_reference=reference,
    )


@pytest.fixture
def run(result):
    return with_records(result, records())


@pytest.fixture
def found(run):
    return summarize(run)


def rows(table):
    return {row[0].text: [cell.value for cell in row] for row in table.rows}


def test_a_layer_shows_what_its_algorithm_saved(found):
    table = hfa_tables.layers(found)
    line = rows(table)[found.layers[0].label]
    measured = found.layers[0].cycles
    assert line[1] == "F(4,3)"
    assert line[2:6] == [1000, 600, measured, 400]
    assert line[6:9] == [6000, 3000, 2.0]
    assert line[9:11] == pytest.approx([10e-6, 12e-6])
    assert 0 not in hfa_tables.layers(found).notes


def test_totals_are_of_transformed_layers_only(found):
    total = [cell.value for cell in hfa_tables.layers(found).total]
    assert total[2:4] == [2700, 1600]
    assert total[5] == 1100
    assert total[6:8] == [19000, 9200]
    assert total[9:11] == pytest.approx([18e-6, 18e-6])
    remark = hfa_tables.layers(found).remark
    assert remark == "Energy is estimated for 2 of the 3 transformed layers."


def test_direct_layers_say_why(found):
    table = hfa_tables.layers(found)
    lines = rows(table)
    why = {row[0].value: table.notes.get(i) for i, row in enumerate(table.rows)}
    depthwise, slow = (lines[found.layers[i].label] for i in (1, 6))
    assert depthwise[1] == slow[1] == "direct"
    assert why[depthwise[0]] == "direct: depthwise: one row per cycle"
    # Without candidates, the tiling foresaw the direct cycles; products are not known.
    assert depthwise[2:4] == [found.layers[1].cycles + 3] * 2
    assert depthwise[4:6] == [found.layers[1].cycles, 0]
    assert depthwise[6:9] == [None] * 3
    assert why[slow[0]] == "direct: cycles: 500 direct, 510 with F(2,3)"
    without = next(x for x in found.layers if x.macs and x.choice is None)
    assert lines[without.label][1] == "direct"
    assert why[without.label] == "direct: the compiler recorded no choice"


def test_depthwise_layers_show_both_figures_where_recorded(result):
    both = {"direct": way(200, 1152, 5.0), "F(2×2,3×3)": way(200, 512, 4.0)}
    report = summarize(with_records(result, {1: record("F(2×2,3×3)", both, objective="energy")}))
    line = rows(hfa_tables.layers(report))[report.layers[1].label]
    assert line[1] == "F(2×2,3×3)"
    assert line[6:9] == [1152, 512, 2.25]


def test_every_way_and_every_refusal_is_listed(found):
    table = hfa_tables.ways(found)
    label = found.layers[0].label
    lines = [[c.value for c in row] for row in table.rows if row[0].text == label]
    assert [line[1:3] for line in lines] == [
        ["direct", ""],
        ["F(4,3)", "chosen"],
        ["F(2×2,3×3)", "refused"],
    ]
    assert lines[2][-1] == "1 tap along x instead of 3"


def test_the_layer_table_names_the_algorithm_only_where_there_was_a_choice(found, report):
    titles = [c.title for c in tables.layers(found).columns]
    assert titles[2] == "algorithm"
    table = tables.layers(found)
    assert [row[2].text for row in table.rows[:3]] == ["F(4,3)", "direct", "F(4×4,3×3)"]
    assert {len(row) for row in (*table.rows, table.total)} == {len(titles)}
    assert "algorithm" not in [c.title for c in tables.layers(report).columns]


def test_json_carries_the_choice(found):
    content = json.loads(json.dumps(summary(found)))
    layer = content["layers"][0]["hfa"]
    assert (layer["chosen"], layer["cycles_saved"], layer["multiplications_saved"]) == (
        "F(4,3)",
        400,
        3000,
    )
    assert content["hfa"]["estimated"]["cycles"] == {"layers": 3, "direct": 2700, "chosen": 1600}
    assert content["hfa"]["transformed"] == 3


def test_a_run_without_records_has_no_section(report, found, tmp_path):
    for name, one in (("old", report), ("new", found)):
        files = {path.name for path in bundle.write(one, tmp_path / name)}
        page = (tmp_path / name / "index.html").read_text(encoding="utf-8")
        new = one is found
        assert ("hfa.svg" in files) == new
        assert ('<section id="hfa">' in page) == new
        assert ("Does it save energy?" in page) == new
    assert json.loads((tmp_path / "old" / "report.json").read_text())["hfa"] is None


def test_records_without_candidates_need_no_figure(result, found):
    off = summarize(with_records(result, {0: record("direct", {}, "switched off (--hfa off)")}))
    assert "hfa" in drawn(found)
    assert "hfa" not in drawn(off)
    page = build_page(off, dict.fromkeys(drawn(off), "<svg></svg>"))
    assert "No layer is transformed. The reason is the same for all: switched off" in page
    assert "Does it save energy?" not in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chosen": "F(2,3)"}, "was chosen, the candidates are"),
        ({"chosen": "F(9,9)", "candidates": {}}, "is no algorithm"),
        ({"candidates": None}, "lacks candidates"),
        ({"reason": None}, "lacks reason"),
    ],
)
def test_a_damaged_record_is_refused(result, tmp_path, change, words):
    entry = {k: v for k, v in (records()[0] | change).items() if v is not None}
    with_records(result, {0: entry}).save(tmp_path / "run.json")
    with pytest.raises(ReportError, match=words):
        read(tmp_path / "run.json")
    with_records(result, {0: records()[0]}).save(tmp_path / "run.json")
    assert read(tmp_path / "run.json").layers[0].choice.chosen == "F(4,3)"


def chosen_percent(report, panel):
    axes = figure(report).axes[panel]
    return [dot.x for dot in axes.dots if dot.name == "chosen"]


def test_figure_draws_the_share_of_direct(found, result):
    assert chosen_percent(found, 0) == pytest.approx([60, 100 / 3, 87.5])
    assert chosen_percent(found, 1) == pytest.approx([50, 100 / 3, 80])
    assert chosen_percent(found, 2) == pytest.approx([120, 75])
    other = records()
    other[0]["candidates"]["F(4,3)"]["cycles"] = 750
    report = summarize(with_records(result, other))
    assert chosen_percent(report, 0) == pytest.approx([75, 100 / 3, 87.5])


def test_no_word_of_the_figure_meets_another(found):
    assert clashes(figure(found)) == []


def test_words_follow_the_sign_of_the_energy(found, result):
    first, third, chain = (found.layers[i].label for i in (0, 2, 5))
    words = " ".join(hfa_words.energy(found))
    assert f"energy is saved in {third} (−25 %)" in words
    assert f"it costs energy in {first} (+20 %)" in words
    assert f"No energy was estimated for the direct form of {chain}" in words
    assert "with --objective energy" in words
    other = records()
    other[0]["candidates"]["F(4,3)"]["energy_uj"] = 9.0
    words = " ".join(hfa_words.energy(summarize(with_records(result, other))))
    assert f"energy is saved in {first} (−10 %), {third} (−25 %)" in words
    assert "costs energy" not in words


def test_products_are_fewer_and_wider():
    found = hfa.product("F(4,3)")
    assert found.bits == (12, 11)
    assert found.energy == pytest.approx(132 / 72)
    assert found.fewer == 2
    assert hfa.product("F(4×4,3×3)").energy > found.energy


def test_parts_are_counts_times_prices(found, result):
    expected = {
        "U, transformed activations": 4000 * 20e-12 + 1000 * 30e-12,
        "exact divisions": 2000 * 1.5e-12,
    }
    assert hfa.parts(found) == pytest.approx(expected)
    assert list(hfa.parts(found)) == list(expected)
    words = " ".join(hfa_words.energy(found))
    assert "such products take 10.0 µJ, their adder trees 200 nJ" in words
    dearer = PRICES | {"divide": 3.0}
    other = summarize(with_records(result, records(), dearer))
    assert hfa.parts(other)["exact divisions"] == pytest.approx(6e-9)


def test_a_run_without_prices_makes_no_parts(result):
    old = summarize(with_records(result, records(), {}))
    assert hfa.parts(old) == {}
    assert "such products take" not in " ".join(hfa_words.energy(old))


def test_against_a_direct_run(found, report):
    slower = {"dram": report.energy["dram"], "array": 3 * report.energy["array"]}
    direct = dataclasses.replace(report, cycles=report.cycles + 5000, energy=slower)
    assert hfa.mismatch(found, direct) == ""
    table = hfa_tables.against(found, direct)
    saved = 2 * report.energy["array"]
    assert [row[0].text for row in table.rows] == ["array", "dram"]
    assert table.rows[0][3].value == pytest.approx(-saved)
    assert table.total[3].value == pytest.approx(-saved)
    words = hfa_words.against(found, direct)
    assert "hFA saves 5.00 kcycles" in words
    assert "and saves" in words
    assert "and costs" in hfa_words.against(
        dataclasses.replace(found, energy={"dram": 9.0}), direct
    )


def test_runs_that_cannot_be_compared(found, report):
    assert "its macs is" in hfa.mismatch(found, dataclasses.replace(report, macs=1))
    assert "is transformed" in hfa.mismatch(found, found)
    table = dataclasses.replace(report.energy_table, name="other")
    assert "energy table" in hfa.mismatch(found, dataclasses.replace(report, energy_table=table))


def test_command_compares(run, result, tmp_path, capsys):
    (tmp_path / "direct").mkdir()
    run.save(tmp_path / "run.json")
    result.save(tmp_path / "direct" / "run.json")
    direct = ["--direct", str(tmp_path / "direct" / "run.json")]
    assert main([str(tmp_path), *direct]) == 0
    shown = capsys.readouterr().out
    assert "  direct: " in shown
    assert "Measured against a run of the same network" in shown
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    assert content["hfa"]["against"]["cycles"] == result.cycles
    assert main([str(tmp_path), "--direct", str(tmp_path / "run.json")]) == 2
    assert "is transformed; build it with --hfa off" in capsys.readouterr().err
