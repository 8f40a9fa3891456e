"""What each group computes: one function per operator, integers in, integers out.

Every function takes the group and its activations by name (uint8 or int8 tensors) and returns
the result, not yet cast to its type. Definitions: numerics.md sections 2 to 4.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from models import integer
from models.quantgraph import Group, Operand, attributes_of
from models.tables import F32, MONOTONE, PAIRS, UNARY, QParams, quantize_float, unary_table

Tensors = Mapping[str, torch.Tensor]


def _operand(group: Group, index: int) -> Operand:
    """Operand by position; refuses the group where it is absent."""
    if index >= len(group.operands) or group.operands[index] is None:
        raise group.refuse(f"input {index} is missing")
    operand = group.operands[index]
    assert operand is not None
    return operand


def _params(group: Group, operand: Operand) -> QParams:
    if operand.params is None:
        raise group.refuse(f"input {operand.name} is not quantized")
    return operand.params


def _target(group: Group) -> QParams:
    if group.params is None:
        raise group.refuse("its output has no scale")
    return group.params


def _codes(operand: Operand, tensors: Tensors) -> torch.Tensor:
    """Integers of an operand, in their own type."""
    if operand.value is None:
        return tensors[operand.name]
    return torch.from_numpy(operand.value.copy())  # ONNX's arrays are read-only


def _constant(group: Group, index: int) -> np.ndarray | None:
    """A constant shape, axis list or bound; None where the optional input is absent."""
    if index >= len(group.operands) or group.operands[index] is None:
        return None
    operand = _operand(group, index)
    if operand.value is None:
        raise group.refuse(f"input {operand.name} must be constant")
    return operand.value


def _centred(group: Group, operand: Operand, tensors: Tensors) -> torch.Tensor:
    """Integers minus their zero point, carried by float32."""
    codes = _codes(operand, tensors)
    zero = np.asarray(_params(group, operand).spread(codes.dim())[1], dtype=F32)
    return codes.to(torch.float32) - torch.from_numpy(zero)


def _lookup(codes: torch.Tensor, source: QParams, table: np.ndarray) -> torch.Tensor:
    """Apply a 256-entry table to codes."""
    return torch.from_numpy(table)[codes.to(torch.int32) - source.low]


def _attribute(group: Group, name: str, default: list[int]) -> list[int]:
    return list(group.attributes.get(name, default))


def _window(group: Group, kernel: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, pads and dilations of a convolution or pool."""
    if group.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise group.refuse(f"auto_pad {group.attributes['auto_pad']}: give explicit pads")
    ones = [1] * len(kernel)
    pads = _attribute(group, "pads", [0] * (2 * len(kernel)))
    if min(pads) < 0:
        raise group.refuse(f"pads must not be negative, not {pads}")
    return _attribute(group, "strides", ones), pads, _attribute(group, "dilations", ones)


# Products ---------------------------------------------------------------------------------


def _product_scale(group: Group, x: QParams, w: QParams) -> np.ndarray:
    """s = f32(f32(xs·ws[c])/ys), one element or one per channel."""
    return (x.unit * w.scale).astype(F32) / _target(group).unit


def _bias(group: Group, index: int, x: QParams, w: QParams) -> np.ndarray | None:
    """Bias in units of the accumulator, int64 [channels]."""
    value = _constant(group, index)
    if value is None:
        return None
    unit = (x.unit * w.scale).astype(F32)
    operand = _operand(group, index)
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
    target = _target(group)
    factor = torch.from_numpy(scale.astype(F32)).reshape(shape)
    return integer.requantize(acc, factor, target.zero, target.low, target.high)


def _add_bias(acc: torch.Tensor, bias: np.ndarray | None, axis: int) -> torch.Tensor:
    if bias is None:
        return acc
    shape = [1] * acc.dim()
    shape[axis] = -1
    return acc.to(torch.int64) + torch.from_numpy(bias).reshape(shape)


def _weight_axis(group: Group, weight: Operand, axis: int) -> QParams:
    params = _params(group, weight)
    if params.axis not in (None, axis):
        raise group.refuse(f"weight scales run along axis {params.axis}, not {axis}")
    return params


