"""A folder of images for a network of single images: a run for each, equal to those one by one."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from models.preprocessing import Preprocessing
from proof.build import build as compile_file
from reports.find import find
from sim import folders
from sim.__main__ import main
from sim.command import run, run_each
from sim.errors import InputError
from sim.result import RunResult
from tests.models.net import U8, Net
from tests.models.qdq import Q
from tests.sim.pictures import pixels, write_image

HOW = Preprocessing((0.5,), (0.25,))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of six pictures of 6×8."""
    folder = tmp_path_factory.mktemp("my photos")
    for i, picture in enumerate(pixels(1, 6, 6, 8, 3)):
        write_image(folder / f"{i}.png", picture)
    return folder


def built(folder, batch):
    """A classifier of single images, or of several at once."""
    net = Net()
    x = net.start((batch, 3, 6, 8), U8)
    y = net.through(net.op("Conv", [x, net.weight((4, 3, 3, 3))]), Q(0.1, 100))
    net.end(net.op("GlobalAveragePool", [y]), Q(0.05, 90))
    onnx.save(net.model(), folder / "net.onnx")
    compile_file(folder / "net.onnx", "tiny", folder / "build", golden="off")
    HOW.save(folder / "build/preprocessing.json")
    return folder / "build"


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return built(tmp_path_factory.mktemp("single"), 1)


def test_a_run_for_each_image(single, photos, capsys):
    assert main(["run", str(single), "--input", str(photos), "--check", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    names = [f"{i}.png" for i in range(6)]
    assert list(told["runs"]) == names
    tops = {}
    for name in names:
        alone = run(single, "functional", photos / name, check=True)
        kept = RunResult.load(Path(told["runs"][name]["files"][0]))
        assert kept.equal is True and kept.input["source"] == str(photos / name)
        assert kept.input["digest"] == alone.given.digest
        assert kept.answers == RunResult.load(alone.files[0]).answers
        tops[name] = alone.answers[0].entries[0]
    assert len({alone.value for alone in tops.values()}) > 1, "the images differ"
    with Path(told["table"]).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 4, "as many as there are classes"
    for row in rows:
        if row["rank"] == "1":
            assert float(row["value"]) == pytest.approx(tops[row["image"]].value)
            assert row["index"] == " ".join(map(str, tops[row["image"]].index))


def test_what_is_printed_and_reported(single, photos, capsys):
    assert main(["run", str(single), "--input", str(photos), "--on", "cycle", "--start", "4"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^4\.png, [\d,]+ cycles$", out, re.MULTILINE)
    assert "5.png" in out and "3.png" not in out
    assert "2 runs on tiny (cycle)" in out
    newest, others = find(single)
    assert newest.parent.name == "5.png" and others[0].parent.name == "4.png"
    assert find(single, str(newest.parent.relative_to(single / "runs")))[0] == newest


def test_options_of_one_run_are_refused(single, photos, tmp_path, capsys):
    words = ["run", str(single), "--input", str(photos)]
    assert main([*words, "-o", str(tmp_path / "one.json")]) == 2
    assert "of a single run, not of every image" in capsys.readouterr().err
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(photos / "3.png", one)
    assert main(["run", str(single), "--input", str(one), "-o", str(tmp_path / "one.json")]) == 0
    assert (tmp_path / "one.json").is_file(), "a folder of one image is one input"


def test_batches(tmp_path, photos):
    folder = built(tmp_path, 2)
    found = folders.parts(folders.Build.load(folder), photos, None)
    assert [[path.name for path in part.images] for part in found] == [
        ["0.png", "1.png"],
        ["2.png", "3.png"],
        ["4.png", "5.png"],
    ]
    ran = run_each(folder, "functional", photos).runs
    first = run(folder, "functional", photos, preprocessing=found[1].how)
    (output,) = first.outputs
    assert np.array_equal(ran["2.png"].outputs[output], first.outputs[output])
    assert not np.array_equal(ran["0.png"].outputs[output], first.outputs[output])
    with pytest.raises(InputError, match="5 images, and input 'x' takes 2 at once"):
        folders.parts(folders.Build.load(folder), photos, Preprocessing((0.5,), (0.25,), start=1))


def test_other_pixels_go_elsewhere(single, photos):
    loaded = folders.Build.load(single)
    name = folders.name_of(photos, folders.parts(loaded, photos, HOW))
    other = folders.name_of(photos, folders.parts(loaded, photos, Preprocessing((0.4,), (0.25,))))
    assert name != other and name == folders.name_of(photos, folders.parts(loaded, photos, None))
    assert " " not in name


def test_images_that_cannot_be_read(single, photos, tmp_path, capsys):
    folder = tmp_path / "some"
    shutil.copytree(photos, folder)
    (folder / "2.png").write_text("no picture")
    assert main(["run", str(single), "--input", str(folder)]) == 2
    told = capsys.readouterr()
    assert "cannot decode" in told.err and "2.png" in told.err and "1.png" in told.out
    (folder / "2.png").unlink()
    (folder / "2.png").symlink_to(tmp_path / "nowhere")
    assert main(["run", str(single), "--input", str(folder)]) == 2
    assert f"cannot read {folder / '2.png'}" in capsys.readouterr().err
    for path in folder.iterdir():
        path.unlink()
    assert main(["run", str(single), "--input", str(folder)]) == 2
    assert "holds no images" in capsys.readouterr().err
