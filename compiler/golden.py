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
CHECK, REPORT, ADOPT, OFF = "check", "report", "adopt", "off"
MODES = (CHECK, REPORT, ADOPT, OFF)
"""A recording that differs is an error; is accepted if by rounding only; is taken as it is, for
runs to be compared with; is not opened."""
RECORD = "record"
"""The proof makes a recording of its own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """How the comparison ended.

    Attributes
    ----------
    state: ``equal``, ``differs`` (by rounding, as accepted), ``skipped`` (as asked, or because
        the host's part of the graph runs in a proof only), ``recorded`` (by the proof) or
        ``absent``.
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


def adopt(graph: Graph, source: Path, folder: Path) -> dict[str, Array] | None:
    """What was recorded beside a file; None if nothing was. Writes golden.npz.

    golden.npz holds the recorded arrays, ``input:<name>`` and ``output:<name>`` by the graph's
    names as the file types them, and ``output:<name>`` of integer tensors.

    Raises
    ------
    CompilerError
        The recorded arrays are damaged, or one of the graph's inputs or outputs is missing.
    """
    path = source.with_suffix(".npz")
    if not path.is_file():
        return None
    recorded = load(path)
    for port in graph.signature:
        if port.used and f"input:{port.name}" not in recorded:
            raise CompilerError(f"{path}: no array input:{port.name}")
    for out in graph.outputs:
        if f"output:{out.onnx_name}" not in recorded:
            raise CompilerError(f"{path}: no array output:{out.onnx_name} to compare with")
    write_arrays(folder / "golden.npz", recorded)
    return recorded


def interpreted(graph: Graph, recorded: Mapping[str, Array]) -> dict[str, Array]:
    """What the interpreter makes of whatever was recorded, for builds that nothing proves."""
    feeds = {key[6:]: array for key, array in recorded.items() if key.startswith("input:")}
    ports = {port.onnx_name: port for port in graph.outputs}
    tensors = [name for name in graph.values if f"output:{name}" in recorded and name not in ports]
    wanted = {*(port.value for port in graph.outputs), *tensors}
    results = interpreter.run(graph, feeds, sorted(wanted))
    made = {n: interpreter.output(graph, port, results[port.value]) for n, port in ports.items()}
    return made | {name: results[name] for name in tensors}


def judge(
    graph: Graph,
    made: Mapping[str, Array],
    recorded: Mapping[str, Array],
    path: Path,
    folder: Path,
    mode: str = CHECK,
) -> Verdict:
    """Compare what was made with what was recorded.

    What differs, and is accepted, is taken out of golden.npz.

    Raises
    ------
    CompilerError
        Something differs by more than is accepted.
    """
    step = {
        port.onnx_name: graph.type(port.value).scale if port.real else 1.0 for port in graph.outputs
    }
    lines, differences = [], {}
    for name, value in made.items():
        theirs = recorded[f"output:{name}"]
        count = _differing(name, value, theirs, path, step.get(name, 1.0) if mode == REPORT else 0)
        lines.append(f"{name}: {count} of {value.size} elements differ\n")
        if count:
            differences[name] = (int(value.size), count)
    if differences:
        gone = {f"output:{name}" for name in differences}
        kept = {key: value for key, value in recorded.items() if key not in gone}
        write_arrays(folder / "golden.npz", kept)
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
