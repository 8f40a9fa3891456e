import json
import os

import pytest

from reports.__main__ import main
from reports.drawing import Picture
from reports.figures import FIGURES

FILES = {
    *(f"{name}.svg" for name in FIGURES),
    "layers.csv",
    "report.json",
    "trace.json",
    "index.html",
}


@pytest.fixture
def build(result, tmp_path):
    result.save(tmp_path / "run.json")
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    """Blank figures, where the drawings do not matter."""
    for name in FIGURES:
        monkeypatch.setitem(FIGURES, name, (lambda report: Picture(1, 1, [], []), "blank"))


def test_writes_everything_and_names_the_page_last(build, result, capsys):
    assert main([str(build)]) == 0
    folder = build / "report"
    assert {p.name for p in folder.iterdir()} == FILES
    assert {p.name for p in build.iterdir()} == {"run.json", "report"}
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(folder / "index.html")
    assert any(line.split() == ["cycles", f"{result.cycles:,}"] for line in lines)


def test_json_is_one_object_with_the_simulator_s_keys(build, result, capsys, quick):
    assert main([str(build), "--json", "-o", str(build / "elsewhere")]) == 0
    printed = json.loads(capsys.readouterr().out)
    for key in (
        "network",
        "config",
        "backend",
        "equal",
        "tensors_compared",
        "first_difference",
        "cycles",
        "macs",
        "multipliers",
        "roofline_cycles",
        "dram_bytes",
        "wall_s",
    ):
        assert printed[key] == getattr(result, key), key
    assert printed["energy_j"] == pytest.approx(result.energy_j)
    assert printed["page"] == str(build / "elsewhere" / "index.html")
    content = json.loads((build / "elsewhere" / "report.json").read_text())
    assert content["version"] == 2
    assert [x["cycles"] for x in content["layers"]] == [x.cycles for x in result.layers]
    assert content["layers"][0]["mac_per_byte"] == pytest.approx(
        result.layers[0].macs / (result.layers[0].read_bytes + result.layers[0].write_bytes)
    )


def test_another_run_of_the_build(build, make, capsys, quick):
    other = make(as_result=True, layers=4, seed=2)
    other.save(build / "rtl.json")
    assert main([str(build), "--run", str(build / "rtl.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cycles"] == other.cycles


def test_a_second_report_replaces_the_first_and_nothing_else(build, make, quick):
    main([str(build)])
    (build / "report" / "notes.txt").write_text("mine")
    before = (build / "report" / "report.json").read_text()
    make(as_result=True, seed=5).save(build / "run.json")
    assert main([str(build)]) == 0
    assert (build / "report" / "notes.txt").read_text() == "mine"
    assert (build / "report" / "report.json").read_text() != before


def test_figures_of_an_earlier_report_do_not_stay(build, quick):
    """With --png each figure is there twice; without it, nor by another run, no old one is left."""
    assert main([str(build), "--png"]) == 0
    folder = build / "report"
    pictures = {f"{name}.png" for name in FIGURES}
    assert {p.name for p in folder.iterdir()} == FILES | pictures
    assert (folder / "layers.png").read_bytes().startswith(b"\x89PNG")
    for name in ("dram.svg", "photo.png"):  # a figure that this run has not, and no figure
        (folder / name).write_text("old")
    assert main([str(build)]) == 0
    assert {p.name for p in folder.iterdir()} == FILES | {"photo.png"}


def test_no_run_is_one_message_and_no_file(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: no run with cycles in")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_run_leaves_the_old_report(build, capsys, quick):
    main([str(build)])
    before = {p.name: p.read_bytes() for p in (build / "report").iterdir()}
    (build / "run.json").write_text((build / "run.json").read_text()[:-100])
    assert main([str(build)]) == 2
    assert "is not a result" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in (build / "report").iterdir()} == before


def test_a_folder_that_cannot_be_written_is_named(build, capsys, quick):
    (build / "file").write_text("")
    assert main([str(build), "-o", str(build / "file")]) == 2
    assert f"cannot write the report to {build / 'file'}" in capsys.readouterr().err
    assert {p.name for p in build.iterdir()} == {"run.json", "file"}


def test_a_failure_while_drawing_leaves_nothing(build, monkeypatch, quick):
    def broken(report):
        raise ZeroDivisionError

    monkeypatch.setitem(FIGURES, "stalls", (broken, ""))
    with pytest.raises(ZeroDivisionError):
        main([str(build)])
    assert {p.name for p in build.iterdir()} == {"run.json"}


def test_a_build_of_several_runs(make, tmp_path, capsys, quick):
    build = tmp_path / "net"
    made = {}
    for age, name in enumerate(("cycle-recorded", "rtl-recorded", "functional-recorded")):
        folder = build / "runs" / name
        folder.mkdir(parents=True)
        made[name] = make(as_result=True, seed=age)
        made[name].save(folder / "run.json")
        os.utime(folder / "run.json", (age, age))
    assert main([str(build)]) == 0
    captured = capsys.readouterr()
    assert captured.err == "rtl-recorded is the newest run; --run takes one of cycle-recorded\n"
    assert captured.out.endswith(str(build / "runs/rtl-recorded/report/index.html") + "\n")
    for words in ([str(build), "--run", "cycle-recorded"], [str(build / "runs/cycle-recorded")]):
        assert main([*words, "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["cycles"] == made["cycle-recorded"].cycles
        assert printed["page"] == str(build / "runs/cycle-recorded/report/index.html")
    assert main([str(build), "--run", "rtl"]) == 2
    assert "no run rtl; " in capsys.readouterr().err


def test_a_functional_run_has_nothing_to_report(make, tmp_path, capsys):
    folder = tmp_path / "runs" / "functional-recorded"
    folder.mkdir(parents=True)
    make(as_result=True).save(folder / "run.json")
    assert main([str(tmp_path)]) == 2
    assert "no run with cycles" in (words := capsys.readouterr().err)
    assert "only functional-recorded" in words and words.count("\n") == 1
