"""What a tensor of the file stands for, as the reader goes forward through the nodes.

Every tensor is one of: a constant; integers as they are; a float tensor that stands for codes;
a function of one such tensor; the result of an operator that a QuantizeLinear is to finish; a
float that the host computes before anything is quantized. A float tensor's value does not depend
on who reads it: each QuantizeLinear behind it makes integers of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import onnx
import torch

from models.onnxfile import UnsupportedGraph, attributes_of, label
from models.tables import QParams, dequantize

Tensors = Mapping[str, torch.Tensor]
Shape = tuple[int, ...]
Compute = Callable[[Tensors], torch.Tensor]
"""From the tensors that a group reads to its result."""
Move = Callable[[torch.Tensor, QParams | None], torch.Tensor]
"""Moves or selects elements; told how codes stand for reals (None: elements are what they are)."""


@dataclass(frozen=True)
class Constant:
    """A known array. `codes` and `params` say how it was quantized, if it was."""

    name: str
    array: np.ndarray
    codes: np.ndarray | None = None
    params: QParams | None = None

    @classmethod
    def quantized(cls, name: str, codes: np.ndarray, params: QParams) -> "Constant":
        """A dequantized constant."""
        return cls(name, dequantize(codes, params), codes, params)

    @property
    def shape(self) -> Shape:
        """Of the array."""
        return self.array.shape


@dataclass(frozen=True)
class Integers:
    """8-bit integers as they are.

    Attributes
    ----------
    name: ONNX name.
    dtype, shape: of the tensor.
    params: how they were made; what they mean is for their readers to say.
    given: whether they are a graph input, or a move of one.
    viewed: where the elements lie in other codes of the same meaning, of which these are a copy.
    """

    name: str
    dtype: np.dtype
    shape: Shape
    params: QParams | None = None
    given: bool = False
    viewed: "Place | None" = None


@dataclass(frozen=True)
class Place:
    """Where the elements of a tensor lie in the one that they are a view of.

    A product of two views is a function of one tensor where both have each element in the same
    place, however often either was reshaped and transposed on its way.

    Attributes
    ----------
    root: name of the codes that are viewed.
    shape: theirs.
    views: what was done to them, in order.
    """

    root: str
    shape: Shape
    views: tuple[Move, ...] = ()

    def then(self, *views: Move) -> "Place":
        """After further views."""
        return replace(self, views=(*self.views, *views))

    def order(self) -> torch.Tensor:
        """Index in the root of every element."""
        index = torch.arange(prod(self.shape)).reshape(self.shape)
        for view in self.views:
            index = view(index, None)
        return index

    def same(self, other: "Place") -> bool:
        """Whether both have the same elements in the same places."""
        return self.root == other.root and torch.equal(self.order(), other.order())


@dataclass(frozen=True)
class Codes:
    """A float tensor that stands for codes: real = (code - zero point) · scale.

    Attributes
    ----------
    name: ONNX name under which the codes are kept.
    params: how they stand for reals.
    shape: of the tensor.
    viewed: where its elements lie in another tensor; None if it is no view.
    index: whether the tensor is int64, and the codes are its elements.
    digits: bytes of such an element, the low one first, along an axis behind those of the file.
    """

    name: str
    params: QParams
    shape: Shape
    viewed: Place | None = None
    index: bool = False
    digits: int = 1

    @property
    def place(self) -> Place:
        """Where its elements lie."""
        return self.viewed or Place(self.name, self.shape)


@dataclass(frozen=True)
class Step:
    """What follows an operator or a function before the next QuantizeLinear.

    Attributes
    ----------
    op: ONNX operator.
    apply: a move, a maximum or a clamp: each gives the same before and after rounding.
    commutes: whether a function of each element may change places with it.
    view: whether it leaves every element, only in another place or shape.
    """

    op: str
    apply: Move
    commutes: bool = False
    view: bool = False


@dataclass(frozen=True)
class Function:
    """An elementwise float function of one tensor of codes.

    Attributes
    ----------
    node: the first operator of the function.
    codes: its argument.
    table: its value on every code, ascending; float32, or what Cast and comparisons give.
    shape: after the steps.
    steps: what follows before the next QuantizeLinear, in order.
    ops: its operators.
    factor: positive constant that it multiplies its argument by, in float64; None where it does
        anything else.
    """

    node: onnx.NodeProto
    codes: Codes
    table: np.ndarray
    shape: Shape
    steps: tuple[Step, ...] = ()
    ops: tuple[str, ...] = ()
    factor: float | None = None

    @property
    def op(self) -> str:
        """The operator that gives it its name."""
        return (*self.ops, *(step.op for step in self.steps))[0]

    @property
    def settled(self) -> str | None:
        """The first step that further functions may not change places with, if there is one."""
        return next((step.op for step in self.steps if not step.commutes), None)

    @property
    def place(self) -> Place | None:
        """Where its elements lie; None behind a step that is no view."""
        if not all(step.view for step in self.steps):
            return None
        return self.codes.place.then(*(step.apply for step in self.steps))

    def alike(self, other: "Function") -> bool:
        """Whether both are functions of the same elements, in the same places."""
        if self.shape != other.shape or not self.codes.params.same_as(other.codes.params):
            return False
        if (self.codes.name, self.steps) == (other.codes.name, other.steps):
            return True
        mine, others = self.place, other.place
        return mine is not None and others is not None and mine.same(others)

    def followed(self, step: Step, shape: Shape) -> "Function":
        """With a step behind it."""
        return replace(self, steps=(*self.steps, step), shape=shape)


Kernel = Callable[[Tensors, QParams], torch.Tensor]
"""Computes codes at the parameters of the result; int16, not yet cast to their type."""
Lost = Callable[[QParams], float]
"""How far rounding constants moves a real result, at the parameters of its codes."""


def nothing(target: QParams) -> float:
    """Lost by what rounds nothing but its result."""
    return 0.0


@dataclass(frozen=True)
class Pending:
    """A float result that exists only after the next QuantizeLinear.

    Attributes
    ----------
    node: the operator.
    reads: codes that it needs.
    kernel: result at given parameters.
    shape: after the steps.
    form: which definition of docs/numerics.md it is.
    steps: what follows before the next QuantizeLinear, in order.
    clamped: takes the kernel's place where a clamp behind it cuts into the codes.
    lost: how far rounding constants moves the real result.
    scaled: the same product times a positive constant; None where it is no product.
    """

    node: onnx.NodeProto
    reads: tuple[str, ...]
    kernel: Kernel
    shape: Shape
    form: str
    steps: tuple[Step, ...] = ()
    clamped: Kernel | None = None
    lost: Lost = nothing
    scaled: Callable[[float], "Pending"] | None = None

    def followed(self, step: Step, shape: Shape) -> "Pending":
        """With a step behind it."""
        return replace(self, steps=(*self.steps, step), shape=shape)


@dataclass(frozen=True)
class Host:
    """A tensor that the host computes from the graph's inputs, before anything is quantized."""

    name: str


