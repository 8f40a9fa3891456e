"""Command line: ``python -m fuzz``.

    python -m fuzz -n 10000 --jobs 2           # random graphs through everything
    python -m fuzz --replay build/fuzz/1-17.onnx
    python -m fuzz --flips 1000                # damaged files

Exit code 0: nothing is wrong, enough graphs were accepted, every form often enough. 1: otherwise.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import onnx

from fuzz import flips
from fuzz.campaign import Summary, Task, run, write_failures
from fuzz.catalogue import ATTENTION, FORMS
from fuzz.judge import judge
from fuzz.product import Product, Settings, workplace
from shell import leave

ACCEPTED = 0.8
"""Share of graphs that must be accepted."""
PER_FORM = 0.01
"""Share of graphs that must be accepted and hold a form, for every form."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-n", type=int, default=1000, help="graphs (default 1000)")
    parser.add_argument("--seed", type=int, default=1, help="which row of graphs (default 1)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--config", default="tiny", help="configuration (default tiny)")
    parser.add_argument(
        "--no-attention", action="store_true", help="for configurations without its features"
    )
    parser.add_argument("--rtl", type=float, default=0.0, help="percentage that runs on RTL, too")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="judge this one file")
    parser.add_argument("--fuse", choices=("on", "off"), default="on", help="for --replay")
    parser.add_argument("--hfa", default="auto", help="for --replay")
    parser.add_argument("--flips", type=int, metavar="N", help="damage N files instead")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/fuzz"), help="failures")
    parser.add_argument("--kinds", type=int, default=20, help="failures to shrink (default 20)")
    parser.add_argument("--seconds", type=float, default=20, help="to shrink each for at most")
    return parser


def _replay(args: argparse.Namespace) -> int:
    settings = Settings(args.config, args.fuse == "on", args.hfa, rtl=args.rtl > 0)
    with workplace() as folder:
        verdict = judge(Product(settings, Path(folder)), onnx.load(str(args.replay)))
    print(f"{verdict.outcome}: {verdict.detail or 'equal'}")
    return 0 if verdict.outcome in ("accepted", "refused") else 1


def describe(summary: Summary, attention: bool = True) -> tuple[str, bool]:
    """A page about a campaign, and whether all is well.

    Parameters
    ----------
    attention: its forms are wanted, too.
    """
    count, outcomes = summary.count, summary.outcomes
    lines = [
        f"{count} graphs: "
        + ", ".join(f"{outcomes[o]} {o}" for o in ("accepted", "refused", "wrong", "invalid"))
        + f"; {count / max(summary.seconds, 1e-9):.1f} graphs per second and process"
    ]
    refused = sorted(summary.refusals.items(), key=lambda item: -len(item[1]))
    lines += [f"  refused {len(numbers):5} × {kind}" for kind, numbers in refused[:40]]
    off = {k: v for k, v in summary.deviations.items() if v[0]}
    lines += [
        f"  {wrong} of {total} elements one step off the file's nodes: {operator}"
        for operator, (wrong, total) in sorted(off.items(), key=lambda i: -i[1][0] / i[1][1])[:30]
    ]
    least = PER_FORM * count
    wanted = (*FORMS, *ATTENTION) if attention else FORMS
    rare = [f"{form} {summary.forms[form]}" for form in wanted if summary.forms[form] < least]
    if rare:
        lines.append(f"forms accepted less than {least:g} times: {', '.join(rare)}")
    enough = outcomes["accepted"] >= ACCEPTED * count
    if not enough:
        lines.append(f"accepted {outcomes['accepted'] / count:.1%}; at least {ACCEPTED:.0%} wanted")
    return "\n".join(lines), enough and not rare and not summary.failures


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    args = _parser().parse_args(words)
    if args.replay:
        return _replay(args)
    if args.flips:
        return flips.main(args.flips, args.seed, args.config)
    task = Task(args.seed, args.n, args.config, args.rtl, not args.no_attention)
    summary = run(task, args.jobs)
    text, well = describe(summary, task.attention)
    print(text, flush=True)
    for line in write_failures(summary, task, args.output, args.kinds, args.seconds):
        print(line, flush=True)
    return 0 if well else 1


if __name__ == "__main__":
    leave(main)
