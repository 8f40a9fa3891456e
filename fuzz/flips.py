"""Damaged files: refused, or the same values; never a traceback, never without end.

A bit is flipped in an ONNX file (which then says something else: it is judged by what it says),
or in program.bin, config.yaml, golden.npz and the input's .npz of a build (which must then be
refused or leave what the undamaged file left). Every file is tried in a process of its own kind:
one that is killed, or that wants much memory or time, is counted as such.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import random
import resource
import shutil
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from fuzz import truth
from fuzz.feeds import make_feeds
from fuzz.generate import draw
from fuzz.judge import judge
from fuzz.product import Crash, Product, Run, Settings, save, workplace

FILES = ("onnx", "program.bin", "config.yaml", "golden.npz", "feeds.npz", "source.npz")
PER_GRAPH = 24
"""Flips of one graph's files."""
SECONDS = 20
MEMORY = 6 << 30


@dataclasses.dataclass(frozen=True, slots=True)
class Flip:
    """One damaged file: what was flipped, and what came of it."""

    number: int
    file: str
    bit: int
    outcome: str
    detail: str = ""


class _Endless(BaseException):
    """A command takes too long. No handler of the toolkit is to take it for an error of its own."""


def _stop(signal_number: int, frame: FrameType | None) -> None:
    raise _Endless


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one bit changed."""
    made = bytearray(data)
    made[bit // 8] ^= 1 << bit % 8
    return bytes(made)


def try_graph(seed: int, number: int, config: str, folder: Path) -> Iterator[Flip]:
    """Damage the files of one graph; nothing if it is not accepted undamaged."""
    graph = draw(seed, number)
    model = graph.model
    product = Product(Settings(config, hfa="off"), folder)
    if judge(product, model).outcome != "accepted":
        return
    feeds = make_feeds(model)
    source = _recorded(product, model, folder)
    recording = source.with_suffix(".npz")
    want = product.run(feeds)
    assert isinstance(want, Run)
    shutil.copytree(folder / "build", folder / "whole")
    rng = random.Random(f"flips {seed}/{number}")
    for _ in range(PER_GRAPH):
        file = rng.choices(FILES, (40, 25, 8, 9, 9, 9))[0]
        beside = {"onnx": source, "feeds.npz": folder / "feeds.npz", "source.npz": recording}
        path = beside.get(file, folder / "whole" / file)
        if not path.is_file():
            continue
        data = path.read_bytes()
        bit = rng.randrange(8 * len(data))
        # Of the processor, whatever else runs; and of the clock, for what only waits.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(10 * SECONDS)
        try:
            if file == "onnx":
                outcome, detail = _model(product, flipped(data, bit))
            else:
                outcome, detail = _other(product, file, flipped(data, bit), want, model)
        except _Endless:
            outcome, detail = "endless", f"more than {SECONDS} s"
        except MemoryError:
            outcome, detail = "memory", f"more than {MEMORY >> 30} GiB"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
        yield Flip(number, file, bit, outcome, detail)


def _recorded(product: Product, model: onnx.ModelProto, folder: Path) -> Path:
    """A build with a recording of the run, made by ONNX Runtime where it agrees."""
    source = folder / "source.onnx"
    source.write_bytes(model.SerializeToString())
    feeds = make_feeds(model)
    for level in ("off", "all"):
        try:
            made = truth.whole(model, feeds, level)
        except truth.Refused:
            continue
        arrays = {f"input:{k}": v for k, v in feeds.items()}
        arrays |= {f"output:{v.name}": made[v.name] for v in model.graph.output}
        save(source.with_suffix(".npz"), arrays)
        if not product.build(source):
            return source
    source.with_suffix(".npz").unlink(missing_ok=True)
    product.build(source)
    return source


def _model(product: Product, data: bytes) -> tuple[str, str]:
    """A damaged ONNX file: the toolkit alone first, since it must read anything."""
    file = product.folder / "damaged.onnx"
    file.write_bytes(data)
    try:
        checked, built = product.check(file), product.build(file)
    except Crash as crash:
        return "traceback", str(crash)
    if bool(checked) != bool(built):
        return "check and build", f"check: {checked!r}; build: {built!r}"
    if checked:
        return "refused", checked
    try:
        model = onnx.load_from_string(data)
    except DecodeError as error:  # the toolkit has just read it
        return "unreadable", str(error)
    verdict = judge(product, model)
    same = {"accepted": "equal", "invalid": "accepted, refused by ONNX Runtime"}
    return same.get(verdict.outcome, verdict.outcome), verdict.detail


def _other(
    product: Product, file: str, data: bytes, want: Run, model: onnx.ModelProto
) -> tuple[str, str]:
    """A damaged file of a build folder, input or recording: refused, or as without the damage."""
    folder = product.folder
    shutil.rmtree(folder / "build")
    shutil.copytree(folder / "whole", folder / "build")
    given = folder / "given.npz"
    save(given, make_feeds(model))
    try:
        if file == "source.npz":
            source = folder / "recorded.onnx"
            source.write_bytes(model.SerializeToString())
            source.with_suffix(".npz").write_bytes(data)
            refused = product.build(source)
            if refused:
                return "refused", refused
        else:
            (given if file == "feeds.npz" else folder / "build" / file).write_bytes(data)
        run = product.run_file(given)
    except Crash as crash:
        return "traceback", str(crash)
    if isinstance(run, str):
        return "refused", run
    for name, stored in want.tensors.items():
        if name not in run.tensors or not np.array_equal(stored.codes, run.tensors[name].codes):
            return "wrong", f"{name} differs, and nothing says so"
    for name, array in want.outputs.items():
        if name not in run.outputs or not np.array_equal(array, run.outputs[name]):
            return "wrong", f"output {name} differs, and nothing says so"
    return "equal", ""


def _child(pipe: Connection, seed: int, numbers: list[int], config: str) -> None:
    import torch

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for each in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(each, _stop)
    with contextlib.suppress(BrokenPipeError):  # enough was seen
        for number in numbers:
            with workplace() as folder:
                for flip in try_graph(seed, number, config, Path(folder)):
                    pipe.send(flip)
            pipe.send(number)
    pipe.close()


def flips(count: int, seed: int, config: str) -> Iterator[Flip]:
    """Damaged files, about as many as asked for."""
    context = multiprocessing.get_context("spawn")
    done, number = 0, 0
    while done < count:
        numbers = list(range(number, number + 50))
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(theirs, seed, numbers, config))
        child.start()
        theirs.close()
        try:
            while True:
                found = ours.recv()
                if isinstance(found, Flip):
                    done += 1
                    yield found
                else:
                    number = found + 1
                if done >= count:
                    ours.close()
                    child.join()
                    return
        except EOFError:
            child.join()
        if number not in (numbers[-1] + 1,):
            yield Flip(number, "?", 0, "killed", f"the process ended with {child.exitcode}")
            done, number = done + 1, number + 1


GOOD = ("refused", "equal", "accepted, refused by ONNX Runtime")


def main(count: int, seed: int, config: str) -> int:
    """Damage files, print what came of them; 1 if anything is wrong."""
    outcomes: Counter[tuple[str, str]] = Counter()
    bad: dict[tuple[str, str], list[Flip]] = defaultdict(list)
    for flip in flips(count, seed, config):
        outcomes[flip.file, flip.outcome] += 1
        if flip.outcome not in GOOD:
            bad[flip.file, flip.outcome].append(flip)
    for (file, outcome), number in sorted(outcomes.items()):
        print(f"{number:6} {file}: {outcome}")
    for (file, outcome), found in bad.items():
        for flip in found[:5]:
            print(f"{file}, {outcome}: graph {seed}/{flip.number}, bit {flip.bit}: {flip.detail}")
    sys.stdout.flush()
    return 1 if bad else 0
