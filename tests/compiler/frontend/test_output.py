"""The build folder: whenever a build is killed, the folder is the old one or the new one."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from compiler import output
from compiler.tensor import CompilerError

FILES = {output.MARK: "{}", "program.bin": "code", "golden.npz": "values"}


def write(folder: Path, generation: str) -> None:
    for name, text in FILES.items():
        (folder / name).write_text(text + generation)


def generation(folder: Path) -> str:
    """Which build a folder holds; fails where it is not all of one."""
    assert {path.name for path in folder.iterdir()} == FILES.keys()
    found = {(folder / name).read_text().removeprefix(text) for name, text in FILES.items()}
    assert len(found) == 1, found
    return found.pop()


def build(target: Path, name: str) -> None:
    with output.staging(target) as folder:
        write(folder, name)


def killed_at(line: int, target: Path, name: str) -> bool:
    """Build in a process that ends without a word at the n-th line of compiler/output.py."""
    child = os.fork()
    if child == 0:
        left = line

        def trace(frame, event, _):
            nonlocal left
            if frame.f_code.co_filename != output.__file__:
                return None
            if event == "line":
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        try:
            sys.settrace(trace)
            build(target, name)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.fixture(params=["exchanged", "renamed"])
def exchanging(request, monkeypatch):
    """Both ways to replace a folder; whether it is done in one step."""
    if request.param == "renamed":

        def cannot(first, second):
            raise OSError(errno.EINVAL, "cannot exchange")

        monkeypatch.setattr(output, "exchange", cannot)
    return request.param == "exchanged"


# Newer Pythons warn of forks beside threads; the child touches none.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_killed_build_leaves_the_old_or_the_new_one(tmp_path, exchanging):
    target = tmp_path / "my build"
    build(target, "0")
    missing = 0
    for line in range(10_000):
        before = generation(target)
        killed = killed_at(line, target, str(line + 1))
        if target.exists():
            assert generation(target) in (before, str(line + 1))
        else:
            missing += 1
            with output.staging(target):  # the next one finds what the killed one took away
                assert generation(target) == before
            build(target, before)
        if not killed:
            break
    assert line > 30 and generation(target) == str(line + 1)
    assert missing == 0 if exchanging else 0 < missing < 5
    build(target, "last")
    assert [path.name for path in tmp_path.iterdir()] == ["my build"], "leftovers are gone"


def test_folders_of_living_builds_and_of_others_stay(tmp_path):
    target = tmp_path / "net"
    others = [".net-notes", ".net.staging-", "net.staging-abcdefgh", ".net.staging-a-bcdefg"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / ".net.staging-deadbeef").mkdir()
    with output.staging(target) as first:
        with output.staging(target) as second:
            assert first.is_dir() and first != second
            write(second, "b")
        write(first, "a")
    assert generation(target) == "a"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "net"])


def test_an_error_leaves_the_old_one(tmp_path, exchanging):
    target = tmp_path / "net"
    build(target, "0")

    class StopError(Exception):
        pass

    with pytest.raises(StopError), output.staging(target) as folder:
        write(folder, "1")
        raise StopError
    assert generation(target) == "0"
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_a_link_to_a_build_stays_one(tmp_path, exchanging):
    build(tmp_path / "real", "0")
    (tmp_path / "link").symlink_to("real")
    build(tmp_path / "link", "1")
    assert (tmp_path / "link").is_symlink() and generation(tmp_path / "real") == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(CompilerError, match=r"cannot write to .*file"),
        output.staging(tmp_path / "file" / "net"),
    ):
        pass