@dataclass(frozen=True)
class InsideNorm:
    """A float tensor inside a norm that is written out, see models/norms.py.

    Attributes
    ----------
    node: that makes it.
    codes: x.
    axes: that a group goes over.
    form: "centred" (x - m), "squares" of it, "variance", "root" of it, "inverse" of the root, or
        the whole "norm".
    spread: what the variance is multiplied by (1: biased).
    inner, outer: constants added under and behind the root.
    gain, offset: γ and β so far, float64, broadcasting against x.
    """

    node: onnx.NodeProto
    codes: Codes
    axes: tuple[int, ...]
    form: str
    spread: float = 1.0
    inner: float = 0.0
    outer: float = 0.0
    gain: np.ndarray = field(default_factory=lambda: np.ones(()))
    offset: np.ndarray = field(default_factory=lambda: np.zeros(()))

    @property
    def shape(self) -> Shape:
        """Of x."""
        return self.codes.shape


Value = Constant | Integers | Codes | Function | Pending | InsideNorm | Host


@dataclass(frozen=True)
class Call:
    """One node, its attributes and what its operands stand for.

    Attributes
    ----------
    node: as the file has it.
    operands: None where an optional one is absent.
    opset: of the standard operators.
    op: the float operator, also for QOperator nodes.
    attributes: by name, as Python values.
    names: ONNX names of the operands.
    """

    node: onnx.NodeProto
    operands: tuple[Value | None, ...]
    opset: int
    op: str
    attributes: dict[str, Any]
    names: tuple[str, ...]

    @classmethod
    def of(cls, node: onnx.NodeProto, operands: tuple[Value | None, ...], opset: int) -> "Call":
        """Read a node."""
        names = tuple(node.input)
        return cls(node, operands, opset, node.op_type, attributes_of(node), names)

    def refuse(self, reason: str) -> UnsupportedGraph:
        """The error that names this node."""
        return UnsupportedGraph(self.node, reason)

    def operand(self, index: int) -> Value:
        """An operand that must be there."""
        value = self.operands[index] if index < len(self.operands) else None
        if value is None:
            raise self.refuse(f"input {index} is missing")
        return value

    def constant(self, index: int) -> np.ndarray | None:
        """A constant operand; None where it is absent."""
        value = self.operands[index] if index < len(self.operands) else None
        if value is None:
            return None
        if not isinstance(value, Constant):
            raise self.refuse(f"input {self.names[index]} must be constant")
        return value.array

    def integers(self, name: str, default: list[int]) -> list[int]:
        """An attribute that lists integers, or its default."""
        return [int(n) for n in self.attributes.get(name, default)]

    def activations(self) -> list[Value]:
        """Operands that are no constants."""
        return [v for v in self.operands if v is not None and not isinstance(v, Constant)]

    def axes(self, rank: int) -> list[int]:
        """Axes, an input or an attribute; not negative, as listed; empty if none are."""
        listed = self.constant(1)
        axes = self.integers("axes", []) if listed is None else listed.reshape(-1).tolist()
        if any(not -rank <= a < rank for a in axes):
            raise self.refuse(f"axes {axes} of a tensor of rank {rank}")
        return [a % rank for a in axes]


