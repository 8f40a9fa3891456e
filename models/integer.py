"""Integer kernels in PyTorch: accumulate exactly, requantize as ONNX Runtime does.

Floats appear only as exact carriers of integers: a float32 product sum is exact, in any order,
while every partial sum stays below 2^24, and each matrix product here is cut so that it does.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F  # noqa: N812

EXACT_F32 = 1 << 24
INT32 = 1 << 31


def requantize(
    acc: torch.Tensor, scale: torch.Tensor, zero_point: int, low: int, high: int
) -> torch.Tensor:
    """y = sat(rint(f32(f32(acc)·s)) + zp), numerics.md section 2; int16, shape of acc.

    Parameters
    ----------
    acc : torch.Tensor
        int32 or int64 accumulators.
    scale : torch.Tensor
        float32, broadcastable against acc.
    zero_point, low, high : int
        Of the result.
    """
    real = acc.to(torch.float32).mul_(scale).round_()
    return real.clamp_(low - zero_point, high - zero_point).add_(zero_point).to(torch.int16)


def window_counts(
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    ceil_mode: bool = False,
) -> list[int]:
    """Output size of a convolution or pool per spatial axis; pads are [begins, ends]."""
    counts, rank = [], len(kernel)
    for axis in range(rank):
        extent = dilations[axis] * (kernel[axis] - 1) + 1
        room = size[axis] + pads[axis] + pads[axis + rank] - extent
        count = (-(-room // strides[axis]) if ceil_mode else room // strides[axis]) + 1
        # A window that starts in the padding after the end sees no element: not counted.
        if ceil_mode and (count - 1) * strides[axis] >= size[axis] + pads[axis]:
            count -= 1
        counts.append(count)
    return counts


def windows(
    x: torch.Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    fill: int,
    counts: Sequence[int],
) -> Iterator[tuple[tuple[int, ...], torch.Tensor]]:
    """Yield, for each kernel position, the view [N, C, *counts] of x that meets it."""
    rank = len(kernel)
    widths: list[int] = []
    for axis in reversed(range(rank)):
        needed = (counts[axis] - 1) * strides[axis] + dilations[axis] * (kernel[axis] - 1) + 1
        after = max(pads[axis + rank], needed - x.shape[2 + axis] - pads[axis])
        widths += [pads[axis], after]
    padded = F.pad(x, widths, value=fill) if any(widths) else x
    positions = torch.cartesian_prod(*[torch.arange(k) for k in kernel]).reshape(-1, rank)
    for position in positions.tolist():
        view = padded
        for axis, offset in enumerate(position):
            start = offset * dilations[axis]
            stop = start + (counts[axis] - 1) * strides[axis] + 1
            view = view.narrow(2 + axis, start, stop - start)
            if strides[axis] > 1:
                index = [slice(None)] * view.dim()
                index[2 + axis] = slice(None, None, strides[axis])
                view = view[tuple(index)]
        yield tuple(position), view


def _magnitude(x: torch.Tensor) -> int:
    """Greatest absolute value."""
    return int(torch.maximum(x.max(), -x.min())) if x.numel() else 0


def conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> torch.Tensor:
    """Convolution of any rank, exact.

    Parameters
    ----------
    x : torch.Tensor
        float32 holding integers, [N, C, *size], zero point already subtracted.
    weight : torch.Tensor
        float32 holding integers, [K, C / groups, *kernel], zero point subtracted.

    Returns
    -------
    torch.Tensor
        Accumulators [N, K, *counts], int32 where a bound proves that they fit, else int64.
    """
    kernel = list(weight.shape[2:])
    counts = window_counts(x.shape[2:], kernel, strides, pads, dilations)
    outputs, inputs = weight.shape[0], weight.shape[1]
    product = max(1, _magnitude(x) * _magnitude(weight))
    small = product * weight[0].numel() < INT32
    acc = torch.zeros(x.shape[0], outputs, *counts, dtype=torch.int32 if small else torch.int64)
    depthwise = inputs == 1 and outputs == groups
    step = max(1, (EXACT_F32 - 1) // product)  # channels per exact float32 product sum
    taps = weight.reshape(groups, outputs // groups, inputs, *kernel)
    for position, view in windows(x, kernel, strides, pads, dilations, 0, counts):
        tap = taps[(slice(None), slice(None), slice(None), *position)]
        if depthwise:
            acc += (view * tap.reshape(-1, *[1] * len(kernel))).to(acc.dtype)
            continue
        columns = view.reshape(x.shape[0], groups, inputs, -1)
        for first in range(0, inputs, step):
            part = slice(first, first + step)
            acc += (tap[:, :, part] @ columns[:, :, part]).reshape(acc.shape).to(acc.dtype)
    return acc


def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Exact matrix product of float32 tensors that hold integers; int64, broadcasting."""
    product = max(1, _magnitude(a) * _magnitude(b))
    if product * a.shape[-1] < EXACT_F32:
        return (a @ b).to(torch.int64)
    # Exact below 2^53; 8-bit operands would need 10^11 terms to leave it.
    return (a.to(torch.float64) @ b.to(torch.float64)).to(torch.int64)


def max_pool(
    x: torch.Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    ceil_mode: bool,
    low: int,
) -> torch.Tensor:
    """Maximum over windows; padding counts as the least code, so it never wins."""
    counts = window_counts(x.shape[2:], kernel, strides, pads, dilations, ceil_mode)
    result: torch.Tensor | None = None
    for _, view in windows(x, kernel, strides, pads, dilations, low, counts):
        result = view.clone() if result is None else torch.maximum(result, view)
    assert result is not None
    return result


def sum_pool(
    x: torch.Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    ceil_mode: bool,
) -> torch.Tensor:
    """Sum over windows, padding counts as 0; int64."""
    ones = [1] * len(kernel)
    counts = window_counts(x.shape[2:], kernel, strides, pads, ones, ceil_mode)
    total = torch.zeros(*x.shape[:2], *counts, dtype=torch.int64)
    for _, view in windows(x, kernel, strides, pads, ones, 0, counts):
        total += view
    return total
