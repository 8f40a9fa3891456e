"""Operators that only move elements, or select the greatest: the same before and after rounding.

Each is read once, against the shape of its operand, and gives a function of one tensor that works
on codes, on floats and, for its shape alone, on PyTorch's "meta" tensors.
"""

from collections.abc import Callable
from functools import partial
from math import prod

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from models import integer
from models.tables import QParams, dequantize, quantize_float
from models.values import Call, Move, Shape
from models.windows import windows_of

Reader = Callable[[Call, Shape, int], Move]


def shape_after(move: Move, shape: Shape) -> Shape:
    """Shape that a move makes of a shape."""
    return tuple(move(torch.empty(shape, device="meta"), None).shape)


def elementwise_move(function: Callable[[torch.Tensor], torch.Tensor]) -> Move:
    """A move that does not ask what the elements mean."""
    return lambda x, params: function(x)


def reshaped(shape: Shape) -> Move:
    """The same elements in another shape."""
    return elementwise_move(lambda x: x.reshape(shape))


def expanded(shape: Shape) -> Move:
    """Broadcast to a shape."""
    return elementwise_move(lambda x: x.expand(shape))


def picked(x: torch.Tensor, axis: int, index: np.ndarray) -> torch.Tensor:
    """Elements of one axis, in the order of `index`."""
    return x.index_select(axis, torch.as_tensor(np.ascontiguousarray(index), device=x.device))


def _identity(call: Call, shape: Shape, index: int) -> Move:
    if index:
        raise call.refuse("only its first result is read")
    if call.op == "Dropout":
        training = call.constant(2)
        if training is not None and bool(training.reshape(())):
            raise call.refuse("training_mode is set")
    return elementwise_move(lambda x: x)


def _transpose(call: Call, shape: Shape, index: int) -> Move:
    order = call.integers("perm", list(reversed(range(len(shape)))))
    if sorted(order) != list(range(len(shape))):
        raise call.refuse(f"perm {order} of a tensor of rank {len(shape)}")
    return elementwise_move(lambda x: x.permute(order))


def _reshape(call: Call, shape: Shape, index: int) -> Move:
    listed = call.constant(1)
    if listed is None:
        raise call.refuse("the shape is missing")
    wanted = [int(n) for n in listed.reshape(-1)]
    if not call.attributes.get("allowzero", 0):
        if any(n == 0 and i >= len(shape) for i, n in enumerate(wanted)):
            raise call.refuse(f"shape {wanted} keeps an axis that {list(shape)} does not have")
        wanted = [shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    total, known = int(np.prod(shape)), int(np.prod([n for n in wanted if n != -1]))
    if -1 in wanted:
        wanted[wanted.index(-1)] = total // known if known else 0
    if int(np.prod(wanted)) != total:
        raise call.refuse(f"{list(shape)} does not fill {wanted}")
    return reshaped(tuple(wanted))


def _flatten(call: Call, shape: Shape, index: int) -> Move:
    axis = call.attributes.get("axis", 1)
    axis += len(shape) if axis < 0 else 0
    return reshaped((int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))))


def _squeeze(call: Call, shape: Shape, index: int) -> Move:
    axes = call.axes(len(shape)) or [a for a, n in enumerate(shape) if n == 1]
    if any(shape[a] != 1 for a in axes):
        raise call.refuse(f"squeezes axes {axes} of {list(shape)}")
    return reshaped(tuple(n for a, n in enumerate(shape) if a not in axes))


def _unsqueeze(call: Call, shape: Shape, index: int) -> Move:
    listed = call.constant(1)
    count = len(call.integers("axes", [])) if listed is None else listed.size
    axes = call.axes(len(shape) + count)
    if len(set(axes)) != count or not count:
        raise call.refuse(f"axes {axes}")
    rest = iter(shape)
    return reshaped(tuple(1 if a in axes else next(rest) for a in range(len(shape) + count)))


