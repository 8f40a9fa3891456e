"""Command line: ``python -m models list|export|cells|cut|stats|ortcheck|run|table``."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from tqdm import tqdm

from models.errors import ModelsError
from shell import leave

if TYPE_CHECKING:
    from models.reference import Reference


def _bar(total: int, what: str) -> tuple[tqdm, Callable[[Any], None]]:
    """Progress bar on standard error, and a function that advances it before each step."""
    bar = tqdm(total=total, desc=what, file=sys.stderr, leave=False, disable=None)

    def advance(step: Any) -> None:
        bar.set_postfix_str(step if isinstance(step, str) else step.op)
        bar.update()

    return bar, advance


def _print(args: argparse.Namespace, report: dict[str, Any], text: str) -> None:
    """One JSON object, or text for people."""
    print(json.dumps(report) if args.json else text)


def _list(args: argparse.Namespace) -> None:
    from models.network import SIZES
    from models.registry import ENTRIES

    rows: list[dict[str, Any]] = [
        {
            "network": name,
            "description": entry.description,
            "sizes": {
                size: {each.name: list(each.shape) for each in entry.config(size).signature.inputs}
                for size in SIZES
            },
            "options": {
                option.key: list(option.values)
                for option in entry.options
                if args.size in option.sizes
            },
            "variants": entry.variants(args.size),
            "weights": entry.weights,
        }
        for name, entry in ENTRIES.items()
    ]
    lines = []
    for row in rows:
        lines.append(f"{row['network']:18} {row['description']}")
        for size, inputs in row["sizes"].items():
            shapes = ", ".join(f"{n} {'×'.join(map(str, s))}" for n, s in inputs.items())
            lines.append(f"{'':18}   {size}: {shapes}")
        lines += [f"{'':18}   {key}={'|'.join(v)}" for key, v in row["options"].items()]
    _print(args, {"networks": rows}, "\n".join(lines))


def _export(args: argparse.Namespace) -> None:
    from models.export import STEPS, config_of, export

    # Complain before the progress bar starts.
    config_of(args.network, args.size, args.variant, args.frames)
    target = args.output or Path(f"{args.network}.onnx")
    bar, advance = _bar(len(STEPS), f"export {args.network}")
    with bar:
        done = export(
            args.network,
            target,
            args.size,
            args.frames,
            args.seed,
            args.video,
            advance,
            args.variant,
            args.weights,
        )
    report = {
        "network": args.network,
        "size": args.size,
        "variant": args.variant,
        "seed": args.seed,
        "onnx": str(done.onnx),
        "npz": str(done.npz),
        "onnx_bytes": done.onnx.stat().st_size,
        "sha256": done.sha256,
        "recorded_by": done.recorded_by,
        "drawn": list(done.drawn),
        "wall_s": round(done.seconds, 3),
    }
    text = f"{done.onnx} ({report['onnx_bytes']} bytes) and {done.npz.name} in {done.seconds:.1f} s"
    if done.recorded_by != "oracle":
        text += (
            f"\n{done.npz.name} is recorded by ONNX Runtime: the integer reference has no "
            "definition of an operator of this file"
        )
    if done.drawn:
        text += f"\n{args.weights} does not hold {', '.join(done.drawn)}: drawn from the seed"
    _print(args, report, text)


def _feeds(
    path: Path, source: Path | None, names: list[str], shape: list[int | None]
) -> dict[str, np.ndarray]:
    """Inputs of a network: its own .npz, another one, or a video.

    In an archive an input goes by ``input:NAME`` or ``NAME``, as everywhere in this toolkit.
    """
    source = source or path.with_suffix(".npz")
    if source.suffix != ".npz":
        return {names[0]: _clip(path, source, names, shape)}
    if not source.is_file():
        raise ModelsError(f"no recorded input {source}; give one with --input")
    try:
        arrays = np.load(source)
        keys = {name: f"input:{name}" if f"input:{name}" in arrays else name for name in names}
        return {name: arrays[key] for name, key in keys.items()}
    except (KeyError, OSError, ValueError) as error:
        raise ModelsError(f"{source} does not hold the inputs {names}: {error}") from error


def _clip(path: Path, source: Path, names: list[str], shape: list[int | None]) -> np.ndarray:
    """A video as a network's only input, its pixels made numbers as the file beside it says."""
    from models.media import pictures
    from models.preprocessing import Preprocessing, beside

    size = [n for n in shape[2:] if n is not None]
    if len(names) != 1 or len(shape) != 5 or len(size) != 3:
        raise ModelsError(f"{path} takes no clip of one size; give its inputs as .npz")
    how = Preprocessing.load(beside(path))
    found = pictures(source, size[0], size[1], size[2], 3, how)
    return how.apply(found.pixels).transpose(3, 0, 1, 2)[None]


