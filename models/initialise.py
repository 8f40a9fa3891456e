"""Random weights that behave like trained ones, without training.

A random network without batch norm collapses: after a few layers every clip gives the same
values, or a constant. Here each layer is standardised on calibration clips as it is first
reached, which is batch norm folded into weights and bias (layer-sequential unit variance,
Mishkin and Matas 2016, per channel): every tensor uses its int8 range, about half of what a
ReLU sees is negative, and different clips give different answers.
"""

import torch
from torch import nn

# Taps of one filter are alike, as in trained networks: filters that add up smooth pictures keep
# the signal and average out rounding. Independent taps cancel the picture instead, and a
# difference of one step in the input then grows several times faster over the layers.
_TAP_SPREAD = 1.0
_MIN_STD = 1e-3  # a channel of standard deviation below this is constant on the clips


def _standardise(generator: torch.Generator):
    """Make a forward hook that rescales its layer so that its output has unit variance."""

    def hook(layer: nn.Module, _inputs: tuple[torch.Tensor, ...], out: torch.Tensor):
        channels = out.shape[1]
        axes = [axis for axis in range(out.dim()) if axis != 1]
        mean = out.mean(dim=axes)
        centred = out - mean.reshape(-1, *[1] * (out.dim() - 2))
        if out.dim() == 2:  # a linear layer: too few samples for statistics per feature
            std = centred.pow(2).mean().sqrt().expand(channels)
        else:
            std = centred.pow(2).mean(dim=axes).sqrt()
        # Channels differ in size, as in trained networks, so that weight scales do too.
        gain = torch.empty(channels).uniform_(0.7, 1.3, generator=generator)
        offset = torch.empty(channels).normal_(0, 0.3, generator=generator)
        factor = gain / std.clamp(min=_MIN_STD)
        layer.weight.mul_(factor.reshape(-1, *[1] * (layer.weight.dim() - 1)))
        layer.bias.copy_((layer.bias - mean) * factor + offset)
        shape = (-1, *[1] * (out.dim() - 2))
        return centred * factor.reshape(shape) + offset.reshape(shape)

    return hook


@torch.no_grad()
def initialise(network: nn.Module, clips: torch.Tensor, seed: int) -> None:
    """Draw normal weights from a seed and standardise each layer on the clips, in place.

    Parameters
    ----------
    network : nn.Module
        Its Conv and Linear layers all have a bias and run in a fixed order.
    clips : torch.Tensor
        Float32 [N, 3, T, H, W]; two clips suffice, one would make linear layers constant.
    seed : int
        Same seed and clips, same weights (on the same machine and thread count).
    """
    if clips.shape[0] < 2:
        raise ValueError(f"initialisation needs at least 2 clips, not {clips.shape[0]}")
    generator = torch.Generator().manual_seed(seed)
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv3d, nn.Linear))]
    for layer in layers:
        pair = torch.empty(layer.weight.shape[:2]).normal_(0, 1, generator=generator)
        taps = torch.empty(layer.weight.shape).normal_(1, _TAP_SPREAD, generator=generator)
        layer.weight.copy_(pair.reshape(*pair.shape, *[1] * (taps.dim() - 2)) * taps)
        layer.bias.zero_()
    # One generator in execution order: hooks run as the layers do.
    handles = [layer.register_forward_hook(_standardise(generator)) for layer in layers]
    try:
        network(clips)
    finally:
        for handle in handles:
            handle.remove()