def _slice(call: Call, shape: Shape, index: int) -> Move:
    starts, ends = call.constant(1), call.constant(2)
    if starts is None or ends is None:
        raise call.refuse("starts and ends must be inputs (opset 10 and later)")
    axes, steps = call.constant(3), call.constant(4)
    listed = list(range(starts.size)) if axes is None else axes.reshape(-1).tolist()
    strides = [1] * starts.size if steps is None else steps.reshape(-1).tolist()
    taken: dict[int, range] = {}
    for start, end, axis, step in zip(
        starts.reshape(-1).tolist(), ends.reshape(-1).tolist(), listed, strides, strict=True
    ):
        if step == 0 or not -len(shape) <= axis < len(shape):
            raise call.refuse(f"step {step} along axis {axis} of {list(shape)}")
        size = shape[axis]
        taken[axis % len(shape)] = range(*slice(start, _end(end, step), step).indices(size))
    return lambda x, params: _cut(x, taken)


def _end(end: int, step: int) -> int | None:
    """ONNX writes "to the very beginning" of a backward slice as a number below -size."""
    return None if step < 0 and end < -(1 << 30) else end


def _cut(x: torch.Tensor, taken: dict[int, range]) -> torch.Tensor:
    for axis, chosen in taken.items():
        if chosen.step > 0:
            cuts = [slice(None)] * x.dim()
            cuts[axis] = slice(chosen.start, chosen.stop, chosen.step)
            x = x[tuple(cuts)]
        else:
            x = picked(x, axis, np.array(chosen, np.int64))
    return x


