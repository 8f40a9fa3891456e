"""Import pools and means, and read the window attributes that convolutions share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx

from compiler.frontend.builder import Operand
from compiler.frontend.cuts import turned
from compiler.frontend.model import Array, attributes_of, refuse
from compiler.frontend.shapes import in_range
from compiler.frontend.site import Site
from compiler.ops import (
    AxisMean,
    BorderedMean,
    Convolution,
    Pool,
    PoolKind,
    UnaryTable,
    Window,
    stored_codes,
)
from compiler.tensor import TensorType, Triple
from hw.arch.axes import aligned
from hw.arch.numerics import Mean, split_scale


def spread(values: Sequence[int], missing: int = 1) -> Triple:
    """Values along the last axes to (t, h, w)."""
    t, h, w = [missing] * (3 - len(values)) + [int(v) for v in values]
    return t, h, w


def window_attributes(
    site: Site, kernel: Sequence[int], space: Sequence[int]
) -> tuple[list[int], list[int], list[int]]:
    """Strides, pads (begins, then ends) and dilations; auto_pad resolved."""
    rank = len(kernel)
    strides = [int(s) for s in site.attributes.get("strides", [1] * rank)]
    dilations = [int(d) for d in site.attributes.get("dilations", [1] * rank)]
    pads = [int(p) for p in site.attributes.get("pads", [0] * (2 * rank))]
    if len(space) != rank or len(strides) != rank or len(pads) != 2 * rank:
        raise site.refuse(f"a window over {rank} axes on a map of {len(space)}")
    if min(strides) < 1 or min(dilations) < 1 or min(pads) < 0:
        raise site.refuse(f"strides {strides}, dilations {dilations}, pads {pads}: out of range")
    mode = site.attributes.get("auto_pad", "NOTSET")
    if mode == "VALID":
        pads = [0] * (2 * rank)
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        begins, ends = [], []
        if max(dilations) > 1:
            raise site.refuse(f"auto_pad {mode} with dilations {dilations}: give explicit pads")
        for size, k, s in zip(space, kernel, strides, strict=True):
            total = (-(-size // s) - 1) * s + k - size
            if total < (-1 if site.op == "Conv" else 0):  # ONNX Runtime crops, or fails
                raise site.refuse(
                    f"auto_pad {mode} with strides {strides} crops: give explicit pads"
                )
            total = max(0, total)
            less = total // 2
            begins.append(less if mode == "SAME_UPPER" else total - less)
            ends.append(total - begins[-1])
        pads = begins + ends
    elif mode != "NOTSET":
        raise site.refuse(f"auto_pad {mode!r} is not known")
    return strides, pads, dilations


def _window(site: Site, source: TensorType) -> Window:
    """The window of a pool, ceil_mode turned into padding at the end."""
    space = source.onnx_shape[2:]
    kernel = [int(k) for k in site.attributes.get("kernel_shape", space)]
    if not 1 <= len(space) <= 3 or site.attributes.get("channels_last", 0):
        raise site.refuse("pools over one to three axes, channels first, are read")
    strides, pads, dilations = window_attributes(site, kernel, space)
    if max(dilations) > 1:
        raise site.refuse(f"dilations {dilations}: pools have none")
    rank = len(kernel)
    if any(pad >= size for pad, size in zip(pads, (*kernel, *kernel), strict=True)):
        raise site.refuse(f"pads {pads} for a kernel {kernel}: a window lies in the padding alone")
    if site.attributes.get("ceil_mode", 0):
        for d in range(rank):
            pads[rank + d] += _ceil_padding(
                space[d], kernel[d], strides[d], pads[d], pads[rank + d]
            )
    return Window(spread(kernel), spread(strides), spread(pads[:rank], 0), spread(pads[rank:], 0))


def _ceil_padding(size: int, kernel: int, stride: int, begin: int, end: int) -> int:
    """Padding that the last, partial window of ceil_mode adds."""
    room = size + begin + end - kernel
    count = -(-room // stride) + 1
    if (count - 1) * stride >= size + begin:  # it would start in the padding: not counted
        count -= 1
    return max(0, (count - 1) * stride - room)


def max_pool(site: Site) -> Operand:
    """MaxPool."""
    source = site.standard(0)
    if len(site.node.output) > 1 and site.node.output[1]:
        raise site.refuse("the second output (indices) is not made")
    window = _window(site, source.kind)
    op = Pool(
        name=site.builder.op_name(site.node),
        inputs=(source.name,),
        output=site.output(),
        kind=PoolKind.MAX,
        window=window,
        low=site.low,
        high=site.high,
    )
    return _emit_pool(site, op, source.kind)


def average_pool(site: Site) -> Operand:
    """AveragePool."""
    source = site.standard(0)
    window = _window(site, source.kind)
    op = Pool(
        name=site.builder.op_name(site.node),
        inputs=(source.name,),
        output=site.output(),
        kind=PoolKind.AVERAGE,
        window=window,
        mean=_average(site, source.kind, window),
        low=site.low,
        high=site.high,
    )
    return _emit_pool(site, op, source.kind)


def _average(site: Site, source: TensorType, window: Window) -> Mean | BorderedMean:
    """Arithmetic of an average by the elements that its windows count.

    Padding counts only with count_include_pad, and then as far as `pads` say: what ceil_mode lets
    a window reach beyond them never counts (as in ONNX Runtime).

    Raises
    ------
    Unsupported
        A window lies in the padding alone.
    """
    space = source.onnx_shape[2:]
    kernel = [int(k) for k in site.attributes.get("kernel_shape", space)]
    _, pads, _ = window_attributes(site, kernel, space)
    counted = bool(site.attributes.get("count_include_pad", 0))
    rank = len(space)
    counts = []
    for d in range(rank):
        begin, end = pads[d], pads[rank + d]
        least, past = (-begin, space[d] + end) if counted else (0, space[d])
        stride, last = window.stride[3 - rank + d], window.output(source.shape[1:])[3 - rank + d]
        starts = [i * stride - begin for i in range(last)]
        counts.append(tuple(min(s + kernel[d], past) - max(s, least) for s in starts))
        if min(counts[-1]) < 1:
            raise site.refuse(f"a window lies in the padding alone along axis {d + 2}")
    # Axes that the file does not have, or that are the batch of 2-D frames: windows of one.
    t, h, w = [(1,) * n for n in window.output(source.shape[1:])[: 3 - rank]] + counts
    products = {a * b * c for a, b, c in itertools.product(set(t), set(h), set(w))}
    # As QLinearAveragePool, the kernel that ONNX Runtime fuses it to.
    means = {n: _mean(site, source, n, add_first=True) for n in sorted(products)}
    return means[products.pop()] if len(products) == 1 else BorderedMean((t, h, w), means)


def _emit_pool(site: Site, op: Pool, source: TensorType) -> Operand:
    batch, channels = source.onnx_shape[:2]
    rank = len(source.onnx_shape) - 2
    shape = op.infer([source])
    return site.emit(op, site.result((batch, channels, *shape[4 - rank :])))


def _mean(site: Site, source: TensorType, elements: int, *, add_first: bool = False) -> Mean:
    scale, zero_point = float(site.target.scale[0]), int(site.target.zero_point[0])
    return Mean.of(source.scale, scale, zero_point, elements, add_first=add_first)


REDUCTIONS = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMax", "ReduceMean")
"""Operators over whole axes."""


def reduced_axes(
    node: onnx.NodeProto, shape: Sequence[int], listed: Array | None
) -> tuple[list[int], bool]:
    """ONNX axes that a reduction goes over, and whether they stay with size 1.

    Parameters
    ----------
    shape: of the operand.
    listed: axes given as an input (ReduceMean and ReduceMax since opset 18).
    """
    attributes = attributes_of(node)
    if node.op_type not in ("ReduceMax", "ReduceMean", "ReduceSum", "QLinearReduceMean"):
        if attributes.get("channels_last", 0):
            raise refuse(node, "channels_last is not read")
        return list(range(2, len(shape))), True
    axes = attributes.get("axes") if listed is None else listed.reshape(-1).tolist()
    if not axes:
        if attributes.get("noop_with_empty_axes", 0):
            return [], True
        axes = list(range(len(shape)))
    keep = bool(attributes.get("keepdims", 1))
    return sorted({in_range(node, int(a), len(shape)) for a in axes}), keep


def reduction(site: Site) -> Operand:
    """The mean or maximum over whole axes of time and space."""
    listed = site.constant(1)
    axes, keep = reduced_axes(site.node, site.activation(0).kind.onnx_shape, listed)
    source, onto = site.aligned(0)
    shape = source.kind.onnx_shape
    places = tuple(sorted(k for k in (onto[a] for a in axes) if k is not None))
    kept = tuple(1 if a in axes else n for a, n in enumerate(shape))
    result = site.result(kept, aligned(kept, [3 if k is None else k for k in onto]))
    elements = int(np.prod([shape[a] for a in axes], initial=1))
    if not places and site.op in ("GlobalMaxPool", "ReduceMax"):
        operand = source
    elif not places:
        operand = _mean_of_one(site, source)
    elif site.op in ("GlobalMaxPool", "ReduceMax"):
        operand = _maximum(site, source, onto, axes)
    elif 0 in places:
        operand = _mean_of_channels(site, source, places, elements, result)
    else:
        op = AxisMean(
            name=site.builder.op_name(site.node),
            inputs=(source.name,),
            output=site.output(),
            axes=places,
            mean=_mean(site, source.kind, elements),
            low=site.low,
            high=site.high,
        )
        operand = site.emit(op, result)
    final = kept if keep else tuple(n for a, n in enumerate(shape) if a not in axes)
    return Operand(operand.name, operand.kind.reshaped(final))


def _mean_of_one(site: Site, source: Operand) -> Operand:
    """The mean over axes of size 1: its rule on every code."""
    kind = site.target.like(source.kind)
    mean = _mean(site, source.kind, 1)
    codes = mean(stored_codes(source.kind) - source.kind.zero_point, site.low, site.high)
    op = UnaryTable(
        name=site.builder.op_name(site.node),
        inputs=(source.name,),
        output=site.output(),
        table=codes.astype(kind.dtype).tobytes(),
        function="mean of one",
    )
    return site.emit(op, kind)


def _mean_of_channels(
    site: Site, source: Operand, places: tuple[int, ...], elements: int, result: TensorType
) -> Operand:
    """A mean over channels, too: a convolution with ones; its requantization is the mean's."""
    c, *space = source.kind.shape
    kernel = [n if k in places else 1 for k, n in enumerate(space, 1)]
    scale = np.float32(source.kind.scale) / (
        np.float32(site.target.scale[0]) * np.float32(elements)
    )
    multiplier, shift = split_scale(float(np.float32(scale)))
    op = Convolution(
        name=site.builder.op_name(site.node),
        inputs=(source.name,),
        output=site.output(),
        weight=np.ones((1, c, *kernel), np.int8),
        bias=np.zeros(1, np.int32),
        multiplier=np.array([multiplier], np.int64),
        shift=np.array([shift], np.int64),
        low=site.low,
        high=site.high,
    )
    return site.emit(op, result)


