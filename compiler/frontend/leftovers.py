"""What exporters leave in float and an operator takes up: constant factors, norms written out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import onnx

from compiler.frontend import functions, norms
from compiler.frontend.builder import Operand
from compiler.frontend.functions import Function
from compiler.frontend.norms import Moments
from compiler.frontend.reading import SCALED, SCALED_BEHIND, Pending, Read, Readings


def inside_norm(
    reader: Readings, node: onnx.NodeProto, found: Sequence[Read | None]
) -> Moments | None:
    """What a node of a norm that is written out makes; None for any other node."""
    if node.op_type not in norms.NODES or any(n in reader.integers for n in node.input):
        return None
    if any(isinstance(f, Moments) for f in found):
        plain = [f for f in found if f is None or isinstance(f, Moments | Operand)]
        return norms.step(node, plain) if len(plain) == len(found) else None
    if len(found) != 2:
        return None
    operand, mean = reader.as_codes(node.input[0], found[0]), found[1]
    if not isinstance(operand, Operand) or not isinstance(mean, Pending) or mean.steps:
        return None
    of, *axes = mean.operands
    assert of is not None, mean.node.name
    return norms.centred(node, operand, mean.node, of, axes[0] if axes else None)


def outside_norm(node: onnx.NodeProto, found: Read | None) -> Read | None:
    """A norm that is written out, seen by whatever is no part of it."""
    if not isinstance(found, Moments):
        return found
    moments = norms.finished(node, found)
    return Pending(moments.node, [moments.operand], convert=moments.emit)


def scaled_before(
    node: onnx.NodeProto, found: Sequence[Read | None]
) -> tuple[list[Read | None], list[float]]:
    """Operands without the constant factors that they are multiplied by, and these."""
    factors, plain = [1.0] * len(found), list(found)
    if node.op_type in SCALED:
        for place, each in enumerate(found):
            own = functions.factor(each) if isinstance(each, Function) else None
            if isinstance(each, Function) and own is not None:
                factors[place], plain[place] = own, each.operand
    return plain, factors


def scaled_behind(
    reader: Readings, node: onnx.NodeProto, found: Sequence[Read | None]
) -> Pending | None:
    """A product times a constant, or divided by one; None for anything else."""
    pending = next((f for f in found if isinstance(f, Pending)), None)
    if pending is None or pending.node.op_type not in SCALED_BEHIND:
        return None
    if any(functions.clamp(reader.model, step) is not None for step, _ in pending.steps):
        return None
    constants = [f.array if isinstance(f, Operand) else None for f in found]
    own = functions.factor_of(node, constants)
    return None if own is None else dataclasses.replace(pending, factor=pending.factor * own)
