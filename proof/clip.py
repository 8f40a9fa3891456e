"""LiteEval over a clip, and its single steps: what the accelerator decides, whether all is equal.

    python -m proof.clip [--size tiny|paper] [--on functional|cycle|rtl]   a clip of 129 steps
    python -m proof.clip --single [--size tiny|paper] [--on cycle|rtl]     a skipped, a fine step

With --build FOLDER a build of an earlier call is taken (build/families/liteeval_paper).

A clip is one program with a Loop around an If: the host starts it and reads the scores of all
steps. Every stored tensor of every step is compared with the oracle, on the functional simulator
(which the cycle model runs) or on RTL; there every instruction's times with the cycle model's, too.

Of single steps it prints besides what fences cost at most, by the cycle model with and without
them, and the share of the memory's beats that the fine cell's products take.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hw.arch.isa import Fence, Set
from hw.arch.program import Program
from models.registry import entry
from models.samples import samples, zero_states
from proof.families import CONFIGS, FOLDER, differing
from proof.steps import StepError, command
from shell import leave
from sim import host
from sim.backend import Options
from sim.backends import make_backend
from sim.build import INPUT, STEPS, Build
from sim.inputs import given

FINE, SKIPPED = ": then", ": else"
"""How the names of blocks of the gate's arms end."""
CELL = "read/large/"
"""How names of the fine cell's layers begin."""
SHARE, CHANGES, FENCES, BEATS = (0.2, 0.8), 10, 0.002, 0.95
"""Fine steps of a clip, from and to; changes between arms; fences; the memory's beats."""
LOOKED_AT, SEED = 16, 7
"""Steps of a video among which one of each kind is sought; of the video."""


def fine(path: Sequence[str]) -> bool:
    """Whether a step's blocks are those of a fine one."""
    arms = [name for name in path if name.endswith((FINE, SKIPPED))]
    if len(arms) != 1:
        raise StepError(f"a step took the arms {arms}")
    return arms[0].endswith(FINE)


