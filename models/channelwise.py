"""A factor and an offset of every channel, written in float: y = a[c]·x + b[c].

Mul, Div, Add and Sub with a float constant that varies along the channels, and BatchNormalization.
Definition: docs/numerics.md, "Factor and offset per channel".
"""

import numpy as np
import torch

from models import integer
from models.grouped import reals
from models.operands import activation, reads
from models.tables import F32, QParams
from models.values import Call, Codes, Constant, Pending, Tensors

OPERATORS = ("Add", "Div", "Mul", "Sub")


def belongs(call: Call) -> bool:
    """Whether an operator has one activation and one float constant of several values."""
    return (
        call.op in OPERATORS
        and len(call.operands) == 2
        and any(not isinstance(v, Constant) for v in call.operands)
        and any(
            isinstance(v, Constant) and v.codes is None and np.unique(v.array).size > 1
            for v in call.operands
        )
    )


def line(call: Call) -> Pending:
    """Mul, Div, Add, Sub of an activation and a float constant per channel."""
    first = isinstance(call.operand(0), Constant)
    constant = call.operand(0 if first else 1)
    assert isinstance(constant, Constant), call.op  # belongs
    rank = len(activation(call, 1 if first else 0).shape)
    c = constant.array
    if c.dtype != F32 or not np.isfinite(c).all():
        raise call.refuse(f"constant {constant.name} is no finite float32")
    c = c.reshape((1,) * max(0, rank - c.ndim) + c.shape)
    if call.op == "Div" and (first or (c == 0).any()):
        raise call.refuse("divides a constant, or by 0")
    zero, one = np.zeros_like(c), np.ones_like(c)
    if call.op == "Mul":
        factor, offset = c, zero
    elif call.op == "Div":
        factor, offset = (one / c).astype(F32), zero
    elif call.op == "Add":
        factor, offset = one, c
    else:
        factor, offset = (-one, c) if first else (one, -c)
    return _lines(call, 1 if first else 0, factor, offset)


def batch_normalization(call: Call) -> Pending:
    """BatchNormalization in inference: a = γ/√(variance + ε), b = β − a·mean, in double."""
    x = activation(call, 0)
    if call.attributes.get("training_mode", 0):
        raise call.refuse("is in training mode")
    gamma, beta, mean, variance = (reals(call, index).reshape(-1) for index in range(1, 5))
    sizes = {each.size for each in (gamma, beta, mean, variance)}
    if len(x.shape) < 2 or sizes != {x.shape[1]}:
        raise call.refuse(f"constants of {sorted(sizes)} channels on a tensor {list(x.shape)}")
    with np.errstate(all="ignore"):
        factor = gamma / np.sqrt(variance + float(call.attributes.get("epsilon", F32(1e-5))))
        offset = (beta - mean * factor).astype(F32)
    if not (np.isfinite(factor).all() and np.isfinite(offset).all()):
        raise call.refuse("a channel's factor is not finite")
    along = (1, -1, *(1,) * (len(x.shape) - 2))
    return _lines(call, 0, factor.astype(F32).reshape(along), offset.reshape(along))


def _lines(call: Call, index: int, factor: np.ndarray, offset: np.ndarray) -> Pending:
    x = activation(call, index)
    if np.broadcast_shapes(x.shape, factor.shape) != x.shape:
        raise call.refuse(f"a constant of shape {list(factor.shape)} repeats {list(x.shape)}")
    if sum(n > 1 for n in factor.shape) > 1:
        raise call.refuse(f"a float constant of shape {list(factor.shape)}: quantize it")
    fine = F32(127 if offset.any() else 1)

    def kernel(tensors: Tensors, target: QParams) -> torch.Tensor:
        unit = ((F32(x.params.unit) * np.abs(factor)).astype(F32) / fine).astype(F32)
        still = (unit / F32(target.unit)).astype(F32) < np.finfo(F32).tiny
        unit = np.where(still, F32(target.unit) / F32(1024), unit).astype(F32)
        bias = np.rint(offset.astype(np.float64) / unit)
        if np.abs(bias).max() > 2.0**30:
            raise call.refuse("an offset is lost beside its factor")
        weight = torch.from_numpy((fine * ~still * np.sign(factor)).astype(np.int64))
        total = weight * x.centred(tensors).to(torch.int64) + torch.from_numpy(
            bias.astype(np.int64)
        )
        scale = torch.from_numpy((unit / F32(target.unit)).astype(F32))
        return integer.requantize(total, scale, target.zero, target.low, target.high)

    half = 0.0 if fine == 1 else float(np.abs(factor).max() * x.params.unit / (2 * fine))
    return Pending(call.node, reads(x), kernel, x.shape, "channelwise", lost=lambda target: half)


def is_on_codes(call: Call) -> bool:
    """Whether the activation of `line` stands for codes."""
    return all(isinstance(v, Codes | Constant) for v in call.operands)
