"""The store of built models: the latest used stay, none that runs is removed, blanks do no harm."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hw.arch.config import AcceleratorConfig
from sim.backend import Options
from sim.cosim import rtl, runner, store, toolchain, verilate
from sim.cosim.backend import RtlBackend
from sim.cycle.backend import CycleBackend
from tests.ladder.compare import differences
from tests.ladder.control import looped

TINY = AcceleratorConfig.load("tiny_direct")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "CACHE", tmp_path)
    return tmp_path


def put(kind: Path, name: str, used: int, program: str = "/bin/true") -> Path:
    """A model that was used at a time in seconds."""
    folder = kind / name
    folder.mkdir(parents=True)
    shutil.copy(program, folder / verilate.PROGRAM)
    os.utime(folder, (used, used))
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_latest_used_stay(cache: Path) -> None:
    for i in (3, 0, 4, 1, 2):
        put(cache / "models", f"m{i}", used=1000 + i)
    store.prune("models", kept=5)
    assert len(names(cache / "models")) == 5
    store.prune("models", kept=2)
    assert names(cache / "models") == {"m3", "m4"}


@pytest.fixture
def sleeper(cache: Path) -> Iterator[Path]:
    program = shutil.which("sleep") or "/bin/sleep"
    folder = put(cache / "models", "running", used=1, program=program)
    process = subprocess.Popen([folder / verilate.PROGRAM, "60"])
    yield folder
    process.kill()
    process.wait()


def test_a_model_that_runs_stays(cache: Path, sleeper: Path) -> None:
    for i in range(3):
        put(cache / "models", f"m{i}", used=1000 + i)
    store.prune("models", kept=1, busy=verilate._runs)
    assert names(cache / "models") == {"running", "m2"}


def test_a_use_makes_an_entry_young(cache: Path) -> None:
    """It is found under its key, nothing is made, and the use is marked."""
    put(cache / "models", "wanted", used=1000)
    put(cache / "models", "other", used=2000)

    def never(partial: Path) -> None:
        raise AssertionError("it is there")

    assert store.entry("models", "wanted", never, kept=1) == cache / "models" / "wanted"
    store.prune("models", kept=1)
    assert names(cache / "models") == {"wanted"}


def test_processes_that_want_one_entry_make_it_once(cache: Path) -> None:
    """While one makes it, the others wait, and then find it."""
    made = []

    def slowly(partial: Path) -> None:
        made.append(partial.name)
        time.sleep(0.5)
        partial.write_text("text")

    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(store.entry, "texts", "wanted", slowly, kept=5) for _ in range(3)]
        assert {job.result() for job in jobs} == {cache / "texts" / "wanted"}
    assert made == ["wanted.partial"]
    assert names(cache / "texts") == {"wanted"} and names(cache / "locks") == {"texts-wanted"}


def test_what_fails_leaves_nothing(cache: Path) -> None:
    def fails(partial: Path) -> None:
        (partial / "inner").mkdir(parents=True)
        raise toolchain.BuildError("no compiler")

    with pytest.raises(toolchain.BuildError):
        store.entry("models", "wanted", fails, kept=5)
    assert names(cache / "models") == set()


KILLED = """
import os, signal, sys
from pathlib import Path
from sim.cosim import store
store.CACHE = Path(sys.argv[1])

def make(partial):
    partial.mkdir()
    (partial / "half").write_text("")
    os.kill(os.getpid(), signal.SIGKILL)

store.entry("models", sys.argv[2], make, kept=5)
"""


def test_leftovers_of_killed_processes_go(cache: Path) -> None:
    """The same entry is made anew; other leftovers go when something is made, with their locks."""

    def killed(key: str) -> None:
        process = subprocess.run([sys.executable, "-c", KILLED, cache, key], cwd=ROOT)
        assert process.returncode == -signal.SIGKILL

    def make(partial: Path) -> None:
        partial.mkdir()
        (partial / "whole").write_text("")
        with ThreadPoolExecutor(1) as pool:  # what another one makes meanwhile stays
            pool.submit(store.prune, "models", 5).result()
        assert partial.exists()

    killed("first")
    killed("second")
    assert names(cache / "models") == {"first.partial", "second.partial"}
    path = store.entry("models", "first", make, kept=5)
    assert names(path) == {"whole"} and names(cache / "models") == {"first"}
    assert names(cache / "locks") == {"models-first"}


def test_keys_change_with_content_and_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verilog = tmp_path / "core.v"
    verilog.write_text("module top; endmodule\n")

    def keys() -> tuple[str, str]:
        return verilate._key(TINY, verilog, ["-O3"]), rtl.source_key(TINY)

    before = keys()
    assert keys() == before
    monkeypatch.setattr(toolchain, "versions", lambda: "verilator 9")
    monkeypatch.setattr("hw.common.verilog.versions", lambda: "yosys 9")
    tools = keys()
    verilog.write_text("module top; endmodule \n")
    assert len({before[0], tools[0], keys()[0]}) == 3 and before[1] != tools[1]


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


def test_a_temporary_folder_with_a_blank_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a b").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a b"))
    with pytest.raises(toolchain.BuildError, match="TMPDIR"), toolchain.bench():
        pass


@pytest.fixture
def blanks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cache, sources and Verilator in paths with blanks."""
    folder = tmp_path / "my (own) projects"
    folder.mkdir()
    monkeypatch.setattr(store, "CACHE", folder / ".cache")
    shutil.copytree(verilate.NATIVE, folder / "native files")
    monkeypatch.setattr(verilate, "NATIVE", folder / "native files")
    shutil.copytree(toolchain.verilator(), folder / "veri lator")
    monkeypatch.setattr(toolchain, "verilator", lambda: folder / "veri lator")


@pytest.mark.cosim
def test_a_native_model_is_built_on_paths_with_blanks(blanks: None) -> None:
    """With a profile, as for whole networks."""
    program = looped(TINY, trips=3)
    memory = program.memory()
    circuit = RtlBackend(max_cycles=100_000).run(program, TINY, memory, Options())
    assert differences(circuit, CycleBackend().run(program, TINY, memory, Options())) == []


@pytest.mark.large
def test_a_cocotb_model_is_built_on_paths_with_blanks(blanks: None, tmp_path: Path) -> None:
    folder = tmp_path / "results of it"
    assert runner.run(TINY, "tests.cosim.bench_blanks", folder=folder) == 1
