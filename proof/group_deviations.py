"""How often softmax, norms and products of activations differ from ONNX Runtime.

python -m proof.group_deviations [FILE]     measure, and write the table into docs/numerics.md

Each operator alone, between DequantizeLinear and QuantizeLinear, on random codes: against the
file's nodes as they are written (optimizations off) and against all optimizations. By one step at
most everywhere.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from proof.deviations import differing, write
from proof.limits import PAGE
from shell import leave

BEGIN = "<!-- groups: python -m proof.group_deviations -->\n"
END = "<!-- end of groups -->\n"
OPSET = 17
SIGNED = {False: TensorProto.UINT8, True: TensorProto.INT8}
Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: an operator at several scales.

    Attributes
    ----------
    op, text: ONNX operator, and what the table says of it.
    shapes: of the operands.
    scales: of every run: those of the operands, then the result's.
    signed: operands that are s8; the result is u8.
    written: the norm is written out, its variance unbiased, ε behind the root.
    """

    op: str
    text: str
    shapes: tuple[tuple[int, ...], ...]
    scales: tuple[tuple[float, ...], ...]
    signed: tuple[bool, ...] = (False,)
    written: bool = False


def _softmax(length: int, elements: int) -> Row:
    scales = tuple((x, y) for x in (0.0217, 0.1043) for y in (1 / 256, 1 / 255))
    shape = (1, math.ceil(elements / length / len(scales)), length)
    return Row("Softmax", f"{length} elements, scales 1/256 and 1/255", (shape,), scales)


def _norm(length: int, elements: int, written: bool) -> Row:
    scales = ((0.0213, 0.0317), (0.0119, 0.0231))
    shape = (1, elements // length // len(scales), length)
    text = f"{length} elements"
    return Row("LayerNormalization", text, (shape,), scales, written=written)


def _product(*signed: bool) -> Row:
    kinds = " by ".join("s8" if s else "u8" for s in signed)
    scales = tuple(
        (float(a), float(b), float(a * b * r))
        for a, b, r in np.random.default_rng(7).uniform(
            (0.01, 0.01, 900), (0.05, 0.05, 2500), (4, 3)
        )
    )
    return Row("MatMul", f"{kinds}, 64 products", ((8, 180, 64), (8, 64, 180)), scales, signed)


ROWS = (
    _product(False, False),
    _product(False, True),
    _product(True, True),
    *(_softmax(n, 2_000_000) for n in (16, 49, 196, 400, 784, 1152, 2047)),
    _norm(512, 1_000_000, written=False),
    _norm(512, 1_000_000, written=True),
)


class _Builder:
    """Nodes and constants of a small file."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def quantization(self, name: str, scale: float, zero: int, signed: bool) -> list[str]:
        kind = np.int8 if signed else np.uint8
        return [
            self.constant(f"{name}_s", np.float32(scale)),
            self.constant(f"{name}_z", kind(zero)),
        ]


def _written_norm(builder: _Builder, x: str, length: int, weights: Sequence[str]) -> str:
    """(x − mean)/(std + ε)·γ + β with the unbiased deviation, as torch.std exports it."""
    mean = builder.node("ReduceMean", [x], axes=[-1])
    centred = builder.node("Sub", [x, mean])
    square = builder.node("Mul", [centred, centred])
    variance = builder.node("ReduceMean", [square], axes=[-1])
    factor = builder.constant("factor", np.float32(length / (length - 1)))
    root = builder.node("Sqrt", [builder.node("Mul", [variance, factor])])
    deviation = builder.node("Add", [root, builder.constant("epsilon", np.float32(1e-3))])
    scaled = builder.node("Mul", [builder.node("Div", [centred, deviation]), weights[0]])
    return builder.node("Add", [scaled, weights[1]])


def model_of(row: Row, scales: Sequence[float], zeros: Sequence[int]) -> onnx.ModelProto:
    """A file with the one operator, QDQ.

    Parameters
    ----------
    scales, zeros: of the operands, then the result's.
    """
    builder, inputs, operands = _Builder(), [], []
    for k, (shape, signed) in enumerate(zip(row.shapes, row.signed, strict=True)):
        inputs.append(helper.make_tensor_value_info(f"x{k}", SIGNED[signed], shape))
        known = builder.quantization(f"x{k}", scales[k], zeros[k], signed)
        operands.append(builder.node("DequantizeLinear", [f"x{k}", *known]))
    length = row.shapes[0][-1]
    rng = np.random.default_rng(length)
    if row.op == "LayerNormalization":
        gamma, beta = rng.normal(1, 0.3, length), rng.normal(0, 0.3, length)
        operands.append(builder.constant("gamma", gamma.astype(np.float32)))
        operands.append(builder.constant("beta", beta.astype(np.float32)))
    attributes = {} if row.op == "MatMul" else {"axis": -1}
    if row.written:
        result = _written_norm(builder, operands[0], length, operands[1:])
    else:
        result = builder.node(row.op, operands, **attributes)
    known = builder.quantization("y", scales[-1], zeros[-1], False)
    builder.nodes.append(helper.make_node("QuantizeLinear", [result, *known], ["y"], "y"))
    output = helper.make_tensor_value_info("y", TensorProto.UINT8, None)
    graph = helper.make_graph(builder.nodes, "one", inputs, [output], builder.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def measure(row: Row, part: float = 1.0) -> tuple[int, int, int]:
    """Elements, and how many differ: with optimizations off, and with all.

    Parameters
    ----------
    row: what to measure.
    part: of the elements.

    Raises
    ------
    ValueError
        An element differs by more than one step.
    """
    rng = np.random.default_rng(1)
    less = tuple((s[0], max(1, int(s[1] * part)), *s[2:]) for s in row.shapes)
    if row.op != "MatMul":
        row = dataclasses.replace(row, shapes=less)
    total = np.zeros(3, np.int64)
    for scales in row.scales:
        zeros = [int(rng.integers(-9, 10)) + (0 if s else 128) for s in row.signed]
        zeros.append(0 if row.op == "Softmax" else int(rng.integers(110, 140)))
        feeds: Mapping[str, Array] = {
            f"x{k}": _codes(rng, shape, signed)
            for k, (shape, signed) in enumerate(zip(row.shapes, row.signed, strict=True))
        }
        total += differing(model_of(row, scales, zeros), feeds, f"{row.op}, {row.text}")
    size, off, full = (int(v) for v in total)
    return size, off, full


def _codes(rng: np.random.Generator, shape: tuple[int, ...], signed: bool) -> Array:
    """Codes about the middle, as activations have them."""
    codes = np.clip(np.rint(rng.normal(0, 42, shape)), -128, 127)
    return (codes if signed else codes + 128).astype(np.int8 if signed else np.uint8)


def name(row: Row) -> str:
    """First cell of a row."""
    return f"{'norm written out, unbiased' if row.written else row.op}, {row.text}"


def table() -> str:
    """The table in Markdown, between its marks."""
    lines = ["| operator | elements | as written | ENABLE_ALL |", "|---|---|---|---|"]
    for row in ROWS:
        size, off, full = measure(row)
        lines.append(f"| {name(row)} | {size:,} | {off:,} | {full:,} |")
    return BEGIN + "\n".join(lines) + "\n" + END


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table into the page."""
    parser = argparse.ArgumentParser(prog="python -m proof.group_deviations", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=PAGE)
    write(parser.parse_args(arguments).file, BEGIN, table(), END)
    return 0


if __name__ == "__main__":
    leave(main)
