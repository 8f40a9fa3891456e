"""Building blocks that more than one network uses.

Products of two activations and norms are modules, not functions: counting (count.py) hooks
modules, and the exporter finds a norm's nodes by the module's name (quantize.py).
"""

import torch
from torch import nn

Kernel = tuple[int, ...]

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def conv(
    inputs: int,
    outputs: int,
    kernel: Kernel,
    stride: int | Kernel = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Module:
    """Convolution over as many axes as the kernel has, padded by half of it."""
    padding = tuple(k // 2 for k in kernel)
    return _CONV[len(kernel)](inputs, outputs, kernel, stride, padding, groups=groups, bias=bias)


def conv_bn(
    inputs: int, outputs: int, kernel: Kernel, stride: int | Kernel = 1, groups: int = 1
) -> nn.Sequential:
    """Bias-free convolution (`conv`) and batch norm."""
    return nn.Sequential(conv(inputs, outputs, kernel, stride, groups), _NORM[len(kernel)](outputs))


class MatMul(nn.Module):
    """Product of two activations; [..., M, K] and [..., K, N] → [..., M, N]."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        return torch.matmul(a, b)


class UnbiasedLayerNorm(nn.Module):
    """g·(x − mean)/(std + eps) + b over the last axis, std with n − 1 in its denominator.

    The norm of the first public Transformer code, which VTN uses. ONNX has no operator for it:
    it is exported as the float subgraph of its definition, between one pair of
    DequantizeLinear and QuantizeLinear.
    """

    def __init__(self, features: int, eps: float = 1e-3):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., features] → the same."""
        centred = x - x.mean(dim=-1, keepdim=True)
        variance = (centred * centred).mean(dim=-1, keepdim=True)
        unbiased = variance * (x.shape[-1] / (x.shape[-1] - 1))
        return self.weight * (centred / (torch.sqrt(unbiased) + self.eps)) + self.bias


def frames_to_batch(clip: torch.Tensor) -> torch.Tensor:
    """[N, C, T, H, W] → [N·T, C, H, W]: in a 2-D node the batch is the time axis."""
    return clip.transpose(1, 2).flatten(0, 1)


def mean_over_frames(x: torch.Tensor, frames: int) -> torch.Tensor:
    """[N·T, ...] → [N, ...]; one clip, as in exported graphs, needs no reshape."""
    if x.shape[0] == frames:
        return x.mean(dim=0, keepdim=True)
    return x.unflatten(0, (-1, frames)).mean(dim=1)


def repeat_over_frames(x: torch.Tensor, frames: int) -> torch.Tensor:
    """[N, ...] → [N·T, ...]; the inverse way of `mean_over_frames`."""
    if x.shape[0] == 1:
        return x.expand(frames, *x.shape[1:])
    return x.repeat_interleave(frames, dim=0)
