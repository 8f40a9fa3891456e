"""BatchNormalization that follows no convolution. Definition: docs/numerics.md."""

import numpy as np
import torch

from models import integer
from models.grouped import reals
from models.operands import activation, reads
from models.tables import F32, QParams
from models.values import Call, Pending, Tensors


def batch_norm(call: Call) -> Pending:
    """a·x + b per channel, as an accumulator of ±127·(x - zx) and an integer bias."""
    x = activation(call, 0)
    if call.attributes.get("training_mode", 0):
        raise call.refuse("is in training mode")
    rank = len(x.shape)
    gamma, beta, mean, variance = (reals(call, index).reshape(-1) for index in range(1, 5))
    sizes = {each.size for each in (gamma, beta, mean, variance)}
    if rank < 2 or sizes != {x.shape[1]}:
        raise call.refuse(f"constants of {sorted(sizes)} channels on a tensor {list(x.shape)}")
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = gamma / np.sqrt(variance + float(call.attributes.get("epsilon", F32(1e-5))))
        shift = beta - mean * factor
    if not (np.isfinite(factor).all() and np.isfinite(shift).all()):
        raise call.refuse("a channel's factor is not finite")
    unit = x.params.unit * np.abs(factor).astype(F32) / F32(127)
    dead = factor == 0
    unit = np.where(dead, np.ldexp(F32(1), np.frexp(shift)[1] - 21), unit).astype(F32)
    with np.errstate(divide="ignore", over="ignore"):
        exact = shift / unit.astype(np.float64)
    bias = np.rint(exact)
    if not np.isfinite(bias).all() or np.abs(bias).max() >= integer.INT32:
        raise call.refuse("an offset leaves int32")
    along = (1, -1, *[1] * (rank - 2))
    weight = torch.from_numpy((np.sign(factor) * 127).astype(np.int64).reshape(along))
    offset = torch.from_numpy(bias.astype(np.int64).reshape(along))

    def kernel(tensors: Tensors, target: QParams) -> torch.Tensor:
        centred = x.tensor(tensors).to(torch.int64) - x.params.zero
        scale = torch.from_numpy((unit / target.unit).astype(F32).reshape(along))
        accumulator = centred * weight + offset
        return integer.requantize(accumulator, scale, target.zero, target.low, target.high)

    lost = float((np.abs(bias - exact) * unit).max())
    return Pending(call.node, reads(x), kernel, x.shape, "product", lost=lost)
