"""MobileNetV2 (Sandler et al. 2018), width 1 (torchvision's layout and names)."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class MobileNetV2Config:
    """MobileNetV2 without its classifier.

    Attributes
    ----------
    settings: the groups of inverted residuals, (expansion, channels, blocks, stride) each.
    stem, features: channels of the first and the last convolution.
    in_channels: of the picture.
    """

    settings: tuple[tuple[int, int, int, int], ...] = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    stem: int = 32
    features: int = 1280
    in_channels: int = 3

    def build(self) -> "MobileNetV2":
        """Make the module."""
        return MobileNetV2(self)


MOBILENETV2 = MobileNetV2Config()
TINY_MOBILENETV2 = MobileNetV2Config(
    ((1, 6, 1, 1), (4, 8, 2, 2), (4, 12, 2, 2), (4, 18, 1, 1)), stem=8, features=40
)


def _conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True
) -> list[nn.Module]:
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return [*layers, nn.ReLU6()] if relu else layers


class InvertedResidual(nn.Module):
    """1×1 expansion, depthwise 3×3, linear 1×1; a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(nn.Sequential(*_conv_bn(inputs, hidden, 1)))
        layers.append(nn.Sequential(*_conv_bn(hidden, hidden, 3, stride, groups=hidden)))
        layers += _conv_bn(hidden, outputs, 1, relu=False)
        self.conv = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, H, W] → [N, outputs, H / stride, W / stride]."""
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """[N, in_channels, H, W] → [N, features, H / 32, W / 32] at paper size."""

    def __init__(self, config: MobileNetV2Config):
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(*_conv_bn(config.in_channels, config.stem, 3, 2))]
        channels = config.stem
        for expansion, outputs, count, first_stride in config.settings:
            for number in range(count):
                stride = first_stride if number == 0 else 1
                layers.append(InvertedResidual(channels, outputs, stride, expansion))
                channels = outputs
        layers.append(nn.Sequential(*_conv_bn(channels, config.features, 1)))
        self.features = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Extract the last map."""
        return self.features(x)
