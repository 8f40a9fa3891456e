"""What each group computes: one function per operator, integers in, integers out.

Every function takes the group and its activations by name (uint8 or int8 tensors) and returns
the result, not yet cast to its type. Definitions: numerics.md sections 2 to 4.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from models import integer, moves
from models.operands import (
    Tensors,
    centred,
    codes_of,
    constant_of,
    integers,
    lookup,
    operand_of,
    params_of,
    target_of,
    window,
)
from models.quantgraph import Group, Operand, attributes_of
from models.tables import F32, MONOTONE, PAIRS, UNARY, QParams, quantize_float, unary_table

# Products ---------------------------------------------------------------------------------


def _product_scale(group: Group, x: QParams, w: QParams) -> np.ndarray:
    """s = f32(f32(xs·ws[c])/ys), one element or one per channel."""
    return (x.unit * w.scale).astype(F32) / target_of(group).unit


def _bias(group: Group, index: int, x: QParams, w: QParams) -> np.ndarray | None:
    """Bias in units of the accumulator, int64 [channels]."""
    value = constant_of(group, index)
    if value is None:
        return None
    unit = (x.unit * w.scale).astype(F32)
    operand = operand_of(group, index)
    if value.dtype == np.int32:
        if operand.params is not None:
            if not np.allclose(operand.params.scale, unit, rtol=1e-5, atol=0):
                raise group.refuse(f"bias {operand.name} is not at scale x scale · weight scale")
            if operand.params.zero_point.any():
                raise group.refuse(f"bias {operand.name} has a zero point")
        return value.astype(np.int64).reshape(-1)
    if value.dtype == np.float32:  # numerics.md section 1: quantise it as rint(b / (sx·sw))
        return np.rint(value.reshape(-1).astype(np.float64) / unit).astype(np.int64)
    raise group.refuse(f"bias {operand.name} must be int32 or float32, not {value.dtype}")


def _finish(group: Group, acc: torch.Tensor, scale: np.ndarray, axis: int) -> torch.Tensor:
    """Check that accumulators fit int32 and requantize; scale runs along `axis`."""
    if acc.dtype == torch.int64 and acc.numel() and int(acc.abs().max()) >= integer.INT32:
        raise group.refuse("an accumulator leaves int32")
    shape = [1] * acc.dim()
    shape[axis] = -1
    target = target_of(group)
    factor = torch.from_numpy(scale.astype(F32)).reshape(shape)
    return integer.requantize(acc, factor, target.zero, target.low, target.high)


def _add_bias(acc: torch.Tensor, bias: np.ndarray | None, axis: int) -> torch.Tensor:
    if bias is None:
        return acc
    shape = [1] * acc.dim()
    shape[axis] = -1
    return acc.to(torch.int64) + torch.from_numpy(bias).reshape(shape)


def _weight_axis(group: Group, weight: Operand, axis: int) -> QParams:
    params = params_of(group, weight)
    if params.axis not in (None, axis):
        raise group.refuse(f"weight scales run along axis {params.axis}, not {axis}")
    return params


def _conv(group: Group, tensors: Tensors) -> torch.Tensor:
    x, weight = operand_of(group, 0), operand_of(group, 1)
    if weight.value is None:
        raise group.refuse(f"weight {weight.name} must be constant")
    scales = _weight_axis(group, weight, 0)
    strides, pads, dilations = window(group, list(weight.value.shape[2:]))
    groups = group.attributes.get("group", 1)
    acc = integer.conv(
        centred(group, x, tensors),
        centred(group, weight, tensors),
        strides,
        pads,
        dilations,
        groups,
    )
    params = params_of(group, x)
    acc = _add_bias(acc, _bias(group, 2, params, scales), 1)
    return _finish(group, acc, _product_scale(group, params, scales), 1)


def _gemm(group: Group, tensors: Tensors) -> torch.Tensor:
    x, weight = operand_of(group, 0), operand_of(group, 1)
    for name in ("alpha", "beta"):
        if group.attributes.get(name, 1.0) != 1.0:
            raise group.refuse(f"{name} must be 1, not {group.attributes[name]}")
    transposed = group.attributes.get("transB", 0)
    scales = _weight_axis(group, weight, 0 if transposed else 1)
    a, b = centred(group, x, tensors), centred(group, weight, tensors)
    a = a.T if group.attributes.get("transA", 0) else a
    params = params_of(group, x)
    acc = integer.matmul(a, b.T if transposed else b)
    acc = _add_bias(acc, _bias(group, 2, params, scales), 1)
    return _finish(group, acc, _product_scale(group, params, scales), 1)


def _matmul(group: Group, tensors: Tensors) -> torch.Tensor:
    a, b = operand_of(group, 0), operand_of(group, 1)
    if params_of(group, a).axis is not None:
        raise group.refuse("the left matrix needs one scale")
    last = len(b.value.shape) - 1 if b.value is not None else 0
    scales = _weight_axis(group, b, last)
    acc = integer.matmul(centred(group, a, tensors), centred(group, b, tensors))
    return _finish(group, acc, _product_scale(group, params_of(group, a), scales), -1)


# Averages ---------------------------------------------------------------------------------


def _average(group: Group, total: torch.Tensor, count: int | torch.Tensor) -> torch.Tensor:
    """GlobalAveragePool rule: s = f32(sx/f32(sy·n)), total = Σx - n·zx."""
    x, target = params_of(group, operand_of(group, 0)), target_of(group)
    counts = np.asarray(count, dtype=F32)
    scale = torch.from_numpy(np.asarray(x.unit / (target.unit * counts), dtype=F32))
    return integer.requantize(total, scale, target.zero, target.low, target.high)


def _sum(group: Group, tensors: Tensors, axes: list[int], keep: bool) -> torch.Tensor:
    x = operand_of(group, 0)
    shifted = codes_of(x, tensors).to(torch.int64) - params_of(group, x).zero
    return shifted.sum(dim=axes, keepdim=keep)


def _global_average_pool(group: Group, tensors: Tensors) -> torch.Tensor:
    if group.attributes.get("channels_last", 0):
        raise group.refuse("channels_last is not read")
    shape = tensors[operand_of(group, 0).name].shape
    axes = list(range(2, len(shape)))
    return _average(group, _sum(group, tensors, axes, True), int(np.prod(shape[2:])))


def _reduce(group: Group, tensors: Tensors) -> torch.Tensor:
    """ReduceMean and ReduceSum over any axes."""
    shape = tensors[operand_of(group, 0).name].shape
    listed = constant_of(group, 1)
    axes = integers(group, "axes", []) if listed is None else listed.tolist()
    axes = [axis % len(shape) for axis in axes] or list(range(len(shape)))
    total = _sum(group, tensors, axes, bool(group.attributes.get("keepdims", 1)))
    count = int(np.prod([shape[axis] for axis in axes])) if group.op == "ReduceMean" else 1
    return _average(group, total, count)


def _average_pool(group: Group, tensors: Tensors) -> torch.Tensor:
    x, kernel = operand_of(group, 0), integers(group, "kernel_shape", [])
    strides, pads, dilations = window(group, kernel)
    if max(dilations) > 1 or group.attributes.get("channels_last", 0):
        raise group.refuse("dilations and channels_last are not read")
    ceil_mode = bool(group.attributes.get("ceil_mode", 0))
    shifted = codes_of(x, tensors).to(torch.int64) - params_of(group, x).zero
    total = integer.sum_pool(shifted, kernel, strides, pads, ceil_mode)
    if group.attributes.get("count_include_pad", 0):
        if ceil_mode:
            raise group.refuse("ceil_mode with count_include_pad has no agreed divisor")
        return _average(group, total, int(np.prod(kernel)))
    ones = torch.ones_like(shifted[:1, :1])
    return _average(group, total, integer.sum_pool(ones, kernel, strides, pads, ceil_mode))


# Elementwise ------------------------------------------------------------------------------


def unary_functions(group: Group) -> list[tuple[str, dict[str, Any]]]:
    """Names and attributes of the group's own unary operator and those after it."""
    functions = []
    if group.op in UNARY:
        attributes = dict(group.attributes)
        if group.op == "Clip":
            attributes |= _bounds(group, constant_of(group, 1), constant_of(group, 2))
        functions.append((group.op, attributes))
    for node, constants in zip(group.unary, group.bounds, strict=True):
        attributes = attributes_of(node)
        if node.op_type == "Clip":
            attributes |= _bounds(group, *constants)
        functions.append((node.op_type, attributes))
    return functions


