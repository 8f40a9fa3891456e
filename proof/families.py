"""Every variant of every family: compared, counted, and equal in which simulators.

A row is exported, built with `--dram all` (every tensor is stored, and the functional simulator's
compared with the oracle's), run on the cycle model, and run on RTL with every tensor compared, and
every instruction's times with the cycle model's. A refusal or a difference makes the exit code 1.
What was not run says why: it never counts as equal.

At size paper the rows are those of `proof.paper`.

    python -m proof.families [--size tiny|paper] [--networks a,b] [--variants "a;b"]
                             [--config NAME] [--no-rtl]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from models.registry import ENTRIES
from proof import paper
from proof.steps import StepError, command, workers
from shell import leave

FOLDER = Path("build/families")
EQUAL = "equal"
CONFIGS = {"tiny": "tiny", "paper": "base"}
"""Where the networks of a size run if nothing else is asked for."""
TIMES = ("unit", "pc", "issue", "start", "end")
"""Columns of a run's instructions that the cycle model and RTL have in common."""


@dataclasses.dataclass(slots=True)
class Row:
    """What came of a variant.

    Attributes
    ----------
    network, variant: which.
    tensors: stored tensors that were compared with the oracle; None where no build was made.
    unrun: why RTL is left out; empty if it is not.
    cycles: by the cycle model.
    functional, rtl: `EQUAL`, or what happened instead.
    times: instructions whose times RTL and the cycle model have otherwise, and of how many.
    failed: a refusal, a difference or an error.
    seconds: wall time of everything.
    """

    network: str
    variant: str
    unrun: str = ""
    tensors: int | None = None
    cycles: int | None = None
    functional: str = ""
    rtl: str = ""
    times: tuple[int, int] | None = None
    failed: bool = False
    seconds: float = 0.0

    def text(self) -> str:
        """A line of the table."""
        name = f"{self.network} {self.variant}".strip()
        tensors = "-" if self.tensors is None else str(self.tensors)
        cycles = "-" if self.cycles is None else f"{self.cycles:,}"
        times = "-" if self.times is None else f"{self.times[0]} of {self.times[1]:,}"
        return (
            f"{name:42} {tensors:>7} {cycles:>12} {self.seconds:7.0f}  {self.functional:10} "
            f"{times:>14}  {self.rtl}"
        )


HEAD = (
    f"{'network, variant':42} {'tensors':>7} {'cycles':>12} {'seconds':>7}  {'functional':10} "
    f"{'times off':>14}  RTL"
)


def wanted(size: str, networks: Sequence[str], variants: Sequence[str]) -> Iterator[Row]:
    """The rows that are asked for; all without names."""
    for row in _paper() if size == "paper" else _tiny():
        named = not networks or row.network in networks
        if named and (not variants or row.variant in variants):
            yield row


def _tiny() -> Iterator[Row]:
    for name, entry in ENTRIES.items():
        yield from (Row(name, variant) for variant in entry.variants("tiny"))


def _paper() -> Iterator[Row]:
    yield from (Row(each.network, each.variant, each.unrun) for each in paper.ROWS)


def filled(row: Row, size: str, config: str, folder: Path) -> Row:
    """Export, build and run a row."""
    began = time.perf_counter()
    marks = str.maketrans("=,+/.", "_____")
    stem = f"{row.network}_{row.variant or 'default'}_{size}".translate(marks)
    source, target = folder / f"{stem}.onnx", folder / stem
    try:
        _export(row, size, source)
        words = ("--config", config, "--dram", "all", "-o", str(target))
        built = command("compiler", "build", str(source), *words)
        row.tensors, row.functional = _named(built["proof"]), EQUAL
        modelled = command("sim", "run", str(target), "--on", "cycle")
        row.cycles = int(modelled["cycles"])
        row.rtl = row.unrun or _on_rtl(row, target, modelled, _expected(row, target, built))
    except StepError as error:
        row.failed = True
        if not row.functional:
            row.functional = str(error)
        else:
            row.rtl = str(error)
    row.seconds = time.perf_counter() - began
    return row


