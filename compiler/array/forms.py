"""Lowering of convolutions that run in GEMM mode: dense, grouped, thin, fully connected."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import numpy.typing as npt

from compiler.array.fields import Kernel
from compiler.array.job import Job
from compiler.array.packing import Packing, packings
from compiler.array.phases import Phases, phases
from compiler.array.tail import Tail, Trailing
from compiler.emit.transfers import Strided
from compiler.ir import Convolution
from compiler.tile.geometry import Axis, AxisTriple, merge, product
from compiler.tile.limits import MAX_COORDINATE, MAX_DILATION, MAX_POOL, MAX_STRIDE
from compiler.tile.problem import Problem
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import Channels, TensorLayout, ceil_div
from hw.arch.numerics import pack_parameters
from hw.arch.program import Tensor

NO_WEIGHTS: npt.NDArray[np.int8] = np.zeros((0,) * 7, np.int8)


def axis_refusal(axis: Axis) -> str | None:
    """Why fields do not hold a window along an axis, or None if they do."""
    if axis.stride > MAX_STRIDE:
        return f"stride {axis.stride}; the address generators step by at most {MAX_STRIDE}"
    if axis.dilation > MAX_DILATION:
        return f"dilation {axis.dilation}; at most {MAX_DILATION}"
    if not axis.free and max(axis.size, axis.pad) > MAX_COORDINATE:
        return (
            f"a window on a map of {axis.size}, padded by {axis.pad}; at most {MAX_COORDINATE} "
            f"along an axis"
        )
    if axis.pool > MAX_POOL:
        return f"a fused pool of {axis.pool}; at most {MAX_POOL} along an axis"
    return None


def axes_of(op: Convolution, source: Tensor) -> AxisTriple:
    """x, y, t of a convolution, its fused pool included."""
    sizes = (source.layout.width, source.layout.height, source.layout.frames)
    axes = []
    for d in range(3):
        k = 2 - d  # the operator's triples are (t, h, w)
        kernel, stride, dilation = op.kernel[k], op.stride[k], op.dilation[k]
        span = sizes[d] + op.pad_begin[k] + op.pad_end[k] - (kernel - 1) * dilation - 1
        pool = op.pool.kernel[k] if op.pool else 1
        out = (span // stride + 1) // pool * pool
        # What does not matter need not fit its field.
        stride = stride if out > 1 else 1
        dilation = dilation if kernel > 1 else 1
        axes.append(Axis(sizes[d], out, kernel, stride, dilation, op.pad_begin[k], pool))
    return axes[0], axes[1], axes[2]


def gathered_weights(op: Convolution, source: TensorLayout) -> npt.NDArray[np.int8]:
    """Weights by the operand's lanes, [Cout, lanes, kt, ky, kx]; zero where a lane has no channel.

    Of several lanes with one channel the first counts.
    """
    out, per_group = op.weight.shape[:2]
    dense = np.zeros((out, source.blocks * source.lanes, *op.weight.shape[2:]), np.int8)
    lane_of = source.lane_map.first_lanes()
    for group in range(op.groups):
        outputs = slice(group * out // op.groups, (group + 1) * out // op.groups)
        inputs = lane_of[group * per_group : (group + 1) * per_group]
        dense[outputs, inputs] = op.weight[outputs]
    return dense


def blocked_weights(
    dense: npt.NDArray[np.int8], columns: Channels, config: AcceleratorConfig
) -> npt.NDArray[np.int8]:
    """Channels to columns: [Cout, lanes, ...] to [groups, blocks, kt, ky, kx, rows, cols].

    `columns`: the channel of each; zero where it has none.
    """
    rows, cols = config.array.rows, config.array.cols
    groups = ceil_div(columns.size, cols)
    wide = np.zeros((groups * cols, *dense.shape[1:]), np.int8)
    used = np.flatnonzero(columns >= 0)
    wide[used] = dense[columns[used]]
    split = wide.reshape(groups, cols, dense.shape[1] // rows, rows, *dense.shape[2:])
    return np.ascontiguousarray(split.transpose(0, 2, 4, 5, 6, 3, 1))


def packed_parameters(op: Convolution, channels: Channels, width: int) -> list[bytes]:
    """Requantization parameters of some channels (−1: none, zeros), `width` at a time."""
    padded = ceil_div(channels.size, width) * width
    columns = np.zeros((3, padded), np.int64)
    used = np.flatnonzero(channels >= 0)
    columns[:, used] = np.stack([op.bias, op.multiplier, op.shift])[:, channels[used]]
    data = pack_parameters(*columns.tolist())
    size = 8 * width
    return [data[i : i + size] for i in range(0, len(data), size)]


def spans(
    op: Convolution, source: TensorLayout, target: TensorLayout, config: AcceleratorConfig
) -> tuple[list[int], int]:
    """First input block of every output group's sum, and how many blocks the widest sum takes."""
    columns = target.lane_channels()
    size = config.array.cols
    parts = [columns[i : i + size] for i in range(0, columns.size, size)]
    if op.groups == 1:
        return [0] * len(parts), source.blocks
    block_of = (source.lane_map.first_lanes() // source.lanes).reshape(op.groups, -1)
    low, high = block_of.min(axis=1), block_of.max(axis=1)
    found = []
    for part in parts:
        groups = part[part >= 0] * op.groups // op.out_channels
        found.append((int(low[groups].min()), int(high[groups].max()) + 1))
    width = max(b - a for a, b in found)
    return [min(a, source.blocks - width) for a, _ in found], width


def _packings(
    op: Convolution, source: Tensor, form: Job, config: AcceleratorConfig
) -> list[Packing]:
    """Ways to fill the lanes of a thin input; the vector unit packs them.

    Columns cost it twice the rows. Where results share a pass, it takes them apart as well, and the
    array has half as much to do.
    """
    used = int(source.layout.lane_map.first_lanes().max()) + 1
    thin = source.layout.blocks == 1 and 2 * used <= config.lane_block and op.groups == 1
    if not thin or "vector" not in config.features:
        return []
    found = packings(form.problem.axes, used, config.lane_block)
    return [each for each in found if not each.columns or form.phases is None]


def jobs(
    op: Convolution,
    source: Tensor,
    target: Tensor,
    config: AcceleratorConfig,
    constants: bool = True,
    tail: Tail | Trailing | None = None,
) -> list[Job]:
    """The convolution in every form worth trying; without `constants` only their sizes.

    `tail` is what is done with its results before they are stored, or what trails them.
    """
    merged, levels = merge(axes_of(op, source))
    first, reduced = spans(op, source.layout, target.layout, config)
    plain = Job(
        problem=Problem(
            axes=merged,
            blocks=source.layout.blocks,
            reduced=reduced,
            groups=len(first),
            out_blocks=target.layout.blocks,
            joinable=len({b - a for a, b in itertools.pairwise(first)}) <= 1,
            joined=isinstance(tail, Tail),
            trailed=None if tail is None or isinstance(tail, Tail) else tail.sizes(config),
        ),
        source=Strided.of(source).merged(levels),
        target=Strided.of(target).merged(levels),
        weights=NO_WEIGHTS,
        parameters=(),
        first_block=first,
        kernel=Kernel(merged, source.signed, source.zero_point, target.zero_point, op.low, op.high),
        tail=tail,
    )
    shared = () if tail is not None else phases(op, target.layout, merged, config)
    forms = [
        form
        for wide in (plain, *(_phased_job(each, plain) for each in shared))
        for form in (
            wide,
            *(_packed_job(p, wide) for p in _packings(op, source, wide, config)),
        )
    ]
    if not constants:
        return forms
    dense, channels = gathered_weights(op, source.layout), target.layout.lane_channels()
    return [
        dataclasses.replace(
            job,
            parameters=packed_parameters(op, _columns(job, channels, config), config.array.cols),
            weights=_weights(dense, job, channels, config),
        )
        for job in forms
    ]


def _columns(job: Job, channels: Channels, config: AcceleratorConfig) -> Channels:
    """Channel of every column of a form."""
    return channels if job.phases is None else job.phases.columns(channels, config.array.cols)


def _weights(
    dense: npt.NDArray[np.int8], job: Job, channels: Channels, config: AcceleratorConfig
) -> npt.NDArray[np.int8]:
    """Weights of a form, int8 [groups, reduced, kt, ky, kx, rows, cols]."""
    if job.phases is not None:
        dense = job.phases.weights(dense, channels, config.array.cols)
        channels = np.arange(config.array.cols)
    if job.packing is not None:
        dense = job.packing.weights(dense, config.lane_block)
    blocks = blocked_weights(dense, channels, config)
    reduced = job.problem.reduced
    if reduced == blocks.shape[1]:
        return blocks
    return np.stack([b[f : f + reduced] for b, f in zip(blocks, job.first_block, strict=True)])


def _phased_job(each: Phases, plain: Job) -> Job:
    axes = each.axes(plain.problem.axes)
    return dataclasses.replace(
        plain,
        problem=dataclasses.replace(plain.problem, axes=axes, phases=each.count),
        kernel=dataclasses.replace(plain.kernel, axes=axes),
        phases=each,
    )


def _packed_job(packing: Packing, plain: Job) -> Job:
    axes = packing.axes(plain.problem.axes)
    blocks = len(packing.rectangles)
    skipped = 0
    if packing.across is not None:
        taps = product([axis.kernel for d, axis in enumerate(axes) if d != packing.across])
        skipped = (blocks * axes[packing.across].kernel - packing.products) * taps
    problem = dataclasses.replace(
        plain.problem,
        axes=axes,
        blocks=blocks,
        reduced=blocks,
        raw_blocks=1,
        raw_axes=plain.problem.axes,
        pack_rows=packing.rows(),
        pack_once=packing.rows(once=True),
        pack_across=packing.across,
        skipped=skipped,
    )
    return dataclasses.replace(
        plain,
        problem=problem,
        kernel=dataclasses.replace(plain.kernel, axes=axes),
        packing=packing,
    )
