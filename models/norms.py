"""Norms that are written out in float operators, read as the one operation that they are.

x - mean(x), the mean of its squares (over n, or n - 1 by a factor), a root with a constant under or
behind it, the quotient, gain and offset. A node that is no part of such a chain is none of ours.
"""

from dataclasses import replace
from math import prod

import numpy as np

from models.grouped import Norm, norm, reals
from models.moves import reduced_axes
from models.onnxfile import label
from models.values import Call, Codes, Constant, InsideNorm, Pending


def begins(call: Call, mean: Call | None) -> InsideNorm | None:
    """x - mean(x), told the call that makes the second operand; None for anything else."""
    codes = call.operands[0]
    if mean is None or mean.op != "ReduceMean" or not isinstance(codes, Codes):
        return None
    of = mean.operands[0]
    if not isinstance(of, Codes) or of.name != codes.name or of.shape != codes.shape:
        return None
    if not of.params.same_as(codes.params) or not mean.attributes.get("keepdims", 1):
        return None
    axes = reduced_axes(mean, len(codes.shape))
    return InsideNorm(call.node, codes, tuple(axes), "centred") if axes else None


def goes_on(call: Call) -> InsideNorm | None:
    """What a node with tensors inside a norm makes; None where it is no part of the norm."""
    inside = [v for v in call.operands if isinstance(v, InsideNorm)]
    first = inside[0]
    if any(
        (v.codes.name, v.codes.shape, v.axes) != (first.codes.name, first.codes.shape, first.axes)
        for v in inside
    ):
        return None
    made = {
        "ReduceMean": _averaged,
        "ReduceSum": _averaged,
        "Sqrt": _rooted,
        "Reciprocal": _inverted,
        "Pow": _powered,
        "Mul": _multiplied,
        "Div": _divided,
        "Add": _added,
        "Sub": _added,
    }[call.op](call, first)
    return None if made is None else replace(made, node=call.node)


NODES = ("ReduceMean", "ReduceSum", "Sqrt", "Reciprocal", "Pow", "Mul", "Div", "Add", "Sub")


def _scalar(call: Call, index: int) -> float | None:
    """A constant operand of one value."""
    if not isinstance(call.operands[index], Constant):
        return None
    values = np.unique(reals(call, index))
    return float(values[0]) if values.size == 1 else None


def _within_groups(call: Call, index: int, of: InsideNorm) -> np.ndarray | None:
    """A constant operand that differs within groups only."""
    if not isinstance(call.operands[index], Constant):
        return None
    value, shape = reals(call, index), of.shape
    own = (1,) * (len(shape) - value.ndim) + value.shape
    fits = all(n == 1 or (a in of.axes and n == shape[a]) for a, n in enumerate(own[-len(shape) :]))
    return value if fits and value.ndim <= len(shape) else None


def _bare(value: InsideNorm) -> bool:
    """Centred, and nothing else."""
    return value.form == "centred" and bool((value.gain == 1).all())


def _averaged(call: Call, x: InsideNorm) -> InsideNorm | None:
    axes = tuple(reduced_axes(call, len(x.shape)))
    if x.form != "squares" or axes != x.axes or not call.attributes.get("keepdims", 1):
        return None
    count = prod(x.shape[a] for a in axes)
    return replace(x, form="variance", spread=1.0 if call.op == "ReduceMean" else float(count))


def _rooted(call: Call, x: InsideNorm) -> InsideNorm | None:
    return replace(x, form="root") if x.form == "variance" else None


def _inverted(call: Call, x: InsideNorm) -> InsideNorm | None:
    return replace(x, form="inverse") if x.form == "root" else None


def _powered(call: Call, x: InsideNorm) -> InsideNorm | None:
    exponent = _scalar(call, 1)
    if exponent == 2 and _bare(x):
        return replace(x, form="squares")
    if x.form == "variance" and exponent in (0.5, -0.5):
        return replace(x, form="root" if exponent > 0 else "inverse")
    return None


def _multiplied(call: Call, x: InsideNorm) -> InsideNorm | None:
    a, b = call.operands[0], call.operands[1]
    if isinstance(a, InsideNorm) and isinstance(b, InsideNorm):
        if _bare(a) and _bare(b):
            return replace(a, form="squares")
        if {a.form, b.form} == {"centred", "inverse"}:
            inverse, other = (a, b) if a.form == "inverse" else (b, a)
            return replace(inverse, form="norm", gain=inverse.gain * other.gain)
        return None
    index = 1 if isinstance(a, InsideNorm) else 0
    return _times(call, x, index, inverse=False)


def _divided(call: Call, x: InsideNorm) -> InsideNorm | None:
    a, b = call.operands[0], call.operands[1]
    if isinstance(a, InsideNorm) and isinstance(b, InsideNorm):
        if (a.form, b.form) == ("centred", "root"):
            return replace(b, form="norm", gain=a.gain * b.gain)
        return None
    if isinstance(b, InsideNorm):
        return _inverted(call, b) if _scalar(call, 0) == 1 else None
    return _times(call, x, 1, inverse=True)


def _times(call: Call, x: InsideNorm, index: int, inverse: bool) -> InsideNorm | None:
    """Times a constant, or divided by it."""
    if x.form in ("centred", "inverse", "norm"):
        value = _within_groups(call, index, x)
        if value is None:
            return None
        with np.errstate(divide="ignore"):
            value = 1 / value if inverse else value
        return replace(x, gain=x.gain * value, offset=x.offset * value)
    c = _scalar(call, index)
    if c is None or not c > 0:
        return None
    c = 1 / c if inverse else c
    if x.form == "variance":
        return replace(x, spread=x.spread * c, inner=x.inner * c)
    if x.form == "root":
        return replace(x, spread=x.spread * c * c, inner=x.inner * c * c, outer=x.outer * c)
    return None


def _added(call: Call, x: InsideNorm) -> InsideNorm | None:
    index = 1 if isinstance(call.operands[0], InsideNorm) else 0
    if call.op == "Sub" and index == 0:
        return None
    sign = -1.0 if call.op == "Sub" else 1.0
    if x.form == "norm":
        value = _within_groups(call, index, x)
        return None if value is None else replace(x, offset=x.offset + sign * value)
    c = _scalar(call, index)
    if c is None or x.form not in ("variance", "root"):
        return None
    if x.form == "variance":
        return replace(x, inner=x.inner + sign * c)
    return replace(x, outer=x.outer + sign * c)


def ends(call: Call, x: InsideNorm) -> Pending:
    """The norm, ready for whatever is no part of it.

    Raises
    ------
    UnsupportedGraph
        It is not whole yet.
    """
    if x.form != "norm":
        raise call.refuse(
            f"reads the {x.form} of a norm in float, from {x.node.op_type} {label(x.node)}: only "
            "the whole norm, float between two quantizations, has an integer definition"
        )
    make = Norm(list(x.axes), x.gain, x.offset, x.inner, x.outer, x.spread)
    return replace(norm(call, x.codes, make), node=x.node)
