"""Every variant of every family at size tiny: compared, counted, and equal in which simulators.

A row is exported, built (which compares every stored tensor of the functional simulator with the
oracle), run on the cycle model, and run on RTL with every tensor compared. A refusal or a
difference makes the exit code 1. What was not run says why: it never counts as equal.

    python -m proof.families [--networks a,b] [--variants "a;b"] [--config tiny] [--no-rtl]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hw.arch.config import AcceleratorConfig, ConfigError
from models.registry import ENTRIES
from shell import leave

FOLDER = Path("build/families")
EQUAL = "equal"


class StepError(Exception):
    """A command that failed: what it said."""


@dataclasses.dataclass(slots=True)
class Row:
    """What came of a variant.

    Attributes
    ----------
    network, variant: which.
    tensors: stored tensors that were compared with the oracle; None where no build was made.
    cycles: by the cycle model.
    functional, rtl: `EQUAL`, or what happened instead.
    failed: a refusal, a difference or an error.
    """

    network: str
    variant: str
    tensors: int | None = None
    cycles: int | None = None
    functional: str = ""
    rtl: str = ""
    failed: bool = False

    def text(self) -> str:
        """A line of the table."""
        name = f"{self.network} {self.variant}".strip()
        tensors = "-" if self.tensors is None else str(self.tensors)
        cycles = "-" if self.cycles is None else f"{self.cycles:,}"
        return f"{name:42} {tensors:>7} {cycles:>12}  {self.functional:10}  {self.rtl}"


HEAD = f"{'network, variant':42} {'tensors':>7} {'cycles':>12}  {'functional':10}  RTL"


def command(*words: str) -> dict[str, Any]:
    """The object that `python -m words --json` prints.

    Raises
    ------
    StepError
        The command failed; with its last words.
    """
    done = subprocess.run(
        [sys.executable, "-m", *words, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["nothing"]
        raise StepError(said[-1][-300:])
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def wanted(networks: Sequence[str], variants: Sequence[str]) -> Iterator[Row]:
    """The rows that are asked for; all without names."""
    for name, entry in ENTRIES.items():
        if networks and name not in networks:
            continue
        for variant in entry.variants("tiny"):
            if not variants or variant in variants:
                yield Row(name, variant)


def filled(row: Row, config: str, rtl: str) -> Row:
    """Export, build and run a row; `rtl` says why RTL is not run, or is empty."""
    stem = f"{row.network}_{row.variant or 'default'}".translate(str.maketrans("=,+", "___"))
    source, target = FOLDER / f"{stem}.onnx", FOLDER / stem
    try:
        given = ("--variant", row.variant) if row.variant else ()
        command("models", "export", row.network, "--size", "tiny", *given, "-o", str(source))
        built = command("compiler", "build", str(source), "--config", config, "-o", str(target))
        row.tensors, row.functional = _named(built["proof"]), EQUAL
        row.cycles = int(command("sim", "run", str(target), "--on", "cycle")["cycles"])
        row.rtl = rtl or _on_rtl(row, target)
    except StepError as error:
        row.failed = True
        if not row.functional:
            row.functional = str(error)
        else:
            row.rtl = str(error)
    return row


def _named(proof: dict[str, Any]) -> int:
    """Stored tensors that the file has a name for; a run compares those."""
    return int(proof["tensors"]) - int(proof["compiler"])


def _on_rtl(row: Row, target: Path) -> str:
    """Whether RTL makes the stored tensors as the oracle does."""
    run = command("sim", "run", str(target), "--on", "rtl", "--check")
    compared = int(run["tensors_compared"])
    if run["equal"] is True and compared == row.tensors:
        return EQUAL
    row.failed = True
    return f"differs: {run['first_difference']} ({compared} of {row.tensors} tensors compared)"


def unbuilt(config: str) -> str:
    """Why a configuration has no circuit; empty if it has."""
    try:
        AcceleratorConfig.load(config).require_built()
    except ConfigError as error:
        return f"not run: {error}"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; exit code 1 if a variant is refused or differs, or none is known."""
    parser = argparse.ArgumentParser(
        prog="python -m proof.families", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--networks", default="", help="names, separated by commas; default: all")
    parser.add_argument("--variants", default="", help="separated by semicolons; default: all")
    parser.add_argument("--config", default="tiny", help="a preset's name or a YAML file")
    parser.add_argument("--no-rtl", action="store_true", help="leave RTL out; the table says so")
    parser.add_argument("--jobs", type=int, default=2, help="variants at a time")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args(arguments)
    networks, variants = (
        [n for n in text.split(mark) if n]
        for text, mark in ((args.networks, ","), (args.variants, ";"))
    )
    rows = list(wanted(networks, variants))
    unknown = set(networks) - {row.network for row in rows}
    if unknown or not rows:
        parser.error(f"no network or variant {', '.join(sorted(unknown)) or args.variants}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    rtl = "not run: --no-rtl" if args.no_rtl else unbuilt(args.config)
    if not args.json:
        print(HEAD)
    with ThreadPoolExecutor(args.jobs) as pool:
        for row in pool.map(lambda row: filled(row, args.config, rtl), rows):
            if not args.json:
                print(row.text(), flush=True)
    failed = sum(row.failed for row in rows)
    in_rtl = sum(row.rtl.startswith(EQUAL) for row in rows)
    if args.json:
        print(json.dumps({"rows": [dataclasses.asdict(row) for row in rows], "failed": failed}))
    else:
        good = len(rows) - failed
        print(f"{good} of {len(rows)} variants equal in functional, {in_rtl} in RTL")
    return 1 if failed else 0


if __name__ == "__main__":
    leave(main)
