"""Every command ends quietly when its reader has gone, and with its exit code otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from shell import CLOSED_PIPE, INTERRUPTED, leave
from tests.marks import large

ROOT = Path(__file__).parents[2]
LONG = (
    "models list",
    "compiler build --help",
    "sim run --help",
    "reports --help",
    "hw synth --help",
    "hw config base",
    "fuzz --help",
    "proof.operators --help",
)


@pytest.mark.parametrize("words", [LONG[0], *map(large, LONG[1:])])
def test_a_closed_pipe_is_no_traceback(words):
    """The reader is gone before anything is written."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
        env={
            **os.environ,
            "PYTHONUNBUFFERED": "",
        },  # argparse hides what an unbuffered write raises
    )
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == CLOSED_PIPE
    assert errors == ""


def code(main):
    with pytest.raises(SystemExit) as left, warnings.catch_warnings():
        leave(main)
    return left.value.code


def test_exit_codes(capsys):
    def interrupted():
        raise KeyboardInterrupt

    def arguments():
        raise SystemExit(2)

    assert [code(lambda: 0), code(lambda: 1), code(arguments)] == [0, 1, 2]
    assert code(interrupted) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"
    with pytest.raises(ZeroDivisionError), warnings.catch_warnings():
        leave(lambda: 1 // 0)
