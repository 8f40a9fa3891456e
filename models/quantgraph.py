"""Read a quantized ONNX graph as a list of integer operations.

Two ways of writing int8 networks are read. QDQ: float operators between DequantizeLinear and
QuantizeLinear nodes; each operator with its neighbours is one `Group`, and the integer tensor is
the output of the QuantizeLinear. QOperator: QLinearConv and the like, each a group by itself.
Whatever is neither raises UnsupportedGraph: a float island would not be integer arithmetic.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from models.errors import ModelsError
from models.tables import UNARY, QParams, quantize_float

INTEGER_MOVES = (
    *("Clip", "Concat", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Max", "Min"),
    *("Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
)

# Inputs of the QOperator forms: x = tensor with scale and zero point, c = plain constant,
# y = scale and zero point of the output. (numerics.md section 1 lists the forms to accept.)
QOPERATORS = {
    "QLinearConv": ("Conv", "xxyc"),
    "QLinearMatMul": ("MatMul", "xxy"),
    "QGemm": ("Gemm", "xxcy"),
    "QLinearAdd": ("Add", "xxy"),
    "QLinearMul": ("Mul", "xxy"),
    "QLinearConcat": ("Concat", "yx*"),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", "xy"),
    "QLinearAveragePool": ("AveragePool", "xy"),
    "QLinearReduceMean": ("ReduceMean", "xy"),
    "QLinearSigmoid": ("Sigmoid", "xy"),
    "QLinearLeakyRelu": ("LeakyRelu", "xy"),
    "QLinearSoftmax": ("Softmax", "xy"),
}


class UnsupportedGraph(ModelsError):  # noqa: N818 - the name the commands promise
    """The graph holds something that has no integer definition here.

    Attributes
    ----------
    node, op, reason : str
        Which node, its operator type, and why.
    """

    def __init__(self, node: onnx.NodeProto, reason: str):
        self.node, self.op, self.reason = _label(node), node.op_type, reason
        super().__init__(f"node {self.node} ({self.op}): {reason}")


@dataclass(frozen=True)
class Operand:
    """One input of a group.

    Attributes
    ----------
    name : str
        ONNX name of the integer tensor, or of the constant.
    params : QParams, optional
        How integers stand for reals; None for float tensors, shapes and indices.
    value : np.ndarray, optional
        The constant's value; None for an activation.
    """

    name: str
    params: QParams | None = None
    value: np.ndarray | None = None


@dataclass(frozen=True)
class Group:
    """One integer operation: operands in, one integer tensor out.

    Attributes
    ----------
    node : onnx.NodeProto
        The operator that gives the group its name.
    op : str
        What to compute, in float operator names; "QuantizeLinear" for a graph input,
        "DequantizeLinear" for a float graph output, "Requantize" for a change of scale.
    operands : tuple
        In ONNX order; None where an optional input is absent.
    attributes : dict
        The node's attributes.
    unary : tuple of onnx.NodeProto
        Unary operators between `node` and the QuantizeLinear, in order.
    bounds : tuple
        For each of `unary`, the constants given as its second and third input (Clip).
    output : str
        ONNX name of the result.
    params : QParams, optional
        Of the result; None for a float graph output and for moves of bare integers.
    index : int
        Which output of `node` (Split has several).
    sources : tuple of onnx.NodeProto
        All nodes of the group, from dequantization to quantization, in order.
    """

    node: onnx.NodeProto
    op: str
    operands: tuple[Operand | None, ...]
    attributes: dict[str, Any]
    output: str
    params: QParams | None = None
    unary: tuple[onnx.NodeProto, ...] = ()
    bounds: tuple[tuple[np.ndarray | None, np.ndarray | None], ...] = ()
    index: int = 0
    sources: tuple[onnx.NodeProto, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """Name of the node, or of its first output where it has none."""
        return _label(self.node)

    def activations(self) -> list[str]:
        """Names of the operands that are computed, not constant."""
        return [o.name for o in self.operands if o is not None and o.value is None]

    def refuse(self, reason: str) -> UnsupportedGraph:
        """Make the error that says why this group cannot be computed."""
        return UnsupportedGraph(self.node, reason)


def _label(node: onnx.NodeProto) -> str:
    return node.name or (node.output[0] if node.output else "?")


class QuantizedGraph:
    """The groups of a quantized ONNX model in execution order.

    Parameters
    ----------
    model : str, Path or onnx.ModelProto
        The model; external data is read from beside the file.

    Members
    -------
    groups : list of Group
    inputs, outputs : list of str
        Names of the graph's inputs (without initializers) and outputs.

    Raises
    ------
    UnsupportedGraph
        A node stands outside the quantized forms above.
    ModelsError
        The file is missing or no ONNX file.
    """

    def __init__(self, model: str | Path | onnx.ModelProto):
        self.model = model if isinstance(model, onnx.ModelProto) else load(Path(model))
        graph = self.model.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.inputs = [v.name for v in graph.input if v.name not in self.constants]
        self.outputs = [v.name for v in graph.output]
        self._fold_constants()
        self.groups: list[Group] = []
        self._integers: dict[str, QParams | None] = {}  # integer activations made so far
        for node in graph.node:
            self._visit(node)
        made = {group.output for group in self.groups}
        for name in self.outputs:
            if name not in made:
                self.groups.append(self._float_output(name))

    def _fold_constants(self) -> None:
        """Evaluate Constant, Identity and QuantizeLinear nodes on constants."""
        for node in self.model.graph.node:
            if node.op_type == "Constant":
                values = attributes_of(node)
                if "value" not in values:
                    raise UnsupportedGraph(node, f"constant given as {sorted(values)}")
                self.constants[node.output[0]] = values["value"]
            elif node.input and all(not name or name in self.constants for name in node.input):
                if node.op_type == "Identity":
                    self.constants[node.output[0]] = self.constants[node.input[0]]
                elif node.op_type == "QuantizeLinear":
                    value = self.constants[node.input[0]]
                    params = self._params(node, node.input[1:], value.ndim)
                    self.constants[node.output[0]] = quantize_float(value, params)

    def _visit(self, node: onnx.NodeProto) -> None:
        """Make the group that ends at this node, if one does."""
        if all(name in self.constants for name in node.output):
            return
        if node.op_type == "QuantizeLinear":
            group = self._qdq_group(node)
        elif node.op_type in QOPERATORS:
            group = self._qoperator_group(node)
        elif node.op_type in INTEGER_MOVES and self._is_integer(node.input[0]):
            for index in range(len(node.output)):
                self._add(self._move_group(node, index))
            return
        else:  # a float operator: belongs to the QuantizeLinear further down
            return
        self._add(group)

    def _add(self, group: Group) -> None:
        self.groups.append(group)
        self._integers[group.output] = group.params

    def _is_integer(self, name: str) -> bool:
        if name in self._integers:
            return True
        return any(
            v.name == name and v.type.tensor_type.elem_type in (2, 3)  # UINT8, INT8
            for v in self.model.graph.input
        )

    def _constant(self, node: onnx.NodeProto, name: str, what: str) -> np.ndarray:
        if name not in self.constants:
            raise UnsupportedGraph(node, f"{what} {name} must be constant")
        return self.constants[name]

    def _params(self, node: onnx.NodeProto, names, rank: int | None = None) -> QParams:
        """Read scale and zero point, given as [scale name, zero point name]."""
        scale = self._constant(node, names[0], "scale")
        if len(names) > 1 and names[1]:
            zero = self._constant(node, names[1], "zero point")
        else:
            zero = np.zeros_like(scale, dtype=np.uint8)  # ONNX's default
        if scale.dtype != np.float32:
            raise UnsupportedGraph(node, f"scale must be float32, not {scale.dtype}")
        if zero.dtype not in (np.uint8, np.int8, np.int32):
            raise UnsupportedGraph(node, f"integer type {zero.dtype} is not 8-bit (int32: bias)")
        axis = None
        if scale.size > 1:
            axis = attributes_of(node).get("axis", 1)
            axis = axis + rank if axis < 0 and rank is not None else axis
        return QParams(scale.reshape(-1), zero.reshape(-1).astype(np.int64), zero.dtype, axis)

    def _dequantized(self, node: onnx.NodeProto) -> Operand:
        """Operand behind a DequantizeLinear node."""
        name = node.input[0]
        value = self.constants.get(name)
        params = self._params(node, node.input[1:], None if value is None else value.ndim)
        if value is None:
            if not self._is_integer(name):
                raise UnsupportedGraph(node, f"input {name} is no integer tensor made before")
            if params.axis is not None or params.scale.size != 1:
                raise UnsupportedGraph(node, "activations need one scale, not one per channel")
        return Operand(name, params, value)

    def _operand(self, node: onnx.NodeProto, name: str) -> tuple[Operand | None, tuple]:
        """Find what a float input of an operator stands for, and its DequantizeLinear."""
        if not name:
            return None, ()
        if name in self.constants:
            return Operand(name, None, self.constants[name]), ()
        producer = self.producers.get(name)
        if producer is None:
            raise UnsupportedGraph(node, f"input {name} is a float graph input: quantize it")
        if producer.op_type != "DequantizeLinear":
            raise UnsupportedGraph(
                node, f"input {name} comes in float from {producer.op_type} {_label(producer)}"
            )
        return self._dequantized(producer), (producer,)

    def _qdq_group(self, quantize: onnx.NodeProto) -> Group:
        """Walk back from a QuantizeLinear to the operator it closes."""
        params = self._params(quantize, quantize.input[1:])
        if params.scale.size != 1 or params.dtype not in (np.uint8, np.int8):
            raise UnsupportedGraph(quantize, "an activation needs one scale and 8 bits")
        name = quantize.input[0]
        node = self.producers.get(name)
        base = {"output": quantize.output[0], "params": params}
        if node is None:
            if name not in self.inputs:
                raise UnsupportedGraph(quantize, f"nobody makes its input {name}")
            return Group(
                quantize, "QuantizeLinear", (Operand(name),), {}, sources=(quantize,), **base
            )
        unary: list[onnx.NodeProto] = []
        while node.op_type in UNARY:
            before = self.producers.get(node.input[0])
            if before is None or before.op_type == "DequantizeLinear":
                break
            unary.insert(0, node)
            name, node = node.input[0], before
        if node.op_type == "DequantizeLinear":
            operands: tuple = (self._dequantized(node),)
            return Group(quantize, "Requantize", operands, {}, sources=(node, quantize), **base)
        found = [self._operand(node, each) for each in node.input]
        dequantizers = {id(d): d for _, several in found for d in several}
        return Group(
            node,
            node.op_type,
            tuple(operand for operand, _ in found),
            attributes_of(node),
            unary=tuple(unary),
            bounds=tuple(self._bounds(each) for each in unary),
            index=list(node.output).index(name),
            sources=(*dequantizers.values(), node, *unary, quantize),
            **base,
        )

    def _bounds(self, node: onnx.NodeProto) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Second and third input of a unary operator: the bounds of Clip."""
        names = [*node.input[1:3], "", ""][:2]
        low, high = (self._constant(node, n, "bound") if n else None for n in names)
        return low, high

    def _qoperator_group(self, node: onnx.NodeProto) -> Group:
        """Split the inputs of a QLinear… node into operands and output parameters."""
        op, layout = QOPERATORS[node.op_type]
        names = list(node.input)
        if layout.endswith("x*"):
            layout = layout[:-2] + "x" * ((len(names) - 2) // 3)
        operands: list[Operand | None] = []
        params: QParams | None = None
        for kind in layout:
            if kind == "x":
                name, *quantization = names[:3]
                operand_params = self._params(node, quantization)
                if operand_params.scale.size > 1:  # per output channel: axis 0, MatMul's last
                    axis = 0 if op in ("Conv", "Gemm") else 1
                    if op == "Gemm" and not attributes_of(node).get("transB", 0):
                        axis = 1
                    operand_params = replace(operand_params, axis=axis)
                value = self.constants.get(name)
                if value is None and not self._is_integer(name):
                    raise UnsupportedGraph(node, f"input {name} is no integer tensor made before")
                operands.append(Operand(name, operand_params, value))
                names = names[3:]
            elif kind == "y":
                if not names:
                    raise UnsupportedGraph(node, "no output scale: the result would be float")
                params, names = self._params(node, names[:2]), names[2:]
            elif names:
                name, names = names[0], names[1:]
                value = self._constant(node, name, "bias") if name else None
                operands.append(Operand(name, None, value) if name else None)
        return Group(
            node, op, tuple(operands), attributes_of(node), node.output[0], params, sources=(node,)
        )

    def _move_group(self, node: onnx.NodeProto, index: int) -> Group:
        """Operator applied to integers as they are: only selects or moves them."""
        operands = tuple(
            Operand(name, self._integers.get(name), self.constants.get(name)) if name else None
            for name in node.input
        )
        return Group(
            node,
            node.op_type,
            operands,
            attributes_of(node),
            node.output[index],
            self._integers.get(node.input[0]),
            index=index,
            sources=(node,),
        )

    def _float_output(self, name: str) -> Group:
        """Last group: the DequantizeLinear behind a float output of the graph."""
        node = self.producers.get(name)
        if node is None:
            raise ModelsError(f"graph output {name} is made by no node")
        if node.op_type != "DequantizeLinear":
            raise UnsupportedGraph(node, f"graph output {name} is computed in float")
        operand = self._dequantized(node)
        return Group(node, "DequantizeLinear", (operand,), {}, name, sources=(node,))


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes of a node as Python values; tensors as arrays, strings decoded."""
    values: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            value = numpy_helper.to_array(value)
        values[attribute.name] = value.decode() if isinstance(value, bytes) else value
    return values


def load(path: Path) -> onnx.ModelProto:
    """Read an ONNX file; ModelsError if it is missing or no ONNX file."""
    if not path.is_file():
        raise ModelsError(f"no ONNX file {path}")
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's DecodeError is not importable under a stable name
        raise ModelsError(f"{path} is no ONNX file: {error}") from error
    if not model.graph.node:
        raise ModelsError(f"{path} holds no graph")
    return model
