"""Import pools and means, and read the window attributes that convolutions share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from compiler.frontend.site import Site
from compiler.ops import Pool, PoolKind, Rearrange, Reduce, Window
from compiler.tensor import TensorType, Triple
from hw.arch.numerics import Mean


def spread(values: Sequence[int], missing: int = 1) -> Triple:
    """Values along the last axes to (t, h, w)."""
    t, h, w = [missing] * (3 - len(values)) + [int(v) for v in values]
    return t, h, w


def canonical_axis(axis: int, rank: int) -> int:
    """Canonical axis (0 = C … 3 = W) of an ONNX axis; −1 for the batch."""
    axis %= rank
    return (-1, 0)[axis] if axis < 2 else axis - rank + 4


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
        for size, k, s, d in zip(space, kernel, strides, dilations, strict=True):
            total = max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
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


def max_pool(site: Site) -> None:
    """MaxPool and GlobalMaxPool."""
    name, source = site.activation(0)
    if len(site.node.output) > 1 and site.node.output[1]:
        raise site.refuse("the second output (indices) is not made")
    window = _window(site, source)
    op = Pool(
        name=site.name,
        inputs=(name,),
        output=site.output,
        kind=PoolKind.MAX,
        window=window,
        low=site.low,
        high=site.high,
    )
    _emit_pool(site, op, source)


def average_pool(site: Site) -> None:
    """AveragePool over whole windows: padding, if any, must count."""
    name, source = site.activation(0)
    window = _window(site, source)
    padded = any((*window.pad_begin, *window.pad_end))
    if padded and not site.attributes.get("count_include_pad", 0):
        raise site.refuse(
            "windows of different sizes at the border (pads or ceil_mode without "
            "count_include_pad) need one divisor each"
        )
    if padded and site.attributes.get("ceil_mode", 0):
        raise site.refuse("ceil_mode with padding has no agreed divisor")
    op = Pool(
        name=site.name,
        inputs=(name,),
        output=site.output,
        kind=PoolKind.AVERAGE,
        window=window,
        mean=_mean(site, source, math.prod(window.kernel)),
        low=site.low,
        high=site.high,
    )
    _emit_pool(site, op, source)


def _emit_pool(site: Site, op: Pool, source: TensorType) -> None:
    shape = op.infer([source])
    rank = len(source.onnx_shape) - 2
    site.emit(op, (1, shape[0], *shape[4 - rank :]))


def _mean(site: Site, source: TensorType, elements: int) -> Mean:
    return Mean.of(
        source.scale, float(site.target.scale[0]), int(site.target.zero_point[0]), elements
    )


def global_average_pool(site: Site) -> None:
    """GlobalAveragePool: the mean over all spatial axes."""
    _, source = site.activation(0)
    if site.attributes.get("channels_last", 0):
        raise site.refuse("channels_last is not read")
    _reduce(site, list(range(2, len(source.onnx_shape))), keep=True)


def reduce_mean(site: Site) -> None:
    """ReduceMean over spatial axes; axes are an input since opset 18."""
    _, source = site.activation(0)
    rank = len(source.onnx_shape)
    listed = site.constant(1)
    axes = site.attributes.get("axes") if listed is None else listed.reshape(-1).tolist()
    if not axes:
        if site.attributes.get("noop_with_empty_axes", 0):
            raise site.refuse("a mean over no axis")
        axes = list(range(rank))
    _reduce(site, sorted(int(a) % rank for a in axes), bool(site.attributes.get("keepdims", 1)))


def _reduce(site: Site, axes: list[int], keep: bool) -> None:
    name, source = site.activation(0)
    shape = source.onnx_shape
    # Axes of size 1 (the batch above all) take no part in a mean.
    averaged = [a for a in axes if shape[a] > 1]
    canonical = tuple(canonical_axis(a, len(shape)) for a in averaged)
    if any(a < 1 for a in canonical):
        raise site.refuse(
            f"a mean over axes {axes} of {list(shape)} crosses channels; only time and space "
            "are lowered"
        )
    if not canonical:
        canonical = (3,)
    kept = tuple(1 if a in axes else n for a, n in enumerate(shape))
    final = kept if keep else tuple(n for a, n in enumerate(shape) if a not in axes) or (1,)
    moves = site.target.type(kept).shape != site.target.type(final).shape
    output = site.builder.unused(f"{site.output}/kept") if moves else site.output
    reduced = Reduce(
        name=site.name,
        inputs=(name,),
        output=output,
        axes=canonical,
        mean=_mean(site, source, int(np.prod([shape[a] for a in averaged], initial=1))),
        low=site.low,
        high=site.high,
    )
    site.builder.emit(reduced, site.target.type(kept if moves else final))
    if moves:
        op = Rearrange(
            name=f"{site.name}/squeeze",
            inputs=(output,),
            output=site.output,
            permutation=tuple(range(len(kept))),
            shape=final,
        )
        site.emit(op, final)
