"""ONNX Runtime's int8 kernels where they are exact, on every CPU.

On x86 CPUs without VNNI the kernels for U8 by S8 add two products in 16 bits and saturate there.
ONNX Runtime's own cure (`session.x64quantprecision`) is for constant weights, under optimizations;
products of two activations and the QLinear operators of a file as it is written stay wrong. So
where the CPU saturates, S8 second operands of such a product become U8, codes and zero point
shifted by 128 alike: the same integers, by a kernel that is exact everywhere. S8 first operands
have no kernel that saturates (tests compare both).
"""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

PROVIDERS = ["CPUExecutionProvider"]
QLINEAR = ("QLinearConv", "QLinearMatMul", "QGemm")
"""Operators with codes, scale and zero point of two operands as inputs 0 to 2 and 3 to 5."""
PRODUCTS = ("MatMul", "Conv", "Gemm")
"""Operators that optimizations fuse with the quantizers around them."""
PAIR = (TensorProto.UINT8, TensorProto.INT8)
HALF = 128


@functools.cache
def saturates() -> bool:
    """Whether this CPU's kernel for U8 by S8 loses what is beyond 16 bits; measured."""
    codes = np.full((4, 64), 255, np.uint8), np.full((64, 16), 127, np.int8)
    names = ("a", "sa", "za", "b", "sb", "zb", "sy", "zy")
    values = (codes[0], 1.0, np.uint8(0), codes[1], 1.0, np.int8(0), 64 * 127.0, np.uint8(0))
    constants = [
        numpy_helper.from_array(np.float32(v) if isinstance(v, float) else np.asarray(v), name)
        for name, v in zip(names, values, strict=True)
        if name not in ("a", "b")
    ]
    inputs = [
        helper.make_tensor_value_info("a", TensorProto.UINT8, codes[0].shape),
        helper.make_tensor_value_info("b", TensorProto.INT8, codes[1].shape),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.UINT8, None)
    node = helper.make_node("QLinearMatMul", list(names), ["y"])
    graph = helper.make_graph([node], "probe", inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=PROVIDERS)
    (found,) = session.run(None, {"a": codes[0], "b": codes[1]})
    return bool(np.any(found != 255))


def exact_session(
    model: onnx.ModelProto | bytes | str, options: ort.SessionOptions
) -> ort.InferenceSession:
    """Session whose integer sums are exact on CPUs without VNNI, too.

    Parameters
    ----------
    model: a model, serialized or not, or a path.
    options: of the session.
    """
    data = model
    if saturates():
        data = unsaturated(_loaded(model))
    if isinstance(data, onnx.ModelProto):
        data = data.SerializeToString()
    return ort.InferenceSession(data, options, providers=PROVIDERS)


def _loaded(model: onnx.ModelProto | bytes | str) -> onnx.ModelProto:
    if isinstance(model, onnx.ModelProto):
        return model
    return onnx.load(model) if isinstance(model, str) else onnx.load_from_string(model)


