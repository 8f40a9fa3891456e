"""Integer kernels in PyTorch: accumulate exactly, requantize as ONNX Runtime does.

Floats appear only as exact carriers of integers: a float32 product sum is exact, in any order,
while every partial sum stays below 2^24, and each matrix product here is cut so that it does.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812

from models.windows import Windows

EXACT_F32 = 1 << 24
INT32 = 1 << 31


def requantize(
    acc: torch.Tensor, scale: torch.Tensor, zero_point: int, low: int, high: int
) -> torch.Tensor:
    """y = sat(rint(f32(f32(acc)·s)) + zp), docs/numerics.md; int16, shape of acc.

    Parameters
    ----------
    acc: int32 or int64 accumulators.
    scale: float32, broadcastable against acc.
    zero_point, low, high: of the result.
    """
    real = acc.to(torch.float32).mul_(scale).round_()
    return real.clamp_(low - zero_point, high - zero_point).add_(zero_point).to(torch.int16)


def views(
    x: torch.Tensor, windows: Windows, fill: float
) -> Iterator[tuple[tuple[int, ...], torch.Tensor]]:
    """Yield, for each kernel position, the view [N, C, *counts] of x that meets it."""
    rank = len(windows.kernel)
    widths: list[int] = []
    for axis in reversed(range(rank)):
        reach = windows.dilations[axis] * (windows.kernel[axis] - 1) + 1
        needed = (windows.counts[axis] - 1) * windows.strides[axis] + reach
        begin, end = windows.pads[axis], windows.pads[axis + rank]
        widths += [begin, max(end, needed - x.shape[2 + axis] - begin)]
    padded = F.pad(x, widths, value=fill) if any(widths) else x
    positions = torch.cartesian_prod(*[torch.arange(k) for k in windows.kernel]).reshape(-1, rank)
    for position in positions.tolist():
        cuts: list[slice] = [slice(None), slice(None)]
        for axis, offset in enumerate(position):
            start, stride = offset * windows.dilations[axis], windows.strides[axis]
            cuts.append(slice(start, start + (windows.counts[axis] - 1) * stride + 1, stride))
        yield tuple(position), padded[tuple(cuts)]


def _magnitude(x: torch.Tensor) -> int:
    """Greatest absolute value."""
    return int(torch.maximum(x.max(), -x.min())) if x.numel() else 0


def conv(x: torch.Tensor, weight: torch.Tensor, windows: Windows, groups: int) -> torch.Tensor:
    """Convolution of any rank, exact.

    Parameters
    ----------
    x: float32 [N, C, *space], integers minus their zero point.
    weight: float32 [O, C / groups, *kernel], integers minus their zero point.
    windows: where the kernel is laid on x.
    groups: of the channels.

    Returns
    -------
    int32 [N, O, *counts]; int64 if sums could leave 32 bits.
    """
    outputs, inputs, *kernel = weight.shape
    product = max(1, _magnitude(x) * _magnitude(weight))
    small = product * weight[0].numel() < INT32
    kind = torch.int32 if small else torch.int64
    acc = torch.zeros(x.shape[0], outputs, *windows.counts, dtype=kind)
    depthwise = inputs == 1 and outputs == groups
    step = max(1, (EXACT_F32 - 1) // product)  # channels per exact float32 product sum
    taps = weight.reshape(groups, outputs // groups, inputs, *kernel)
    for position, view in views(x, windows, 0):
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


def max_pool(x: torch.Tensor, windows: Windows) -> torch.Tensor:
    """Maximum over windows; padding never wins, for it counts as the least value of the type."""
    low = -torch.inf if x.dtype.is_floating_point else torch.iinfo(x.dtype).min
    result: torch.Tensor | None = None
    for _, view in views(x, windows, low):
        result = view.clone() if result is None else torch.maximum(result, view)
    assert result is not None
    return result


def sum_pool(x: torch.Tensor, windows: Windows) -> torch.Tensor:
    """Sum over windows, padding counts as 0; type of x."""
    total = torch.zeros(*x.shape[:2], *windows.counts, dtype=x.dtype)
    for _, view in views(x, windows, 0):
        total += view
    return total
