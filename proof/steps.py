"""Commands of the product as steps of a longer proof, run in this process or in several."""

from __future__ import annotations

import importlib
import io
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import torch


class StepError(Exception):
    """A command that failed: what it said."""


def command(package: str, *words: str) -> dict[str, Any]:
    """The object that `python -m package words --json` prints, run in this process.

    A network at tiny takes seconds; loading PyTorch and ONNX Runtime anew for each of its four
    commands would take more.

    Raises
    ------
    StepError
        The command failed; with its last words.
    """
    code, out, err = _ran(package, *words)
    if code:
        raise StepError(_last(err, out))
    content: dict[str, Any] = json.loads(out)
    return content


def refused(source: str, config: str) -> bool:
    """Whether `compiler check` refuses a file.

    Raises
    ------
    StepError
        It could not say; with its last words.
    """
    code, out, err = _ran("compiler", "check", source, "--config", config)
    if code and not out.strip():
        raise StepError(_last(err))
    return bool(code)


def _ran(package: str, *words: str) -> tuple[int, str, str]:
    """Exit code and what was printed on both streams."""
    main = importlib.import_module(f"{package}.__main__").main
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*words, "--json"])
    return code, out.getvalue(), err.getvalue()


def _last(*streams: str) -> str:
    said = next((text for text in map(str.strip, streams) if text), "nothing")
    return said.splitlines()[-1][-300:]


def workers(jobs: int) -> ProcessPoolExecutor:
    """Processes for steps side by side, each with one thread: more would wait for one another."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, context, torch.set_num_threads, (1,))