def _conv(group: Group, tensors: Tensors) -> torch.Tensor:
    x, weight = _operand(group, 0), _operand(group, 1)
    if weight.value is None:
        raise group.refuse(f"weight {weight.name} must be constant")
    scales = _weight_axis(group, weight, 0)
    strides, pads, dilations = _window(group, list(weight.value.shape[2:]))
    groups = group.attributes.get("group", 1)
    acc = integer.conv(
        _centred(group, x, tensors),
        _centred(group, weight, tensors),
        strides,
        pads,
        dilations,
        groups,
    )
    params = _params(group, x)
    acc = _add_bias(acc, _bias(group, 2, params, scales), 1)
    return _finish(group, acc, _product_scale(group, params, scales), 1)


def _gemm(group: Group, tensors: Tensors) -> torch.Tensor:
    x, weight = _operand(group, 0), _operand(group, 1)
    for name in ("alpha", "beta"):
        if group.attributes.get(name, 1.0) != 1.0:
            raise group.refuse(f"{name} must be 1, not {group.attributes[name]}")
    transposed = group.attributes.get("transB", 0)
    scales = _weight_axis(group, weight, 0 if transposed else 1)
    a, b = _centred(group, x, tensors), _centred(group, weight, tensors)
    a = a.T if group.attributes.get("transA", 0) else a
    params = _params(group, x)
    acc = integer.matmul(a, b.T if transposed else b)
    acc = _add_bias(acc, _bias(group, 2, params, scales), 1)
    return _finish(group, acc, _product_scale(group, params, scales), 1)


def _matmul(group: Group, tensors: Tensors) -> torch.Tensor:
    a, b = _operand(group, 0), _operand(group, 1)
    if _params(group, a).axis is not None:
        raise group.refuse("the left matrix needs one scale")
    last = len(b.value.shape) - 1 if b.value is not None else 0
    scales = _weight_axis(group, b, last)
    acc = integer.matmul(_centred(group, a, tensors), _centred(group, b, tensors))
    return _finish(group, acc, _product_scale(group, _params(group, a), scales), -1)


# Averages ---------------------------------------------------------------------------------


def _average(group: Group, total: torch.Tensor, count: int | torch.Tensor) -> torch.Tensor:
    """GlobalAveragePool rule: s = f32(sx/f32(sy·n)), total = Σx - n·zx."""
    x, target = _params(group, _operand(group, 0)), _target(group)
    counts = np.asarray(count, dtype=F32)
    scale = torch.from_numpy(np.asarray(x.unit / (target.unit * counts), dtype=F32))
    return integer.requantize(total, scale, target.zero, target.low, target.high)


def _sum(group: Group, tensors: Tensors, axes: list[int], keep: bool) -> torch.Tensor:
    x = _operand(group, 0)
    centred = _codes(x, tensors).to(torch.int64) - _params(group, x).zero
    return centred.sum(dim=axes, keepdim=keep)


def _global_average_pool(group: Group, tensors: Tensors) -> torch.Tensor:
    if group.attributes.get("channels_last", 0):
        raise group.refuse("channels_last is not read")
    shape = tensors[_operand(group, 0).name].shape
    axes = list(range(2, len(shape)))
    return _average(group, _sum(group, tensors, axes, True), int(np.prod(shape[2:])))


def _reduce(group: Group, tensors: Tensors) -> torch.Tensor:
    """ReduceMean and ReduceSum over any axes."""
    shape = tensors[_operand(group, 0).name].shape
    listed = _constant(group, 1)
    axes = _attribute(group, "axes", []) if listed is None else listed.tolist()
    axes = [axis % len(shape) for axis in axes] or list(range(len(shape)))
    total = _sum(group, tensors, axes, bool(group.attributes.get("keepdims", 1)))
    count = int(np.prod([shape[axis] for axis in axes])) if group.op == "ReduceMean" else 1
    return _average(group, total, count)


def _average_pool(group: Group, tensors: Tensors) -> torch.Tensor:
    x, kernel = _operand(group, 0), _attribute(group, "kernel_shape", [])
    strides, pads, dilations = _window(group, kernel)
    if max(dilations) > 1 or group.attributes.get("channels_last", 0):
        raise group.refuse("dilations and channels_last are not read")
    ceil_mode = bool(group.attributes.get("ceil_mode", 0))
    centred = _codes(x, tensors).to(torch.int64) - _params(group, x).zero
    total = integer.sum_pool(centred, kernel, strides, pads, ceil_mode)
    if group.attributes.get("count_include_pad", 0):
        if ceil_mode:
            raise group.refuse("ceil_mode with count_include_pad has no agreed divisor")
        return _average(group, total, int(np.prod(kernel)))
    ones = torch.ones_like(centred[:1, :1])
    return _average(group, total, integer.sum_pool(ones, kernel, strides, pads, ceil_mode))


