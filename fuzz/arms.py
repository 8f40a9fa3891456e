"""Random networks with If and Loop through everything.

    python -m fuzz.arms -n 1000 --rtl 50 --jobs 2

Each is built and proven: every tensor of every arm and trip equals the oracle's on the functional
simulator. The first ones run on RTL: every byte of DRAM, every overwritten tensor and every
instruction's times are those of the cycle model. A twin of each waits for nothing that stands
before the last join; where the join orders DRAM, the hazard checker has to notice.

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
from hw.arch.isa import Fence, Load, Scalar, Set, Store, Unit, UnitInstruction
from hw.arch.program import Program
from hw.arch.walk import Memory, accesses
from hw.timeline.step import Step
from proof.build import build
from shell import leave
from sim import host
from sim.backend import BackendResult, Options
from sim.backends import make_backend
from sim.build import Build
from sim.functional.backend import dynamic_trace
from sim.functional.hazards import HazardChecker, HazardError, check_hazards


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
    """Whether the hazard checker notices that the last block waits for nothing before it.

    None where that orders nothing in DRAM on the path that the data choose.
    """
    trace = dynamic_trace(program, config, memory)
    check_hazards(trace, config, program.memory_bytes)
    if not reads_what_is_in_flight(program, config, trace):
        return None
    wrong = forgetful(program, len(program.blocks) - 1)
    try:
        check_hazards(dynamic_trace(wrong, config, memory), config, program.memory_bytes)
    except HazardError:
        return True
    return False


def reads_what_is_in_flight(
    program: Program, config: AcceleratorConfig, trace: Sequence[Step]
) -> bool:
    """Whether a LOAD of the last block reads what a STORE before it may not have written yet.

    What other units have waited for does not count. Of the LOADs only those before the block's
    first STORE count: a wait for that would be one for all STOREs before it.
    """
    first = program.blocks[-1].first
    checker, stores = HazardChecker(config, program.memory_bytes), list[tuple[int, int]]()
    known: tuple[int, ...] | None = None
    for step in trace:
        if known is None and step.pc >= first:
            known = checker.known()
        checker.add(step)
        instruction = step.instruction
        if isinstance(instruction, Store) and known is not None:
            return False
        if not isinstance(instruction, Load | Store):
            continue
        (touched,) = (a for a in accesses(instruction, config) if a.memory is Memory.DRAM)
        if isinstance(instruction, Store):
            stores.append((touched.low, touched.high))
        elif known is not None:
            late = stores[known[Unit.STORE] :]
            if any(low <= touched.high and touched.low <= high for low, high in late):
                return True
    return False


def forgetful(program: Program, number: int) -> Program:
    """The program with a block that waits for nothing that stands before it."""
    block, given = program.blocks[number], dict.fromkeys(Unit, 0)
    code = list(program.instructions)
    for index in range(block.first, block.last):
        each = code[index]
        if isinstance(each, Fence):
            code[index] = Set()
        elif isinstance(each, Scalar | UnitInstruction):
            pairs = zip(Unit, each.waits, strict=True)
            waits = tuple(wait if wait <= given[unit] else 0 for unit, wait in pairs)
            code[index] = dataclasses.replace(each, waits=waits)
            if isinstance(each, UnitInstruction):
                given[each.UNIT] += 1
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
