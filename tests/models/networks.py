"""What several tests need of a network: its graph's work, and ONNX Runtime without tricks."""

from functools import cache
from math import prod

import numpy as np
import onnx
import onnxruntime as ort

C3D = ("fsb_c3d", "fsb_c3d_r", "c3d", "c3d_fc")


@cache
def _session(data: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(data, options, ["CPUExecutionProvider"])


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = [each.name for each in model.graph.output]
    results = _session(model.SerializeToString(deterministic=True)).run(names, feeds)
    return dict(zip(names, results, strict=True))


def _dims(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def graph_macs(graph: onnx.GraphProto, branch: str = "then_branch") -> int:
    """Multiply-accumulates of Conv, Gemm and MatMul, from shapes alone; of one arm of an If."""
    shapes = {v.name: _dims(v) for v in (*graph.input, *graph.value_info, *graph.output)}
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            out, weight = shapes[node.output[0]], shapes[node.input[1]]
            if node.op_type == "Conv":
                total += prod(out) * prod(weight[1:])
            else:
                transposed = any(a.name == "transB" and a.i for a in node.attribute)
                total += prod(out) * weight[-1 if transposed else -2]
        for attribute in node.attribute:
            if attribute.name in (branch, "body"):
                total += graph_macs(attribute.g, branch)
    return total


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
