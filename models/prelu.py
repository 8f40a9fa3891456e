"""PRelu with a slope per channel: x where x >= 0, else the slope times x. See docs/numerics.md."""

from __future__ import annotations

import numpy as np
import torch

from models import integer
from models.operands import activation, reads
from models.tables import F32, QParams, dequantize, quantize_float
from models.values import Call, Constant, Pending, Tensors


def is_per_channel(call: Call) -> bool:
    """Whether the slope is a constant of several values."""
    slope = call.operand(1)
    return isinstance(slope, Constant) and np.unique(slope.array).size > 1


def prelu(call: Call) -> Pending:
    """Above zero as the file says; below, the product's rule with f32(sx·|a|)."""
    x, slope = activation(call, 0), call.operand(1)
    rank = len(x.shape)
    assert isinstance(slope, Constant), call.op  # is_per_channel
    values = slope.array.reshape((1,) * (rank - slope.array.ndim) + slope.array.shape)
    own = tuple(n if axis == 1 else 1 for axis, n in enumerate(x.shape))
    if values.shape != own or values.dtype != np.float32 or not np.isfinite(values).all():
        raise call.refuse(
            f"slope {call.names[1]} is no float32 for each channel of {list(x.shape)}"
        )
    sign, size = torch.from_numpy(np.sign(values)), np.abs(values)

    def kernel(tensors: Tensors, target: QParams) -> torch.Tensor:
        centred = x.centred(tensors)
        scale = torch.from_numpy(((x.params.unit * size).astype(F32) / target.unit).astype(F32))
        below = integer.requantize(centred * sign, scale, target.zero, target.low, target.high)
        real = dequantize(x.tensor(tensors).numpy(), x.params)
        above = torch.from_numpy(quantize_float(real, target)).to(torch.int16)
        return torch.where(centred >= 0, above, below)

    return Pending(call.node, reads(x), kernel, x.shape, "PRelu")
