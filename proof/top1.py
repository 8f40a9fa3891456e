"""Whether the accelerator and ONNX Runtime name the same class, and by which margin.

    python -m proof.top1 [--network vtn_decoder] [--size paper] [--clips 100] [--classes 20]

A network is exported and built; clips that it was not calibrated on run on the functional
simulator, which every other simulator equals, and in ONNX Runtime on the same file, with all
optimizations. The exit code is 1 if a class differs, or if too few classes occur for that to mean
something.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.export import config_of
from models.ortcheck import session
from models.samples import samples
from proof.families import StepError, command
from sim.build import Build
from sim.command import run

FOLDER = Path("build/top1")
FIRST_SEED = 10_000
"""Far from the seeds of calibration and of what is recorded beside the file."""
QUARTERS = (0, 25, 50, 75, 100)
Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class Clip:
    """What was made of a clip.

    Attributes
    ----------
    ours, theirs: class by the functional simulator and by ONNX Runtime.
    margin, margin_theirs: steps from the largest logit to the next one.
    steps: largest difference of a logit, in steps.
    """

    ours: int
    theirs: int
    margin: int
    margin_theirs: int
    steps: int

    @classmethod
    def of(cls, ours: Floats, theirs: Floats, scale: float) -> Clip:
        """Compare logits that are multiples of `scale`."""
        a, b = (np.rint(logits.ravel() / scale).astype(np.int64) for logits in (ours, theirs))
        margins = [int(np.diff(np.partition(codes, -2)[-2:])[0]) for codes in (a, b)]
        return cls(int(a.argmax()), int(b.argmax()), *margins, int(np.abs(a - b).max()))


def prepared(network: str, size: str, variant: str, config: str) -> tuple[Path, Build]:
    """Export and build a network.

    Raises
    ------
    StepError
        If one of both fails.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    source, target = FOLDER / f"{network}_{size}.onnx", FOLDER / f"{network}_{size}"
    given = ("--variant", variant) if variant else ()
    command("models", "export", network, "--size", size, *given, "-o", str(source))
    command("compiler", "build", str(source), "--config", config, "-o", str(target))
    return source, Build.load(target)


def compared(source: Path, build: Build, feeds: Sequence[dict[str, Any]]) -> Iterator[Clip]:
    """Run clips on both."""
    (port,) = build.program.outputs
    scale = float(build.program.tensor(port.tensor).scale)
    runtime = session(str(source))
    path = FOLDER / "clip.npz"
    for feed in feeds:
        np.savez(path, **feed)
        ran = run(build, "functional", path, output=FOLDER / "run.json")
        theirs = runtime.run([port.name], feed)[0]
        yield Clip.of(ran.outputs[port.name], theirs, scale)


def summary(clips: Sequence[Clip]) -> dict[str, Any]:
    """Figures over clips: equal classes, classes that occur, margins in steps by quarters."""
    return {
        "clips": len(clips),
        "equal": sum(clip.ours == clip.theirs for clip in clips),
        "classes": len({clip.theirs for clip in clips}),
        "margins": [float(v) for v in np.percentile([c.margin for c in clips], QUARTERS)],
        "ties": sum(clip.margin == 0 for clip in clips),
        "logits_differ": sum(clip.steps > 0 for clip in clips),
        "steps": max(clip.steps for clip in clips),
    }


def lines(figures: dict[str, Any], different: Sequence[tuple[int, Clip]]) -> Iterator[str]:
    """What is printed."""
    yield (
        f"top-1 equal on {figures['equal']} of {figures['clips']} clips; "
        f"{figures['classes']} classes occur"
    )
    low, *quarters, high = figures["margins"]
    middle = ", ".join(f"{v:g}" for v in quarters)
    yield (
        f"margin of the first class in steps: least {low:g}, quartiles {middle}, most {high:g}; "
        f"{figures['ties']} ties"
    )
    yield (
        f"logits differ on {figures['logits_differ']} clips, by {figures['steps']} steps at most"
    )
    for number, clip in different:
        yield (
            f"clip {number}: class {clip.ours} by {clip.margin} steps, ONNX Runtime "
            f"{clip.theirs} by {clip.margin_theirs}"
        )


def main(words: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m proof.top1", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--network", default="vtn_decoder", help="default: %(default)s")
    parser.add_argument("--size", default="paper", help="default: %(default)s")
    parser.add_argument("--variant", default="", help="as of `models export`")
    parser.add_argument("--config", default="base", help="default: %(default)s")
    parser.add_argument("--clips", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--classes", type=int, default=20, help="that must occur; default: 20")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args(words)
    try:
        source, build = prepared(args.network, args.size, args.variant, args.config)
    except StepError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    signature = config_of(args.network, args.size, args.variant).signature
    clips = list(compared(source, build, samples(signature, FIRST_SEED, args.clips)))
    figures = summary(clips)
    different = [(n, clip) for n, clip in enumerate(clips) if clip.ours != clip.theirs]
    if args.json:
        print(json.dumps({**figures, "each": [dataclasses.asdict(clip) for clip in clips]}))
    else:
        print("\n".join(lines(figures, different)))
    return 1 if different or figures["classes"] < args.classes else 0


if __name__ == "__main__":
    sys.exit(main())
