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


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """How the comparison ended.

    Attributes
    ----------
    state: ``equal``, ``skipped`` or ``absent``.
    text: for the stage dump.
    """

    state: str
    text: str


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
        raise CompilerError(f"the recorded arrays {error}") from error


def compare(graph: Graph, source: Path, folder: Path, enabled: bool = True) -> Verdict:
    """Run the recorded input and compare whatever was recorded; writes golden.npz.

    golden.npz holds the recorded arrays, ``input:<name>`` and ``output:<name>`` by the graph's
    names as the file types them, and ``output:<name>`` of integer tensors.

    Raises
    ------
    CompilerError
        The recorded arrays are damaged, do not fit the graph, or differ from its outputs.
    """
    path = source.with_suffix(".npz")
    if not path.is_file():
        return Verdict("absent", f"no {path.name} beside the ONNX file: nothing was compared\n")
    recorded = load(path)
    feeds = {key[6:]: array for key, array in recorded.items() if key.startswith("input:")}
    for port in graph.signature:
        if port.used and port.name not in feeds:
            raise CompilerError(f"{path}: no array input:{port.name}")
    lines, state = ["skipped, as asked\n"], "skipped"
    if enabled and not graph.host:
        lines, state = _compared(graph, feeds, recorded, path), "equal"
    write_arrays(folder / "golden.npz", recorded)
    return Verdict(state, "".join(lines))


def _compared(
    graph: Graph, feeds: Mapping[str, Array], recorded: Mapping[str, Array], path: Path
) -> list[str]:
    """Compare the graph's outputs, and recorded tensors that it has a value for."""
    keys = {port.onnx_name: port for port in graph.outputs}
    tensors = [name for name in graph.values if f"output:{name}" in recorded and name not in keys]
    wanted = {*(port.value for port in graph.outputs), *tensors}
    results = interpreter.run(graph, feeds, sorted(wanted))
    mine = {n: interpreter.output(graph, port, results[port.value]) for n, port in keys.items()}
    for name in mine:
        if f"output:{name}" not in recorded:
            raise CompilerError(f"{path}: no array output:{name} to compare with")
    mine |= {name: results[name] for name in tensors}
    return [_compare(name, value, recorded[f"output:{name}"], path) for name, value in mine.items()]


def _compare(name: str, mine: Array, theirs: Array, path: Path) -> str:
    """Compare one array."""
    if theirs.shape != mine.shape:
        raise CompilerError(
            f"{path}: output:{name} has shape {list(theirs.shape)}, the network makes "
            f"{list(mine.shape)}"
        )
    wrong = np.argwhere(theirs != mine)
    if wrong.size:
        at = tuple(int(i) for i in wrong[0])
        raise CompilerError(
            f"{name}: {len(wrong)} of {theirs.size} elements differ from {path.name}, first at "
            f"{list(at)}: {mine[at]} instead of {theirs[at]} (if ONNX Runtime recorded "
            "it: on a CPU without VNNI it saturates sums of U8 × S8 products unless the option "
            "session.x64quantprecision of its session is 1; --no-golden builds without it)"
        )
    return f"{name}: {mine.size} elements equal\n"
