"""Compare the graph with the input and outputs that were recorded beside the ONNX file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler import interpreter
from compiler.ir import CompilerError, Graph
from hw.arch.arrays import ArraysError, read_arrays, write_arrays

Array = npt.NDArray[Any]


RECORDED_BY_ORT = (
    "if ONNX Runtime recorded it: on a CPU without VNNI it saturates sums of U8 × S8 products "
    "unless the option session.x64quantprecision of its session is 1; --golden report accepts "
    "steps of one, --golden off builds without looking"
)
CHECK, REPORT, OFF = "check", "report", "off"
MODES = (CHECK, REPORT, OFF)
"""A recording that differs is an error; is accepted if by rounding only; is not looked at."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """How the comparison ended.

    Attributes
    ----------
    state: ``equal``, ``differs`` (by rounding, as accepted), ``skipped`` or ``absent``.
    text: for the stage dump.
    differences: by name of what differs: elements, differing elements.
    """

    state: str
    text: str
    differences: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)


def load(path: Path) -> dict[str, Array]:
    """Read recorded arrays, keys ``input:<name>`` and ``output:<name>``.

    Raises
    ------
    CompilerError
        The file is damaged.
    """
    try:
        return read_arrays(path)
    except ArraysError as error:
        raise CompilerError(f"the recorded arrays cannot be read: {error}") from error


def compare(graph: Graph, source: Path, folder: Path, mode: str = CHECK) -> Verdict:
    """Run the recorded input and compare whatever was recorded; writes golden.npz.

    golden.npz holds the recorded arrays, ``input:<name>`` and ``output:<name>`` by the graph's
    names as the file types them, and ``output:<name>`` of integer tensors; without those that
    differ and were accepted.

    Raises
    ------
    CompilerError
        The recorded arrays are damaged, do not fit the graph, or differ from its outputs.
    """
    path = source.with_suffix(".npz")
    if not path.is_file():
        return Verdict("absent", f"no {path.name} beside the ONNX file: nothing was compared\n")
    recorded = load(path)
    for port in graph.signature:
        if port.used and f"input:{port.name}" not in recorded:
            raise CompilerError(f"{path}: no array input:{port.name}")
    verdict = Verdict("skipped", "skipped, as asked\n")
    if mode != OFF and not graph.host:
        verdict = _compared(graph, recorded, path, mode)
    kept = {
        k: v for k, v in recorded.items() if k.removeprefix("output:") not in verdict.differences
    }
    write_arrays(folder / "golden.npz", kept)
    return verdict


def _compared(graph: Graph, recorded: Mapping[str, Array], path: Path, mode: str) -> Verdict:
    """Compare the graph's outputs, and recorded tensors that it has a value for."""
    feeds = {key[6:]: array for key, array in recorded.items() if key.startswith("input:")}
    keys = {port.onnx_name: port for port in graph.outputs}
    tensors = [name for name in graph.values if f"output:{name}" in recorded and name not in keys]
    wanted = {*(port.value for port in graph.outputs), *tensors}
    results = interpreter.run(graph, feeds, sorted(wanted))
    mine = {n: interpreter.output(graph, port, results[port.value]) for n, port in keys.items()}
    for name in mine:
        if f"output:{name}" not in recorded:
            raise CompilerError(f"{path}: no array output:{name} to compare with")
    mine |= {name: results[name] for name in tensors}
    step = {name: graph.type(port.value).scale if port.real else 1.0 for name, port in keys.items()}
    lines, differences = [], {}
    for name, value in mine.items():
        theirs = recorded[f"output:{name}"]
        count = _differing(name, value, theirs, path, step.get(name, 1.0) if mode == REPORT else 0)
        lines.append(f"{name}: {count} of {value.size} elements differ\n")
        if count:
            differences[name] = (int(value.size), count)
    return Verdict("differs" if differences else "equal", "".join(lines), differences)


def _differing(name: str, mine: Array, theirs: Array, path: Path, accepted: float) -> int:
    """Elements of one array that differ, each by no more than is accepted.

    Raises
    ------
    CompilerError
        One differs by more; names the first.
    """
    if theirs.shape != mine.shape:
        raise CompilerError(
            f"{path}: output:{name} has shape {list(theirs.shape)}, the network makes "
            f"{list(mine.shape)}"
        )
    apart = np.abs(theirs.astype(np.float64) - mine.astype(np.float64))
    wrong = np.argwhere(~(apart <= 1.001 * accepted))
    if wrong.size:
        at = tuple(int(i) for i in wrong[0])
        raise CompilerError(
            f"{name}: {len(wrong)} of {theirs.size} elements differ from {path.name}"
            + (" by more than a step" if accepted else "")
            + f", first at {list(at)}: {mine[at]} instead of {theirs[at]} ({RECORDED_BY_ORT})"
        )
    return int(np.count_nonzero(theirs != mine))
