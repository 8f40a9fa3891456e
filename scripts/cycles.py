"""Cycles of every exportable network by the cycle model, against the table scripts/cycles.json.

A network may not get slower: more than TOLERANCE above the table, or refused where the table has
cycles, is an error; so is a network that the table does not know. `--update` writes the table.

Usage: cycles.py [--sizes tiny,paper] [--networks a,b] [--update]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx

TABLE = Path(__file__).with_name("cycles.json")
BUILD = Path("build/cycles")
TOLERANCE = 0.002
CONFIG = "base"
PAPER = ("fsb_c3d", "c3d")
"""Networks that are exported at paper size when it is asked for; others take too long here."""
Cycles = dict[str, int | None]
"""By network and size; None: refused."""


def command(*words: str) -> tuple[int, dict[str, Any]]:
    """Run `python -m words --json` in a process of its own; exit code and object."""
    done = subprocess.run(
        [sys.executable, "-m", *words, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"python -m {' '.join(words)}: {done.stderr.strip()[-400:]}")
    return done.returncode, json.loads(done.stdout)


def zeros_for(source: Path) -> dict[str, Any]:
    """Inputs of a file by name, all zeros."""
    found = {}
    for port in onnx.load(str(source), load_external_data=False).graph.input:
        kind = port.type.tensor_type
        shape = [d.dim_value for d in kind.shape.dim]
        found[port.name] = np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return found


def cycles_of(network: str, size: str) -> int | None:
    """Cycles of one network; None if the compiler refuses it."""
    source, target = BUILD / f"{network}_{size}.onnx", BUILD / f"{network}_{size}"
    command("models", "export", network, "--size", size, "-o", str(source))
    refused, _ = command("compiler", "check", str(source), "--config", CONFIG)
    if refused:
        return None
    words = ("--golden", "report", "--no-verify", "--config", CONFIG, "-o", str(target))
    command("compiler", "build", str(source), *words)
    # Times do not depend on values, but for branches, which then are those of zeros.
    zeros = target.with_suffix(".npz")
    np.savez(zeros, **zeros_for(source))
    _, result = command("sim", "run", str(target), "--on", "cycle", "--input", str(zeros))
    return int(result["cycles"])


def wanted(sizes: Sequence[str], only: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Network and size of every row that is asked for."""
    _, listed = command("models", "list")
    for row in listed["networks"]:
        name = str(row["network"])
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
    return f"{text} ({known:,}, {change:+.2%})", change <= TOLERANCE


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; exit code 1 if a network has become slower."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="tiny,paper")
    parser.add_argument("--networks", default="")
    parser.add_argument("--update", action="store_true")
    args = parser.parse_args(arguments)
    BUILD.mkdir(parents=True, exist_ok=True)
    table: Cycles = json.loads(TABLE.read_text()) if TABLE.is_file() else {}
    rows = list(wanted(args.sizes.split(","), [n for n in args.networks.split(",") if n]))
    passed = True
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda row: cycles_of(*row), rows)
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
    sys.exit(main())
