"""Random graphs: what is drawn, in which shares, and how a drawn graph is written."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping

import onnx

from fuzz.bench import Bench, Unsuitable
from fuzz.choices import Choices
from fuzz.forms import attention, border, dense, functions, moves, pairs, pools, windows
from fuzz.style import choose_style

Step = Callable[[Bench], None]
STEPS: dict[str, tuple[Callable[[Bench], object], float]] = {
    "conv": (windows.conv, 24),
    "pair": (pairs.pair, 9),
    "gate": (pairs.gate, 5),
    "constant": (pairs.constant, 7),
    "prelu": (pairs.prelu, 1.5),
    "concat": (pairs.concat, 10),
    "unary": (functions.unary, 19),
    "requantize": (functions.requantize, 2),
    "max_pool": (pools.max_pool, 7),
    "average_pool": (pools.average_pool, 5),
    "global_average_pool": (pools.global_average_pool, 4.2),
    "reduce_mean": (pools.reduce_mean, 4.8),
    "channels_last": (windows.channels_last, 0.4),
    "gemm": (dense.gemm, 4.5),
    "tokens": (dense.tokens, 2),
    "move": (moves.own_pairs, 7),
    "bare_move": (moves.bare, 5),
    "move_of_codes": (moves.on_codes, 3),
    "split": (moves.split, 4),
    "shuffle": (moves.shuffle, 1.9),
    "roll": (moves.roll, 1.5),
}
"""Steps and their weights."""
ATTENTION: dict[str, tuple[Callable[[Bench], object], float]] = {
    "product": (attention.product, 8),
    "heads": (attention.heads, 6),
    "softmax": (attention.softmax, 6),
    "norm": (attention.norm, 7),
    "batch_norm": (attention.batch_norm, 3),
    "index": (attention.index, 3),
}
"""Steps of attention, for configurations with its features."""
ALL = STEPS | ATTENTION
OPERATORS = (2, 12)
TRIES = 12


@dataclasses.dataclass(slots=True)
class Plan:
    """Everything that was drawn for a graph.

    Attributes
    ----------
    style, inputs, outputs: choices of these parts.
    steps: name of each step, and its choices.
    """

    style: list[int]
    inputs: list[int]
    steps: list[tuple[str, list[int]]]
    outputs: list[int]

    def text(self) -> str:
        """As one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of(cls, text: str) -> Plan:
        """Read `text` back."""
        content = json.loads(text)
        content["steps"] = [(name, choices) for name, choices in content["steps"]]
        return cls(**content)


@dataclasses.dataclass(frozen=True, slots=True)
class Graph:
    """A random graph.

    Attributes
    ----------
    plan: how it was made; `write` makes it again.
    model: the file.
    forms: what it holds.
    shapes: what the generator takes tensors of the file for, by name.
    """

    plan: Plan
    model: onnx.ModelProto
    forms: Counter[str]
    shapes: Mapping[str, tuple[int, ...]]


def draw(
    seed: int, number: int, steps: Mapping[str, tuple[Callable[[Bench], object], float]] = STEPS
) -> Graph:
    """Graph `number` of the row that `seed` stands for.

    Parameters
    ----------
    steps: what is drawn from, some of `ALL`.
    """
    rng = random.Random(f"{seed}/{number}")
    c = Choices(rng)
    bench = Bench(choose_style(c), c)
    plan = Plan(c.taken, [], [], [])
    while True:  # inputs hardly ever fail
        done = _attempt(bench, border.inputs, Choices(rng))
        if done is not None:
            plan.inputs = done
            break
    wanted = rng.randint(*OPERATORS)
    names, weights = list(steps), [weight for _, weight in steps.values()]
    failed = 0
    while len(bench.values) < wanted + 1 and failed < TRIES:
        name = rng.choices(names, weights)[0]
        done = _attempt(bench, steps[name][0], Choices(rng))
        if done is None:
            failed += 1
        else:
            plan.steps.append((name, done))
    return _finish(bench, plan, Choices(rng))


def write(plan: Plan) -> Graph:
    """Make the graph of a plan; steps that no longer fit are left out.

    Raises
    ------
    Unsuitable
        The plan has no inputs that can be written.
    """
    bench = Bench(choose_style(Choices(None, plan.style)), Choices(None, plan.style))
    if _attempt(bench, border.inputs, Choices(None, plan.inputs)) is None:
        raise Unsuitable
    kept: list[tuple[str, list[int]]] = []
    for name, choices in plan.steps:
        done = _attempt(bench, ALL[name][0], Choices(None, choices))
        if done is not None:
            kept.append((name, done))
    made = Plan(plan.style, plan.inputs, kept, plan.outputs)
    return _finish(bench, made, Choices(None, plan.outputs))


def _finish(bench: Bench, plan: Plan, c: Choices) -> Graph:
    bench.c = c
    border.outputs(bench)
    plan.outputs = c.taken
    style = bench.style
    bench.form(
        f"opset.{style.opset}",
        f"format.{'qoperator' if style.qoperator else 'qdq'}",
        f"activations.{'s8' if style.signed else 'u8'}",
        f"scales.{style.scales}",
        f"names.{style.names}",
        f"node_names.{style.node_names}",
        f"constants.{style.constants}",
    )
    shapes = {v.codes or v.real: v.shape for v in bench.values}
    return Graph(plan, bench.writer.model(), +bench.forms, shapes)


def _attempt(bench: Bench, step: Callable[[Bench], object], c: Choices) -> list[int] | None:
    """Run a step; its choices, or None, and nothing has changed, if it does not fit."""
    mark, count, forms = bench.writer.mark(), len(bench.values), Counter(bench.forms)
    before = [(v.real, v.readers) for v in bench.values]
    bench.c = c
    try:
        step(bench)
    except Unsuitable:
        bench.writer.restore(mark)
        del bench.values[count:]
        for value, (real, readers) in zip(bench.values, before, strict=True):
            value.real, value.readers = real, readers
        bench.forms = forms
        return None
    return c.taken
