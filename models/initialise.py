"""Random weights that behave like trained ones, without training.

A random network without batch norm collapses: after a few layers every clip gives the same
values, or a constant. Here each layer is standardised on calibration clips as it is first
reached, which is batch norm folded into weights and bias (layer-sequential unit variance,
Mishkin and Matas 2016, per channel): every tensor uses its int8 range, about half of what a
ReLU sees is negative, and different clips give different answers. Batch norms get the
statistics of the same clips; layers without bias are scaled alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from models.cells import Cell
from models.layers import UnbiasedLayerNorm

# Taps of one filter are alike, as in trained networks: filters that add up smooth pictures keep
# the signal and average out rounding. Independent taps cancel the picture instead, and a
# difference of one step in the input then grows several times faster over the layers.
_TAP_SPREAD = 1.0
_MIN_STD = 1e-3  # a channel of standard deviation below this is constant on the clips: let it be
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

Hook = Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor]
"""From a layer, its inputs and its output to what takes the output's place."""


def _gain_and_offset(
    generator: torch.Generator, shape: int | torch.Size
) -> tuple[torch.Tensor, torch.Tensor]:
    """Channels differ in size, as in trained networks, so that weight scales do too."""
    gain = torch.empty(shape).uniform_(0.7, 1.3, generator=generator)
    return gain, torch.empty(shape).normal_(0, 0.3, generator=generator)


def _statistics(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean per channel, and what is left without it."""
    mean = x.mean(dim=[axis for axis in range(x.dim()) if axis != 1])
    return mean, x - mean.reshape(-1, *[1] * (x.dim() - 2))


def _safe(std: torch.Tensor) -> torch.Tensor:
    """What to divide by: a channel that is constant on the clips is not blown up."""
    return torch.where(std > _MIN_STD, std, torch.ones_like(std))


def _standardise(generator: torch.Generator) -> Hook:
    """Make a forward hook that rescales its layer so that its output has unit variance."""

    def hook(
        layer: nn.Module, _inputs: tuple[torch.Tensor, ...], out: torch.Tensor
    ) -> torch.Tensor:
        channels = out.shape[1]
        mean, centred = _statistics(out)
        if out.dim() == 2:  # a linear layer: too few samples for statistics per feature
            std = centred.pow(2).mean().sqrt().expand(channels)
        else:
            std = centred.pow(2).mean(dim=[a for a in range(out.dim()) if a != 1]).sqrt()
        gain, offset = _gain_and_offset(generator, channels)
        factor = gain / _safe(std)
        layer.weight.mul_(factor.reshape(-1, *[1] * (layer.weight.dim() - 1)))
        shape = (-1, *[1] * (out.dim() - 2))
        if layer.bias is None:
            return out * factor.reshape(shape)
        layer.bias.copy_((layer.bias - mean) * factor + offset)
        return centred * factor.reshape(shape) + offset.reshape(shape)

    return hook


def _measure(generator: torch.Generator) -> Hook:
    """Make a forward hook that gives a batch norm the statistics of its input."""

    def hook(norm: nn.Module, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        (x,) = inputs
        mean, centred = _statistics(x)
        std = centred.pow(2).mean(dim=[a for a in range(x.dim()) if a != 1]).sqrt()
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(_safe(std).square())
        gain, offset = _gain_and_offset(generator, out.shape[1])
        norm.weight.copy_(gain)
        norm.bias.copy_(offset)
        shape = (-1, *[1] * (x.dim() - 2))
        factor = gain / (norm.running_var + norm.eps).sqrt()
        return centred * factor.reshape(shape) + offset.reshape(shape)

    return hook


def _draw(layer: nn.Module, generator: torch.Generator) -> None:
    """Normal weights of a layer that will be standardised."""
    pair = torch.empty(layer.weight.shape[:2]).normal_(0, 1, generator=generator)
    taps = torch.empty(layer.weight.shape).normal_(1, _TAP_SPREAD, generator=generator)
    layer.weight.copy_(pair.reshape(*pair.shape, *[1] * (taps.dim() - 2)) * taps)
    if layer.bias is not None:
        layer.bias.zero_()


@torch.no_grad()
def initialise(
    network: nn.Module,
    clips: torch.Tensor | Sequence[torch.Tensor],
    seed: int,
    forward: Callable[..., Any] | None = None,
) -> None:
    """Draw normal weights from a seed and standardise each layer on the clips, in place.

    Parameters
    ----------
    network: its layers run in a fixed order.
    clips: inputs, float32 [N, ...]; two samples suffice, one would make linear layers constant.
    seed: same seed and clips, same weights (on the same machine and thread count).
    forward: runs every layer once on the clips; default: the network itself.
    """
    inputs = (clips,) if isinstance(clips, torch.Tensor) else tuple(clips)
    if inputs[0].shape[0] < 2:
        raise ValueError(f"initialisation needs at least 2 clips, not {inputs[0].shape[0]}")
    network.eval()
    generator = torch.Generator().manual_seed(seed)
    recurrent = set()
    for module in network.modules():
        if isinstance(module, Cell):
            recurrent |= set(module.draw(generator))
        elif isinstance(module, nn.LayerNorm | UnbiasedLayerNorm):
            gain, offset = _gain_and_offset(generator, module.weight.shape)
            module.weight.copy_(gain)
            module.bias.copy_(offset)
    layers = [m for m in network.modules() if isinstance(m, _LAYERS) and m not in recurrent]
    for layer in layers:
        _draw(layer, generator)
    # One generator in execution order: hooks run as the layers do.
    handles = [layer.register_forward_hook(_standardise(generator)) for layer in layers]
    norms = [m for m in network.modules() if isinstance(m, _NORMS)]
    handles += [norm.register_forward_hook(_measure(generator)) for norm in norms]
    try:
        (forward or network)(*inputs)
    finally:
        for handle in handles:
            handle.remove()
