"""Norms that exporters write out: Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul, Add in float.

Between one DequantizeLinear and one QuantizeLinear they are one operation. Each of their tensors is
read as a `Moments`: what has been made so far of the elements and of their groups. The chain begins
where a tensor of codes loses its own mean, may come in any order that is the same norm, and ends at
whatever is no part of it.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

from compiler.frontend.builder import Operand
from compiler.frontend.functions import is_scalar
from compiler.frontend.groups import normalized, reals_of_constant
from compiler.frontend.model import label, refuse
from compiler.frontend.site import Site
from compiler.frontend.windows import reduced_axes

Reals = npt.NDArray[np.float64]
NODES = ("Add", "Div", "Mul", "Pow", "Reciprocal", "ReduceMean", "ReduceSum", "Sqrt", "Sub")
"""Operators that a norm is written with."""


class Stage(enum.Enum):
    """What a tensor inside a norm is; m is the mean and v the variance of a group."""

    CENTRED = "γ·(x − m)"
    SQUARED = "(x − m)²"
    VARIANCE = "f·v + ε"
    DEVIATION = "√(f·v + ε) + ε'"
    RECIPROCAL = "γ/(√(f·v + ε) + ε')"
    NORMALIZED = "γ·(x − m)/(√(f·v + ε) + ε') + β"


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Moments:
    """A float tensor inside a norm.

    Attributes
    ----------
    node: that makes it.
    operand: x, as codes.
    axes: ONNX axes that a group goes over.
    stage: what it is.
    correction, epsilon, root_epsilon: f, ε, ε'.
    gamma, beta: factor and offset so far, of x's rank.
    """

    node: onnx.NodeProto
    operand: Operand
    axes: tuple[int, ...]
    stage: Stage
    correction: float = 1.0
    epsilon: float = 0.0
    root_epsilon: float = 0.0
    gamma: Reals = dataclasses.field(default_factory=lambda: np.ones(()))
    beta: Reals = dataclasses.field(default_factory=lambda: np.zeros(()))

    def named(self, old: str, new: str) -> Moments:
        """The same after a value has got another name."""
        return dataclasses.replace(self, operand=self.operand.named(old, new))

    def at(self, node: onnx.NodeProto, stage: Stage, **changes: object) -> Moments:
        """What a node makes of it."""
        return dataclasses.replace(self, node=node, stage=stage, **changes)  # type: ignore[arg-type]

    def alike(self, other: Moments) -> bool:
        """Whether both are of the same groups of the same elements."""
        mine, its = self.operand, other.operand
        return (mine.name, mine.kind, self.axes) == (its.name, its.kind, other.axes)

    @property
    def plain(self) -> bool:
        """Nothing has been multiplied or added."""
        return bool((self.gamma == 1).all() and (self.beta == 0).all())

    def emit(self, site: Site) -> Operand:
        """The whole norm, quantized."""
        return normalized(
            site,
            self.operand,
            self.axes,
            self.gamma,
            self.beta,
            epsilon=self.epsilon,
            root_epsilon=self.root_epsilon,
            correction=self.correction,
        )


def centred(
    node: onnx.NodeProto, operand: Operand, mean: onnx.NodeProto, of: Operand, axes: Operand | None
) -> Moments | None:
    """A tensor less its own mean, where `node` is that Sub; None where it is not.

    Parameters
    ----------
    operand: what the mean is taken from.
    mean, of, axes: the ReduceMean, its operand, and its axes where they are an input.
    """
    same = (operand.name, operand.type) == (of.name, of.type)
    if not same or of.type is None or node.op_type != "Sub" or mean.op_type != "ReduceMean":
        return None
    listed = None if axes is None else axes.array
    own, kept = reduced_axes(mean, of.kind.onnx_shape, listed)
    if not kept or not own:
        return None
    return Moments(node, operand, tuple(own), Stage.CENTRED)


def step(node: onnx.NodeProto, found: Sequence[Moments | Operand | None]) -> Moments | None:
    """What a node makes of tensors inside a norm and constants; None where it is no part of one."""
    inner = [f for f in found if isinstance(f, Moments)]
    if any(not m.alike(inner[0]) for m in inner):
        return None
    kind = node.op_type
    if kind in ("ReduceMean", "ReduceSum"):
        return _reduced(node, inner[0], found)
    if kind == "Sqrt":
        return _root(node, inner[0], 0.5)
    if kind == "Reciprocal":
        return _reciprocal(node, inner[0])
    if len(found) != 2:
        return None
    if len(inner) == 2:
        return _combined(node, inner[0], inner[1])
    constant = next((f for f in found if isinstance(f, Operand)), None)
    if constant is None or constant.array is None:
        return None
    value = reals_of_constant(constant)
    if kind == "Pow":
        return _power(node, found, value)
    if kind == "Div" and isinstance(found[1], Moments):
        return _reciprocal(node, inner[0]) if is_scalar(value) and value.flat[0] == 1 else None
    if kind == "Sub" and isinstance(found[1], Moments):
        return None
    return _with_constant(node, inner[0], value)


def _reduced(
    node: onnx.NodeProto, moments: Moments, found: Sequence[Moments | Operand | None]
) -> Moments | None:
    """A mean or sum of squares over the axes of the mean before."""
    shape = moments.operand.kind.onnx_shape
    listed = found[1].array if len(found) > 1 and isinstance(found[1], Operand) else None
    axes, kept = reduced_axes(node, shape, listed)
    if moments.stage is not Stage.SQUARED or not kept or tuple(axes) != moments.axes:
        return None
    count = math.prod(shape[a] for a in axes)
    return moments.at(
        node, Stage.VARIANCE, correction=1.0 if node.op_type == "ReduceMean" else float(count)
    )


def _root(node: onnx.NodeProto, moments: Moments, exponent: float) -> Moments | None:
    """A square root of the variance, or one over it."""
    if moments.stage is not Stage.VARIANCE:
        return None
    return moments.at(node, Stage.DEVIATION if exponent > 0 else Stage.RECIPROCAL)


def _reciprocal(node: onnx.NodeProto, moments: Moments) -> Moments | None:
    return moments.at(node, Stage.RECIPROCAL) if moments.stage is Stage.DEVIATION else None


def _power(
    node: onnx.NodeProto, found: Sequence[Moments | Operand | None], exponent: Reals
) -> Moments | None:
    moments = found[0]
    if not isinstance(moments, Moments) or not is_scalar(exponent):
        return None
    power = float(exponent.flat[0])
    if power == 2 and moments.stage is Stage.CENTRED and moments.plain:
        return moments.at(node, Stage.SQUARED)
    return _root(node, moments, power) if abs(power) == 0.5 else None


def _combined(node: onnx.NodeProto, a: Moments, b: Moments) -> Moments | None:
    """Two tensors of one norm meet."""
    stages = (a.stage, b.stage)
    if node.op_type == "Mul" and stages == (Stage.CENTRED, Stage.CENTRED):
        return a.at(node, Stage.SQUARED) if a.plain and b.plain else None
    if node.op_type == "Mul" and set(stages) == {Stage.CENTRED, Stage.RECIPROCAL}:
        own, other = (a, b) if a.stage is Stage.CENTRED else (b, a)
    elif node.op_type == "Div" and stages == (Stage.CENTRED, Stage.DEVIATION):
        own, other = a, b
    else:
        return None
    return other.at(node, Stage.NORMALIZED, gamma=own.gamma * other.gamma)


def _with_constant(node: onnx.NodeProto, m: Moments, value: Reals) -> Moments | None:
    """A constant is added, subtracted, multiplied by or divided by."""
    kind = node.op_type
    if kind in ("Add", "Sub"):
        offset = value if kind == "Add" else -value
        if m.stage is Stage.NORMALIZED and _fits(m, value):
            return m.at(node, m.stage, beta=m.beta + offset)
        if not is_scalar(value):
            return None
        if m.stage is Stage.VARIANCE:
            return m.at(node, m.stage, epsilon=m.epsilon + float(offset.flat[0]))
        if m.stage is Stage.DEVIATION:
            return m.at(node, m.stage, root_epsilon=m.root_epsilon + float(offset.flat[0]))
        return None
    with np.errstate(divide="ignore"):
        factor = value if kind == "Mul" else 1 / value
    if m.stage in (Stage.CENTRED, Stage.RECIPROCAL, Stage.NORMALIZED) and _fits(m, value):
        return m.at(node, m.stage, gamma=m.gamma * factor, beta=m.beta * factor)
    if not is_scalar(value) or not float(factor.flat[0]) > 0:
        return None
    c = float(factor.flat[0])
    if m.stage is Stage.VARIANCE:
        return m.at(node, m.stage, correction=m.correction * c, epsilon=m.epsilon * c)
    if m.stage is Stage.DEVIATION:
        return m.at(
            node,
            m.stage,
            correction=m.correction * c * c,
            epsilon=m.epsilon * c * c,
            root_epsilon=m.root_epsilon * c,
        )
    return None


def _fits(moments: Moments, value: Reals) -> bool:
    """Whether a constant differs within groups only, and repeats none of x."""
    shape = moments.operand.kind.onnx_shape
    if value.ndim > len(shape):
        return False
    own = (1,) * (len(shape) - value.ndim) + value.shape
    return all(n == 1 or (axis in moments.axes and n == shape[axis]) for axis, n in enumerate(own))


def finished(node: onnx.NodeProto, moments: Moments) -> Moments:
    """A norm that something else reads.

    Raises
    ------
    Unsupported
        It is not finished.
    """
    if moments.stage is not Stage.NORMALIZED:
        raise refuse(
            node,
            f"reads {moments.stage.value} of a norm in float (from {moments.node.op_type} "
            f"{label(moments.node)}): a norm stays in float from its DequantizeLinear to its "
            "QuantizeLinear, without pairs inside",
        )
    return moments
