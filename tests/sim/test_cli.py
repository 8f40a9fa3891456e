"""The command line: results, differences, and one clear line for every bad input."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hw.arch.boards import BOARDS
from hw.arch.isa import Halt, Store
from hw.arch.program import Program
from sim.__main__ import main
from sim.errors import SimulatorError
from sim.result import ResultError, RunResult

ROOT = Path(__file__).parents[2]
RECORDED = "runs/functional-recorded/run.json"


def run(capsys, *words):
    """Exit code, standard output, standard error."""
    code = main([str(w) for w in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_recorded_run_is_equal(capsys, relu_build):
    folder = relu_build()
    code, out, err = run(capsys, "run", folder, "--json")
    assert (code, err) == (0, "")
    content = json.loads(out)
    assert content["equal"] is True
    assert content["checked"] is False
    assert (content["network"], content["config"], content["backend"]) == (
        "relu",
        "tiny",
        "functional",
    )
    assert content["tensors_compared"] == 1
    assert content["dram_bytes"] == 2 * 192
    assert content["fetch_bytes"] == 5 * 64
    assert content["macs"] == 1000
    assert content["cycles"] is content["sim_khz"] is content["energy_j"] is None
    result = RunResult.load(folder / RECORDED)
    assert result.layers[0].read_bytes == result.layers[0].write_bytes == 192
    assert result.layers[0].tiling == {"rows": 48}
    assert result.energy["DRAM"] > 0
    assert not list(folder.rglob("*.partial"))


@pytest.mark.slow
def test_command_prints_one_object(relu_build):
    done = subprocess.run(
        [sys.executable, "-m", "sim", "run", str(relu_build()), "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["equal"] is True


def test_check_runs_the_reference(capsys, relu_build):
    folder = relu_build()
    code, out, _ = run(capsys, "run", folder, "--check", "--json")
    content = json.loads(out)
    assert code == 0
    assert content["checked"] is True
    assert content["tensors_compared"] == 2
    code, out, _ = run(capsys, "run", folder, "--check")
    assert "equal to the reference: 2 tensors" in out


@pytest.mark.parametrize("words", [(), ("--check",)])
def test_wrong_program_is_found(capsys, relu_build, words):
    folder = relu_build(low=101)
    code, out, err = run(capsys, "run", folder, "--json", *words)
    assert code == 1
    content = json.loads(out)
    assert content["equal"] is False
    found = content["first_difference"]
    assert found["layer"] == "relu"
    assert found["instruction"] == 3
    assert found["got"] - found["expected"] == pytest.approx(0.02 if not words else 1)
    assert "differs at [0, " in err
    assert "stored by instruction 3" in err
    assert RunResult.load(folder / RECORDED).first_difference.tensor == found["tensor"]


def test_memory_of_a_board_is_a_prediction(capsys, relu_build, monkeypatch):
    folder = relu_build()
    words = ("run", folder, "--on", "cycle")
    _, plain, _ = run(capsys, *words, "--json")
    code, text, _ = run(capsys, *words, "--memory", "ulx3s_85f", "--json")
    content = json.loads(text)
    assert (code, content["backend"], content["equal"]) == (0, "cycle-ulx3s_85f", True)
    assert content["cycles"] != json.loads(plain)["cycles"]
    assert (folder / "runs/cycle-ulx3s_85f-recorded/run.json").is_file()
    assert (
        "MHz, a prediction: the memory of ULX3S" in run(capsys, *words, "--memory", "ulx3s_85f")[1]
    )
    code, _, err = run(capsys, "run", folder, "--memory", "ulx3s_85f")
    assert (code, err) == (2, "error: --memory needs --on cycle\n")
    small = dataclasses.replace(BOARDS["ulx3s_85f"], memory_bytes=64)
    monkeypatch.setitem(BOARDS, "ulx3s_85f", small)
    code, _, err = run(capsys, *words, "--memory", "ulx3s_85f")
    assert code == 2 and "the program needs DRAM up to byte" in err and "ulx3s_85f has 64" in err


def test_other_input(capsys, relu_build, tmp_path):
    folder = relu_build()
    clip = np.full((1, 8, 2, 3, 4), -1, np.float32)
    for key in ("clip", "input:clip"):
        np.savez(tmp_path / "other.npz", **{key: clip})
        code, out, _ = run(capsys, "run", folder, "--input", tmp_path / "other.npz", "--json")
        assert code == 0
        assert json.loads(out)["equal"] is None
    code, out, _ = run(
        capsys, "run", folder, "--input", tmp_path / "other.npz", "--json", "--check"
    )
    assert json.loads(out)["equal"] is True


def test_without_a_recording(capsys, relu_build, tmp_path):
    folder = relu_build()
    (folder / "golden.npz").unlink()
    np.savez(tmp_path / "one.npz", clip=np.full((1, 8, 2, 3, 4), -1, np.float32))
    words = ("run", folder, "--input", tmp_path / "one.npz", "--json")
    code, out, _ = run(capsys, *words)
    assert (code, json.loads(out)["equal"]) == (0, None)
    code, out, _ = run(capsys, *words, "--check")
    assert (code, json.loads(out)["equal"]) == (0, True)


def test_recorded_codes_are_compared_too(capsys, relu_build):
    folder = relu_build()
    golden = dict(np.load(folder / "golden.npz"))
    codes = np.rint(golden["output:y"] / np.float32(0.02)).astype(np.uint8) + 100
    golden["output:relu_q"] = codes.astype(np.uint8)
    np.savez(folder / "golden.npz", **golden)
    assert run(capsys, "run", folder)[0] == 0
    golden["output:relu_q"][0, 7, 1, 2, 3] ^= 1
    np.savez(folder / "golden.npz", **golden)
    code, _, err = run(capsys, "run", folder)
    assert code == 1
    assert "golden.npz: tensor 'relu_q' of layer relu differs at [0, 7, 1, 2, 3]" in err


def damage(name, change):
    def apply(folder):
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return apply


def record(folder, key, change):
    golden = dict(np.load(folder / "golden.npz"))
    golden[key] = change(golden[key])
    np.savez(folder / "golden.npz", **golden)


BAD = {
    "no build": (shutil.rmtree, "no build directory"),
    "no program": (lambda f: (f / "program.bin").unlink(), "cannot read the program"),
    "truncated": (damage("program.bin", lambda d: d[:-10]), "truncated or damaged"),
    "flipped bit": (
        damage("program.bin", lambda d: d[:-9] + bytes([d[-9] ^ 4]) + d[-8:]),
        "truncated or damaged",
    ),
    "short": (damage("program.bin", lambda d: d[:20]), "damaged"),
    "other version": (
        damage("program.bin", lambda d: d[:8] + b"\x09" + d[9:]),
        "format version 9",
    ),
    "not a program": (damage("program.bin", lambda d: b"PK" + d), "not a program file"),
    "no configuration": (lambda f: (f / "config.yaml").unlink(), "no configuration file"),
    "other configuration": (
        damage("config.yaml", lambda d: d.replace(b"queue_depth: 4", b"queue_depth: 8")),
        "was built for configuration 'tiny'",
    ),
    "bad configuration": (
        damage("config.yaml", lambda d: d.replace(b"rows: 4", b"rows: 3")),
        "array.rows must be a power of two",
    ),
    "no recording": (lambda f: (f / "golden.npz").unlink(), "no recorded input"),
    "bad recording": (
        damage("golden.npz", lambda d: d[:60]),
        "golden.npz is not an .npz archive of arrays, or it is truncated\n",
    ),
    "recording of another network": (
        lambda f: np.savez(f / "golden.npz", **{"input:a": np.zeros(1), "input:b": np.zeros(1)}),
        "no array 'clip' of shape [1, 8, 2, 3, 4]; it holds 'input:a', 'input:b'",
    ),
    "recorded output of another shape": (
        lambda f: record(f, "output:y", lambda y: y[:, :4]),
        "golden.npz: the output 'y' has shape [1, 4, 2, 3, 4], the program's [1, 8, 2, 3, 4]",
    ),
    "recorded input of another shape": (
        lambda f: record(f, "input:clip", lambda x: x[:, :, :1]),
        "golden.npz: input 'clip' must have shape [1, 8, 2, 3, 4], not [1, 8, 1, 3, 4]",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_builds_are_refused_in_one_line(capsys, relu_build, case):
    folder = relu_build()
    change, message = BAD[case]
    change(folder)
    code, out, err = run(capsys, "run", folder, "--json")
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1
    assert not (folder / "runs").exists()


CLIP = np.zeros((1, 8, 2, 3, 4), np.float32)
BAD_CLIPS = {
    "shape": (CLIP[:, :, :1], "input 'clip' must have shape [1, 8, 2, 3, 4], not [1, 8, 1, 3, 4]"),
    "double": (CLIP.astype(np.float64), "input 'clip' must be float32, not float64"),
    "integer": (CLIP.astype(np.int32), "input 'clip' must be float32, not int32"),
    "text": (np.full(CLIP.shape, "a"), "input 'clip' must be float32, not <U1"),
    "nan": (CLIP + np.float32("nan"), "holds nan at [0, 0, 0, 0, 0]"),
}


@pytest.mark.parametrize("case", BAD_CLIPS)
@pytest.mark.parametrize("check", [(), ("--check",)])
def test_bad_clips_are_refused_by_the_users_names(capsys, relu_build, tmp_path, case, check):
    folder = relu_build()
    value, message = BAD_CLIPS[case]
    np.savez(tmp_path / "my.npz", clip=value)
    code, out, err = run(capsys, "run", folder, "--input", tmp_path / "my.npz", *check)
    assert (code, out) == (2, "")
    assert message in err and "my.npz: input 'clip'" in err
    assert not (folder / "runs").exists()
    (tmp_path / "my.npz").write_text("hello")
    assert (
        "my.npz is not an .npz archive of arrays, or it is truncated"
        in run(capsys, "run", folder, "--input", tmp_path / "my.npz")[2]
    )


def test_bad_inputs_are_refused(capsys, relu_build, tmp_path):
    folder = relu_build()
    clip = tmp_path / "clip.npz"
    for arrays, message in (
        ({"clip": np.zeros((1, 8, 2, 3, 5), np.float32)}, "[1, 8, 2, 3, 4], not [1, 8, 2, 3, 5]"),
        ({"video": np.zeros(3, np.float32)}, "no array 'clip' of shape [1, 8, 2, 3, 4]"),
        ({"clip": np.zeros((1, 8, 2, 3, 4), np.int32)}, "float32, not int32"),
        ({"clip": np.full((1, 8, 2, 3, 4), np.nan, np.float32)}, "it must be finite"),
    ):
        np.savez(clip, **arrays)
        code, _, err = run(capsys, "run", folder, "--input", clip)
        assert code == 2
        assert message in err
    for words, message in (
        (("--input", tmp_path / "no.npz"), "no input file"),
        (("--input", folder / "config.yaml"), "no kind of input that is known"),
        (("--energy", "vacuum"), "no energy table vacuum.yaml"),
        (("--config", "base"), "not for 'base'"),
        (("--trace-window", "1:5"), "--trace-window needs --on rtl"),
        (("-o", tmp_path / "nowhere" / "run.json"), "no directory"),
    ):
        code, _, err = run(capsys, "run", folder, *words)
        assert code == 2
        assert message in err
        assert not (folder / "runs").exists()
    with pytest.raises(SystemExit) as stop:
        main(["run", str(folder), "--trace-window", "5:1"])
    assert stop.value.code == 2


def rewrite(folder, change):
    path = folder / "program.bin"
    program = Program.load(path)
    dataclasses.replace(program, instructions=change(program.instructions)).save(path)


def test_core_errors_and_halt_codes_fail(capsys, relu_build):
    folder = relu_build()
    rewrite(folder, lambda c: (*c[:3], dataclasses.replace(c[3], dram=0x1000), *c[4:]))
    code, out, err = run(capsys, "run", folder)
    assert (code, out) == (1, "")
    assert "STORE_WINDOW in STORE at instruction 3" in err
    assert not (folder / "runs").exists()
    folder = relu_build()
    rewrite(folder, lambda c: (*c[:4], Halt(3)))
    code, _, err = run(capsys, "run", folder)
    assert code == 1
    assert "halted with code 3" in err


def test_check_notices_unwritten_reads(capsys, relu_build):
    folder = relu_build()
    rewrite(folder, lambda c: tuple(i for i in c if not isinstance(i, Store)))
    assert run(capsys, "run", folder)[0] == 1
    folder = relu_build()
    rewrite(folder, lambda c: (*c[:2], dataclasses.replace(c[2], source0=500), *c[3:]))
    code, _, err = run(capsys, "run", folder, "--check")
    assert code == 1
    assert "which nothing has written" in err


def test_broken_simulators_fail_in_one_line(capsys, relu_build, monkeypatch):
    class Broken:
        name = "rtl"

        def run(self, program, config, memory, options):
            raise SimulatorError("no compiler")

    monkeypatch.setattr("sim.command.make_backend", lambda name: Broken())
    folder = relu_build()
    assert run(capsys, "run", folder, "--on", "rtl") == (1, "", "error: no compiler\n")
    assert not (folder / "runs").exists()


def test_check_notices_races(capsys, relu_build):
    folder = relu_build()
    rewrite(folder, lambda c: (*c[:3], dataclasses.replace(c[3], waits=(0,) * 5), *c[4:]))
    assert run(capsys, "run", folder)[0] == 0
    code, _, err = run(capsys, "run", folder, "--check")
    assert code == 1
    assert "a race in the program: instruction 3 (STORE) does not wait for instruction 2" in err


def test_result_file_refuses_strangers(relu_build, capsys, tmp_path):
    folder = relu_build()
    assert run(capsys, "run", folder)[0] == 0
    content = json.loads((folder / RECORDED).read_text())
    path = tmp_path / "run.json"
    for change, message in (
        ({"version": 1}, "version 1, and 2 is read; run it again: python -m sim run BUILD"),
        ({"colour": "red"}, "another version of the toolkit wrote it, .*run it again"),
    ):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(ResultError, match=message):
            RunResult.load(path)
    older = folder / RECORDED
    older.write_text(json.dumps({k: v for k, v in content.items() if k != "path"}))
    again = f"'path'.*python -m sim run {folder} --on functional$"
    with pytest.raises(ResultError, match=again):
        RunResult.load(older)
    path.write_text("{")
    with pytest.raises(ResultError, match="not a result"):
        RunResult.load(path)
    with pytest.raises(ResultError, match="cannot read"):
        RunResult.load(tmp_path / "no.json")


def test_runs_of_other_inputs_lie_side_by_side(capsys, relu_build, tmp_path):
    folder = relu_build()
    np.savez(tmp_path / "my clip.npz", clip=np.full(CLIP.shape, 1, np.float32))
    np.savez(tmp_path / "b.npz", clip=np.full(CLIP.shape, 2, np.float32))
    for words in ((), ("--input", tmp_path / "my clip.npz"), ("--input", tmp_path / "b.npz")):
        assert run(capsys, "run", folder, *words)[0] == 0
    names = sorted(path.name for path in (folder / "runs").iterdir())
    assert [name[:-9] for name in names if "recorded" not in name] == [
        "functional-b",
        "functional-my_clip",
    ]
    assert "functional-recorded" in names and len(names) == 3
    values = {np.load(f / "outputs.npz")["y"].max() for f in (folder / "runs").glob("*-b-*")}
    assert values == {np.float32(100 * np.float32(0.02))}
    result = RunResult.load(next((folder / "runs").glob("*-b-*")) / "run.json")
    assert result.input["source"].endswith("b.npz") and result.input["preprocessing"] is None
    assert result.answers[0]["entries"][0]["value"] == pytest.approx(2)
    explicit = tmp_path / "mine.json"
    _, out, _ = run(capsys, "run", folder, "-o", explicit, "--json")
    assert json.loads(out)["files"] == [str(explicit), str(tmp_path / "mine.outputs.npz")]
    assert (tmp_path / "mine.outputs.npz").is_file()


def test_the_answer_is_printed(capsys, relu_build, tmp_path):
    folder = relu_build()
    value = np.zeros(CLIP.shape, np.float32)
    value[0, 3, 1, 2, 0] = 1.5
    np.save(tmp_path / "x.npy", value)
    code, out, _ = run(capsys, "run", folder, "--input", tmp_path / "x.npy", "--top", "2")
    assert code == 0
    assert "y (1×8×2×3×4; 0 … 1.5):" in out and "1.5000  0, 3, 1, 2, 0" in out
    assert "190 more equal the last of these" in out
    assert "outputs.npz" in out.splitlines()[-1]
    (tmp_path / "labels.txt").write_text("a\nb")
    code, _, err = run(capsys, "run", folder, "--labels", tmp_path / "labels.txt")
    assert code == 2 and "no output has as many classes" in err
    assert run(capsys, "run", folder, "--top", "0")[0] == 2


def test_options_of_pixels_need_to_be_complete(capsys, relu_build, tmp_path):
    folder = relu_build()
    np.save(tmp_path / "x.npy", np.zeros(CLIP.shape, np.uint8))
    words = ("run", folder, "--input", tmp_path / "x.npy")
    code, _, err = run(capsys, *words, "--stride", "2")
    assert code == 2 and "--stride needs --mean and --std too" in err
    code, _, err = run(capsys, *words, "--mean", "1", "--std", "-1")
    assert code == 2 and "std must be positive" in err
    code, out, _ = run(capsys, *words, "--mean", "0", "--std", "0.5", "--axes", "NCTHW")
    assert code == 0 and "pixels: (pixel / 255 - 0) / 0.5" in out
