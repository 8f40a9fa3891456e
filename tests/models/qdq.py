"""Small quantized models written by hand, and their comparison with ONNX Runtime."""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.extract import as_written
from models.ortcheck import session
from models.reference import Reference

ONNX_TYPE = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8}


@dataclass(frozen=True)
class Q:
    """Scale and zero point of a tensor; a list of scales runs along axis 0."""

    scale: float | list[float]
    zero: int = 0
    dtype: type = np.uint8


class Builder:
    """Collects the nodes of one QDQ group."""

    def __init__(self):
        self.nodes, self.inputs, self.constants = [], [], []

    def constant(self, name: str, value) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _scale(self, name: str, q: Q) -> list[str]:
        scale = np.asarray(q.scale, np.float32)
        zero = np.full(scale.shape, q.zero, q.dtype)
        return [self.constant(f"{name}_s", scale), self.constant(f"{name}_z", zero)]

    def dequantize(self, name: str, q: Q, value=None, shape=None, axis: int = 0) -> str:
        """Float name of a constant, or of an input where a shape is given."""
        if value is None:
            kind = ONNX_TYPE[q.dtype]
            self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        else:
            self.constant(name, np.asarray(value, q.dtype))
        attributes = {"axis": axis} if np.ndim(q.scale) else {}
        inputs = [name, *self._scale(name, q)]
        self.nodes.append(
            helper.make_node("DequantizeLinear", inputs, [f"{name}_f"], f"dq_{name}", **attributes)
        )
        return f"{name}_f"

    def op(self, kind: str, inputs: list[str], output: str = "y_f", **attributes) -> str:
        """The only node of a kind has its name; more of them are numbered."""
        count = sum(node.op_type == kind for node in self.nodes)
        name = kind.lower() + (f"_{count + 1}" if count else "")
        self.nodes.append(helper.make_node(kind, inputs, [output], name, **attributes))
        return output

    def model(self, q: Q, name: str = "y_f", opset: int = 17) -> onnx.ModelProto:
        """Close the group with a QuantizeLinear."""
        inputs = [name, *self._scale("y", q)]
        self.nodes.append(helper.make_node("QuantizeLinear", inputs, ["y"], "q_y"))
        output = helper.make_tensor_value_info("y", ONNX_TYPE[q.dtype], None)
        graph = helper.make_graph(self.nodes, "group", self.inputs, [output], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 9
        return model


def both(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Oracle's and ONNX Runtime's result (ENABLE_ALL) of a model with one output."""
    (ours,) = Reference(model).run(feeds, keep=[model.graph.output[0].name]).values()
    return ours, session(model).run(None, feeds)[0]


def as_the_file_says(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """ONNX Runtime's outputs, node by node, in float."""
    return as_written(model).run(None, feeds)


def random_codes(rng: np.random.Generator, shape, dtype=np.uint8) -> np.ndarray:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, int]:
    """How many elements differ, and by how much at most."""
    steps = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
    return int(np.count_nonzero(steps)), int(steps.max(initial=0))


def conv_model(x_shape, w, q_x: Q, q_w: Q, q_y: Q, bias=None, relu=False, **attributes):
    """Conv with an optional int32 bias and ReLU."""
    builder = Builder()
    inputs = [builder.dequantize("x", q_x, shape=x_shape), builder.dequantize("w", q_w, w)]
    if bias is not None:
        scales = np.float32(q_x.scale) * np.asarray(q_w.scale, np.float32)
        inputs.append(builder.dequantize("b", Q(scales.tolist(), 0, np.int32), bias))
    if not relu:
        builder.op("Conv", inputs, **attributes)
    else:
        builder.op("Relu", [builder.op("Conv", inputs, "conv_f", **attributes)])
    return builder.model(q_y)
