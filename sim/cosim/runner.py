"""Build and run cocotb regressions on the core.

cocotb sees a wrapper, not the core itself: it adds the AXI identifiers that cocotbext-axi insists
on, and only its signals are public to Verilator (public signals inside the core cost speed).
"""

from __future__ import annotations

import hashlib
import os
from importlib import metadata
from pathlib import Path
from typing import Any

from hw.arch.config import AcceleratorConfig
from sim.cosim import store, toolchain
from sim.cosim.rtl import TOP, verilog_file
from sim.cosim.wrapper import ports, wrapper

WRAPPER = "bench"
KEPT = 8
"""cocotb models kept under the cache."""
FLAGS = (
    *("--cc", "--exe", "--vpi", "--prefix", "Vtop", "-O3", "--timescale", "1ns/1ps"),
    *("-Wno-fatal", "-Wno-lint", "-Wno-style"),
)


class RegressionError(AssertionError):
    """A cocotb test failed; names it."""


def build(config: AcceleratorConfig, verilog: Path | None = None) -> Path:
    """Return the folder of a cocotb model, built if it is not there yet.

    Parameters
    ----------
    config: the accelerator.
    verilog: another circuit with the core's ports.
    """
    source = verilog or verilog_file(config)
    text = wrapper(ports(source.read_text(), TOP), WRAPPER, TOP)
    versions = f"{toolchain.versions()}cocotb {metadata.version('cocotb')}"
    digest = hashlib.sha256(source.read_bytes())
    digest.update("\0".join([text, *FLAGS, versions]).encode())

    def make(partial: Path) -> None:
        _build(source, text, partial)

    key = f"{config.name}-{digest.hexdigest()[:16]}"
    return store.entry("cocotb", key, make, kept=KEPT)


def _build(source: Path, text: str, partial: Path) -> None:
    """What cocotb's runner does, in a bench."""
    from cocotb_tools import config as cocotb

    with toolchain.bench(libraries=cocotb.libs_dir, share=cocotb.share_dir) as bench:
        model = bench / "model"
        (model / "bench.v").write_text(text)
        (model / "public.vlt").write_text(
            f'`verilator_config\npublic_flat_rw -module "{WRAPPER}" -var "*"\n'
        )
        (bench / "top.v").symlink_to(source.resolve())
        words = (
            *FLAGS,
            *("--top-module", WRAPPER, "-o", WRAPPER),
            *("-LDFLAGS", f"-L{bench}/libraries -lcocotbvpi_verilator"),
            f"{bench}/share/lib/verilator/verilator.cpp",
            *(f"{model}/public.vlt", f"{bench}/top.v", f"{model}/bench.v"),
        )
        toolchain.verilate(bench, words)
        toolchain.make(bench)
        toolchain.keep(bench, partial, WRAPPER, "bench.v")


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
    from cocotb_tools import config as cocotb
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    model = build(config, verilog)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{module.rpartition('.')[2]}.log"
    # Where the model was built is a path of no duration.
    libraries = [str(cocotb.libs_dir), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    try:
        results = get_runner("verilator").test(
            test_module=module,
            hdl_toplevel=WRAPPER,
            hdl_toplevel_lang="verilog",
            build_dir=model,
            test_dir=folder,
            testcase=testcase,
            extra_env={"LD_LIBRARY_PATH": os.pathsep.join(libraries)},
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
