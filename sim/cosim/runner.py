"""Build and run cocotb regressions on the core.

cocotb sees a wrapper, not the core itself: it adds the AXI identifiers that cocotbext-axi insists
on, and only its signals are public to Verilator (public signals inside the core cost speed).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hw.arch.config import AcceleratorConfig
from sim.cosim import verilate
from sim.cosim.rtl import CACHE, TOP, verilog_file
from sim.cosim.wrapper import ports, wrapper

WRAPPER = "bench"


class RegressionError(AssertionError):
    """A cocotb test failed; names it."""


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(verilate.environment())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def build(config: AcceleratorConfig, verilog: Path | None = None) -> Path:
    """Return the folder of a cocotb model, built if it is not there yet.

    Parameters
    ----------
    config: the accelerator.
    verilog: another circuit with the core's ports.
    """
    from cocotb_tools.runner import get_runner

    source = verilog or verilog_file(config)
    text = wrapper(ports(source.read_text(), TOP), WRAPPER, TOP)
    digest = hashlib.sha256(source.read_bytes() + text.encode()).hexdigest()[:16]
    folder = CACHE / "cocotb" / f"{config.name}-{digest}"
    if (folder / WRAPPER).is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.v").write_text(text)
    (folder / "public.vlt").write_text(
        f'`verilator_config\npublic_flat_rw -module "{WRAPPER}" -var "*"\n'
    )
    with _environment():
        get_runner("verilator").build(
            sources=[folder / "public.vlt", source, folder / "bench.v"],
            hdl_toplevel=WRAPPER,
            build_dir=folder,
            build_args=["--no-public-flat-rw", "-O3", "-Wno-fatal", "-Wno-lint", "-Wno-style"],
            timescale=("1ns", "1ps"),
            log_file=folder / "build.log",
        )
    return folder


def run(
    config: AcceleratorConfig,
    module: str,
    *,
    folder: Path,
    arguments: dict[str, Any] | None = None,
    testcase: str | None = None,
    verilog: Path | None = None,
) -> int:
    """Run the cocotb tests of a Python module.

    Parameters
    ----------
    config: the accelerator.
    module: dotted name of the module with ``@cocotb.test`` functions.
    folder: where results and logs go.
    arguments: passed on as ``+name=value``, read there from ``cocotb.plusargs``.
    testcase: run only this test.
    verilog: another circuit with the core's ports.

    Returns
    -------
    Number of tests that ran.

    Raises
    ------
    RegressionError
        If a test failed or none ran.
    """
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    model = build(config, verilog)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{module.rpartition('.')[2]}.log"
    with _environment():
        try:
            results = get_runner("verilator").test(
                test_module=module,
                hdl_toplevel=WRAPPER,
                hdl_toplevel_lang="verilog",
                build_dir=model,
                test_dir=folder,
                testcase=testcase,
                plusargs=[f"+{name}={value}" for name, value in (arguments or {}).items()],
                log_file=log,
            )
        except SystemExit as stop:  # how the runner reports a failed test
            raise RegressionError(f"{module}: a test failed\n{_failures(log)}") from stop
    count, failed = get_results(results)
    if failed or not count:
        raise RegressionError(f"{failed} of {count} tests of {module} failed\n{_failures(log)}")
    return int(count)


def _failures(log: Path) -> str:
    """The lines of a log that explain a failure."""
    chatter = ("INFO ", "WARNING ", "DEBUG ")
    lines = [line for line in log.read_text().splitlines() if not any(c in line for c in chatter)]
    return "\n".join(lines[-80:])