def _split(call: Call, shape: Shape, index: int) -> Move:
    axis = call.attributes.get("axis", 0) % len(shape)
    listed = call.constant(1)
    sizes = call.integers("split", []) if listed is None else listed.reshape(-1).tolist()
    if not sizes:  # equal parts, the last one smaller
        parts = call.attributes.get("num_outputs", len(call.node.output))
        size = -(-shape[axis] // parts)
        sizes = [size] * (parts - 1) + [shape[axis] - size * (parts - 1)]
    if sum(sizes) != shape[axis] or min(sizes) < 0 or len(sizes) < len(call.node.output):
        raise call.refuse(f"parts {sizes} of an axis of {shape[axis]} elements")
    first = sum(sizes[:index])
    return lambda x, params: x.narrow(axis, first, sizes[index])


def _expand(call: Call, shape: Shape, index: int) -> Move:
    listed = call.constant(1)
    if listed is None:
        raise call.refuse("the shape is missing")
    try:
        target = np.broadcast_shapes(shape, tuple(int(n) for n in listed.reshape(-1)))
    except ValueError:
        raise call.refuse(f"{list(shape)} does not expand to {listed.tolist()}") from None
    return expanded(target)


def _gather(call: Call, shape: Shape, index: int) -> Move:
    indices = call.constant(1)
    if indices is None:
        raise call.refuse("its indices are missing")
    axis = call.attributes.get("axis", 0) % len(shape)
    size = shape[axis]
    if indices.size and not -size <= indices.min() <= indices.max() < size:
        raise call.refuse(f"indices {indices.tolist()} of an axis of {size} elements")
    flat = np.where(indices < 0, indices + size, indices).astype(np.int64).reshape(-1)
    target = (*shape[:axis], *indices.shape, *shape[axis + 1 :])
    return elementwise_move(lambda x: picked(x, axis, flat).reshape(target))


def _max_pool(call: Call, shape: Shape, index: int) -> Move:
    if index:
        raise call.refuse("the indices of a maximum are not read")
    kernel = call.integers("kernel_shape", [])
    windows = windows_of(call, kernel, shape[2:], pool=True)
    return elementwise_move(lambda x: integer.max_pool(x, windows))


def _reduce_extremum(call: Call, shape: Shape, index: int) -> Move:
    """ReduceMax, ReduceMin and GlobalMaxPool."""
    if call.op == "GlobalMaxPool":
        axes, keep = list(range(2, len(shape))), True
    else:
        axes, keep = reduced_axes(call, len(shape)), bool(call.attributes.get("keepdims", 1))
    if not axes:
        return elementwise_move(lambda x: x)
    choose = torch.amin if call.op == "ReduceMin" else torch.amax
    return elementwise_move(lambda x: choose(x, dim=axes, keepdim=keep))


def reduced_axes(call: Call, rank: int) -> list[int]:
    """Axes of a Reduce operator; none listed means all of them, unless the node says otherwise."""
    axes = call.axes(rank)
    if not axes and not call.attributes.get("noop_with_empty_axes", 0):
        axes = list(range(rank))
    return sorted(set(axes))  # one that is listed twice counts once, as ONNX Runtime has it


def _pad(call: Call, shape: Shape, index: int) -> Move:
    listed, mode = call.constant(1), call.attributes.get("mode", "constant")
    if listed is None:
        raise call.refuse("pads must be an input (opset 11 and later)")
    chosen, rank = call.constant(3), len(shape)
    axes = list(range(rank)) if chosen is None else [int(a) % rank for a in chosen.reshape(-1)]
    pads = [int(n) for n in listed.reshape(-1)]
    if len(pads) != 2 * len(axes):
        raise call.refuse(f"pads {pads} for {len(axes)} axes")
    sides = {a: (pads[i], pads[i + len(axes)]) for i, a in enumerate(axes)}
    if mode == "constant":
        given = call.constant(2)
        fill = 0.0 if given is None else float(given.reshape(()))
        widths = [n for a in reversed(range(rank)) for n in sides.get(a, (0, 0))]
        return lambda x, params: F.pad(x, widths, value=_code(fill, params))
    if mode not in ("reflect", "edge", "wrap") or min(pads) < 0:
        raise call.refuse(f"mode {mode} with pads {pads} is not read")
    sources = {a: np.pad(np.arange(shape[a]), sides[a], mode) for a in axes if any(sides[a])}

    def pad(x: torch.Tensor, params: QParams | None) -> torch.Tensor:
        for axis, source in sources.items():
            x = picked(x, axis, source)
        return x

    return pad


def _code(value: float, params: QParams | None) -> float:
    """A real as an element: its code where elements are codes."""
    if params is None:
        return value
    return int(quantize_float(np.asarray(value, np.float32), params))


def pad_is_exact(call: Call, params: QParams) -> bool:
    """Whether the constant of a Pad is one of the reals that codes stand for."""
    given = call.constant(2)
    if call.attributes.get("mode", "constant") != "constant" or given is None:
        return True
    value = np.asarray(given.reshape(()), np.float32)
    return bool(dequantize(quantize_float(value, params), params) == value)


MOVES: dict[str, Reader] = {
    "Dropout": _identity,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Elements keep their values: a function of each may change places with these."""

SELECTIONS: dict[str, Reader] = {
    "GlobalMaxPool": _reduce_extremum,
    "MaxPool": _max_pool,
    "Pad": _pad,
    "ReduceMax": _reduce_extremum,
    "ReduceMin": _reduce_extremum,
}
"""Elements are chosen by their values, or new ones come in."""


VIEWS = (*("Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"),)
"""Every element stays, in another place or shape."""


def is_view(op: str, move: Move, shape: Shape) -> bool:
    """Whether a move leaves every element: a view, or a selection of all of them in order."""
    if op in VIEWS:
        return True
    if op not in (*MOVES, "Pad") or prod(shape_after(move, shape)) != prod(shape):
        return False
    index = torch.arange(prod(shape)).reshape(shape)
    return bool(torch.equal(move(index, None).reshape(-1), index.reshape(-1)))


def read(call: Call, shape: Shape, index: int) -> Move:
    """The function of a move or selection.

    Parameters
    ----------
    call: the node; its first operand is moved, the others are constants.
    shape: of the first operand.
    index: which result.
    """
    return {**MOVES, **SELECTIONS}[call.op](call, shape, index)


def clamp(low: float, high: float) -> Move:
    """Clamp to reals; as codes, to the codes that the bounds round to."""
    return partial(_clamp, low, high)


def _clamp(low: float, high: float, x: torch.Tensor, params: QParams | None) -> torch.Tensor:
    if params is None:
        return x.clamp(low, high)
    ends = quantize_float(np.asarray([low, high], np.float32), params).tolist()
    return x.clamp(*ends)