# Elementwise ------------------------------------------------------------------------------


def unary_functions(group: Group) -> list[tuple[str, dict[str, Any]]]:
    """Names and attributes of the group's own unary operator and those after it."""
    functions = []
    if group.op in UNARY:
        attributes = dict(group.attributes)
        if group.op == "Clip":
            attributes |= _bounds(group, _constant(group, 1), _constant(group, 2))
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
    x = _operand(group, 0)
    source = _params(group, x)
    table = unary_table(source, _target(group), unary_functions(group))
    return _lookup(_codes(x, tensors), source, table)


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
        x = _operand(group, 1 - position)
        source, target = _params(group, x), _target(group)
        codes = source.codes()
        real = ((codes - source.zero).astype(F32) * source.unit).astype(F32)
        scalar = F32(_operand(group, position).value.reshape(()))  # type: ignore[union-attr]
        pair = (scalar, real) if position == 0 else (real, scalar)
        table = quantize_float(_REAL[group.op](*pair).astype(F32), target)
        return _lookup(_codes(x, tensors), source, table)
    if group.op not in PAIRS:
        raise group.refuse("has no integer definition for two quantized tensors")
    a, b = _operand(group, 0), _operand(group, 1)
    pa, pb = _params(group, a), _params(group, b)
    if pa.scale.size > 1 or pb.scale.size > 1:
        raise group.refuse("operands need one scale each")
    pairs = torch.from_numpy(PAIRS[group.op](pa, pb, _target(group)).reshape(-1))
    left = (_codes(a, tensors).to(torch.int32) - pa.low) * 256
    return pairs[left + (_codes(b, tensors).to(torch.int32) - pb.low)]


# Moves ------------------------------------------------------------------------------------


def _slices(group: Group, shape: torch.Size) -> tuple[slice, ...]:
    starts, ends = _constant(group, 1), _constant(group, 2)
    if starts is None or ends is None:
        raise group.refuse("starts and ends must be inputs (opset 10 and later)")
    axes, steps = _constant(group, 3), _constant(group, 4)
    listed = range(len(starts)) if axes is None else axes.tolist()
    strides = [1] * len(starts) if steps is None else steps.tolist()
    cuts = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), listed, strides, strict=True):
        if step < 1:
            raise group.refuse(f"step must be positive, not {step}")
        cuts[axis] = slice(*slice(start, end).indices(shape[axis])[:2], step)
    return tuple(cuts)


def _reshaped(group: Group, x: torch.Tensor) -> list[int]:
    wanted = _constant(group, 1)
    if wanted is None:
        raise group.refuse("the shape is missing")
    keep = not group.attributes.get("allowzero", 0)
    return [x.shape[i] if n == 0 and keep else n for i, n in enumerate(wanted.tolist())]


def _axes(group: Group, rank: int) -> list[int]:
    """Axes of Squeeze and Unsqueeze: an input since opset 13, an attribute before."""
    listed = _constant(group, 1)
    axes = _attribute(group, "axes", []) if listed is None else listed.tolist()
    return sorted(axis % rank for axis in axes)


