"""Layers, parameters and multiply-accumulates of a network, without computing it.

Modules are built and run on torch's meta device: shapes, no data. Convolutions, linear layers
and products of two activations are work; batch norms are kept apart, because some papers count
their elements.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import torch
from torch import nn

from models.layers import MatMul
from models.network import Config

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_SAME_SHAPE = (*_NORMS, nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Dropout)
"""Skipped: on the meta device torch takes norms apart, which takes as long as all the rest."""


@dataclass(frozen=True)
class Layer:
    """A convolution, linear layer or product of two activations as it runs.

    Attributes
    ----------
    name: of the module.
    weights, parameters: without and with bias. A product [M, K] × [K, N] has K·N weights and no
        parameters.
    kernel: empty for linear layers and products.
    shape: of the output.
    stride: empty for linear layers and products.
    groups: of a convolution.
    """

    name: str
    weights: int
    parameters: int
    kernel: tuple[int, ...]
    shape: tuple[int, ...]
    stride: tuple[int, ...] = ()
    groups: int = 1

    def positions(self) -> int:
        """How often the weights are used."""
        return prod((*self.shape[:1], *self.shape[2:]) if self.kernel else self.shape[:-1])

    def macs(self) -> int:
        """Multiply-accumulates, zero padding counted."""
        return self.weights * self.positions()

    @property
    def depthwise(self) -> bool:
        """One filter per channel."""
        return self.groups > 1 and self.groups == self.shape[1] == self.weights // prod(self.kernel)


@dataclass(frozen=True)
class Counts:
    """What one run of a network takes.

    Attributes
    ----------
    layers: in execution order; a module that runs twice stands there twice.
    parameters: all, batch norm included.
    norm_elements: elements that leave batch norms.
    """

    layers: tuple[Layer, ...]
    parameters: int
    norm_elements: int

    def macs(self, chosen: Callable[[Layer], bool] = lambda layer: True) -> int:
        """Multiply-accumulates of the layers that `chosen` accepts."""
        return sum(layer.macs() for layer in self.layers if chosen(layer))


def build(config: Config) -> nn.Module:
    """Build a network without storage."""
    with torch.device("meta"):
        return config.build().eval()


def _unchanged(x: torch.Tensor) -> torch.Tensor:
    return x


@cache
def count(config: Config) -> Counts:
    """Count one run on the inputs of the configuration's signature."""
    network = build(config)
    layers: list[Layer] = []
    norm_elements = 0

    def record(name: str) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        def layer_hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            nonlocal norm_elements
            shape = tuple(output.shape)
            if isinstance(module, _NORMS):
                norm_elements += output.numel()
            elif isinstance(module, MatMul):
                inner = inputs[0].shape[-1]
                layers.append(Layer(name, inner * shape[-1], 0, (), shape))
            else:
                own = sum(p.numel() for p in module.parameters())
                kernel = tuple(getattr(module, "kernel_size", ()))
                stride = tuple(getattr(module, "stride", ()))
                groups = getattr(module, "groups", 1)
                weights = module.weight.numel()
                layers.append(Layer(name, weights, own, kernel, shape, stride, groups))

        return layer_hook

    for name, module in network.named_modules():
        if isinstance(module, (*_CONVS, *_NORMS, nn.Linear, MatMul)):
            module.register_forward_hook(record(name))
        if isinstance(module, _SAME_SHAPE):
            module.forward = _unchanged
    with torch.no_grad():
        network(*(torch.zeros(each.shape, device="meta") for each in config.signature.inputs))
    parameters = sum(p.numel() for p in network.parameters())
    return Counts(tuple(layers), parameters, norm_elements)


def layers(config: Config) -> tuple[Layer, ...]:
    """List a network's layers in execution order."""
    return count(config).layers