@dataclass(frozen=True)
class Group:
    """One step of the integer evaluation: codes in, one tensor out.

    Attributes
    ----------
    node: the operator that gives the group its name.
    op: what it computes, in float operator names; "QuantizeLinear" for a graph input,
        "DequantizeLinear" for a float graph output, "Requantize" for a change of scale.
    output: ONNX name of the result: of integers, or of a float tensor that stands for them.
    reads: codes (or graph inputs) that it needs.
    compute: from them to the result.
    shape, dtype: of the result.
    params: how the result's codes stand for reals; None for bare integers and float results.
    form: which definition of docs/numerics.md it is.
    final: whether it is a float output of the graph.
    lost: how far rounding constants (a float bias, ε of a norm) has moved the real result.
    stands: whether `output` names a float tensor that stands for the codes.
    guard: conditions by name, outermost first, and what each must be for the group to run.
    """

    node: onnx.NodeProto
    op: str
    output: str
    reads: tuple[str, ...]
    compute: Compute = field(compare=False)
    shape: Shape
    dtype: np.dtype
    params: QParams | None = None
    form: str = "move"
    final: bool = False
    stands: bool = False
    lost: float = 0.0
    guard: tuple[tuple[str, bool], ...] = ()

    def runs(self, tensors: Tensors) -> bool:
        """Whether the decisions made so far let it run."""
        return all(bool(tensors[name]) == holds for name, holds in self.guard)

    @property
    def name(self) -> str:
        """Name of the node, or of its first output where it has none."""
        return label(self.node)
