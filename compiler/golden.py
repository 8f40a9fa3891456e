"""Compare the graph with the input and outputs that were recorded beside the ONNX file."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler import interpreter
from compiler.ir import CompilerError, Graph, Port

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
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CompilerError(f"the recorded arrays {path} cannot be read: {error}") from error


def compare(graph: Graph, source: Path, folder: Path, enabled: bool = True) -> Verdict:
    """Run the recorded input and compare every recorded output; writes golden.npz.

    golden.npz holds what was recorded and, under ``input:`` and ``output:`` of the integer
    tensors' names, their codes.

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
    kept = dict(recorded)
    for port in graph.inputs:
        given = feeds.get(port.value, feeds.get(port.onnx_name))
        if given is None:
            raise CompilerError(f"{path}: no array input:{port.onnx_name}")
        kept[f"input:{port.value}"] = interpreter.quantize_input(given, graph.type(port.value))
    lines, state = ["skipped, as asked\n"], "skipped"
    if enabled:
        wanted = [port.value for port in graph.outputs]
        results = interpreter.run(graph, feeds, wanted)
        lines = [
            _compare_port(graph, port, results[port.value], recorded, path)
            for port in graph.outputs
        ]
        kept.update({f"output:{name}": codes for name, codes in results.items()})
        state = "equal"
    np.savez(folder / "golden.npz", **kept)  # type: ignore[arg-type]
    return Verdict(state, "".join(lines))


def _compare_port(
    graph: Graph, port: Port, codes: Array, recorded: Mapping[str, Array], path: Path
) -> str:
    """Compare one output of the network in integers, and in float where it was recorded."""
    kind = graph.type(port.value)
    mine = {port.value: codes}
    if port.onnx_name != port.value:
        mine[port.onnx_name] = interpreter.dequantize(codes, kind)
    found = [name for name in mine if f"output:{name}" in recorded]
    if not found:
        raise CompilerError(f"{path}: no array output:{port.onnx_name} to compare with")
    for name in found:
        theirs = recorded[f"output:{name}"]
        if theirs.shape != mine[name].shape:
            raise CompilerError(
                f"{path}: output:{name} has shape {list(theirs.shape)}, the network makes "
                f"{list(mine[name].shape)}"
            )
        wrong = np.argwhere(theirs != mine[name])
        if wrong.size:
            at = tuple(int(i) for i in wrong[0])
            raise CompilerError(
                f"{name}: {len(wrong)} of {theirs.size} elements differ from {path.name}, first at "
                f"{list(at)}: {mine[name][at]} instead of {theirs[at]} (if ONNX Runtime recorded "
                "it: on a CPU without VNNI it saturates sums of U8 × S8 products unless the option "
                "session.x64quantprecision of its session is 1; --no-golden builds without it)"
            )
    return f"{port.onnx_name}: {codes.size} elements equal ({', '.join(found)})\n"