def _open(args: argparse.Namespace) -> "tuple[Reference, dict[str, np.ndarray]]":
    """Load the reference and its inputs."""
    from models.reference import Reference

    reference = Reference(args.file)
    name = reference.input_names[0] if reference.input_names else ""
    feeds = _feeds(args.file, args.input, reference.input_names, reference.input_shape(name))
    return reference, feeds


def _stats(args: argparse.Namespace) -> None:
    from models.stats import network_stats, render

    reference, feeds = _open(args)
    bar, advance = _bar(len(reference.groups), "reference")
    with bar:
        tensors = reference.run(feeds, progress=advance)
    rows = network_stats(reference.groups, tensors)
    _print(args, {"file": str(args.file), "tensors": rows}, render(rows))


def _named(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{prefix}:{name}": array for name, array in arrays.items()}


def _run(args: argparse.Namespace) -> None:
    reference, feeds = _open(args)
    start = time.perf_counter()
    bar, advance = _bar(len(reference.groups), "reference")
    keep = None if args.all else [*reference.output_names, *reference.integer_outputs()]
    with bar:
        tensors = reference.run(feeds, keep, advance)
    wall = time.perf_counter() - start
    if args.output:
        part = args.output.with_name(f".{args.output.name}.part.npz")
        named = _named("input", feeds) | _named("output", tensors)
        # By savez's types any keyword could be its option allow_pickle.
        np.savez(part, **cast(dict[str, Any], named))
        part.replace(args.output)
    best = {
        name: int(np.argmax(tensors[name])) for name in reference.output_names if name in tensors
    }
    report = {"file": str(args.file), "greatest": best, "wall_s": round(wall, 3)}
    lines = [f"{name}: greatest at {index}" for name, index in best.items()]
    _print(args, report, "\n".join([*lines, f"{wall:.1f} s"]))


def _ortcheck(args: argparse.Namespace) -> None:
    from models.ortcheck import compare, render

    reference, feeds = _open(args)
    bar, advance = _bar(len(reference.groups), "operators")
    with bar:
        report = {"file": str(args.file)} | compare(args.file, feeds, advance)
    _print(args, report, render(report))


def _cut(args: argparse.Namespace) -> None:
    from models.cut import cut, edges, write

    if args.output.suffix != ".onnx":
        raise ModelsError(f"the output must be named *.onnx, not {args.output.name}")
    if bool(args.inside) == bool(args.to) or (args.inside and args.begin):
        raise ModelsError("give --inside, or --to with or without --from")
    reference, feeds = _open(args)
    ends = edges(reference.graph, args.inside) if args.inside else (args.to, args.begin)
    model, arrays = cut(reference, ends[0], ends[1], feeds)
    write(model, arrays, args.output)
    count, named = len(model.graph.node), ", ".join(value.name for value in model.graph.output)
    report = {"file": str(args.output), "nodes": count, "arrays": list(arrays)}
    _print(args, report, f"{args.output}: {count} nodes, to {named}")


def _table(args: argparse.Namespace) -> None:
    from models.table import figures, render

    rows = figures()
    _print(args, {"rows": rows}, render(rows))


def _cells(args: argparse.Namespace) -> None:
    from models.expand import expand_file
    from models.quantize import quantize_file

    states = [tuple(each.split("=")) for each in args.state]
    if any(len(pair) != 2 or not all(pair) for pair in states):
        raise ModelsError(f"--state takes INPUT=OUTPUT, not {' '.join(args.state)}")
    if states and not args.calibration:
        raise ModelsError("--state gives both sides one scale: it needs --calibration")
    if not args.calibration:
        names = expand_file(args.file, args.output)
    else:
        whole = args.output.with_name(f".{args.output.name}.float.onnx")
        try:
            names = expand_file(args.file, whole)
            quantize_file(whole, args.calibration, args.output, states)
        finally:
            whole.unlink(missing_ok=True)
    report = {"file": str(args.output), "cells": names, "quantized": bool(args.calibration)}
    what = "written out and quantized" if args.calibration else "written out, in float"
    _print(args, report, f"{args.output}: {', '.join(names)} {what}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="one JSON object on standard output")
        sub.set_defaults(run=run)
        return sub

    listing = command("list", _list, "Name the networks, their inputs and their options.")
    listing.add_argument(
        "--size", default="paper", choices=("paper", "tiny"), help="of options (default: paper)"
    )
    command("table", _table, "Print parameters and work beside the paper's.")
    export = command("export", _export, "Write a quantized ONNX file and recorded arrays.")
    export.add_argument("network", help="see `list`")
    export.add_argument("--size", default="paper", help="paper or tiny (default: paper)")
    export.add_argument(
        "--variant", default="", metavar="KEY=VALUE[,...]", help="options that `list` names"
    )
    export.add_argument("--frames", type=int, help="short for --variant frames=...")
    export.add_argument("--seed", type=int, default=0, help="of weights and clips (default: 0)")
    export.add_argument(
        "--weights", type=Path, help="state dict of the public release, in place of drawn weights"
    )
    export.add_argument("--video", type=Path, help="recorded input, and one more for calibration")
    export.add_argument("-o", "--output", type=Path, help="default: NETWORK.onnx")
    cells = command(
        "cells",
        _cells,
        "Write the LSTM, GRU and RNN nodes of a float file out as Gemm and elementwise operators, "
        "which quantizers quantize; with --calibration quantize the whole file, too.",
    )
    cells.add_argument("file", type=Path, help="a float ONNX file")
    cells.add_argument("-o", "--output", type=Path, required=True)
    cells.add_argument(
        "--calibration",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.npz",
        help="a sample of all inputs, by `input:NAME` or `NAME`; may be given again",
    )
    cells.add_argument(
        "--state",
        action="append",
        default=[],
        metavar="INPUT=OUTPUT",
        help="give an input and an output one scale (then: compiler build --state)",
    )
    helps = {
        "stats": (_stats, "Print saturation, zeros and used range of every integer tensor."),
        "run": (_run, "Run the integer reference."),
        "cut": (_cut, "Write the layers between 8-bit tensors as a file with a recording."),
        "ortcheck": (_ortcheck, "Compare the reference with ONNX Runtime per operator."),
    }
    for name, (function, text) in helps.items():
        sub = command(name, function, text)
        sub.add_argument("file", type=Path, help="a quantized ONNX file")
        sub.add_argument("--input", type=Path, help="inputs as .npz or a video (default: FILE.npz)")
        if name == "cut":
            sub.add_argument("-o", "--output", type=Path, required=True)
            for option, text in (
                ("--inside", "the layers of tensors whose names begin so"),
                ("--to", "an output"),
                ("--from", "an input; default: the file's"),
            ):
                sub.add_argument(
                    option,
                    dest="begin" if option == "--from" else option[2:],
                    metavar="NAME",
                    action="append",
                    default=[],
                    help=f"{text}; may be given again",
                )
        if name == "run":
            sub.add_argument("-o", "--output", type=Path, help="write tensors as .npz")
            sub.add_argument("--all", action="store_true", help="keep every integer tensor")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 success, 2 bad input (one line on standard error)."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except ModelsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:  # a closed pipe, which `leave` knows
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    leave(main)
