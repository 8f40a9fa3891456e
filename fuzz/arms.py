"""Random networks with If and Loop through everything.

    python -m fuzz.arms -n 1000 --rtl 50 --jobs 2

Each is built and proven: every tensor of every arm and trip equals the oracle's on the functional
simulator. The first ones run on RTL: every byte of DRAM, every overwritten tensor and every
instruction's times are those of the cycle model. A twin of each leaves out the FENCE behind the
last join; where the join orders DRAM, the hazard checker has to notice.

Exit code 0: all are equal, every twin was noticed, every form occurred.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from tqdm import tqdm

from compiler.tensor import CompilerError
from fuzz.product import workplace
from fuzz.structured import FORMS, File, feeds
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Fence, Set, Store
from hw.arch.program import Program
from hw.arch.walk import Memory, accesses
from proof.build import build
from shell import leave
from sim import host
from sim.backend import BackendResult, Options
from sim.backends import make_backend
from sim.build import Build
from sim.functional.backend import dynamic_trace
from sim.functional.hazards import HazardError, check_hazards
from sim.functional.sequencer import Step


@dataclasses.dataclass(slots=True)
class Tried:
    """What came of a network.

    Attributes
    ----------
    number: of the network. holds: of `FORMS`, how many. wrong: what differs; empty.
    tensors: compared with the oracle.
    times: instructions on RTL with the cycle model's times; 0 if it did not run there.
    twin: whether the hazard checker notices; None where the join orders nothing.
    """

    number: int
    holds: Counter[str]
    wrong: str = ""
    tensors: int = 0
    times: int = 0
    twin: bool | None = None


def tried(number: int, config: str, rtl: int) -> Tried:
    """Build, prove and run one network; those of odd numbers have loops."""
    file = File(number, loops=number % 2 == 1)
    model = file.model()
    found = Tried(number, file.holds)
    with workplace() as place:
        folder = Path(place)
        onnx.save(model, folder / "net.onnx")
        try:
            done = build(folder / "net.onnx", config, folder / "build")
        except CompilerError as error:
            found.wrong = str(error)
            return found
        proof = done.proof or {}
        found.tensors = int(proof["tensors"])
        if proof["unreachable"]:
            found.wrong = f"unreachable arms: {proof['unreachable']}"
            return found
        made = Build.load(folder / "build")
        memory = host.start_image(made.program, made.feeds(feeds(model, number)))
        if number < rtl:
            found.times, found.wrong = _on_rtl(made, memory)
        found.twin = twin(made.program, made.config, memory)
    return found


def _on_rtl(made: Build, memory: np.ndarray) -> tuple[int, str]:
    """Instructions on RTL, and what is not as the cycle model has it."""
    program = made.program
    rtl, model = (
        make_backend(name).run(program, made.config, memory, Options()) for name in ("rtl", "cycle")
    )
    a, b = rtl.timeline, model.timeline
    assert a is not None and b is not None
    for column in ("unit", "pc", "issue", "start", "end"):
        if not np.array_equal(getattr(a, column), getattr(b, column)):
            return len(a.pc), f"{column} of instructions differs between RTL and cycle model"
    if not np.array_equal(rtl.memory, model.memory):
        return len(a.pc), "DRAM differs between RTL and cycle model"
    wrong = [t.name for t in program.tensors if not _same(t.name, made, rtl, model)]
    return len(a.pc), f"{wrong[0]} differs between RTL and cycle model" if wrong else ""


def _same(name: str, made: Build, rtl: BackendResult, model: BackendResult) -> bool:
    tensor = made.program.tensor(name)
    versions = rtl.image.versions(tensor)
    if versions != model.image.versions(tensor):
        return False
    each = versions.values() if name in made.program.inside() else [None]
    return all(np.array_equal(rtl.image.read(tensor, n), model.image.read(tensor, n)) for n in each)


def twin(program: Program, config: AcceleratorConfig, memory: np.ndarray) -> bool | None:
    """Whether the hazard checker notices that the FENCE of the last block is left out.

    None where it orders nothing in DRAM on the path that the data choose.
    """
    trace = dynamic_trace(program, config, memory)
    check_hazards(trace, config, program.memory_bytes)
    fence = program.blocks[-1].first
    if not isinstance(program.instructions[fence], Fence):
        return None
    if not reads_what_an_arm_wrote(program, config, trace):
        return None
    wrong = without(program, fence)
    try:
        check_hazards(dynamic_trace(wrong, config, memory), config, program.memory_bytes)
    except HazardError:
        return True
    return False


def reads_what_an_arm_wrote(
    program: Program, config: AcceleratorConfig, trace: Sequence[Step]
) -> bool:
    """Whether a LOAD behind the last join reads DRAM that its arm's STORE wrote in this run.

    What other fences order does not count. Of the LOADs only those before the block's first
    STORE count: a wait for that would be one for the arm's.
    """
    last = program.blocks[-1]
    behind = range(last.first, last.last)
    stores = (i for i in behind if isinstance(program.instructions[i], Store))
    early = range(last.first, next(stores, last.last))
    arms = [b for b in program.blocks if b.name.endswith((": then", ": else"))]
    wrote: list[tuple[int, int]] = []
    read: list[tuple[int, int]] = []
    for step in trace:
        if isinstance(step.instruction, Fence) and step.pc < last.first:
            wrote.clear()
        if step.unit is None:
            continue
        inside = any(b.first <= step.pc < b.last for b in arms)
        for access in accesses(step.instruction, config):  # type: ignore[arg-type]
            if access.memory is Memory.DRAM and (inside if access.write else step.pc in early):
                (wrote if access.write else read).append((access.low, access.high))
    return any(a <= d and c <= b for a, b in wrote for c, d in read)


def without(program: Program, fence: int) -> Program:
    """The program with the FENCE at an index left out."""
    code = list(program.instructions)
    if not isinstance(code[fence], Fence):
        raise ValueError(f"instruction {fence} is no FENCE")
    code[fence] = Set()
    return dataclasses.replace(program, instructions=tuple(code))


def describe(found: Sequence[Tried], wanted: int) -> tuple[str, bool]:
    """A page about a campaign, and whether all is well; `wanted`: how many run on RTL."""
    holds = sum((each.holds for each in found), Counter[str]())
    with_form = {form: sum(each.holds[form] > 0 for each in found) for form in FORMS}
    wrong = [each for each in found if each.wrong]
    rtl = [each for each in found if each.times]
    twins = [each.twin for each in found if each.twin is not None]
    tensors = sum(each.tensors for each in found)
    equal, times = sum(not each.wrong for each in rtl), sum(each.times for each in rtl)
    lines = [
        f"{len(found) - len(wrong)} of {len(found)} equal in functional: {tensors:,} tensors",
        "in them: " + ", ".join(f"{holds[f]} × {f} in {with_form[f]}" for f in FORMS),
        f"{equal} of {len(rtl)} equal on RTL, {times:,} instructions with the cycle model's times",
        f"{sum(twins)} of {len(twins)} twins without the join's wait noticed",
        *(f"wrong: network {each.number}: {each.wrong}" for each in wrong[:20]),
    ]
    ran = len(rtl) == min(wanted, len(found))
    well = not wrong and ran and bool(twins) and all(twins) and all(with_form.values())
    return "\n".join(lines), well


def _prepare() -> None:
    """In each process: one thread."""
    torch.set_num_threads(1)


def trials(numbers: Iterable[int], config: str, rtl: int, jobs: int) -> Iterator[Tried]:
    """Every network, in any order."""
    one = functools.partial(tried, config=config, rtl=rtl)
    if jobs <= 1:
        _prepare()
        yield from map(one, numbers)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, _prepare) as pool:
        yield from pool.imap_unordered(one, numbers, chunksize=4)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fuzz.arms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-n", type=int, default=1000, help="networks (default 1000)")
    parser.add_argument("--rtl", type=int, default=0, help="how many of them run on RTL, too")
    parser.add_argument("--config", default="tiny", help="configuration (default tiny)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    args = parser.parse_args(words)
    numbers = range(args.n)
    every = trials(numbers, args.config, args.rtl, args.jobs)
    found = list(tqdm(every, total=args.n, desc="arms", unit="network", disable=None))
    text, well = describe(found, args.rtl)
    print(text)
    return 0 if well else 1


if __name__ == "__main__":
    leave(main)
