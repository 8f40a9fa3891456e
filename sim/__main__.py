"""Command line: run a build on a simulator or on a board.

    python -m sim run build/fsb_c3d --on functional|cycle|rtl|soc [--input clip.mp4] [--check]
    python -m sim run build/fsb_c3d --on board --port /dev/ttyUSB0

Exit code 0: ran, and equal where compared. 1: a difference, or the core stopped with an error.
2: the input cannot be run.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw.arch.boards import BOARDS
from shell import leave
from sim import pixels
from sim.answers import TOP, read_labels
from sim.backend import Backend
from sim.backends import BACKENDS
from sim.build import Build
from sim.command import RESULT, Ran, RanEach, run, run_each
from sim.energy import EnergyError
from sim.errors import InputError, SimulatorError
from sim.folders import parts
from sim.functional.errors import MachineError
from sim.functional.hazards import HazardError
from sim.inputs import given
from sim.memory_image import settings, write_image
from sim.result import RunResult
from sim.steps import Stepping


def _window(text: str) -> tuple[int, int]:
    first, separator, last = text.partition(":")
    try:
        window = int(first), int(last)
    except ValueError:
        window = (0, -1)
    if not separator or not 0 <= window[0] <= window[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is not a window of cycles FIRST:LAST")
    return window


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count of steps, at least 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sim", description="Run compiled networks.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a build directory", description=__doc__)
    run.formatter_class = argparse.RawDescriptionHelpFormatter
    run.add_argument("build", type=Path, help="directory that the compiler wrote")
    run.add_argument(
        "--on",
        choices=(*BACKENDS, "board"),
        default="functional",
        help="simulator (soc: the whole board's SoC, over its serial line), or a board",
    )
    run.add_argument("--port", metavar="DEVICE", help="board: its serial port, as /dev/ttyUSB0")
    run.add_argument(
        "--board",
        type=Path,
        metavar="FOLDER",
        help="board: folder that `hw bitstream` wrote; default: build/bitstreams/ulx3s_85f",
    )
    run.add_argument(
        "--memory",
        choices=sorted(BOARDS),
        help="cycle: memory of a board, a prediction; default: that of the RTL simulation",
    )
    run.add_argument(
        "--input",
        type=Path,
        help=".npz (NAME or input:NAME for each input), .npy, an image, a video or a folder of "
        "images (a clip, or a run for each where the network takes single images); default: the "
        "recorded input",
    )
    stepwise = run.add_argument_group("step by step")
    stepwise.add_argument(
        "--steps",
        type=_count,
        metavar="N",
        help="run N times, states stay in DRAM; the input holds `steps:input:NAME` [N, ...]",
    )
    stepwise.add_argument(
        "--state",
        type=Path,
        metavar="FILE.npz",
        help="states by input name: read before the first step if it is there, written at the end",
    )
    stepwise.add_argument(
        "--reset-state",
        type=_count,
        nargs="?",
        const=0,
        metavar="K",
        help="begin with the initial states, whatever was given; K: again before every K-th step",
    )
    run.add_argument("--check", action="store_true", help="compare with the PyTorch reference")
    run.add_argument("--config", help="configuration instead of the build's (must be the same)")
    run.add_argument("--energy", default="asic_45nm", help="energy table, a name or a file")
    run.add_argument("--trace-window", type=_window, help="rtl: waveform of cycles FIRST:LAST")
    run.add_argument("--json", action="store_true", help="print one JSON object")
    run.add_argument(
        "-o", "--output", type=Path, help="result; default: BUILD/runs/BACKEND-INPUT/run.json"
    )
    answer = run.add_argument_group("the answer")
    answer.add_argument("--labels", type=Path, help="names of classes: a line each, or JSON")
    answer.add_argument("--top", type=int, default=TOP, help=f"values to print; default: {TOP}")
    answer.add_argument(
        "--float", type=Path, metavar="FILE.onnx", help="the float model: tell how far it is"
    )
    answer.add_argument(
        "--outputs",
        type=Path,
        metavar="FILE.npz",
        help="every output of the graph: NAME as the file types it, and NAME:scale; default: "
        "outputs.npz beside the result",
    )
    pixels.add_arguments(run)
    image = commands.add_parser(
        "image", help="write a program's DRAM as a raw file, and print its registers"
    )
    image.add_argument("build", type=Path, help="directory that the compiler wrote")
    image.add_argument("--input", type=Path, help="as for run; default: the recorded input")
    image.add_argument("-o", "--output", type=Path, required=True, help="file to write")
    return parser


def _image(arguments: argparse.Namespace) -> int:
    build = Build.load(arguments.build)
    size = write_image(build, given(build, arguments.input, None, False).arrays, arguments.output)
    print(f"{arguments.output}: {size:,} bytes, from DRAM_BASE on")
    print(f"FINGERPRINT    {build.config.fingerprint:#018x}")
    for register, value in settings(build).items():
        print(f"{register.name:<14} {value:#010x}")
    return 0


def _steps(result: RunResult) -> str:
    """A line about all steps."""
    text = f"{len(result.steps)} steps"
    cycles = [step.cycles for step in result.steps if step.cycles is not None]
    if cycles:
        text += f": {sum(cycles):,} cycles, {min(cycles):,} to {max(cycles):,} in a step"
    return text


def _describe(ran: Ran) -> str:
    """A few lines for people."""
    result = ran.result
    lines = [f"{result.network} on {result.config} ({result.backend}), {result.wall_s:.1f} s"]
    lines += [f"input {name}: {note}" for name, note in ran.given.notes.items()]
    if result.cycles is not None:
        rate = result.mac_per_multiplier_cycle or 0.0
        lines.append(
            f"{result.cycles:,} cycles, {rate:.3f} MAC per multiplier and cycle, roofline "
            f"{result.roofline_cycles:,} cycles"
        )
    board = BOARDS.get(result.backend.removeprefix("cycle-"))
    if result.cycles is not None and board is not None:
        seconds = result.cycles / board.clock_hz
        lines.append(
            f"{1e3 * seconds:,.2f} ms at {board.clock_hz / 1e6:g} MHz, a prediction: the memory of "
            f"{board.title} is modelled"
        )
    if result.steps:
        lines[-1] += " in the last step" if result.cycles is not None else ""
        lines.append(_steps(result))
    if result.trips:
        ways = collections.Counter(trip.path for trip in result.trips)
        shown = [f"{n} × {', '.join(_arms(way)) or 'straight on'}" for way, n in ways.items()]
        lines.append(f"{len(result.trips)} trips: {'; '.join(shown)}")
    elif result.path:
        lines.append(
            f"path{' of the last step' if result.steps else ''}: {' → '.join(result.path)}"
        )
    lines.append(f"{result.dram_bytes / 1e6:,.1f} MB over the memory port")
    if result.energy_j is not None:
        lines.append(f"{1e3 * result.energy_j:,.2f} mJ ({result.energy_table})")
    if result.equal is None:
        lines.append("not compared: another input than the recorded one, and no --check")
    lines += _outcome(ran)
    lines += [f"wrote {path}" for path in ran.files]
    return "\n".join(lines)


def _outcome(ran: Ran) -> list[str]:
    """What the network said, and how that compares."""
    result = ran.result
    lines = []
    if result.equal:
        source = "reference" if result.checked else "recorded run"
        lines.append(f"equal to the {source}: {result.tensors_compared} tensors")
    for answer in ran.answers:
        lines += answer.lines()
    return [*lines, *map(str, ran.distances)]


def _stepping(arguments: argparse.Namespace) -> Stepping | None:
    """Consecutive runs, if the user asks for them or for what only they have."""
    if (arguments.steps, arguments.state, arguments.reset_state) == (None, None, None):
        return None
    return Stepping(arguments.steps or 1, arguments.state, arguments.reset_state)


def _backend(arguments: argparse.Namespace) -> Backend | None:
    """What a name alone does not say: a board, or the cycle model with the memory of one.

    Raises
    ------
    InputError
        If a board has no port, or something else has one.
    """
    if arguments.memory is not None:
        if arguments.on != "cycle":
            raise InputError("--memory needs --on cycle")
        from sim.cycle.backend import CycleBackend

        return CycleBackend(BOARDS[arguments.memory])
    if arguments.on != "board":
        if arguments.port is not None or arguments.board is not None:
            raise InputError("--port and --board need --on board")
        return None
    if arguments.port is None:
        raise InputError("--on board needs --port: the serial port of the board")
    from sim.board.backend import DEFAULT_FOLDER, BoardBackend

    return BoardBackend(arguments.port, arguments.board or DEFAULT_FOLDER)


def _options(arguments: argparse.Namespace, build: Build) -> dict[str, Any]:
    """Arguments that a run of an input and one of a folder's images have in common."""
    return {
        "preprocessing": pixels.chosen(arguments, build),
        "codes": arguments.codes,
        "check": arguments.check,
        "labels": read_labels(arguments.labels) if arguments.labels else (),
        "top": arguments.top,
        "float_model": arguments.float,
        "energy": arguments.energy,
        "trace_window": arguments.trace_window,
        "progress": sys.stderr.isatty(),
        "backend": _backend(arguments),
        "say": lambda line: print(line, file=sys.stderr, flush=True),
    }


