import dataclasses
import json

import pytest

from reports.collect import labels, read, summarize
from reports.report import ReportError


def test_totals_follow_from_the_run(report, result):
    vectors = sum(x.array_vectors for x in result.layers)
    assert report.utilization == pytest.approx(vectors / result.cycles)
    assert report.rate == pytest.approx(result.mac_per_multiplier_cycle)
    assert report.energy_j == pytest.approx(result.energy_j)
    assert report.port_bytes == 16
    assert report.energy_table.uncertainty == "a factor of two"
    assert [x.cycles for x in report.layers] == [x.cycles for x in result.layers]


def test_spans_keep_order_and_count_tiles(report, result):
    for unit in report.lanes:
        expected = [
            (pc, issue, end + 1)
            for name, pc, issue, end in zip(
                result.instructions.unit,
                result.instructions.pc,
                result.instructions.issue,
                result.instructions.end,
                strict=True,
            )
            if name == unit
        ]
        spans = [s for s in report.spans if s.unit == unit]
        assert [(s.index, s.issue, s.end) for s in spans] == expected
        for layer in {s.layer for s in spans}:
            numbers = [s.number for s in spans if s.layer == layer]
            assert numbers == list(range(len(numbers)))


def test_units_split_every_cycle(report, result):
    assert [u.name for u in report.units] == ["LOAD", "ARRAY", "DRAIN", "VECTOR", "STORE"]
    for unit in report.units:
        key = unit.name.lower()
        busy, wait = result.counters[f"{key}_busy"], result.counters[f"{key}_wait"]
        assert unit.working + unit.memory == busy
        assert unit.token == wait
        assert unit.working + unit.memory + unit.token + unit.idle == result.cycles


def test_labels_drop_the_kind_where_names_stay_apart():
    assert labels(["/conv1/t/Conv", "/gap/Mean", "Gemm"]) == ["conv1/t", "gap", "Gemm"]
    assert labels(["/a/Conv", "/a/Relu"]) == ["/a/Conv", "/a/Relu"]


def test_waiting_under_work_counts_as_work(result):
    counters = {**result.counters, "array_busy": result.cycles - 10, "array_wait": 500}
    units = summarize(dataclasses.replace(result, counters=counters)).units
    (array,) = [u for u in units if u.name == "ARRAY"]
    assert (array.working, array.token, array.idle) == (result.cycles - 10, 10, 0)


def test_a_run_without_counters_has_no_breakdown(result):
    assert summarize(dataclasses.replace(result, counters={})).units == ()


def column(result, name, index, value):
    values = list(getattr(result.instructions, name))
    values[index] = value
    changed = dataclasses.replace(result.instructions, **{name: tuple(values)})
    return dataclasses.replace(result, instructions=changed)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda r: dataclasses.replace(r, cycles=None), "--on cycle or --on rtl"),
        (lambda r: dataclasses.replace(r, cycles=r.cycles // 2), "cycles"),
        (lambda r: dataclasses.replace(r, cycles=0), "no run"),
        (lambda r: dataclasses.replace(r, actions={}), "bytes of instructions"),
        (lambda r: dataclasses.replace(r, layers=r.layers[:-1]), "belongs to layer 8 of 8"),
        (lambda r: column(r, "layer", 3, -2), "belongs to layer -2"),
        (lambda r: column(r, "end", 3, 10**9), "an instruction runs from"),
        (
            lambda r: dataclasses.replace(
                r, instructions=dataclasses.replace(r.instructions, end=())
            ),
            "columns have the lengths",
        ),
        (
            lambda r: dataclasses.replace(r, counters={**r.counters, "load_busy": 10**9}),
            "the counters of LOAD contradict",
        ),
    ],
)
def test_contradictions_are_refused(result, damage, words):
    with pytest.raises(ReportError, match=words):
        summarize(damage(result))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[: len(text) // 2], "is not a result"),
        (lambda text: "[]", "version"),
        (
            lambda text: json.dumps({**json.loads(text), "version": 0}),
            "its format is version 0, and 2 is read",
        ),
        (lambda text: json.dumps({**json.loads(text), "cycles": "many"}), "is damaged"),
        (lambda text: text.replace('"VECTOR"', '"VEKTOR"'), "is damaged"),
        (lambda text: text.replace('"macs"', '"mcas"'), "another version of the toolkit"),
    ],
)
def test_damaged_files_are_refused(result, tmp_path, damage, words):
    path = tmp_path / "run.json"
    result.save(path)
    assert read(path).cycles == result.cycles
    path.write_text(damage(path.read_text()))
    with pytest.raises(ReportError, match=words):
        read(path)


def test_a_missing_run_says_how_to_make_one(tmp_path):
    with pytest.raises(ReportError, match=r"python -m sim run .* --on cycle"):
        read(tmp_path / "run.json")
