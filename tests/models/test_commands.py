"""The command line, and the figures table."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from models.__main__ import main
from models.data import PREPROCESSING
from models.preprocessing import beside
from tests.models.net import Net


def test_table_prints_one_json_object(capsys):
    assert main(["table", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    keys = {"network", "quantity", "unit", "paper", "ours", "relative_difference"}
    assert report["rows"] and all(set(row) == keys for row in report["rows"])
    known = [row for row in report["rows"] if row["paper"] is not None]
    for row in known:
        assert row["relative_difference"] == pytest.approx(row["ours"] / row["paper"] - 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "c4d"], "no network 'c4d'; known: fsb_c3d"),
        (["export", "c3d", "--size", "huge"], "no size 'huge'"),
        (["export", "c3d", "--size", "tiny", "-o", "c3d.txt"], "must be named *.onnx"),
        (["export", "c3d", "--size", "tiny", "--seed", "-1"], "seed must not be negative"),
        (["export", "c3d", "--size", "tiny", "--video", "none.mp4"], "no video file none.mp4"),
        (["stats", "none.onnx"], "no ONNX file none.onnx"),
        (["run", "text.onnx"], "is no ONNX file"),
        (["export", "fsb_c3d", "--size", "tiny", "-o", "/proc/x.onnx"], "/proc/"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.onnx").write_text("not a graph")
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.splitlines()[-1]
    assert "error: " in last and message in last
    assert [path.name for path in tmp_path.iterdir()] == ["text.onnx"], "nothing is left behind"


@pytest.mark.parametrize(("size", "message"), [(8, "no video file"), (None, "clip of one size")])
def test_a_video_needs_an_input_whose_size_the_file_says(size, message, capsys, tmp_path):
    net = Net()
    net.end(net.op("Relu", [net.start((1, 3, 4, size, size))]))
    path = tmp_path / "net.onnx"
    onnx.save(net.model(), path)
    PREPROCESSING.save(beside(path))
    assert main(["run", str(path), "--input", str(tmp_path / "none.mp4")]) == 2
    assert message in capsys.readouterr().err


def test_stats_run_and_ortcheck_print_json(tiny, capsys, tmp_path):
    path = str(tiny["fsb_c3d"].onnx)
    assert main(["stats", path, "--json"]) == 0
    tensors = json.loads(capsys.readouterr().out)["tensors"]
    assert {"at_low", "at_high", "zero", "used_range", "std"} <= set(tensors[0])
    assert main(["ortcheck", path, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"platform", "operators", "network"} <= set(report)
    output = tmp_path / "tensors.npz"
    assert main(["run", path, "--all", "-o", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["greatest"].keys() == {"logits"}
    recorded = np.load(tiny["fsb_c3d"].npz)["output:logits"]
    assert np.array_equal(np.load(output)["output:logits"], recorded)


def test_list_and_help():
    for arguments in (["list", "--json"], ["--help"], ["export", "--help"]):
        command = [sys.executable, "-m", "models", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        if "--json" in arguments:
            assert json.loads(done.stdout)["networks"][0]["network"] == "fsb_c3d"
