"""Lowering of convolutions that run in GEMM mode: dense, grouped, thin, fully connected."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler.codegen.emitter import Emitter
from compiler.codegen.energy import layer_picojoules
from compiler.codegen.gemm import GemmEmission, Job, Packing
from compiler.codegen.geometry import Axis, merge
from compiler.codegen.hfa import (
    Candidate,
    decide,
    fold,
    general_refusal,
    refusal,
    transformed,
    turned,
)
from compiler.codegen.policy import SUPPORTED, Policy
from compiler.codegen.tiles import Kernel
from compiler.codegen.tiling import Problem, Tiling, choose
from compiler.codegen.transfers import View
from compiler.ir import Convolution
from compiler.tensor import CompilerError
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import ceil_div
from hw.arch.numerics import pack_parameters
from hw.arch.program import Tensor

Axes = tuple[Axis, Axis, Axis]


def axes_of(op: Convolution, source: Tensor) -> Axes:
    """x, y, t of a convolution, its fused pool included."""
    sizes = (source.layout.width, source.layout.height, source.layout.frames)
    axes = []
    for d in range(3):
        k = 2 - d  # the operator's triples are (t, h, w)
        kernel, stride, dilation = op.kernel[k], op.stride[k], op.dilation[k]
        span = sizes[d] + op.pad_begin[k] + op.pad_end[k] - (kernel - 1) * dilation - 1
        pool = op.pool.kernel[k] if op.pool else 1
        out = (span // stride + 1) // pool * pool
        axes.append(Axis(sizes[d], out, kernel, stride, dilation, op.pad_begin[k], pool))
    return axes[0], axes[1], axes[2]


def spread_weights(op: Convolution, source: Tensor) -> npt.NDArray[np.int8]:
    """Dense weights by stored lane, [Cout, input lanes, kt, ky, kx]; zero where a lane pads."""
    lanes = source.layout.lane_channels()
    out, per_group = op.weight.shape[:2]
    dense = np.zeros((out, lanes.size, *op.weight.shape[2:]), np.int8)
    lane_of = np.flatnonzero(lanes >= 0)  # lane of each channel, channels ascend
    for group in range(op.groups):
        outputs = slice(group * out // op.groups, (group + 1) * out // op.groups)
        inputs = lane_of[group * per_group : (group + 1) * per_group]
        dense[outputs, inputs] = op.weight[outputs]
    return dense


def blocked_weights(dense: npt.NDArray[np.int8], config: AcceleratorConfig) -> npt.NDArray[np.int8]:
    """[Cout, lanes, kt, ky, kx] to blocks [groups, blocks, kt, ky, kx, rows, cols]."""
    rows, cols = config.array.rows, config.array.cols
    groups = ceil_div(dense.shape[0], cols)
    wide = np.zeros((groups * cols, *dense.shape[1:]), np.int8)
    wide[: dense.shape[0]] = dense
    split = wide.reshape(groups, cols, dense.shape[1] // rows, rows, *dense.shape[2:])
    return np.ascontiguousarray(split.transpose(0, 2, 4, 5, 6, 3, 1))


def packed_parameters(op: Convolution, channels: int, width: int) -> list[bytes]:
    """Requantization parameters, `width` channels at a time; padded channels get zeros."""
    padded = ceil_div(channels, width) * width
    columns = np.zeros((3, padded), np.int64)
    columns[:, :channels] = op.bias, op.multiplier, op.shift
    data = pack_parameters(*columns.tolist())
    size = 8 * width
    return [data[i : i + size] for i in range(0, len(data), size)]


def _diagonal(blocks: npt.NDArray[np.int8]) -> tuple[list[int], int]:
    """First used input block of every output group, and how many blocks the widest group uses."""
    used = np.asarray(blocks.any(axis=(2, 3, 4, 5, 6)))
    spans = []
    for row in used:
        where = np.flatnonzero(row)
        spans.append((int(where[0]), int(where[-1]) + 1) if where.size else (0, 1))
    width = max(high - low for low, high in spans)
    last = blocks.shape[1] - width
    return [min(low, last) for low, _ in spans], width


def _packings(op: Convolution, source: Tensor, axes: Axes, lanes: int) -> list[Packing]:
    """Ways to fill the lanes of a thin input."""
    channels = source.layout.channels
    if source.layout.blocks != 1 or 2 * channels > lanes or op.groups != 1:
        return []
    return [
        Packing(d, channels, min(axis.kernel, lanes // channels))
        for d, axis in enumerate(axes)
        if axis.kernel > 1 and axis.dilation == 1
    ]


def _packed_weights(op: Convolution, packing: Packing, lanes: int) -> npt.NDArray[np.int8]:
    """Dense weights over packed rows, [Cout, packed lanes, kt, ky, kx]; the packed axis is gone."""
    # [Cout, tap, channel, other taps]
    moved = np.moveaxis(op.weight, 4 - packing.axis, 1)
    out, kernel, channels = moved.shape[:3]
    rows = ceil_div(kernel, packing.taps)
    wide = np.zeros((out, rows, lanes, *moved.shape[3:]), np.int8)
    for tap in range(kernel):
        row, place = divmod(tap, packing.taps)
        wide[:, row, place * channels : (place + 1) * channels] = moved[:, tap]
    flat = wide.reshape(out, rows * lanes, *moved.shape[3:])
    return np.expand_dims(flat, 4 - packing.axis)


def jobs(op: Convolution, source: Tensor, target: Tensor, config: AcceleratorConfig) -> list[Job]:
    """The convolution in every form worth trying."""
    merged, levels = merge(axes_of(op, source))
    kernel = Kernel(merged, source.signed, source.zero_point, target.zero_point, op.low, op.high)
    fields: dict[str, Any] = {
        "source": View.of(source).merged(levels),
        "target": View.of(target).merged(levels),
        "parameters": packed_parameters(op, op.out_channels, config.array.cols),
    }
    blocks = blocked_weights(spread_weights(op, source), config)
    first, reduced = _diagonal(blocks)
    joinable = len({b - a for a, b in itertools.pairwise(first)}) <= 1
    kept = np.stack([b[f : f + reduced] for b, f in zip(blocks, first, strict=True)])
    problem = Problem(
        axes=merged,
        blocks=source.layout.blocks,
        reduced=reduced,
        groups=blocks.shape[0],
        out_blocks=target.layout.blocks,
        joinable=joinable,
    )
    result = [Job(problem=problem, weights=kept, first_block=first, kernel=kernel, **fields)]
    result += [
        _packed_job(op, packing, result[0], config)
        for packing in _packings(op, source, merged, config.lane_block)
    ]
    return result


def _packed_job(op: Convolution, packing: Packing, plain: Job, config: AcceleratorConfig) -> Job:
    axis = plain.problem.axes[packing.axis]
    packed = list(plain.problem.axes)
    packed[packing.axis] = Axis(axis.out, axis.out, pool=axis.pool)
    axes = packed[0], packed[1], packed[2]
    blocks = blocked_weights(_packed_weights(op, packing, config.lane_block), config)
    problem = dataclasses.replace(
        plain.problem,
        axes=axes,
        blocks=blocks.shape[1],
        reduced=blocks.shape[1],
        raw_blocks=1,
        raw_axes=plain.problem.axes,
        pack_window=packing.taps,
    )
    return dataclasses.replace(
        plain,
        problem=problem,
        weights=blocks,
        first_block=[0] * blocks.shape[0],
        kernel=dataclasses.replace(plain.kernel, axes=axes),
        packing=packing,
    )


def direct_candidates(
    op: Convolution, source: Tensor, target: Tensor, config: AcceleratorConfig, policy: Policy
) -> list[Candidate]:
    """The convolution in every direct form that fits."""
    found = []
    for job in jobs(op, source, target, config):
        candidate = evaluate(job, config, policy.objective)
        if candidate is not None:
            found.append(candidate)
    return found


def evaluate(job: Job, config: AcceleratorConfig, objective: str) -> Candidate | None:
    """A form with its best tiling; None where none fits."""

    def energy(tiling: Tiling) -> float:
        return layer_picojoules(job, tiling, config)

    choice = choose(job.problem, config, energy if objective == "energy" else None)
    if choice is None:
        return None
    tiling, others = choice
    products = tiling.vectors * config.array.multipliers
    return Candidate(
        job.kernel.algorithm,
        tiling.cycles,
        tiling.beats,
        products,
        energy(tiling),
        job,
        tiling,
        others,
    )


def plan(
    op: Convolution,
    source: Tensor,
    target: Tensor,
    config: AcceleratorConfig,
    policy: Policy | None = None,
) -> tuple[Candidate, dict[str, Any]]:
    """The best form, algorithm and tiling, and the record of the choice (empty without hfa).

    Raises
    ------
    CompilerError
        If not even the smallest tile fits the memories.
    """
    policy = policy or Policy()
    direct = direct_candidates(op, source, target, config, policy)
    if not direct:
        raise CompilerError(
            f"{op.name} (Convolution): no tile of {source.layout.channels} channels with kernel "
            f"{op.kernel} fits the {config.memory.activation_rows} scratchpad rows and "
            f"{config.memory.weight_bytes} weight bytes of {config.name}"
        )
    if "hfa" not in config.features:
        # Between equals the first form: min() keeps it.
        return min(direct, key=lambda c: c.tiling.cycles), {}
    refused: dict[str, str] = {}
    found = list(direct)
    why = general_refusal(op, config, policy)
    if why is None:
        forms = jobs(op, source, target, config)
        found += transformed_candidates(op, source, forms, config, policy, refused)
    return decide(found, refused, why, config, policy)


def lower(emitter: Emitter, op: Convolution, source: Tensor, target: Tensor) -> dict[str, Any]:
    """Emit a convolution; returns the tiling for the report."""
    chosen, record = plan(op, source, target, emitter.config, emitter.policy)
    job, tiling = chosen.job, chosen.tiling
    GemmEmission(emitter, job, tiling).emit()
    report = tiling.describe()
    if job.packing is not None:
        report["packed"] = ["x", "y", "t"][job.packing.axis]
    report["alternatives"] = [other.describe() for other in chosen.others]
    if record:
        report["hfa"] = record
    return report


def transformed_candidates(
    op: Convolution,
    source: Tensor,
    forms: Sequence[Job],
    config: AcceleratorConfig,
    policy: Policy,
    refused: dict[str, str],
) -> list[Candidate]:
    """Every algorithm on the form that suits it best; others go to `refused` with a reason."""
    try:
        folded = fold(op, source)
    except ValueError as error:
        refused.update({a.name: str(error) for a in SUPPORTED})
        return []
    parameters = packed_parameters(folded, op.out_channels, config.array.cols)
    forms = [*forms, *(t for t in map(turned, forms) if t is not None)]
    found = []
    for algorithm in SUPPORTED:
        why, best = "", []
        for form in forms:
            reason = refusal(op, form, algorithm, config)
            if reason is None:
                job = transformed(form, algorithm, parameters)
                candidate = evaluate(job, config, policy.objective)
                reason = "no tile of it fits the memories"
                best += [candidate] if candidate is not None else []
            # The first form is the plain one; its reason is the one that says most.
            why = why or reason
        if best:
            found.append(min(best, key=lambda c: c.merit(policy.objective)))
        else:
            refused[algorithm.name] = why
    return found
