"""Float functions of one activation, for tables.

Any float subgraph of elementwise operators that has one activation in it is a function of one
code. It is evaluated on all 256 codes by onnx's reference evaluator, node by node, each in float64
on its float32 operands and rounded once to float32.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from compiler.frontend.builder import Operand
from compiler.frontend.last_bits import shifted
from compiler.frontend.model import Array, Model, attributes_of, is_standard, refuse

UNARY = frozenset(
    (
        *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Celu", "Clip"),
        *("Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish"),
        *("IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu"),
        *("Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign"),
        *("Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu"),
    )
)
"""Elementwise operators with one data operand."""
PAIRS = frozenset(
    (
        *("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
        *("Max", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Where", "Xor", "Mean", "Sum"),
    )
)
"""Elementwise operators with several operands."""
ELEMENTWISE = UNARY | PAIRS
SIXTH = float(np.float32(1 / 6))
DIVIDES = (
    "divides one activation by another, which no operator here does; a norm is read as one where "
    "all of it is float, from one DequantizeLinear to one QuantizeLinear (quantize_static: "
    "nodes_to_exclude)"
)
SUM = "Add of two at a time, with QuantizeLinear and DequantizeLinear behind each"
FLOAT = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
"""Types whose operators are evaluated in float64 and rounded once."""
CAST_TO = (
    *FLOAT,
    *(onnx.TensorProto.FLOAT16, onnx.TensorProto.BOOL),
    *(onnx.TensorProto.INT8, onnx.TensorProto.INT16, onnx.TensorProto.INT32),
    *(onnx.TensorProto.INT64, onnx.TensorProto.UINT8, onnx.TensorProto.UINT16),
    *(onnx.TensorProto.UINT32, onnx.TensorProto.UINT64),
)
"""What a Cast may make of values. Of float16 only a Cast may make anything else: ONNX Runtime
computes its operators in float32 and leaves out some of the roundings between them."""


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Function:
    """A function of one activation, not quantized yet.

    Attributes
    ----------
    operand: the activation, seen in the function's own shape.
    nodes: that make it, in order of execution.
    source: names in the file that stand for the activation itself.
    result: name in the file of the value.
    constants: the nodes' constant operands by name, each of one value.
    moved: names in the file of what moves made of values, and the names of those.
    indices: those of `source` that are int64: the codes themselves.
    """

    operand: Operand
    nodes: tuple[onnx.NodeProto, ...]
    source: frozenset[str]
    result: str
    constants: Mapping[str, Array]
    moved: Mapping[str, str] = dataclasses.field(default_factory=dict)
    indices: frozenset[str] = frozenset()

    @property
    def last(self) -> onnx.NodeProto:
        """The node that is named in messages."""
        return self.nodes[-1]

    def __call__(self, real: Array, opset: int, shift: float = 0) -> Array:
        """Evaluate on float32 values of any shape; float32.

        Parameters
        ----------
        shift: of the last bits that no standard fixes (`compiler.frontend.last_bits`).
        """
        values = {n: value.reshape(-1)[:1].reshape(()) for n, value in self.constants.items()}
        values |= dict.fromkeys(self.source, real)
        if self.indices:
            values |= dict.fromkeys(self.indices, real.astype(np.int64))
        for node in self.nodes:
            if node.output[0] not in values:
                names = [self.moved.get(name, name) for name in node.input]
                operands = [values.get(name) if name else None for name in names]
                value = _evaluated(node, operands, opset)
                values[node.output[0]] = shifted(node.op_type, operands, value, shift)
        with np.errstate(over="ignore"):
            return np.asarray(values[self.result], np.float32)


def factor(function: Function) -> float | None:
    """The positive constant that a function multiplies by; None where it does anything else."""
    result, made = 1.0, set(function.source)
    for node in function.nodes:
        names = [function.moved.get(n, n) for n in node.input]
        known = [None if n in made else function.constants.get(n) for n in names]
        own = factor_of(node, known)
        if own is None:
            return None
        result *= own
        made.add(node.output[0])
    return result


def factor_of(node: onnx.NodeProto, operands: Sequence[Array | None]) -> float | None:
    """The positive constant that a node multiplies its other operand by, or 1/what it divides by.

    Parameters
    ----------
    operands: constants, None for what is none.
    """
    if node.op_type not in ("Mul", "Div") or len(operands) != 2:
        return None
    if (operands[0] is None) == (operands[1] is None) or (
        node.op_type == "Div" and operands[1] is None
    ):
        return None
    constant = operands[1] if operands[0] is None else operands[0]
    assert constant is not None, node.name
    if not is_scalar(constant) or constant.dtype != np.float32:
        return None
    value = float(constant.flat[0])
    if not (math.isfinite(value) and value > 0):
        return None
    return value if node.op_type == "Mul" else 1 / value


def is_elementwise(node: onnx.NodeProto) -> bool:
    """Whether an operator works element by element."""
    if node.op_type == "Gelu":
        return is_standard(node) or bool(node.domain == "com.microsoft")
    return is_standard(node) and str(node.op_type) in ELEMENTWISE


def is_nothing(node: onnx.NodeProto, operand: object) -> bool:
    """Whether an operator leaves every element as it is.

    `operand` is what its first input is read as: behind a Cast it need not be float32.
    """
    if node.op_type == "Concat":
        return len(node.input) == 1
    if isinstance(operand, Function) and any(n.op_type == "Cast" for n in operand.nodes):
        return False
    return bool(node.op_type == "Cast" and attributes_of(node).get("to") == onnx.TensorProto.FLOAT)


def clip_bounds(model: Model, node: onnx.NodeProto) -> tuple[float, float]:
    """Bounds of a Clip node; they are inputs since opset 11."""
    attributes = attributes_of(node)
    bounds = [attributes.get("min", -math.inf), attributes.get("max", math.inf)]
    for i, name in enumerate(node.input[1:3]):
        if not name:
            continue
        if not model.is_constant(name):
            raise refuse(node, f"bound {name} must be a constant")
        bounds[i] = float(model.constants[name].reshape(-1)[0])
    return bounds[0], bounds[1]


def clamp(model: Model, node: onnx.NodeProto) -> tuple[float, float] | None:
    """Real bounds if the node only clamps (which commutes with rounding), else None."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type == "Clip":
        return clip_bounds(model, node)
    return None


