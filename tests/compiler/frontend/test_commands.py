"""`python -m compiler build` and `check` on a tiny network, and what they leave behind."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from compiler import golden
from compiler.__main__ import main
from compiler.pipeline import Options, build
from compiler.tensor import CompilerError
from hw.arch.config import AcceleratorConfig
from hw.arch.program import Program
from models.reference import Reference
from tests.models.net import U8, Net
from tests.models.qdq import Q

OUTPUT = "logits_QuantizeLinear_Output"
STEP = 0.2


@pytest.fixture
def source(network, tmp_path):
    """A copy of the network and its recorded arrays."""
    path = tmp_path / "net.onnx"
    original = network("fsb_c3d")
    shutil.copy(original, path)
    shutil.copy(original.with_suffix(".npz"), path.with_suffix(".npz"))
    return path


def _little() -> onnx.ModelProto:
    """A convolution and a classifier: what commands do with a file does not hang on its size."""
    net = Net()
    x = net.through(net.input((1, 3, 4, 32, 32), "clip"), Q(0.04, 120))
    x = net.op("Relu", [net.op("Conv", [x, net.weight((8, 3, 3, 3, 3))], strides=[1, 2, 2])])
    x = net.through(net.op("GlobalAveragePool", [net.through(x, U8)]), Q(0.02, 0))
    x = net.op("MatMul", [net.op("Flatten", [x]), net.weight((8, 10), axis=1)])
    y = Q(STEP, 100)
    net.output(
        net.op("DequantizeLinear", [net.quantize(x, y, OUTPUT), *net._params(y)], 1, "logits")
    )
    net.output(OUTPUT, np.uint8)
    return net.model()


@pytest.fixture(scope="module")
def recorded():
    """The little network, and its recorded arrays."""
    model = _little()
    clip = np.random.default_rng(1).normal(0, 2, (1, 3, 4, 32, 32)).astype(np.float32)
    outputs = Reference(model).run({"clip": clip}, ["logits", OUTPUT])
    assert len(np.unique(outputs["logits"])) > 5
    return model, {"input:clip": clip} | {f"output:{k}": v for k, v in outputs.items()}


@pytest.fixture
def little(recorded, tmp_path):
    """A copy of the little network, and its recorded arrays beside it."""
    path = tmp_path / "net.onnx"
    onnx.save(recorded[0], path)
    np.savez(path.with_suffix(".npz"), **recorded[1])
    return path


def test_the_same_file_gives_the_same_bytes(source, tmp_path):
    """Two processes that hash names differently; only times and the folder's name may differ."""
    for seed in ("1", "2"):
        words = ["build", source, "--config", "tiny", "--no-verify", "-o", tmp_path / f"out{seed}"]
        subprocess.run(
            [sys.executable, "-m", "compiler", *map(str, words)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).resolve().parents[3],
            capture_output=True,
            check=True,
        )
    first, second = (
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.name != "build.json"
        }
        for folder in (tmp_path / "out1", tmp_path / "out2")
    )
    assert first == second and Path("program.bin") in first and len(first) > 10


def test_cycles_are_those_of_a_run_where_one_was_made(little, tmp_path, capsys):
    words = ["build", str(little), "--config", "tiny", "-o", str(tmp_path / "out")]
    assert main(words) == 0
    proven = capsys.readouterr().out
    built = json.loads((tmp_path / "out" / "build.json").read_text())
    assert f" {built['proof']['cycles']:,} cycles by the cycle model" in proven
    assert main([*words, "--no-verify"]) == 0
    assert f" about {built['cycles_estimated']:,} cycles;" in capsys.readouterr().out