def _bounds(group: Group, low: np.ndarray | None, high: np.ndarray | None) -> dict[str, float]:
    """Bounds of Clip, which are inputs since opset 11."""
    least = group.attributes.get("min", -np.inf) if low is None else float(low)
    greatest = group.attributes.get("max", np.inf) if high is None else float(high)
    return {"min": least, "max": greatest}


def _unary(group: Group, tensors: Tensors) -> torch.Tensor:
    x = operand_of(group, 0)
    source = params_of(group, x)
    table = unary_table(source, target_of(group), unary_functions(group))
    return lookup(codes_of(x, tensors), source, table)


def _scalar(group: Group) -> int | None:
    """Position of an operand that is a float scalar constant, if there is one."""
    for index, operand in enumerate(group.operands):
        if operand is not None and operand.params is None and operand.value is not None:
            if operand.value.size != 1:
                raise group.refuse(f"float constant {operand.name} is no scalar: quantize it")
            return index
    return None


_REAL: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
}


def _pair(group: Group, tensors: Tensors) -> torch.Tensor:
    """Two tensors: a 65536-entry table; a tensor and a float scalar: a 256-entry table."""
    if len(group.operands) != 2:
        raise group.refuse(f"takes 2 inputs here, not {len(group.operands)}")
    position = _scalar(group)
    if position is not None:
        x = operand_of(group, 1 - position)
        source, target = params_of(group, x), target_of(group)
        codes = source.codes()
        real = ((codes - source.zero).astype(F32) * source.unit).astype(F32)
        scalar = F32(operand_of(group, position).value.reshape(()))  # type: ignore[union-attr]
        pair = (scalar, real) if position == 0 else (real, scalar)
        if group.op == "Div" and scalar == 0:
            raise group.refuse("its scalar is 0")
        with np.errstate(divide="ignore"):  # k / 0 is infinite, and saturates
            table = quantize_float(_REAL[group.op](*pair).astype(F32), target)
        return lookup(codes_of(x, tensors), source, table)
    if group.op not in PAIRS:
        raise group.refuse("has no integer definition for two quantized tensors")
    a, b = operand_of(group, 0), operand_of(group, 1)
    pa, pb = params_of(group, a), params_of(group, b)
    if pa.scale.size > 1 or pb.scale.size > 1:
        raise group.refuse("operands need one scale each")
    pairs = torch.from_numpy(PAIRS[group.op](pa, pb, target_of(group)).reshape(-1))
    left = (codes_of(a, tensors).to(torch.int32) - pa.low) * 256
    return pairs[left + (codes_of(b, tensors).to(torch.int32) - pb.low)]


