"""What a network said: the largest values of every output, by class where there are classes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.program import Output, Program
from sim import host
from sim.build import Arrays
from sim.errors import InputError

TOP = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One value of an output.

    Attributes
    ----------
    index: in the output's shape; of a vector of classes, the class alone.
    value: a real number, also where the output is codes.
    label: of the class; "" without labels.
    """

    index: tuple[int, ...]
    value: float
    label: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The largest values of an output, or of one item of a batch.

    Attributes
    ----------
    output: its name. item: of the batch; −1 where there is one only.
    shape: of the output.
    low, high: the least and the largest value.
    entries: the largest first; equal ones by their index.
    tied: further values that equal the last entry's.
    """

    output: str
    item: int
    shape: tuple[int, ...]
    low: float
    high: float
    entries: tuple[Entry, ...]
    tied: int

    def lines(self) -> list[str]:
        """For people."""
        of = f", item {self.item}" if self.item >= 0 else ""
        shape = "×".join(map(str, self.shape)) or "scalar"
        lines = [f"{self.output}{of} ({shape}; {self.low:.4g} … {self.high:.4g}):"]
        for entry in self.entries:
            place = ", ".join(map(str, entry.index))
            lines.append(f"  {entry.value:10.4f}  {place}  {entry.label}".rstrip())
        if self.tied:
            lines.append(f"  {self.tied} more equal the last of these")
        return lines


def answers(
    program: Program, outputs: Arrays, labels: Sequence[str] = (), top: int = TOP
) -> list[Answer]:
    """The largest values of each output.

    Parameters
    ----------
    outputs: by name, as the file types them.
    labels: names of classes; for every output whose classes are as many.
    top: how many values of each.
    """
    found: list[Answer] = []
    for port in program.outputs:
        value = reals(program, port, outputs[port.name])
        axis = class_axis(value.shape)
        names = labels if axis is not None and value.shape[axis] == len(labels) else ()
        single = axis is None or value.shape[0] == 1 or axis == 0
        parts = [(-1, value)] if single else list(enumerate(value))
        for item, part in parts:
            found.append(_answer(port, item, part, axis is not None, names, top))
    return found


def check_labels(program: Program, labels: Sequence[str]) -> None:
    """Refuse labels that no output has as many classes as.

    Raises
    ------
    InputError
        Names the outputs' shapes.
    """
    axes = [(port.shape, class_axis(port.shape)) for port in program.outputs]
    if labels and not any(a is not None and shape[a] == len(labels) for shape, a in axes):
        shapes = ", ".join(f"{port.name} {list(port.shape)}" for port in program.outputs)
        raise InputError(f"{len(labels)} labels, and no output has as many classes: {shapes}")


def reals(program: Program, port: Output, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """An output in real numbers."""
    if port.dtype == "float32":
        return np.asarray(value, np.float32)
    return host.dequantize(program.tensor(port.tensor), value)


def class_axis(shape: tuple[int, ...]) -> int | None:
    """The axis of classes of a vector, or of a batch of vectors; None of a map."""
    long = [axis for axis, size in enumerate(shape) if size > 1]
    batch_of_vectors = len(long) == 2 and long[0] == 0
    if not shape or (len(long) > 1 and not batch_of_vectors):
        return None
    return long[-1] if long else len(shape) - 1


def _answer(
    port: Output,
    item: int,
    value: npt.NDArray[np.float32],
    vector: bool,
    labels: Sequence[str],
    top: int,
) -> Answer:
    flat = value.reshape(-1)
    order = np.argsort(-flat, kind="stable")[:top]
    entries = []
    for at in order:
        where = (int(at),) if vector else tuple(map(int, np.unravel_index(at, value.shape)))
        label = labels[int(at)] if labels else ""
        entries.append(Entry(where, float(flat[at]), label))
    tied = int(np.count_nonzero(flat == flat[order[-1]])) if len(order) else 0
    tied -= sum(flat[at] == flat[order[-1]] for at in order)
    low, high = (float(flat.min()), float(flat.max())) if flat.size else (0.0, 0.0)
    return Answer(port.name, item, port.shape, low, high, tuple(entries), int(tied))


def read_labels(path: Path) -> list[str]:
    """Names of classes: a line each, or JSON, a list or a mapping of index to name.

    Raises
    ------
    InputError
        If the file cannot be read, or an index is missing.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the labels {path}: {error}") from error
    if path.suffix != ".json":
        return text.rstrip("\n").split("\n")
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is no JSON file: {error}") from error
    if isinstance(content, list):
        return [_label(value) for value in content]
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds neither a list of labels nor a mapping")
    missing = [i for i in range(len(content)) if str(i) not in content]
    if missing:
        raise InputError(f"{path}: {len(content)} labels, none of index {missing[0]}")
    return [_label(content[str(i)]) for i in range(len(content))]


def _label(value: Any) -> str:
    """A name; of several (identifier, name) the last."""
    return str(value[-1]) if isinstance(value, list) and value else str(value)