def rewrite(path, **changes):
    """Change recorded arrays; None deletes."""
    arrays = golden.load(path)
    arrays.update({key.replace("__", ":"): value for key, value in changes.items()})
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def test_build_writes_everything(source, tmp_path, capsys):
    target = tmp_path / "out"
    assert main(["build", str(source), "--config", "tiny", "-o", str(target), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    keys = {"instructions", "weight_bytes", "cycles_estimated", "wall_s", "peak_mib"}
    assert keys <= set(report) and report["golden"] == "equal"
    assert {p.name for p in target.iterdir()} == {
        "build.json",
        "config.yaml",
        "golden.npz",
        "model.onnx",
        "program.asm",
        "program.bin",
        "stages",
    }
    assert json.loads((target / "build.json").read_text()) == report
    config = AcceleratorConfig.load(target / "config.yaml")
    assert config == AcceleratorConfig.load("tiny")
    program = Program.load(target / "program.bin")
    assert len(program.instructions) == report["instructions"]
    assert program.fingerprint == config.fingerprint
    assert onnx.load(target / "model.onnx") == onnx.load(source)
    recorded = golden.load(target / "golden.npz")
    original = golden.load(source.with_suffix(".npz"))
    assert set(recorded) == set(original)
    for name in original:
        assert np.array_equal(recorded[name], original[name])
    dumps = sorted(p.name for p in (target / "stages").iterdir())
    assert [d[:2] for d in dumps] == [f"{i:02}" for i in range(1, len(dumps) + 1)]
    (stage,) = (target / "stages").glob("*-fuse-residuals.txt")
    text = stage.read_text()
    assert "TemporalResidual" in text and "# applied" in text


def test_unfused_build_stores_more(source, tmp_path):
    config = AcceleratorConfig.load("tiny")
    counts = {}
    for fuse in (True, False):
        build(source, config, tmp_path / "out", Options(fuse, golden="off"))
        counts[fuse] = len(Program.load(tmp_path / "out" / "program.bin").tensors)
    assert counts[False] > counts[True]


def test_recorded_outputs_that_differ_stop_the_build(little, tmp_path, capsys):
    arrays = golden.load(little.with_suffix(".npz"))
    wrong = arrays[f"output:{OUTPUT}"].copy()
    wrong[0, 3] ^= 1
    rewrite(little.with_suffix(".npz"), **{f"output__{OUTPUT}": wrong})
    target = tmp_path / "out"
    assert main(["build", str(little), "--config", "tiny", "-o", str(target)]) == 2
    assert "1 of 10 elements differ from net.npz, first at [0, 3]" in capsys.readouterr().err
    assert not target.exists()
    arguments = ["build", str(little), "--config", "tiny", "-o", str(target), "--golden", "off"]
    assert main(arguments) == 0


def test_a_recording_may_differ_by_rounding_if_that_is_accepted(little, tmp_path, capsys):
    recorded = golden.load(little.with_suffix(".npz"))
    codes, reals = recorded[f"output:{OUTPUT}"].copy(), recorded["output:logits"].copy()
    step = np.float32(STEP)
    codes[0, 3] += 1 if codes[0, 3] < 255 else -1
    reals[0, 3] += step
    rewrite(little.with_suffix(".npz"), **{f"output__{OUTPUT}": codes, "output__logits": reals})
    target = tmp_path / "out"
    arguments = ["build", str(little), "--config", "tiny", "-o", str(target), "--golden"]
    assert main([*arguments, "check"]) == 2
    capsys.readouterr()
    assert main([*arguments, "report", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["golden"] == "differs"
    assert report["golden_differences"] == {"logits": [10, 1], OUTPUT: [10, 1]}
    assert set(golden.load(target / "golden.npz")) == {"input:clip"}  # what differs is no golden
    reals[0, 3] += 2 * step  # twin: more than rounding
    rewrite(little.with_suffix(".npz"), **{"output__logits": reals})
    assert main([*arguments, "report"]) == 2
    assert "by more than a step" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input__clip": None}, "no array input:clip"),
        ({"input__clip": np.zeros((1, 3, 4, 8, 8), np.float32)}, "must have shape"),
        ({"input__clip": np.full((1, 3, 4, 32, 32), np.nan, np.float32)}, "not finite"),
        ({"output__logits": np.zeros((1, 9), np.float32)}, "has shape"),
        ({"output__logits": None, f"output__{OUTPUT}": None}, "to compare with"),
    ],
)
def test_recorded_arrays_that_do_not_fit(little, tmp_path, changes, message):
    rewrite(little.with_suffix(".npz"), **changes)
    with pytest.raises(CompilerError, match=message):
        build(little, AcceleratorConfig.load("tiny"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_recorded_arrays(little, tmp_path):
    path = little.with_suffix(".npz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CompilerError, match="cannot be read"):
        build(little, AcceleratorConfig.load("tiny"), tmp_path / "out")


def test_without_recorded_arrays_the_report_says_so(little, tmp_path):
    little.with_suffix(".npz").unlink()
    built = build(little, AcceleratorConfig.load("tiny"), tmp_path / "out")
    assert built.golden == "absent" and not (tmp_path / "out" / "golden.npz").exists()


def test_rebuilding_replaces_only_build_folders(little, tmp_path, capsys):
    target = tmp_path / "out"
    arguments = ["build", str(little), "--config", "tiny", "--golden", "off", "-o", str(target)]
    assert main(arguments) == 0
    (target / "stale").write_text("")
    assert main(arguments) == 0
    assert not (target / "stale").exists()
    (target / "build.json").unlink()
    assert main(arguments) == 2
    assert "is no build folder" in capsys.readouterr().err
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"net.onnx", "net.npz", "out"}, "temporary folders remain"


def test_failure_leaves_the_old_build_alone(little, tmp_path):
    target = tmp_path / "out"
    config = AcceleratorConfig.load("tiny")
    build(little, config, target)
    before = (target / "program.bin").read_bytes()
    rewrite(little.with_suffix(".npz"), input__clip=None)
    with pytest.raises(CompilerError):
        build(little, config, target)
    assert (target / "program.bin").read_bytes() == before


def test_check_supports_the_network(source, capsys):
    assert main(["check", str(source), "--json", "--config", "tiny"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["unsupported"] == [] and len(report["supported"]) == 178


def test_unknown_configuration(little, capsys):
    assert main(["check", str(little), "--config", "nope"]) == 2
    assert "no configuration file" in capsys.readouterr().err


def test_a_recording_that_is_not_wanted_is_not_opened(little, tmp_path, capsys):
    little.with_suffix(".npz").write_text("damaged")
    target = tmp_path / "out"
    words = ["build", str(little), "--config", "tiny", "-o", str(target)]
    assert main(words) == 2
    assert main([*words, "--no-golden", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["golden"], report["proof"]["input"]) == ("skipped", "random, seed 0")
    assert not (target / "golden.npz").exists()


def test_an_input_of_ones_own_is_recorded_with_the_oracles_outputs(little, tmp_path, capsys):
    clip = np.random.default_rng(5).normal(0, 1, (1, 3, 4, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "mine.npz", clip=clip)
    target = tmp_path / "out"
    words = ["build", str(little), "--config", "tiny", "-o", str(target)]
    assert main([*words, "--record", str(tmp_path / "mine.npz"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["golden"] == "recorded" and report["proof"]["input"].endswith("mine.npz")
    made = golden.load(target / "golden.npz")
    assert np.array_equal(made["input:clip"], clip)
    wanted = Reference(little).run({"clip": clip}, ["logits"])["logits"]
    assert np.array_equal(made["output:logits"], wanted)
    old = golden.load(little.with_suffix(".npz"))
    assert not np.array_equal(made["output:logits"], old["output:logits"])
    for wrong, message in (
        (["--record", str(tmp_path / "none.npz")], "no input"),
        (["--record", str(tmp_path / "mine.npz"), "--no-verify"], "exclude"),
    ):
        assert main([*words, *wrong]) == 2
        assert message in capsys.readouterr().err


def test_without_the_proof_a_recording_is_compared_if_asked_for(little, tmp_path, capsys):
    recorded = golden.load(little.with_suffix(".npz"))
    wrong = recorded["output:logits"] + 1e3
    rewrite(little.with_suffix(".npz"), output__logits=wrong)
    words = ["build", str(little), "--config", "tiny", "--no-verify", "-o", str(tmp_path / "out")]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["golden"] == "skipped"
    assert np.array_equal(golden.load(tmp_path / "out" / "golden.npz")["output:logits"], wrong)
    assert main([*words, "--golden", "check"]) == 2
    assert "logits" in capsys.readouterr().err


def test_a_rebuild_says_which_runs_it_removes(little, tmp_path, capsys):
    target = tmp_path / "out"
    words = ["build", str(little), "--config", "tiny", "--no-verify", "-o", str(target)]
    assert main(words) == 0
    (target / "runs" / "rtl-recorded").mkdir(parents=True)
    (target / "runs" / "cycle-dog-12345678").mkdir()
    capsys.readouterr()
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "gone with the build that was there: the runs cycle-dog-12345678, rtl-recorded" in out
    assert not (target / "runs").exists()


def test_what_lies_beside_the_file_about_pixels_is_kept(little, tmp_path):
    text = '{"mean": 0.45, "std": 0.225}'
    little.with_name("net.preprocessing.json").write_text(text)
    build(little, AcceleratorConfig.load("tiny"), tmp_path / "out")
    assert (tmp_path / "out" / "preprocessing.json").read_text() == text


def test_a_program_at_another_place_is_the_same_program(little, tmp_path, capsys):
    words = ["build", str(little), "--config", "tiny", "--no-verify", "-o"]
    assert main([*words, str(tmp_path / "a")]) == 0
    assert main([*words, str(tmp_path / "b"), "--dram-base", "0x40000000"]) == 0
    first, second = (Program.load(tmp_path / name / "program.bin") for name in "ab")
    assert second == dataclasses.replace(first, dram_base=0x40000000) and first.dram_base == 0
    capsys.readouterr()
    for base, message in (
        ("0x10", "multiple of 0x1000"),
        ("-4096", "not below 0"),
        ("0xfffff000", "leave the address space"),
    ):
        assert main([*words, str(tmp_path / "c"), "--dram-base", base]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
    with pytest.raises(SystemExit):
        main([*words, str(tmp_path / "c"), "--dram-base", "here"])
    assert "'here' is no address, as 0x1000" in capsys.readouterr().err