def apply(
    model: Model, node: onnx.NodeProto, operands: Sequence[Operand | Function | None]
) -> Function:
    """The function that an elementwise node makes of one activation and constants.

    Raises
    ------
    Unsupported
        A constant is no scalar, or two different activations meet.
    """
    _check_types(node, operands)
    base: Operand | None = None
    nodes: dict[int, onnx.NodeProto] = {}
    sources: set[str] = set()
    indices: set[str] = set()
    constants: dict[str, Array] = {}
    moved: dict[str, str] = {}
    shapes: list[tuple[int, ...]] = []
    for name, operand in zip(node.input, operands, strict=True):
        if operand is None:
            continue
        if isinstance(operand, Operand) and operand.type is None:
            constants[name] = _scalar(node, operand)
            shapes.append(constants[name].shape)
            continue
        own = operand.operand if isinstance(operand, Function) else operand
        if base is not None and (base.name, base.kind) != (own.name, own.kind):
            if node.op_type == "Div":
                raise refuse(node, DIVIDES)
            raise refuse(node, _why_two(node, operands, base.name, own.name))
        base = own
        shapes.append(own.kind.onnx_shape)
        if isinstance(operand, Function):
            nodes |= {id(n): n for n in operand.nodes}
            sources |= operand.source
            constants |= operand.constants
            moved |= operand.moved
            indices |= operand.indices
        else:
            sources.add(name)
            if model.dtypes.get(name) == np.int64:
                indices.add(name)
    assert base is not None, node.name
    nodes[id(node)] = node
    shape = np.broadcast_shapes(*shapes)
    if math.prod(shape) != base.kind.elements:
        raise refuse(node, f"a constant repeats {list(base.kind.onnx_shape)} to {list(shape)}")
    seen = Operand(base.name, base.kind.reshaped(shape))
    made = tuple(nodes.values())
    names = frozenset(sources), frozenset(indices)
    return Function(seen, made, names[0], node.output[0], constants, moved, names[1])


def _check_types(node: onnx.NodeProto, operands: Sequence[Operand | Function | None]) -> None:
    """Refuse element types that are not computed in."""
    if node.op_type == "Cast":
        to = attributes_of(node)["to"]
        if to not in CAST_TO:
            raise refuse(node, f"casts to {_type_name(to)}, which is not computed in")
        return
    for operand in operands:
        if not isinstance(operand, Function) or operand.last.op_type != "Cast":
            continue
        if attributes_of(operand.last)["to"] == onnx.TensorProto.FLOAT16:
            raise refuse(node, "computes in float16: remove the casts around it")


def _type_name(number: int) -> str:
    known = number in onnx.TensorProto.DataType.values()
    return onnx.TensorProto.DataType.Name(number).lower() if known else f"type {number}"