def _export(row: Row, size: str, source: Path) -> None:
    """Write the file of a row; layers are cut out of the network's."""
    if not row.variant.startswith(paper.INSIDE):
        given = ("--variant", row.variant) if row.variant else ()
        command("models", "export", row.network, "--size", size, *given, "-o", str(source))
        return
    whole = source.with_suffix(".whole.onnx")
    command("models", "export", row.network, "--size", size, "-o", str(whole))
    prefixes = row.variant.removeprefix(paper.INSIDE).split("+")
    words = [word for prefix in prefixes for word in ("--inside", prefix)]
    command("models", "cut", str(whole), *words, "-o", str(source))


def _named(proof: dict[str, Any]) -> int:
    """Stored tensors that the file has a name for; a run compares those."""
    return int(proof["tensors"]) - int(proof["compiler"])


def differing(modelled: dict[str, Any], run: dict[str, Any]) -> tuple[int, int]:
    """Instructions with other times in two runs, and how many there are."""
    found = []
    for result in (modelled, run):
        columns = json.loads(Path(result["files"][0]).read_text())["instructions"]
        found.append(list(zip(*(columns[name] for name in TIMES), strict=True)))
    wrong = sum(a != b for a, b in itertools.zip_longest(*found))
    return wrong, len(found[1])


def _expected(row: Row, target: Path, built: dict[str, Any]) -> int | None:
    """Tensors that a run compares: all; of a network with branches those of the arms it takes."""
    if len(built["proof"]["passes"]) == 1:
        return row.tensors
    run = command("sim", "run", str(target), "--on", "functional", "--check")
    return int(run["tensors_compared"])


def _on_rtl(row: Row, target: Path, modelled: dict[str, Any], expected: int | None) -> str:
    """Whether RTL makes the stored tensors as the oracle does, when the cycle model says."""
    run = command("sim", "run", str(target), "--on", "rtl", "--check")
    row.times = differing(modelled, run)
    if row.times[0] or row.times[1] == 0 or run["cycles"] != row.cycles:
        row.failed = True
    compared = int(run["tensors_compared"])
    if run["equal"] is True and compared == expected:
        return EQUAL
    row.failed = True
    return f"differs: {run['first_difference']} ({compared} of {expected} tensors compared)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; exit code 1 if a variant is refused or differs, or none is known."""
    parser = argparse.ArgumentParser(
        prog="python -m proof.families", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--size", choices=tuple(CONFIGS), default="tiny")
    parser.add_argument("--networks", default="", help="names, separated by commas; default: all")
    parser.add_argument("--variants", default="", help="separated by semicolons; default: all")
    parser.add_argument(
        "--config", help="a preset's name or a YAML file; default: tiny, paper: base"
    )
    parser.add_argument("--no-rtl", action="store_true", help="leave RTL out; the table says so")
    parser.add_argument("--jobs", type=int, default=2, help="variants at a time")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args(arguments)
    networks, variants = (
        [n for n in text.split(mark) if n]
        for text, mark in ((args.networks, ","), (args.variants, ";"))
    )
    rows = list(wanted(args.size, networks, variants))
    unknown = set(networks) - {row.network for row in rows}
    if unknown or not rows:
        parser.error(f"no network or variant {', '.join(sorted(unknown)) or args.variants}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    config = args.config or CONFIGS[args.size]
    if args.no_rtl:
        for row in rows:
            row.unrun = "not run: --no-rtl"
    if not args.json:
        print(HEAD)
    fill = functools.partial(filled, size=args.size, config=config, folder=FOLDER)
    found = []
    with contextlib.ExitStack() as stack:
        every: Iterable[Row] = map(fill, rows)
        if args.jobs > 1:
            every = stack.enter_context(workers(args.jobs)).map(fill, rows)
        for row in every:
            found.append(row)
            if not args.json:
                print(row.text(), flush=True)
    failed = sum(row.failed for row in found)
    if args.json:
        print(json.dumps({"rows": [dataclasses.asdict(row) for row in found], "failed": failed}))
    else:
        print(totals(found))
    return 1 if failed else 0


def totals(rows: Sequence[Row]) -> str:
    """The last line of the table."""
    functional = sum(row.functional == EQUAL for row in rows)
    in_rtl = sum(row.rtl.startswith(EQUAL) for row in rows)
    off, timed = (sum(row.times[k] for row in rows if row.times) for k in range(2))
    return (
        f"{functional} of {len(rows)} variants equal in functional, {in_rtl} in RTL; "
        f"{off} of {timed:,} instructions with other times in the cycle model"
    )


if __name__ == "__main__":
    leave(main)
