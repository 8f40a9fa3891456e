"""Command line: ``python -m compiler build|check``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from compiler import golden
from compiler.check import check
from compiler.pipeline import PART, Built
from compiler.policy import AUTO, NAMES, OBJECTIVES, REUSE, SHARING
from compiler.tensor import CompilerError
from hw.arch.boards import BOARDS
from hw.arch.config import AcceleratorConfig, ConfigError
from shell import leave


def _pair(text: str) -> tuple[str, str]:
    name, separator, output = text.partition("=")
    if not (name and separator and output):
        raise argparse.ArgumentTypeError(f"{text!r} is no pair INPUT=OUTPUT")
    return name, output


def _address(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no address, as 0x1000") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m compiler",
        description="Compile quantized ONNX files for the accelerator.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser(
        "build",
        help="compile a file into a build folder",
        epilog="Exit code: 0 built, 2 the file or a setting is at fault (nothing is written).",
    )
    builder.add_argument("-o", "--output", type=Path, help="build folder (default: build/<name>)")
    builder.add_argument("--fuse", choices=("on", "off"), default="on", help="join operators")
    builder.add_argument(
        "--hfa",
        default=AUTO,
        metavar="off|auto|F(...)",
        help="transformed layers: none, where they win, or this algorithm wherever it can be: "
        + ", ".join(NAMES),
    )
    builder.add_argument(
        "--objective",
        default=OBJECTIVES[0],
        metavar="|".join(OBJECTIVES),
        help="what --hfa auto minimizes (default: cycles)",
    )
    builder.add_argument(
        "--golden",
        choices=golden.MODES,
        help="what is recorded beside the file: must be equal (default), may differ by a step "
        "(counts are reported), is taken as it is (default with --no-verify), or is not opened",
    )
    builder.add_argument(
        "--no-golden",
        dest="golden",
        action="store_const",
        const=golden.OFF,
        help="--golden off: a recording is not even opened",
    )
    builder.add_argument(
        "--record",
        type=Path,
        metavar="INPUT",
        help="record this input (.npz, .npy, image, video, folder) and the oracle's outputs in the "
        "build, in place of what lies beside the file",
    )
    builder.add_argument(
        "--dram-base",
        type=_address,
        default=0,
        metavar="ADDRESS",
        help="where the program's DRAM begins in the memory map, a multiple of 4 KiB (default: 0)",
    )
    builder.add_argument(
        "--dram",
        choices=SHARING,
        default=REUSE,
        help="tensors in DRAM: share memory if they are not needed at once, or all stay there "
        "after a run, for debugging",
    )
    builder.add_argument(
        "--memory",
        choices=sorted(BOARDS),
        help="plan for the memory of this board (default: what the configuration's port.rate and "
        "port.gap expect); the program runs with any",
    )
    builder.add_argument(
        "--no-verify",
        action="store_true",
        help="publish the build without the proof that it computes what the file says, and "
        "without comparing what is recorded beside it",
    )
    checker = commands.add_parser(
        "check",
        help="say what is supported, what is not, and why, per node",
        epilog="Exit code: 0 all supported, 1 not all, 2 the file cannot be read.",
    )
    for command in (builder, checker):
        command.add_argument("onnx", type=Path, help="quantized ONNX file")
        command.add_argument(
            "--config", default="base", help="configuration: a preset's name or a YAML file"
        )
        command.add_argument(
            "--state",
            action="append",
            default=[],
            type=_pair,
            metavar="INPUT=OUTPUT",
            help="an output that is the next run's input, beside those that the file declares "
            "(model property state:INPUT); may stand several times",
        )
        command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser


def _build(args: argparse.Namespace) -> int:
    # The proof knows the simulator and the oracle, which the compiler does not.
    from proof.build import build

    target = args.output or Path("build") / args.onnx.stem
    with tqdm(desc=f"build {args.onnx.stem}", leave=False, disable=None) as bar:

        def advance(step: str, total: int) -> None:
            bar.set_postfix_str(step)
            if total != PART:
                bar.total = total or None
                bar.update()

        built = build(
            args.onnx,
            args.config,
            target,
            fuse=args.fuse == "on",
            hfa=args.hfa,
            objective=args.objective,
            golden=args.golden,
            record=args.record,
            states=_states(args),
            verify=not args.no_verify,
            dram_base=args.dram_base,
            dram=args.dram,
            memory=args.memory,
            progress=advance,
        )
    if args.json:
        print(json.dumps(dataclasses.asdict(built)))
    else:
        print(
            f"{target}: {built.instructions:,} instructions, {built.weight_bytes:,} bytes of "
            f"weights, {_cycles(built)}; golden {built.golden}; "
            f"{_proven(built.proof)}; {built.wall_s:.1f} s"
        )
        for name, (elements, count) in built.golden_differences.items():
            print(f"{name}: {count} of {elements} elements differ from the recording by a step")
        if built.removed:
            print(f"gone with the build that was there: the runs {', '.join(built.removed)}")
    return 0


def _states(args: argparse.Namespace) -> dict[str, str]:
    """States that the user names, each input once."""
    for name, count in Counter(name for name, _ in args.state).items():
        if count > 1:
            raise CompilerError(f"--state {name}=... stands there {count} times")
    return dict(args.state)


def _cycles(built: Built) -> str:
    """Of the run that the proof made, where there is one."""
    if built.proof is None:
        return f"about {built.cycles_estimated:,} cycles"
    return f"{built.proof['cycles']:,} cycles by the cycle model"


def _proven(proof: Mapping[str, Any] | None) -> str:
    """What was proven, for people."""
    if proof is None:
        return "not proven"
    return (
        f"proven: {proof['tensors']} tensors equal to the oracle, "
        f"{sum(f['operators'] for f in proof['forms'].values())} operators as the file writes them"
    )


def _check(args: argparse.Namespace) -> int:
    config = AcceleratorConfig.load(args.config)
    report = check(args.onnx, config, states=_states(args))
    if args.json:
        print(json.dumps(report.as_json()))
    else:
        print("\n".join(report.lines))
    return 1 if report.unsupported else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    args = _parser().parse_args(arguments)
    try:
        return _build(args) if args.command == "build" else _check(args)
    except (CompilerError, ConfigError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    leave(main)