def _why_two(
    node: onnx.NodeProto, operands: Sequence[Operand | Function | None], one: str, other: str
) -> str:
    """Why two activations do not meet in an elementwise node."""
    if any(isinstance(each, Function) for each in operands):
        return (
            f"computes in float with two activations, {one} and {other}: put QuantizeLinear and "
            "DequantizeLinear around it"
        )
    instead = {"Sum": SUM, "Mean": f"{SUM}, then Mul by one over their number"}.get(node.op_type)
    advice = f"; in its place: {instead}" if instead else ""
    return f"no operator here is {node.op_type} of several activations{advice}"


def is_scalar(value: Array) -> bool:
    """Whether a constant is one value, however often it is repeated."""
    return bool(value.size) and not bool((value != value.flat[0]).any())


def _scalar(node: onnx.NodeProto, operand: Operand) -> Array:
    """A constant of one value, however often it is repeated, as a real."""
    assert operand.array is not None
    value = operand.array
    if not is_scalar(value):
        raise refuse(
            node,
            f"constant {operand.name} of shape {list(value.shape)} is float and no scalar: "
            "quantize it",
        )
    if operand.quantization is None:
        return value
    scale, zero = operand.quantization.along(value.ndim)
    return np.asarray((value.astype(np.int64) - zero).astype(np.float32) * scale, np.float32)


def _evaluated(node: onnx.NodeProto, operands: Sequence[Array | None], opset: int) -> Array:
    """One node in float64, rounded once to the type of its operands."""
    with np.errstate(all="ignore"):
        if node.op_type == "Clip":  # its bounds were attributes before opset 11
            return _clipped(node, operands)
        if node.op_type == "HardSwish":  # its slope is a float32, the evaluator's is not
            x = np.asarray(operands[0], np.float64)
            return np.asarray(x * np.clip(SIXTH * x + 0.5, 0, 1), _float_of(node, operands))
        wide = [
            None if v is None else v.astype(np.float64) if v.dtype in FLOATS else v
            for v in operands
        ]
        fed = {f"x{i}": v for i, v in enumerate(wide) if v is not None}
        try:
            result = _evaluator(_key(node, tuple(f"x{i}" in fed for i in range(len(wide)))), opset)(
                fed
            )
        except Exception as error:  # the evaluator raises whatever its kernels raise
            raise refuse(node, f"does not evaluate on the codes of its operand: {error}") from error
        if np.asarray(result).dtype == np.float64:
            return np.asarray(result).astype(_float_of(node, operands))
    return np.asarray(result)


def _float_of(node: onnx.NodeProto, operands: Sequence[Array | None]) -> np.dtype[Any]:
    """What a float result is rounded to: the type of the float operands."""
    if node.op_type == "Cast":
        double = attributes_of(node)["to"] == onnx.TensorProto.DOUBLE
        return np.dtype(np.float64 if double else np.float32)
    chosen = operands[1:] if node.op_type == "Where" else operands
    found = (v.dtype for v in chosen if v is not None and v.dtype in FLOATS)
    return next(found, np.dtype(np.float32))


def _clipped(node: onnx.NodeProto, operands: Sequence[Array | None]) -> Array:
    attributes = attributes_of(node)
    value, low, high = [*operands, None, None][:3]
    assert value is not None
    least = attributes.get("min", -np.inf) if low is None else low
    greatest = attributes.get("max", np.inf) if high is None else high
    return np.asarray(np.minimum(np.maximum(value, least), greatest), value.dtype)


def _key(node: onnx.NodeProto, given: tuple[bool, ...]) -> bytes:
    """The node without its names, to evaluate nodes of a kind by one evaluator."""
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    plain.name, plain.domain, plain.doc_string = "", "", ""
    del plain.input[:], plain.output[:]
    plain.input.extend(f"x{i}" if there else "" for i, there in enumerate(given))
    plain.output.append("y")
    # Float64 throughout: a cast to float32 would round where nothing rounds, and is none.
    for attribute in plain.attribute:
        if plain.op_type == "Cast" and attribute.name == "to" and attribute.i in FLOAT:
            attribute.i = onnx.TensorProto.DOUBLE
    return bytes(plain.SerializeToString())


@functools.lru_cache(maxsize=256)
def _evaluator(key: bytes, opset: int) -> Any:
    node = onnx.NodeProto.FromString(key)
    inputs = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, None)
        for n in node.input
        if n
    ]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, None)
    graph = onnx.helper.make_graph([node], "function", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    session = ReferenceEvaluator(model)
    return lambda fed: session.run(None, fed)[0]
