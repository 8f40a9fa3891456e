"""ResNet-34, -50, -101 and -152 (torchvision's layout and names, stride in the 3×3)."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class ResNetConfig:
    """A ResNet without its classifier.

    Attributes
    ----------
    blocks: per stage.
    bottleneck: 1×1, 3×3, 1×1 with expansion 4; otherwise two 3×3.
    widths: inner width per stage.
    stem: channels of the stem.
    in_channels: of the picture.
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: int = 64
    in_channels: int = 3

    @property
    def expansion(self) -> int:
        """Channels of a block's result over its inner width."""
        return 4 if self.bottleneck else 1

    @property
    def features(self) -> int:
        """Channels of the last map."""
        return self.widths[-1] * self.expansion

    def build(self) -> "ResNet":
        """Make the module."""
        return ResNet(self)


RESNET34 = ResNetConfig(bottleneck=False)
RESNET50 = ResNetConfig()
RESNET101 = ResNetConfig(blocks=(3, 4, 23, 3))
RESNET152 = ResNetConfig(blocks=(3, 8, 36, 3))
# Widths that fill no lane block evenly, and one block of each kind: with and without projection.
TINY_RESNET34 = ResNetConfig((1, 2, 1, 1), False, (8, 12, 20, 36), stem=8)
TINY_RESNET50 = ResNetConfig((1, 2, 1, 1), True, (4, 6, 8, 10), stem=8)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """3×3, 3×3 and a shortcut; [N, inputs, H, W] → [N, width, H / stride, W / stride]."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(_conv(inputs, width, 1, stride), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 and a shortcut; [N, inputs, H, W] → [N, 4·width, H / stride, W / stride]."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = _conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                _conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Stem and four stages; [N, in_channels, H, W] → [N, features, H / 32, W / 32]."""

    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.conv1 = nn.Conv2d(config.in_channels, config.stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.stem)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        block = Bottleneck if config.bottleneck else BasicBlock
        channels = config.stem
        for stage, (count, width) in enumerate(zip(config.blocks, config.widths, strict=True)):
            blocks = []
            for number in range(count):
                stride = 2 if stage and number == 0 else 1
                blocks.append(block(channels, width, stride))
                channels = width * config.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))

    def stages(self) -> list[nn.Sequential]:
        """The four stages in order."""
        return [self.layer1, self.layer2, self.layer3, self.layer4]

    def stem(self, x: torch.Tensor) -> torch.Tensor:
        """[N, in_channels, H, W] → [N, stem, H / 4, W / 4]."""
        return self.maxpool(torch.relu(self.bn1(self.conv1(x))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Extract the last map."""
        x = self.stem(x)
        for stage in self.stages():
            x = stage(x)
        return x
