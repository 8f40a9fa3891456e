"""The host's part of a graph: what stands in it before the first QuantizeLinear.

Normalization (x / 255), a change of axes, a cast or a pool in float before the first quantizer is
the user's preprocessing. The host evaluates it in float as the file says; the accelerator starts at
the quantizer. Layers with weights are not preprocessing: they are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
from onnx import numpy_helper

from compiler.frontend.catalogue import UNREAD
from compiler.frontend.functions import ELEMENTWISE
from compiler.frontend.model import Model, is_standard, refuse
from compiler.frontend.moves import MOVES
from compiler.frontend.reading import HOW_TO_GO_ON
from compiler.frontend.replacements import REPLACEMENTS
from hw.arch.program import Input

PREPROCESSING = frozenset(
    (
        *ELEMENTWISE,
        *MOVES,
        *("AveragePool", "Concat", "DepthToSpace", "GlobalAveragePool", "GlobalMaxPool"),
        *("MaxPool", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Resize", "Shape"),
        "SpaceToDepth",
    )
)
"""Operators without weights, which the host evaluates before the first quantizer."""


def check(node: onnx.NodeProto) -> None:
    """Refuse what is no preprocessing."""
    if is_standard(node) and node.op_type in PREPROCESSING:
        return
    if node.op_type in REPLACEMENTS and node.op_type not in UNREAD:
        raise refuse(node, HOW_TO_GO_ON)  # quantizing what it reads would not help
    raise refuse(
        node,
        "runs in float before the first QuantizeLinear and is no preprocessing: put "
        "QuantizeLinear and DequantizeLinear before it",
    )


def part(model: Model, nodes: Sequence[onnx.NodeProto], sources: Iterable[str]) -> bytes:
    """The model that makes every source which is no graph input; empty if there is none."""
    given = {value.name for value in model.inputs}
    wanted = list(dict.fromkeys(name for name in sources if name not in given))
    if not wanted:
        return b""
    needed, kept = set(wanted), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    constants = sorted(name for name in needed if name and model.is_constant(name))
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            kept[::-1],
            "host",
            [value for value in model.inputs if value.name in needed],
            [
                onnx.helper.make_tensor_value_info(
                    n, onnx.helper.np_dtype_to_tensor_dtype(model.dtypes[n]), model.shapes[n]
                )
                for n in wanted
            ],
            [numpy_helper.from_array(model.constants[name], name) for name in constants],
        ),
        opset_imports=list(model.proto.opset_import),
        producer_name="",
    )
    proto.ir_version = model.proto.ir_version
    return bytes(proto.SerializeToString(deterministic=True))


def signature(model: Model, sources: Sequence[str], part: bytes) -> tuple[Input, ...]:
    """The inputs of the user's graph."""
    read = set(sources)
    if part:
        read |= {value.name for value in onnx.ModelProto.FromString(part).graph.input}
    return tuple(
        Input(
            value.name,
            tuple(d.dim_value for d in value.type.tensor_type.shape.dim),
            model.dtypes[value.name].name,
            value.name in read,
        )
        for value in model.inputs
    )
