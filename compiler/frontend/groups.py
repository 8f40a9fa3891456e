"""Import operators on groups of elements: Softmax, LayerNormalization, ArgMax."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

from compiler.frontend.builder import Builder, Operand, align
from compiler.frontend.cuts import reshaped
from compiler.frontend.model import attributes_of, label, refuse
from compiler.frontend.shapes import in_range
from compiler.frontend.site import Site
from compiler.ops import MOST_OF_A_BYTE, ArgMax, Normalize, Softmax, UnaryTable, make_table
from compiler.tensor import TensorType
from hw.arch.axes import aligned
from hw.arch.group_numerics import NormConstants, SoftmaxConstants

Reals = npt.NDArray[np.float64]
SINGLE_AXIS_OPSET = 13
"""Since when Softmax goes over one axis; before, over all from its axis on."""


def grouped(
    builder: Builder,
    node: onnx.NodeProto,
    operand: Operand,
    axes: Sequence[int],
    positions: bool = True,
) -> tuple[Operand, list[int | None]]:
    """The operand so that groups over some ONNX axes lie along C; and where each axis lies.

    Where there is one channel they may lie along positions alone, if `positions`. Where they do
    not lie so, the first of them that has several elements becomes C.
    """
    source, onto = align(builder, operand, node)
    shape = source.kind.onnx_shape
    own = [a for a in axes if shape[a] > 1]
    alone = positions and source.kind.shape[0] == 1
    if not own or alone or any(onto[a] == 0 for a in own):
        return source, onto
    others = [a for a, n in enumerate(shape) if n > 1 and a != own[0]]
    places: list[int | None] = [None] * len(shape)
    places[own[0]] = 0
    for place, axis in enumerate(others, 4 - len(others)):
        places[axis] = place
    form = aligned(shape, [3 if place is None else place for place in places])
    return builder.in_form(source, form, node), places


def softmax(site: Site) -> Operand:
    """Softmax over one axis, or before opset 13 over all axes from one on."""
    source = site.activation(0)
    shape = source.kind.onnx_shape
    opset = int(site.attributes.get("opset", site.model.opset))
    flat = opset < SINGLE_AXIS_OPSET
    axis = in_range(site.node, int(site.attributes.get("axis", 1 if flat else -1)), len(shape))
    if flat:
        lead = math.prod(shape[:axis])
        source, axis = reshaped(source, (lead, math.prod(shape[axis:]))), 1
    source, onto = grouped(site.builder, site.node, source, [axis])
    place = onto[axis]
    kind = site.target.like(source.kind)
    if place is None:  # each element is a group of its own
        table = np.frombuffer(make_table(source.kind, kind, [np.ones_like]), kind.dtype)
        alone = UnaryTable(
            name=site.builder.op_name(site.node),
            inputs=(source.name,),
            output=site.output(),
            table=np.clip(table, site.low, site.high).astype(kind.dtype).tobytes(),
            function="softmax of one",
        )
        return reshaped(site.emit(alone, kind), shape)
    op = Softmax(
        name=site.builder.op_name(site.node),
        inputs=(source.name,),
        output=site.output(),
        axes=(place,),
        constants=SoftmaxConstants.of(site.scale(0), float(site.target.scale[0])),
        low=site.low,
        high=site.high,
    )
    return reshaped(site.emit(op, kind), shape)


def layer_norm(site: Site) -> Operand:
    """LayerNormalization over all axes from one on."""
    source = site.activation(0)
    shape = source.kind.onnx_shape
    if any(site.node.output[1:]):
        raise site.refuse("its mean and deviation are not made")
    first = in_range(site.node, int(site.attributes.get("axis", -1)), len(shape))
    axes = list(range(first, len(shape)))
    gamma = reals_of(site, site.operand(1))
    has_beta = len(site.operands) > 2 and site.operands[2] is not None
    beta = reals_of(site, site.operand(2)) if has_beta else np.zeros((), np.float64)
    epsilon = float(site.attributes.get("epsilon", np.float32(1e-5)))
    return normalized(site, source, axes, gamma, beta, epsilon=epsilon)


def normalized(
    site: Site,
    source: Operand,
    axes: Sequence[int],
    gamma: Reals,
    beta: Reals,
    *,
    epsilon: float = 0.0,
    root_epsilon: float = 0.0,
    correction: float = 1.0,
) -> Operand:
    """A norm over some ONNX axes; γ and β broadcast against the operand, see NormConstants.of."""
    source, onto = grouped(site.builder, site.node, source, axes)
    shape = source.kind.onnx_shape
    own = sorted((place, a) for a in axes if (place := onto[a]) is not None)
    rest = [a for a in range(len(shape)) if a not in {a for _, a in own}]
    group = [n if a in axes else 1 for a, n in enumerate(shape)]
    per_element = []
    for value in (gamma, beta):
        try:
            whole = np.broadcast_to(value, group)
        except ValueError:
            raise site.refuse(
                f"γ or β of shape {list(value.shape)} for groups over axes {list(axes)} of "
                f"{list(shape)}"
            ) from None
        by_place = np.transpose(whole, [*(a for _, a in own), *rest])
        per_element.append(by_place.reshape(-1))
    kind = site.target.like(source.kind)
    op = Normalize(
        name=site.builder.op_name(site.node),
        inputs=(source.name,),
        output=site.output(),
        axes=tuple(place for place, _ in own) or (0,),
        constants=NormConstants.of(
            source.kind.scale,
            kind.scale,
            *per_element,
            reach=max(kind.high - kind.zero_point, kind.zero_point - kind.low),
            epsilon=epsilon,
            root_epsilon=root_epsilon,
            correction=correction,
        ),
        low=site.low,
        high=site.high,
    )
    return site.emit(op, kind)


INDEX = (False, 1.0, 0)
"""Quantization of indices: the code is the index."""


def arg_max(builder: Builder, node: onnx.NodeProto, operand: Operand) -> tuple[Operand, int]:
    """ArgMax over one axis: the lowest index among equals, and how many bytes it has.

    Two bytes, of more than 256 elements, stand along an axis behind the others, the low one first.
    """
    attributes = attributes_of(node)
    shape = operand.kind.onnx_shape
    axis = in_range(node, int(attributes.get("axis", 0)), len(shape))
    if attributes.get("select_last_index", 0):
        raise refuse(node, "takes the last of equal elements; the first is lowered")
    source, onto = grouped(builder, node, operand, [axis], positions=False)
    kept = tuple(1 if a == axis else n for a, n in enumerate(shape))
    digits: tuple[int, ...] = ()
    name = builder.inner(label(node))
    if shape[axis] == 1:
        kind = TensorType.of(shape, *INDEX, source.kind.axes)
        first = UnaryTable(
            name=builder.op_name(node),
            inputs=(source.name,),
            output=name,
            table=bytes(256),
            function="index of one",
        )
        result = builder.emit(first, kind, node)
    else:
        places = [3 if place is None else place for place in onto]
        if shape[axis] > MOST_OF_A_BYTE:
            digits, kept, places = (2,), (*kept, 2), [*places, 0]
        op = ArgMax(name=builder.op_name(node), inputs=(source.name,), output=name)
        result = builder.emit(op, TensorType.of(kept, *INDEX, aligned(kept, places)), node)
    if not attributes.get("keepdims", 1):
        left = [n for a, n in enumerate(shape) if a != axis]
        result = reshaped(result, [*left, *digits])
    return result, 2 if digits else 1


def reals_of(site: Site, operand: Operand) -> Reals:
    """Value of an operand that must be constant, see `reals_of_constant`."""
    if operand.array is None:
        raise site.refuse(f"input {operand.name} must be constant")
    return reals_of_constant(operand)


def reals_of_constant(operand: Operand) -> Reals:
    """Value of a constant, float or quantized, as float64."""
    array = operand.array
    assert array is not None, operand.name
    if operand.quantization is None:
        return np.asarray(array, np.float64)
    scale, zero = operand.quantization.along(array.ndim)
    centred = (array.astype(np.int64) - zero).astype(np.float32)
    return np.asarray(centred * scale, np.float64)