def _maximum(site: Site, source: Operand, onto: list[int | None], axes: Sequence[int]) -> Operand:
    """Maximum pools whose window is the whole of the axes.

    Lanes are not compared with each other: channels are turned onto time or space first, when
    what else is reduced is gone.
    """
    across = [a for a in axes if onto[a] == 0]
    along = [a for a in axes if onto[a] in (1, 2, 3)]
    if along:
        source = _pooled(site, source, onto, along)
    if across:
        source, onto = turned(site.builder, site.node, source, onto, across[0])
        source = _pooled(site, source, onto, across)
    return source


def _pooled(
    site: Site, source: Operand, onto: Sequence[int | None], axes: Sequence[int]
) -> Operand:
    """A maximum pool whose window is the whole of axes of time and space."""
    shape = [1 if a in axes else n for a, n in enumerate(source.kind.onnx_shape)]
    result = site.result(shape, aligned(shape, [3 if k is None else k for k in onto]))
    places = [onto[a] for a in axes]
    t, h, w = (source.kind.shape[k] if k in places else 1 for k in (1, 2, 3))
    op = Pool(
        name=site.builder.op_name(site.node),
        inputs=(source.name,),
        output=site.output(),
        kind=PoolKind.MAX,
        window=Window((t, h, w), (1, 1, 1)),
        low=site.low,
        high=site.high,
    )
    return site.emit(op, result)
