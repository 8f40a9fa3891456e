"""Command line: run a build on the functional, the cycle or the RTL simulator.

    python -m sim run build/fsb_c3d --on functional|cycle|rtl [--input clip.npz|clip.mp4] [--check]

Exit code 0: ran, and equal where compared. 1: a difference, or the core stopped with an error.
2: the input cannot be run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hw.arch.arrays import write_arrays
from sim.backend import Options
from sim.backends import BACKENDS, make_backend
from sim.build import Arrays, Build
from sim.energy import EnergyError, EnergyTable
from sim.errors import InputError, SimulatorError
from sim.functional.errors import MachineError
from sim.functional.hazards import HazardError
from sim.result import RunResult
from sim.run import run_build


def _window(text: str) -> tuple[int, int]:
    first, separator, last = text.partition(":")
    try:
        window = int(first), int(last)
    except ValueError:
        window = (0, -1)
    if not separator or not 0 <= window[0] <= window[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is not a window of cycles FIRST:LAST")
    return window


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sim", description="Run compiled networks.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a build directory", description=__doc__)
    run.formatter_class = argparse.RawDescriptionHelpFormatter
    run.add_argument("build", type=Path, help="directory that the compiler wrote")
    run.add_argument("--on", choices=BACKENDS, default="functional", help="simulator")
    run.add_argument("--input", type=Path, help="clip.npz or a video; default: the recorded input")
    run.add_argument("--check", action="store_true", help="compare with the PyTorch reference")
    run.add_argument("--config", help="configuration instead of the build's (must be the same)")
    run.add_argument("--energy", default="asic_45nm", help="energy table, a name or a file")
    run.add_argument("--trace-window", type=_window, help="rtl: waveform of cycles FIRST:LAST")
    run.add_argument("--json", action="store_true", help="print one JSON object")
    run.add_argument("-o", "--output", type=Path, help="result; default: BUILD/run.json")
    run.add_argument(
        "--outputs",
        type=Path,
        metavar="FILE.npz",
        help="write every output of the graph: NAME as the file types it, and NAME:scale",
    )
    return parser


def _describe(result: RunResult) -> str:
    """A few lines for people."""
    lines = [f"{result.network} on {result.config} ({result.backend}), {result.wall_s:.1f} s"]
    if result.cycles is not None:
        rate = result.mac_per_multiplier_cycle or 0.0
        lines.append(
            f"{result.cycles:,} cycles, {rate:.3f} MAC per multiplier and cycle, roofline "
            f"{result.roofline_cycles:,} cycles"
        )
    lines.append(f"{result.dram_bytes / 1e6:,.1f} MB over the memory port")
    if result.energy_j is not None:
        lines.append(f"{1e3 * result.energy_j:,.2f} mJ ({result.energy_table})")
    if result.equal is None:
        lines.append("not compared: another input than the recorded one, and no --check")
    elif result.equal:
        source = "reference" if result.checked else "recorded run"
        lines.append(f"equal to the {source}: {result.tensors_compared} tensors")
    return "\n".join(lines)


def _save_outputs(path: Path, build: Build, outputs: Arrays) -> None:
    """Every output by the graph's name, and the step of its quantization."""
    arrays = dict(outputs)
    for port in build.program.outputs:
        key = f"{port.name}:scale"
        if key in outputs:
            raise InputError(f"the graph has an output {key!r}, so {port.name!r} has no scale key")
        arrays[key] = np.asarray(build.program.tensor(port.tensor).scale, np.float32)
    try:
        write_arrays(path, arrays)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def _run(arguments: argparse.Namespace) -> int:
    build = Build.load(arguments.build, arguments.config)
    table = EnergyTable.load(arguments.energy)
    output: Path = arguments.output or arguments.build / "run.json"
    if not output.parent.is_dir():
        raise InputError(f"no directory {output.parent} for the result")
    if arguments.trace_window and arguments.on != "rtl":
        raise InputError("--trace-window needs --on rtl: other simulators have no waveform")
    options = Options(
        progress=sys.stderr.isatty(),
        check_reads=arguments.check,
        trace_window=arguments.trace_window,
        trace_file=output.with_suffix(".vcd") if arguments.trace_window else None,
    )
    inputs = build.inputs(arguments.input)
    done = run_build(build, make_backend(arguments.on), inputs, options, table, arguments.check)
    result = done.result
    result.save(output)
    if arguments.outputs is not None:
        _save_outputs(arguments.outputs, build, done.outputs)
    if arguments.json:
        print(json.dumps(result.summary()))
    else:
        print(_describe(result))
    if result.first_difference is not None:
        print(f"error: {result.first_difference}", file=sys.stderr)
    if result.halt_code:
        print(f"error: the program halted with code {result.halt_code}", file=sys.stderr)
    return 0 if result.equal is not False and result.halt_code == 0 else 1


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = _parser().parse_args(words)
    try:
        return _run(arguments)
    except (InputError, EnergyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except MachineError as error:
        print(f"error: the core stopped: {error}", file=sys.stderr)
        return 1
    except SimulatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except HazardError as error:
        print(f"error: a race in the program: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
