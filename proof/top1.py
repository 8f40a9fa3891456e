"""Whether the accelerator and ONNX Runtime name the same class, and by which margin.

    python -m proof.top1 [--network vtn_decoder] [--size paper] [--clips 100] [--classes 20]

A network is exported and built; clips that it was not calibrated on run on the functional
simulator, which every other simulator equals, and in ONNX Runtime on the same file, with all
optimizations. A clip whose largest logit several classes share has no first class: it counts for
nothing, another one takes its place, and ONNX Runtime's class must be one of those. The exit code
is 1 if a class differs, or if too few classes occur for that to mean something.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.arrays import write_arrays
from models.export import config_of
from models.network import Signature
from models.ortcheck import session
from models.samples import samples
from proof.steps import StepError, command
from shell import leave
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
    among: theirs has the largest logit in the simulator, too.
    margin, margin_theirs: steps from the largest logit to the next one.
    steps: largest difference of a logit, in steps.
    """

    ours: int
    theirs: int
    among: bool
    margin: int
    margin_theirs: int
    steps: int

    @classmethod
    def of(cls, ours: Floats, theirs: Floats, scale: float) -> Clip:
        """Compare logits that are multiples of `scale`."""
        a, b = (np.rint(logits.ravel() / scale).astype(np.int64) for logits in (ours, theirs))
        ours_by, theirs_by = (int(np.diff(np.partition(codes, -2)[-2:])[0]) for codes in (a, b))
        first = int(b.argmax())
        among = bool(a[first] == a.max())
        steps = int(np.abs(a - b).max())
        return cls(int(a.argmax()), first, among, ours_by, theirs_by, steps)


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


def compared(source: Path, build: Build, signature: Signature) -> Iterator[Clip]:
    """Run clips on both, without end."""
    (port,) = build.program.outputs
    scale = float(build.program.tensor(port.tensor).scale)
    runtime = session(str(source))
    path = FOLDER / "clip.npz"
    for seed in itertools.count(FIRST_SEED):
        (feed,) = samples(signature, seed, 1)
        write_arrays(path, feed)
        ran = run(build, "functional", path, output=FOLDER / "run.json")
        theirs = runtime.run([port.name], feed)[0]
        yield Clip.of(ran.outputs[port.name], theirs, scale)


def decided(clips: Iterable[Clip], count: int) -> tuple[list[Clip], list[Clip]]:
    """The first clips with a first class, and those without one that came before them.

    At most half of all clips are looked at in vain.
    """
    first: list[Clip] = []
    tied: list[Clip] = []
    for clip in clips:
        (tied if clip.margin == 0 else first).append(clip)
        if len(first) == count or len(tied) > count:
            break
    return first, tied


def summary(clips: Sequence[Clip], tied: Sequence[Clip]) -> dict[str, Any]:
    """Figures over clips: equal classes, classes that occur, margins in steps by quarters."""
    every = [*clips, *tied]
    return {
        "clips": len(clips),
        "equal": sum(clip.ours == clip.theirs for clip in clips),
        "classes": len({clip.theirs for clip in clips}),
        "margins": [float(v) for v in np.percentile([c.margin for c in clips], QUARTERS)],
        "ties": len(tied),
        "among": sum(clip.among for clip in tied),
        "logits_differ": sum(clip.steps > 0 for clip in every),
        "steps": max(clip.steps for clip in every),
    }


def lines(figures: dict[str, Any], different: Sequence[Clip]) -> Iterator[str]:
    """What is printed."""
    yield (
        f"top-1 equal on {figures['equal']} of {figures['clips']} clips; "
        f"{figures['classes']} classes occur"
    )
    low, *quarters, high = figures["margins"]
    middle = ", ".join(f"{v:g}" for v in quarters)
    yield f"margin of the first class in steps: least {low:g}, quartiles {middle}, most {high:g}"
    yield (
        f"{figures['ties']} more clips are ties; ONNX Runtime's class is among the first in "
        f"{figures['among']} of them"
    )
    yield (
        f"logits differ on {figures['logits_differ']} of all clips, by {figures['steps']} steps "
        f"at most"
    )
    for clip in different:
        yield (
            f"class {clip.ours} by {clip.margin} steps, ONNX Runtime {clip.theirs} by "
            f"{clip.margin_theirs}"
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
    clips, tied = decided(compared(source, build, signature), args.clips)
    if len(clips) < args.clips:
        print(f"error: {len(tied)} of the first clips have no first class", file=sys.stderr)
        return 2
    figures = summary(clips, tied)
    different = [clip for clip in clips if clip.ours != clip.theirs]
    different += [clip for clip in tied if not clip.among]
    if args.json:
        print(json.dumps({**figures, "each": [dataclasses.asdict(clip) for clip in clips]}))
    else:
        print("\n".join(lines(figures, different)))
    return 1 if different or figures["classes"] < args.classes else 0


if __name__ == "__main__":
    leave(main)
