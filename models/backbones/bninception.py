"""BN-Inception (Ioffe and Szegedy 2015), Caffe's layout: biased convolutions, ceil-mode pools."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Inception:
    """One inception module.

    Attributes
    ----------
    name: of the module.
    one: channels of the 1×1 branch; 0: no such branch, and the module has stride 2.
    three: 1×1 and 3×3 of the second branch.
    double_three: 1×1 and both 3×3 of the third.
    pool: "avg" or "max" 3×3.
    projection: 1×1 behind the pool; 0: none (stride 2).
    """

    name: str
    one: int
    three: tuple[int, int]
    double_three: tuple[int, int]
    pool: str
    projection: int

    @property
    def stride(self) -> int:
        """2 where the module shrinks the map."""
        return 1 if self.one else 2

    def outputs(self, inputs: int) -> int:
        """Channels of the result."""
        return self.one + self.three[1] + self.double_three[1] + (self.projection or inputs)


@dataclass(frozen=True)
class BNInceptionConfig:
    """BN-Inception without its classifier: stem widths (7×7, 1×1, 3×3) and modules."""

    stem: tuple[int, int, int] = (64, 64, 192)
    modules: tuple[Inception, ...] = (
        Inception("3a", 64, (64, 64), (64, 96), "avg", 32),
        Inception("3b", 64, (64, 96), (64, 96), "avg", 64),
        Inception("3c", 0, (128, 160), (64, 96), "max", 0),
        Inception("4a", 224, (64, 96), (96, 128), "avg", 128),
        Inception("4b", 192, (96, 128), (96, 128), "avg", 128),
        Inception("4c", 160, (128, 160), (128, 160), "avg", 128),
        Inception("4d", 96, (128, 192), (160, 192), "avg", 128),
        Inception("4e", 0, (128, 192), (192, 256), "max", 0),
        Inception("5a", 352, (192, 320), (160, 224), "avg", 128),
        Inception("5b", 352, (192, 320), (192, 224), "max", 128),
    )
    in_channels: int = 3

    def channels(self, module: str) -> int:
        """Channels after a module."""
        channels = self.stem[-1]
        for each in self.modules:
            channels = each.outputs(channels)
            if each.name == module:
                return channels
        raise ValueError(f"no inception module {module!r}")

    @property
    def features(self) -> int:
        """Channels of the last map."""
        return self.channels(self.modules[-1].name)

    def build(self) -> "BNInception":
        """Make the module."""
        return BNInception(self)


BNINCEPTION = BNInceptionConfig()
TINY_BNINCEPTION = BNInceptionConfig(
    (8, 8, 12),
    (
        Inception("3a", 6, (4, 6), (4, 6), "avg", 4),
        Inception("3c", 0, (6, 8), (4, 6), "max", 0),
        Inception("4a", 10, (4, 6), (4, 6), "avg", 4),
        Inception("4e", 0, (6, 8), (4, 6), "max", 0),
        Inception("5b", 10, (6, 10), (6, 8), "max", 8),
    ),
)


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution with bias, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class InceptionModule(nn.Module):
    """Up to four branches, concatenated; [N, inputs, H, W] → [N, outputs, H / s, W / s]."""

    def __init__(self, inputs: int, shape: Inception):
        super().__init__()
        stride = shape.stride
        self.one = _unit(inputs, shape.one, 1) if shape.one else None
        self.three = nn.Sequential(_unit(inputs, shape.three[0], 1), _unit(*shape.three, 3, stride))
        self.double_three = nn.Sequential(
            _unit(inputs, shape.double_three[0], 1),
            _unit(*shape.double_three, 3),
            _unit(shape.double_three[1], shape.double_three[1], 3, stride),
        )
        if stride == 2:
            self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        elif shape.pool == "max":
            self.pool = nn.MaxPool2d(3, 1, 1)
        else:
            self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=True)
        self.projection = _unit(inputs, shape.projection, 1) if shape.projection else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Concatenate the branches."""
        branches = [] if self.one is None else [self.one(x)]
        branches += [self.three(x), self.double_three(x)]
        pooled = self.pool(x)
        branches.append(pooled if self.projection is None else self.projection(pooled))
        return torch.cat(branches, dim=1)


class BNInception(nn.Module):
    """[N, in_channels, H, W] → [N, features, H / 32, W / 32]."""

    def __init__(self, config: BNInceptionConfig):
        super().__init__()
        first, second, third = config.stem
        self.conv1 = _unit(config.in_channels, first, 7, 2)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = nn.Sequential(_unit(first, second, 1), _unit(second, third, 3))
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception = nn.ModuleDict()
        channels = third
        for shape in config.modules:
            self.inception[shape.name] = InceptionModule(channels, shape)
            channels = shape.outputs(channels)

    def stem(self, x: torch.Tensor) -> torch.Tensor:
        """[N, in_channels, H, W] → [N, stem, H / 8, W / 8]."""
        return self.pool2(self.conv2(self.pool1(self.conv1(x))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Extract the last map."""
        x = self.stem(x)
        for module in self.inception.values():
            x = module(x)
        return x
