"""Cycles of every exportable network by the cycle model, against the table cycles.json.

A network may not get slower: more than TOLERANCE above the table, or refused where the table has
cycles, is an error; so is a network that the table does not know. `--update` writes the table.

    python -m proof.cycles [--sizes tiny,paper] [--networks a,b] [--jobs 2] [--update]
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from models.registry import ENTRIES
from proof.steps import command, refused, workers
from shell import leave

TABLE = Path(__file__).with_name("cycles.json")
BUILD = Path("build/cycles")
TOLERANCE = 0.002
CONFIG = "base"
PAPER = ("fsb_c3d", "c3d")
"""Networks that are exported at paper size when it is asked for; others take too long here."""
Cycles = dict[str, int | None]
"""By network and size; None: refused."""


def zeros_for(source: Path) -> dict[str, Any]:
    """Inputs of a file by name, all zeros."""
    found = {}
    for port in onnx.load(str(source), load_external_data=False).graph.input:
        kind = port.type.tensor_type
        shape = [d.dim_value for d in kind.shape.dim]
        found[port.name] = np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return found


def cycles_of(row: tuple[str, str]) -> int | None:
    """Cycles of a network at a size; None if the compiler refuses it."""
    network, size = row
    source, target = BUILD / f"{network}_{size}.onnx", BUILD / f"{network}_{size}"
    command("models", "export", network, "--size", size, "-o", str(source))
    if refused(str(source), CONFIG):
        return None
    words = ("--golden", "off", "--no-verify", "--config", CONFIG, "-o", str(target))
    command("compiler", "build", str(source), *words)
    # Times do not depend on values, but for branches, which then are those of zeros.
    zeros = target.with_suffix(".npz")
    np.savez(zeros, **zeros_for(source))
    result = command("sim", "run", str(target), "--on", "cycle", "--input", str(zeros))
    return int(result["cycles"])


def wanted(sizes: Sequence[str], only: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Network and size of every row that is asked for."""
    for name in ENTRIES:
        for size in sizes:
            if (not only or name in only) and (size != "paper" or name in PAPER):
                yield name, size


def verdict(found: int | None, known: int | None, is_known: bool) -> tuple[str, bool]:
    """What a row says, and whether it is all right."""
    text = "refused" if found is None else f"{found:,}"
    if not is_known:
        return f"{text} (not in the table: --update)", False
    if found is None or known is None:
        return text, found == known or known is None
    change = found / known - 1
    return f"{text} ({known:,}, {change:+.2%})", found <= known * (1 + TOLERANCE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; exit code 1 if a network has become slower."""
    parser = argparse.ArgumentParser(
        prog="python -m proof.cycles", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--sizes", default="tiny,paper")
    parser.add_argument("--networks", default="")
    parser.add_argument("--jobs", type=int, default=2, help="networks at a time")
    parser.add_argument("--update", action="store_true", help="write the table")
    args = parser.parse_args(arguments)
    rows = list(wanted(args.sizes.split(","), [n for n in args.networks.split(",") if n]))
    if not rows:
        parser.error(f"no network {args.networks}")
    BUILD.mkdir(parents=True, exist_ok=True)
    table: Cycles = json.loads(TABLE.read_text()) if TABLE.is_file() else {}
    passed = True
    with contextlib.ExitStack() as stack:
        results: Iterable[int | None] = map(cycles_of, rows)
        if args.jobs > 1:
            results = stack.enter_context(workers(args.jobs)).map(cycles_of, rows)
        for (network, size), found in zip(rows, results, strict=True):
            key = f"{network} {size}"
            text, fine = verdict(found, table.get(key), key in table)
            print(
                f"{network:18} {size:6} {text}{'' if fine or args.update else '   SLOWER'}",
                flush=True,
            )
            passed &= fine
            table[key] = found
    if args.update:
        TABLE.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")
    return 0 if passed or args.update else 1


if __name__ == "__main__":
    leave(main)
