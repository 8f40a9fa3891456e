"""Many graphs: drawn, judged, counted; failures made small and written down."""

from __future__ import annotations

import dataclasses
import multiprocessing
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from fuzz.generate import ALL, STEPS, Graph, draw
from fuzz.judge import Verdict, judge
from fuzz.product import Product, Settings, workplace
from fuzz.shrink import shrink

CHUNK = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """What a campaign tries.

    Attributes
    ----------
    seed, count: graphs `seed`/0 to `seed`/(count - 1).
    config: configuration's name.
    rtl: percentage of the accepted graphs that run on RTL as well.
    attention: steps of attention are drawn, too; the configuration needs their features.
    """

    seed: int
    count: int
    config: str = "tiny"
    rtl: float = 0.0
    attention: bool = True

    def draw(self, number: int) -> Graph:
        """One of the graphs."""
        return draw(self.seed, number, ALL if self.attention else STEPS)


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """One graph's verdict, and what it holds."""

    number: int
    verdict: Verdict
    forms: tuple[str, ...]
    operators: int
    seconds: float


def settings_of(task: Task, number: int) -> Settings:
    """How graph `number` is built: operators joined or not, transformed or not."""
    rng = random.Random(f"settings {task.seed}/{number}")
    return Settings(
        config=task.config,
        fuse=rng.random() < 0.85,
        hfa="auto" if rng.random() < 0.3 else "off",
        command=rng.random() < 0.1,
        rtl=rng.random() * 100 < task.rtl,
    )


def trial(task: Task, number: int, folder: Path) -> Trial:
    """Draw and judge one graph."""
    start = time.perf_counter()
    graph = task.draw(number)
    verdict = judge(Product(settings_of(task, number), folder), graph.model)
    seconds = time.perf_counter() - start
    return Trial(number, verdict, tuple(graph.forms), len(graph.plan.steps), seconds)


def _prepare() -> None:
    """In each process: one thread."""
    import torch

    torch.set_num_threads(1)


def _several(job: tuple[Task, range]) -> list[Trial]:
    task, numbers = job
    with workplace() as folder:
        return [trial(task, number, Path(folder)) for number in numbers]


def trials(task: Task, jobs: int) -> Iterator[Trial]:
    """Every graph of a task, in any order."""
    chunks = [
        (task, range(first, min(first + CHUNK, task.count)))
        for first in range(0, task.count, CHUNK)
    ]
    if jobs <= 1:
        _prepare()
        for chunk in chunks:
            yield from _several(chunk)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, _prepare) as pool:
        for found in pool.imap_unordered(_several, chunks):
            yield from found


@dataclasses.dataclass(slots=True)
class Summary:
    """What a campaign found.

    Attributes
    ----------
    outcomes: graphs by outcome.
    forms: accepted graphs by form; `drawn`: all.
    refusals, failures: graphs by kind; numbers of the first few.
    deviations: by operator, elements one step off the file's nodes, and elements.
    """

    outcomes: Counter[str] = dataclasses.field(default_factory=Counter)
    forms: Counter[str] = dataclasses.field(default_factory=Counter)
    drawn: Counter[str] = dataclasses.field(default_factory=Counter)
    refusals: dict[str, list[int]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    failures: dict[str, list[Trial]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    deviations: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def add(self, found: Trial) -> None:
        """Count one trial."""
        verdict = found.verdict
        self.outcomes[verdict.outcome] += 1
        self.drawn.update(found.forms)
        self.seconds += found.seconds
        if verdict.outcome == "accepted":
            self.forms.update(found.forms)
        elif verdict.outcome == "refused":
            self.refusals[verdict.kind].append(found.number)
        else:
            self.failures[verdict.kind].append(found)
        for operator, (off, count) in verdict.deviations.items():
            before = self.deviations.get(operator, (0, 0))
            self.deviations[operator] = before[0] + off, before[1] + count

    @property
    def count(self) -> int:
        """Graphs tried."""
        return self.outcomes.total()


def run(task: Task, jobs: int) -> Summary:
    """Try every graph of a task."""
    summary = Summary()
    with tqdm(total=task.count, desc="fuzz", unit="graph", disable=None) as bar:
        for found in trials(task, jobs):
            summary.add(found)
            bar.update()
            wrong = summary.outcomes["wrong"] + summary.outcomes["invalid"]
            bar.set_postfix(accepted=summary.outcomes["accepted"], wrong=wrong)
    return summary


def write_failures(
    summary: Summary, task: Task, folder: Path, kinds: int, seconds: float
) -> list[str]:
    """Shrink the first graph of the most frequent kinds; lines that rerun them."""
    _prepare()
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    ordered = sorted(summary.failures.items(), key=lambda item: -len(item[1]))
    for rank, (kind, found) in enumerate(ordered[:kinds]):
        number = min(t.number for t in found)
        settings = settings_of(task, number)
        path = folder / f"{task.seed}-{number}.onnx"
        with workplace() as place:
            product = Product(settings, Path(place))
            small = _shrunk(task.draw(number), product, kind, seconds)
            verdict = judge(product, small.model)
        path.write_bytes(small.model.SerializeToString())
        path.with_suffix(".plan.json").write_text(small.plan.text() + "\n")
        lines.append(
            f"{rank + 1:3}. {len(found)} × {kind}\n     {verdict.detail}\n"
            f"     python -m fuzz --replay {path} {settings.words()}"
        )
    return lines


def _shrunk(graph: Graph, product: Product, kind: str, seconds: float) -> Graph:
    return shrink(graph, lambda made: judge(product, made.model).kind == kind, seconds)
