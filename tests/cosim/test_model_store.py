"""The store of built models: the latest used stay, none that runs is removed."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hw.arch.config import AcceleratorConfig
from sim.cosim import rtl, verilate

TINY = AcceleratorConfig.load("tiny")


def put(store: Path, name: str, used: int, program: str = "/bin/true") -> Path:
    """A model that was used at a time in seconds."""
    folder = store / name
    folder.mkdir()
    shutil.copy(program, folder / verilate.PROGRAM)
    os.utime(folder, (used, used))
    return folder


def names(store: Path) -> set[str]:
    return {path.name for path in store.iterdir()}


def test_the_latest_used_stay(tmp_path: Path) -> None:
    for i in (3, 0, 4, 1, 2):
        put(tmp_path, f"m{i}", used=1000 + i)
    put(tmp_path, "m9.77.partial", used=5)
    (tmp_path / "notes").mkdir()
    verilate.prune(tmp_path, kept=5)
    assert len(names(tmp_path)) == 7
    verilate.prune(tmp_path, kept=2)
    assert names(tmp_path) == {"m3", "m4", "m9.77.partial", "notes"}


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Path]:
    folder = put(tmp_path, "running", used=1, program=shutil.which("sleep") or "/bin/sleep")
    process = subprocess.Popen([folder / verilate.PROGRAM, "60"])
    yield folder
    process.kill()
    process.wait()


def test_a_model_that_runs_stays(tmp_path: Path, sleeper: Path) -> None:
    for i in range(3):
        put(tmp_path, f"m{i}", used=1000 + i)
    verilate.prune(tmp_path, kept=1)
    assert names(tmp_path) == {"running", "m2"}


def test_a_use_makes_a_model_young(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`build` finds its model under the key, runs no tool, and marks the use."""
    verilog = tmp_path / "core.v"
    verilog.write_text("module top; endmodule\n")
    store = tmp_path / "verilator"
    store.mkdir()
    monkeypatch.setattr(rtl, "CACHE", tmp_path)
    monkeypatch.setattr(verilate, "CACHE", tmp_path)
    monkeypatch.setattr(verilate, "_key", lambda *_: "wanted")
    put(store, "wanted", used=1000)
    put(store, "other", used=2000)
    assert verilate.build(TINY, verilog=verilog) == store / "wanted" / verilate.PROGRAM
    verilate.prune(store, kept=1)
    assert names(store) == {"wanted"}


def test_processes_that_want_one_model_build_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one builds, the others wait, and then find the model."""
    verilog = tmp_path / "core.v"
    verilog.write_text("module top; endmodule\n")
    builds = []

    def slow_build(config, verilog, flags, defines, folder: Path, training) -> None:
        builds.append(folder.name)
        time.sleep(0.5)
        put(folder.parent, folder.name, used=1000)

    monkeypatch.setattr(rtl, "CACHE", tmp_path)
    monkeypatch.setattr(verilate, "CACHE", tmp_path)
    monkeypatch.setattr(verilate, "_key", lambda *_: "wanted")
    monkeypatch.setattr(verilate, "_build", slow_build)
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(verilate.build, TINY, verilog=verilog) for _ in range(3)]
        programs = {job.result() for job in jobs}
    assert programs == {tmp_path / "verilator" / "wanted" / verilate.PROGRAM}
    assert builds == ["wanted"]


def test_what_counted_is_compiled_again(tmp_path: Path) -> None:
    """After a training, objects with counts go, and what was made from them; others stay."""
    for name in ("main.o", "main.gcda", "lib.o", "all.a", "header.gch", verilate.PROGRAM):
        (tmp_path / name).write_text("")
    verilate._forget_counting(tmp_path)
    assert names(tmp_path) == {"main.gcda", "lib.o"}


def test_a_training_that_ran_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "main.o").write_text("")
    with pytest.raises(verilate.BuildError, match="left no counts"):
        verilate._forget_counting(tmp_path)