def _split(group: Group, x: torch.Tensor) -> torch.Tensor:
    axis = group.attributes.get("axis", 0)
    listed = _constant(group, 1)
    sizes = _attribute(group, "split", []) if listed is None else listed.tolist()
    if not sizes:
        parts = len(group.node.output)
        size = -(-x.shape[axis] // parts)
        sizes = [size] * (parts - 1) + [x.shape[axis] - size * (parts - 1)]
    return torch.split(x, sizes, dim=axis)[group.index]


def _move_one(group: Group, x: torch.Tensor, low: int) -> torch.Tensor:
    """Select or move elements of one tensor."""
    rank = x.dim()
    match group.op:
        case "Identity":
            return x
        case "Slice":
            return x[_slices(group, x.shape)]
        case "Transpose":
            return x.permute(_attribute(group, "perm", list(reversed(range(rank)))))
        case "Reshape":
            return x.reshape(_reshaped(group, x))
        case "Flatten":
            axis = group.attributes.get("axis", 1) % (rank + 1)
            return x.reshape(int(np.prod(x.shape[:axis])), -1)
        case "Squeeze":
            axes = _axes(group, rank) or [i for i, n in enumerate(x.shape) if n == 1]
            return x.squeeze(axes)
        case "Unsqueeze":
            for axis in _axes(group, rank + len(_axes(group, 1 << 16))):
                x = x.unsqueeze(axis)
            return x
        case "Split":
            return _split(group, x)
        case "Expand":
            wanted = _reshaped(group, x)
            return x.expand(torch.broadcast_shapes(x.shape, wanted))
        case "Gather":
            index = _constant(group, 1)
            axis = group.attributes.get("axis", 0) % rank
            picked = x.index_select(axis, torch.from_numpy(np.atleast_1d(index).reshape(-1)))
            return picked.reshape(*x.shape[:axis], *np.shape(index), *x.shape[axis + 1 :])
        case "MaxPool":
            kernel = _attribute(group, "kernel_shape", [])
            strides, pads, dilations = _window(group, kernel)
            ceil_mode = bool(group.attributes.get("ceil_mode", 0))
            return integer.max_pool(x, kernel, strides, pads, dilations, ceil_mode, low)
    raise group.refuse("has no integer definition")


def _rescaled(group: Group, operand: Operand, x: torch.Tensor) -> torch.Tensor:
    """Change of scale after a move, by table; nothing where the scales agree."""
    source, target = operand.params, group.params
    if source is None or target is None or source.same_as(target):
        return x
    return _lookup(x, source, unary_table(source, target, []))


def _move(group: Group, tensors: Tensors) -> torch.Tensor:
    x = _operand(group, 0)
    codes = _codes(x, tensors)
    low = torch.iinfo(codes.dtype).min
    return _rescaled(group, x, _move_one(group, codes, low))


def _concat(group: Group, tensors: Tensors) -> torch.Tensor:
    parts = [
        _rescaled(group, operand, _codes(operand, tensors)).to(torch.int16)
        for operand in (_operand(group, i) for i in range(len(group.operands)))
    ]
    return torch.cat(parts, dim=group.attributes["axis"])


def _pad(group: Group, tensors: Tensors) -> torch.Tensor:
    x, target = _operand(group, 0), _target(group)
    if group.attributes.get("mode", "constant") != "constant":
        raise group.refuse(f"mode {group.attributes['mode']} is not read")
    pads, fill = _constant(group, 1), 0.0
    if pads is None or _constant(group, 3) is not None or int(pads.min()) < 0:
        raise group.refuse("pads must be a constant input, not negative, over all axes")
    if len(group.operands) > 2 and group.operands[2] is not None:
        operand = _operand(group, 2)
        value = float(np.asarray(_constant(group, 2)).reshape(()))
        params = operand.params
        fill = value if params is None else (value - params.zero) * float(params.unit)
    code = int(quantize_float(np.asarray([fill], dtype=F32), target)[0])
    moved = _rescaled(group, x, _codes(x, tensors)).to(torch.int16)
    rank = moved.dim()
    widths = [int(pads[i + side]) for i in reversed(range(rank)) for side in (0, rank)]
    return F.pad(moved, widths, value=code)


def _reduce_max(group: Group, tensors: Tensors) -> torch.Tensor:
    x = _operand(group, 0)
    codes = _codes(x, tensors)
    listed = _constant(group, 1)
    axes = _attribute(group, "axes", []) if listed is None else listed.tolist()
    greatest = codes.amax(
        dim=axes or list(range(codes.dim())), keepdim=bool(group.attributes.get("keepdims", 1))
    )
    return _rescaled(group, x, greatest)


KERNELS: dict[str, Callable[[Group, Tensors], torch.Tensor]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "GlobalAveragePool": _global_average_pool,
    "AveragePool": _average_pool,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "ReduceMax": _reduce_max,
    "Requantize": _unary,
    "Concat": _concat,
    "Pad": _pad,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min"), _pair),
    **dict.fromkeys(("Expand", "Flatten", "Gather", "MaxPool", "Reshape", "Slice"), _move),
    **dict.fromkeys(("Split", "Squeeze", "Transpose", "Unsqueeze"), _move),
    **dict.fromkeys(UNARY, _unary),
}


def clamp_codes(group: Group, result: torch.Tensor) -> torch.Tensor:
    """Apply Relu, Clip after the operator as a clamp of codes, which rounding commutes with."""
    if not group.unary or group.op in UNARY:
        return result
    target = _target(group)
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
