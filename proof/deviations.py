"""How often the integer definitions differ from ONNX Runtime on scales that are short decimals.

python -m proof.deviations [FILE]     measure, and write the table into docs/numerics.md

Random scales hardly ever meet a tie. Scales set by hand do, and then float noise decides: each
operator is measured alone, all by one step at most, against the file's nodes as they are written
(optimizations off) and against ONNX Runtime's kernels (all optimizations).
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from models.exactness import exact_session
from models.reference import Reference
from proof.limits import PAGE
from shell import leave

BEGIN = "<!-- deviations: python -m proof.deviations -->\n"
END = "<!-- end of deviations -->\n"
SHAPE = (1, 16, 4, 16, 16)
OFF = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
ALL = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One operator.

    Attributes
    ----------
    op, scales, result: ONNX operator, scales of its operands and of its result.
    zero: zero point of all of them (u8).
    clamp: Relu behind it.
    attributes: of the node.
    """

    op: str
    scales: tuple[float, ...]
    result: float
    zero: int = 128
    clamp: bool = False
    attributes: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        window = ", ".join(str(v) for _, v in self.attributes)
        scales = ", ".join(f"{s:g}" for s in self.scales)
        name = f"{self.op} {window}".strip() + (", Relu" if self.clamp else "")
        return f"{name}: {scales} → {self.result:g}, zero point {self.zero}"


MEAN = (("axes", [2]),)
POOL = (("kernel_shape", [1, 2, 2]), ("strides", [1, 2, 2]))
CASES = (
    Case("Add", (0.05, 0.03), 0.06, 131),
    Case("Add", (0.05, 0.03), 0.06, 131, clamp=True),
    Case("Sub", (0.05, 0.05), 0.1),
    Case("Sub", (0.1, 0.05), 0.3),
    Case("Sub", (0.3, 0.39), 0.1),
    Case("Mul", (0.05, 0.03), 0.1, 131),
    Case("Mul", (0.05, 0.03), 0.1, 131, clamp=True),
    Case("ReduceMean", (0.05,), 0.05, attributes=MEAN),
    Case("ReduceMean", (0.1,), 0.05, attributes=MEAN),
    Case("ReduceMean", (0.05,), 0.0213, attributes=MEAN),
    Case("AveragePool", (0.05,), 0.03, 131, attributes=POOL),
    Case("AveragePool", (0.05,), 0.05, 131, attributes=POOL),
    Case("AveragePool", (0.05,), 0.05, 128, attributes=POOL),
)


def model_of(case: Case) -> onnx.ModelProto:
    """A file with the one operator, QDQ."""
    nodes, constants, inputs, operands = [], [], [], []

    def parameters(name: str, scale: float) -> list[str]:
        constants.append(numpy_helper.from_array(np.float32(scale), f"{name}_s"))
        constants.append(numpy_helper.from_array(np.uint8(case.zero), f"{name}_z"))
        return [f"{name}_s", f"{name}_z"]

    for i, scale in enumerate(case.scales):
        name = f"x{i}"
        inputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8, SHAPE))
        operands.append(f"{name}_f")
        known = parameters(name, scale)
        nodes.append(helper.make_node("DequantizeLinear", [name, *known], [f"{name}_f"]))
    result = "y_f"
    nodes.append(helper.make_node(case.op, operands, [result], case.op, **dict(case.attributes)))
    if case.clamp:
        nodes.append(helper.make_node("Relu", [result], ["clamped"]))
        result = "clamped"
    known = parameters("y", case.result)
    nodes.append(helper.make_node("QuantizeLinear", [result, *known], ["y"]))
    output = helper.make_tensor_value_info("y", TensorProto.UINT8, None)
    graph = helper.make_graph(nodes, "one", inputs, [output], constants)
    opsets = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def differing(
    model: onnx.ModelProto, feeds: Mapping[str, Array], what: object
) -> tuple[int, int, int]:
    """Elements of the result y, and how many differ: with optimizations off, and with all.

    Parameters
    ----------
    model: with an output y. feeds: its inputs. what: named in the message.

    Raises
    ------
    ValueError
        An element differs by more than one step.
    """
    ours = Reference(model).run(feeds, keep=["y"])["y"].astype(np.int64)
    found = []
    for level in (OFF, ALL):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.log_severity_level = 4
        (theirs,) = exact_session(model.SerializeToString(), options).run(None, dict(feeds))
        apart = np.abs(ours - theirs.astype(np.int64))
        if apart.max() > 1:
            raise ValueError(f"{what}: an element differs by {apart.max()} steps")
        found.append(int(np.count_nonzero(apart)))
    return ours.size, found[0], found[1]


def measure(case: Case, seed: int = 0) -> tuple[float, float]:
    """Share of elements that differ: with optimizations off, and with all.

    Raises
    ------
    ValueError
        An element differs by more than one step.
    """
    model = model_of(case)
    rng = np.random.default_rng(seed)
    feeds = {v.name: rng.integers(0, 256, SHAPE).astype(np.uint8) for v in model.graph.input}
    size, off, full = differing(model, feeds, case)
    return off / size, full / size


def table() -> str:
    """The table in Markdown, between its marks."""
    rows = ["| operator, scales | as written | ENABLE_ALL |", "|---|---|---|"]
    for case in CASES:
        off, full = measure(case)
        rows.append(f"| {case} | {off:.1%} | {full:.1%} |")
    return BEGIN + "\n".join(rows) + "\n" + END


def write(path: Path, begin: str, text: str, end: str) -> None:
    """Put a table between its marks."""
    before, _, rest = path.read_text().partition(begin)
    path.write_text(before + text + rest.partition(end)[2])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table into the page."""
    parser = argparse.ArgumentParser(prog="python -m proof.deviations", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=PAGE)
    path = parser.parse_args(arguments).file
    write(path, BEGIN, table(), END)
    return 0


if __name__ == "__main__":
    leave(main)
