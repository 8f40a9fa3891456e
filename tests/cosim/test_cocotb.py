"""The core under cocotb: jobs under random stalls, every error, abort, the register port."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw.arch.config import AcceleratorConfig
from sim.cosim import runner

pytestmark = pytest.mark.cosim


def test_jobs(tmp_path: Path) -> None:
    assert runner.run(CONFIG, "tests.cosim.bench_jobs", folder=tmp_path) >= 6


def test_errors(tmp_path: Path) -> None:
    assert runner.run(CONFIG, "tests.cosim.bench_errors", folder=tmp_path) >= 5


def test_a_wrong_byte_fails(tmp_path: Path) -> None:
    with pytest.raises(runner.RegressionError, match="bytes differ"):
        runner.run(
            CONFIG,
            "tests.cosim.bench_jobs",
            folder=tmp_path,
            testcase="corrupted_memory_is_seen",
            arguments={"corrupt": 1},
        )


CONFIG = AcceleratorConfig.load("tiny")