def _name(arguments: argparse.Namespace, options: dict[str, Any]) -> str:
    """Of the simulator, for the folder of the result."""
    backend: Backend | None = options["backend"]
    return arguments.on if backend is None else backend.name


def _run(arguments: argparse.Namespace) -> int:
    if arguments.top < 1:
        raise InputError(f"--top must be at least 1, not {arguments.top}")
    build = Build.load(arguments.build, arguments.config)
    options = _options(arguments, build)
    stepping = _stepping(arguments)
    if arguments.input is not None and stepping is None:
        each = _run_each(arguments, build, options)
        if each is not None:
            return max(_code(ran) for ran in each.runs.values())
    ran = run(
        build,
        _name(arguments, options),
        arguments.input,
        output=arguments.output,
        outputs=arguments.outputs,
        stepping=stepping,
        **options,
    )
    if arguments.json:
        print(json.dumps(_summary(ran)))
    else:
        print(_describe(ran))
    _complain(ran)
    return _code(ran)


def _run_each(
    arguments: argparse.Namespace, build: Build, options: dict[str, Any]
) -> RanEach | None:
    """A run for each image of a folder, if the network takes fewer at once; else None."""

    def show(name: str, ran: Ran) -> None:
        cycles = ran.result.cycles
        head = name if cycles is None else f"{name}, {cycles:,} cycles"
        if not arguments.json:
            print("\n".join([head, *(f"  {line}" for line in _outcome(ran))]), flush=True)
        _complain(ran, f"{name}: ")

    if arguments.output or arguments.outputs:
        if parts(build, arguments.input, options["preprocessing"]):
            raise InputError("-o and --outputs are of a single run, not of every image of a folder")
        return None
    each = run_each(build, _name(arguments, options), arguments.input, done=show, **options)
    if each is None:
        return None
    if arguments.json:
        runs = {name: _summary(ran) for name, ran in each.runs.items()}
        print(json.dumps({"runs": runs, "table": str(each.table)}))
    else:
        wall = sum(ran.result.wall_s for ran in each.runs.values())
        print(f"{len(each.runs)} runs on {build.config.name} ({arguments.on}), {wall:.1f} s")
        print(f"wrote {each.folder}/*/{RESULT}")
        print(f"wrote {each.table}")
    return each


def _arms(way: Sequence[str]) -> list[str]:
    """The arms of a path, without the blocks between them."""
    return [name for name in way if name.endswith((": then", ": else"))]


def _summary(ran: Ran) -> dict[str, Any]:
    """For --json."""
    return {**ran.result.summary(), "files": [str(path) for path in ran.files]}


def _complain(ran: Ran, of: str = "") -> None:
    result = ran.result
    if result.first_difference is not None:
        print(f"error: {of}{result.first_difference}", file=sys.stderr)
    if result.halt_code:
        print(f"error: {of}the program halted with code {result.halt_code}", file=sys.stderr)


def _code(ran: Ran) -> int:
    return 0 if ran.result.equal is not False and ran.result.halt_code == 0 else 1


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = _parser().parse_args(words)
    try:
        return {"run": _run, "image": _image}[arguments.command](arguments)
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
    leave(main)