def made(network: str, size: str, variant: str) -> Path:
    """Export and build a network; its folder. The run that follows compares every tensor."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    source = FOLDER / f"{network}_{size}.onnx"
    words = ["--variant", variant] if variant else []
    command("models", "export", network, "--size", size, *words, "-o", str(source))
    target = source.with_suffix("")
    words = ["--config", CONFIGS[size], "--no-verify", "--golden", "off", "-o", str(target)]
    command("compiler", "build", str(source), *words)
    return target


def run(build: Path, on: str, *words: str) -> tuple[dict[str, Any], list[str]]:
    """Run with every tensor compared; run.json, and what is wrong."""
    done = command("sim", "run", str(build), "--on", on, "--check", *words)
    result = json.loads(Path(done["files"][0]).read_text())
    wrong = [] if done["equal"] is True else [f"differs: {done['first_difference']}"]
    if on == "rtl":
        modelled = command("sim", "run", str(build), "--on", "cycle", *words)
        off, count = differing(modelled, done)
        print(f"cycle model: {off} of {count:,} instructions have other times")
        if off or not count or modelled["cycles"] != done["cycles"]:
            wrong.append("the cycle model has other times")
    return result, wrong


def clip(size: str, on: str, steps: int, built: Path | None = None) -> list[str]:
    """A whole clip; what is wrong."""
    # 129 is what the paper-size network has by itself.
    variant = "" if (size, steps) == ("paper", 129) else f"steps={steps}"
    build = built or made("liteeval_clip", size, variant)
    inputs = build.with_suffix(".npz")
    result, wrong = run(build, on, "--input", str(inputs))
    took = [fine(trip["path"]) for trip in result["trips"]]
    changes = sum(a != b for a, b in itertools.pairwise(took))
    cycles = f"; {result['cycles']:,} cycles" if result["cycles"] else ""
    print(
        f"{len(took)} steps, {sum(took)} fine, {changes} changes; "
        f"{result['tensors_compared']:,} tensors compared, "
        f"{'all equal' if result['equal'] else 'not equal'}{cycles}"
    )
    if len(took) != steps:
        wrong.append(f"{len(took)} of {steps} steps ran")
    low, high = SHARE
    if not low * steps <= sum(took) <= high * steps or changes < min(CHANGES, steps // 10):
        wrong.append("too few fine or skipped steps, or changes")
    for kind, name in ((False, "skipped"), (True, "fine")) if cycles else ():
        found = [t["cycles"] for t, each in zip(result["trips"], took, strict=True) if each is kind]
        print(f"a {name} step: {min(found, default=0):,} to {max(found, default=0):,} cycles")
    return wrong


def without_fences(program: Program) -> Program:
    """The same instructions, in program order right as ever, but no unit is waited for."""
    nothing = Set(rd=0)
    instructions = [nothing if isinstance(i, Fence) else i for i in program.instructions]
    return dataclasses.replace(program, instructions=tuple(instructions))


def fences(build: Path, source: Path) -> float:
    """What fences cost at most in a run: share of its cycles saved without them, by the model."""
    loaded = Build.load(build)
    memory = host.start_image(loaded.program, loaded.feeds(given(loaded, source).arrays))
    cycles = [
        make_backend("cycle").run(program, loaded.config, memory, Options()).cycles or 0
        for program in (loaded.program, without_fences(loaded.program))
    ]
    share = (cycles[0] - cycles[1]) / cycles[0]
    print(f"fences cost at most {share:.3%} of it")
    return share


def cell(build: Path, result: Mapping[str, Any]) -> float:
    """The share of the memory's beats in what the fine cell's products take."""
    port = Build.load(build).config.port.bytes
    layers = [x for x in result["layers"] if x["name"].startswith(CELL) and x["macs"]]
    beats = sum(x["read_bytes"] + x["write_bytes"] for x in layers) / port
    cycles = sum(x["cycles"] for x in layers)
    if not cycles:
        return 0.0
    ran = max(x["executions"] for x in layers)
    print(
        f"products of the fine cell: {beats / ran:,.0f} beats, {cycles / ran:,.0f} cycles a "
        f"step: {beats / cycles:.1%} of the memory's beats"
    )
    return float(beats / cycles)


def single(size: str, on: str, built: Path | None = None) -> list[str]:
    """A skipped and a fine step of the step graph; what is wrong."""
    build = built or made("liteeval", size, "")
    config = entry("liteeval").config(size)
    feeds = samples(config.signature, SEED, LOOKED_AT)
    before = zero_states(config.signature)
    stacked = {n: np.stack([f[n] for f in feeds]) for n in feeds[0] if n not in before}
    _save(build / "steps.npz", {f"{STEPS}{INPUT}{n}": v for n, v in stacked.items()})
    words = ["--steps", str(LOOKED_AT), "--input", str(build / "steps.npz")]
    done = command("sim", "run", str(build), "--on", "functional", *words)
    steps = json.loads(Path(done["files"][0]).read_text())["steps"]
    left = np.load(done["files"][1])
    took, wrong = [fine(step["path"]) for step in steps], []
    if len(set(took)) < 2:
        return [f"{LOOKED_AT} steps are all of one kind"]
    for kind, name in ((False, "skipped"), (True, "fine")):
        source = build / f"{name}.npz"
        at = took.index(kind)
        states = (
            {p.input: left[p.output][at - 1] for p in config.signature.states} if at else before
        )
        fed = {name: value[at] for name, value in stacked.items()} | states
        _save(source, {INPUT + name: value for name, value in fed.items()})
        result, found = run(build, on, "--input", str(source))
        wrong += found
        if fine(result["path"]) is not kind:
            wrong.append(f"the {name} step took the other arm")
        print(
            f"a {name} step: {result['tensors_compared']} tensors compared, "
            f"{'all equal' if not found else 'not equal'}; {result['cycles']:,} cycles"
        )
        if fences(build, source) > FENCES and size == "paper":
            wrong.append(f"fences over {FENCES:.1%}")
        if kind and cell(build, result) < BEATS and size == "paper":
            wrong.append(f"products of the cell below {BEATS:.0%} of the memory's beats")
    return wrong


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    np.savez(path, **arrays)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; exit code 1 if something differs or was not reached."""
    parser = argparse.ArgumentParser(
        prog="python -m proof.clip", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--size", choices=tuple(CONFIGS), default="tiny")
    parser.add_argument("--on", choices=("functional", "cycle", "rtl"), default="functional")
    parser.add_argument("--steps", type=int, default=129)
    parser.add_argument(
        "--build", type=Path, help="of such a clip or step, its recording beside it"
    )
    parser.add_argument("--single", action="store_true", help="the step graph: one of each kind")
    args = parser.parse_args(arguments)
    try:
        if args.single:
            wrong = single(args.size, "rtl" if args.on == "rtl" else "cycle", args.build)
        else:
            wrong = clip(args.size, args.on, args.steps, args.build)
    except StepError as error:
        wrong = [str(error)]
    for each in wrong:
        print(f"wrong: {each}")
    return 1 if wrong else 0


if __name__ == "__main__":
    leave(main)
