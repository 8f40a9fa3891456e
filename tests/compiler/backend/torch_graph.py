"""What a graph of the compiler computes, by PyTorch."""

from __future__ import annotations

import math

import numpy as np
import torch

from compiler.ir import (
    AxisMean,
    Codes,
    Concat,
    Convolution,
    Graph,
    Pairwise,
    PairwiseKind,
    Pool,
    PoolKind,
    Rearrange,
    Slice,
    TensorType,
    UnaryTable,
    View,
    Window,
)


def reference(graph: Graph, feeds: dict[str, Codes]) -> dict[str, Codes]:
    """Codes of every value by PyTorch; `feeds` by value, [C, T, H, W]."""
    values = {**graph.constants(), **feeds}
    for op in graph.ops:
        operands = [torch.from_numpy(values[n].astype(np.float64)) for n in op.inputs]
        kinds = [graph.type(n) for n in op.inputs]
        t = graph.type(op.output)
        result = _apply(op, operands, kinds, t)
        values[op.output] = result.numpy().astype(t.dtype)
    return values


def _apply(op, operands, kinds, t: TensorType) -> torch.Tensor:
    x = operands[0]
    zero = kinds[0].zero_point
    match op:
        case Convolution():
            return _convolve(op, x - zero, t)
        case Concat():
            parts = [
                p if table is None else _looked_up(table, p, t)
                for table, p in zip(op.tables, operands, strict=True)
            ]
            return torch.cat(parts, dim=op.axis)
        case Slice():
            return x.index_select(op.axis, torch.arange(op.start, op.stop, op.step))
        case UnaryTable():
            return _looked_up(op.table, x, t)
        case Pairwise(kind=PairwiseKind.MULTIPLY):
            product = ((x - zero) * (operands[1] - kinds[1].zero_point)).to(torch.float32)
            ratio = np.float32(np.float32(kinds[0].scale) * np.float32(kinds[1].scale))
            scale = torch.tensor(np.float32(ratio / np.float32(t.scale)))
            return _clamped(torch.round(product * scale + t.zero_point), op)
        case Pairwise():
            maximum = op.kind is PairwiseKind.MAXIMUM
            return _clamped((torch.maximum if maximum else torch.minimum)(x, operands[1]), op)
        case Pool(kind=PoolKind.MAX):
            return _clamped(_windows(x, op.window, -1e9).amax(-1), op)
        case Pool():
            total = _windows(x - zero, op.window, 0).sum(-1)
            return _averaged(total, kinds[0], t, math.prod(op.window.kernel), op)
        case AxisMean():
            total = (x - zero).sum(dim=op.axes, keepdim=True)
            elements = math.prod(x.shape[a] for a in op.axes)
            return _averaged(total, kinds[0], t, elements, op)
        case Rearrange():
            flat = torch.empty(x.numel(), dtype=x.dtype)
            flat[_places(op.source)] = x
            return flat[_places(op.target)]
        case View():
            return x.reshape(op.shape)
    raise NotImplementedError(type(op).__name__)


def _places(axes) -> torch.Tensor:
    """Row-major place of every element [C, T, H, W]."""
    along = []
    for digits in axes:
        places = torch.zeros(1, dtype=torch.int64)
        for size, stride in digits:
            places = (places[:, None] + stride * torch.arange(size)).reshape(-1)
        along.append(places)
    c, t, h, w = along
    return c[:, None, None, None] + t[:, None, None] + h[:, None] + w


def _clamped(codes: torch.Tensor, op) -> torch.Tensor:
    return codes.clamp(op.low, op.high)


def _looked_up(table: bytes, x: torch.Tensor, t: TensorType) -> torch.Tensor:
    entries = torch.from_numpy(np.frombuffer(table, t.dtype).astype(np.float64))
    return entries[x.long() % 256]


def _convolve(op: Convolution, centred: torch.Tensor, t: TensorType) -> torch.Tensor:
    pads = [p for d in (2, 1, 0) for p in (op.pad_begin[d], op.pad_end[d])]
    padded = torch.nn.functional.pad(centred[None], pads)
    weight = torch.from_numpy(op.weight.astype(np.float64))
    bias = torch.from_numpy(op.bias.astype(np.float64))
    acc = torch.nn.functional.conv3d(
        padded, weight, bias, stride=op.stride, dilation=op.dilation, groups=op.groups
    )[0]
    scale = op.multiplier.astype(np.float64) * 2.0 ** -op.shift.astype(np.float64)
    scaled = acc.to(torch.float32) * torch.from_numpy(scale.astype(np.float32))[:, None, None, None]
    codes = _clamped(torch.round(scaled).to(torch.float64) + t.zero_point, op)
    if op.pool is None:
        return codes
    return torch.nn.functional.max_pool3d(codes[None], op.pool.kernel, op.pool.stride)[0]


def _windows(x: torch.Tensor, window: Window, fill: float) -> torch.Tensor:
    """[C, t, h, w, places]."""
    pads = [p for d in (2, 1, 0) for p in (window.pad_begin[d], window.pad_end[d])]
    padded = torch.nn.functional.pad(x, pads, value=fill)
    for d in range(3):
        padded = padded.unfold(1 + d, window.kernel[d], window.stride[d])
    return padded.flatten(4)


def _averaged(total, source: TensorType, t: TensorType, elements: int, op) -> torch.Tensor:
    ratio = np.float32(np.float32(t.scale) * np.float32(elements))
    scale = torch.tensor(np.float32(np.float32(source.scale) / ratio))
    scaled = torch.round(total.to(torch.float32) * scale).to(torch.float64)
    return _clamped(scaled + t.zero_point, op)