def unsaturated(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same file with the S8 second operands of U8 by S8 products as U8.

    Graphs inside of If, Loop and Scan are rewritten as well.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    _Rewriter(made.graph, None).run()
    return made


class _Rewriter:
    """Rewrites one graph in place.

    Parameters
    ----------
    graph: the graph.
    outer: of the graph around it.
    """

    def __init__(self, graph: onnx.GraphProto, outer: _Rewriter | None):
        self.graph, self.outer = graph, outer
        self.constants = {each.name: each for each in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.inputs = {each.name: each.type.tensor_type.elem_type for each in graph.input}
        self.names = {*self.constants, *self.makers, *self.inputs}
        self.shifted: dict[str, str] = {}
        self.behind: dict[str, list[onnx.NodeProto]] = {}

    def run(self) -> None:
        """Rewrite every product."""
        for node in [*self.graph.node]:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    _Rewriter(attribute.g, self).run()
            if node.op_type in QLINEAR:
                if (self._kind(node.input[2]), self._kind(node.input[5])) == PAIR:
                    for at in (3, 5):
                        node.input[at] = self._shift(node.input[at])
            elif node.op_type in PRODUCTS:
                first, second = (self._dequantizer(name) for name in node.input[:2])
                if first and second and (self._codes(first), self._codes(second)) == PAIR:
                    self._dequantize(second)
        self._place()

    def _place(self) -> None:
        """Put what was made right behind what it reads; nodes of a body have to be in order."""
        nodes = [n for name, made in self.behind.items() if name not in self.makers for n in made]
        for node in self.graph.node:
            nodes.append(node)
            nodes += [made for name in node.output for made in self.behind.get(name, ())]
        if self.behind:
            del self.graph.node[:]
            self.graph.node.extend(nodes)

    def _kind(self, name: str) -> int:
        """Element type of a tensor, where the file says it; else 0."""
        if name in self.constants:
            return int(self.constants[name].data_type)
        if name in self.inputs:
            return int(self.inputs[name])
        node = self.makers.get(name)
        if node is None:
            return self.outer._kind(name) if self.outer else 0
        if node.op_type == "Constant":
            return next((a.t.data_type for a in node.attribute if a.name == "value"), 0)
        if node.op_type != "QuantizeLinear":
            return 0
        if len(node.input) > 2 and node.input[2]:
            return self._kind(node.input[2])
        said = next((a.i for a in node.attribute if a.name == "output_dtype"), 0)
        return said or int(TensorProto.UINT8)

    def _dequantizer(self, name: str) -> onnx.NodeProto | None:
        """What dequantizes an operand, behind whatever moves it or is elementwise."""
        node = self.makers.get(name)
        while node is not None and node.op_type != "DequantizeLinear":
            node = self.makers.get(node.input[0]) if node.input else None
        return node

    def _codes(self, node: onnx.NodeProto) -> int:
        """Type of what a DequantizeLinear reads."""
        zero = node.input[2] if len(node.input) > 2 else ""
        return self._kind(zero or node.input[0])

    def _dequantize(self, node: onnx.NodeProto) -> None:
        """Let a DequantizeLinear read U8, with the same reals."""
        codes, scale, zero = (*node.input, "")[:3]
        shifted = self._shift(zero) if zero else self._halves(scale)
        codes = self._shift(codes)
        del node.input[:]
        node.input.extend([codes, scale, shifted])

    def _halves(self, scale: str) -> str:
        """Zero points of 128, as many as there are scales."""
        made = self._new(f"{scale}/halves")
        value = numpy_helper.from_array(np.array([HALF], np.uint8))
        self.behind.setdefault(scale, []).extend(
            [
                helper.make_node("Shape", [scale], [f"{made}/shape"]),
                helper.make_node("ConstantOfShape", [f"{made}/shape"], [made], value=value),
            ]
        )
        return made

    def _new(self, name: str) -> str:
        """A name that nothing has."""
        while self._taken(name):
            name += "_"
        self.names.add(name)
        return name

    def _shift(self, name: str) -> str:
        """S8 codes as U8, 128 more."""
        if name in self.shifted:
            return self.shifted[name]
        made = self.shifted[name] = self._new(f"{name}/unsigned")
        if name in self.constants:
            codes = numpy_helper.to_array(self.constants[name]).astype(np.int16) + HALF
            self.graph.initializer.append(numpy_helper.from_array(codes.astype(np.uint8), made))
            return made
        half = numpy_helper.from_array(np.int32(HALF), f"{made}/half")
        self.graph.initializer.append(half)
        wide, sums = f"{made}/wide", f"{made}/sum"
        self.behind.setdefault(name, []).extend(
            [
                helper.make_node("Cast", [name], [wide], to=TensorProto.INT32),
                helper.make_node("Add", [wide, half.name], [sums]),
                helper.make_node("Cast", [sums], [made], to=TensorProto.UINT8),
            ]
        )
        return made

    def _taken(self, name: str) -> bool:
        """Whether something has a name."""
        return name in self.names or (self.outer is not None and self.outer._taken(name))