KERNELS: dict[str, Callable[[Group, Tensors], torch.Tensor]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "GlobalAveragePool": _global_average_pool,
    "AveragePool": _average_pool,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "ReduceMax": moves.reduce_max,
    "Requantize": _unary,
    "Concat": moves.concat,
    "Pad": moves.pad,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min"), _pair),
    **dict.fromkeys(("Expand", "Flatten", "Gather", "MaxPool", "Reshape", "Slice"), moves.move),
    **dict.fromkeys(("Split", "Squeeze", "Transpose", "Unsqueeze"), moves.move),
    **dict.fromkeys(UNARY, _unary),
}


def clamp_codes(group: Group, result: torch.Tensor) -> torch.Tensor:
    """Apply Relu, Clip after the operator as a clamp of codes, which rounding commutes with."""
    if not group.unary or group.op in UNARY:
        return result
    target = target_of(group)
    for op, attributes in unary_functions(group):
        if op not in MONOTONE:
            raise group.refuse(f"{op} follows without a quantization between")
        ends = (-np.inf, np.inf)
        if op == "Relu":
            ends = (0.0, np.inf)
        elif op == "Clip":
            ends = (attributes["min"], attributes["max"])
        low, high = quantize_float(np.asarray(ends, dtype=F32), target).tolist()
        result = result.clamp(low, high)
    return result
