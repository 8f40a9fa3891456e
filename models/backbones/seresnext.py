"""SE-ResNeXt-101 32×4d (Hu et al. 2018; layout and names of the pretrained-models collection)."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class SEResNeXtConfig:
    """SE-ResNeXt without its classifier.

    Attributes
    ----------
    blocks: per stage.
    widths: inner width per stage; a block puts out twice as many channels.
    groups: of the 3×3 convolutions.
    stem: channels of the stem.
    reduction: channels of a block over the inner width of its gate.
    in_channels: of the picture.
    """

    blocks: tuple[int, ...] = (3, 4, 23, 3)
    widths: tuple[int, ...] = (128, 256, 512, 1024)
    groups: int = 32
    stem: int = 64
    reduction: int = 16
    in_channels: int = 3

    @property
    def features(self) -> int:
        """Channels of the last map."""
        return 2 * self.widths[-1]

    def build(self) -> "SEResNeXt":
        """Make the module."""
        return SEResNeXt(self)


SERESNEXT101 = SEResNeXtConfig()
TINY_SERESNEXT101 = SEResNeXtConfig((1, 2, 1, 1), (8, 12, 16, 20), 4, stem=8, reduction=4)


class SqueezeExcitation(nn.Module):
    """One factor per channel from the mean of its map; [N, C, H, W] → the same."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Gate the map."""
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(self.avg_pool(x)))))


class Bottleneck(nn.Module):
    """1×1, grouped 3×3, 1×1, gate and shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, config: SEResNeXtConfig):
        super().__init__()
        outputs = 2 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=config.groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.se_module = SqueezeExcitation(outputs, config.reduction)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, H, W] → [N, 2·width, H / stride, W / stride]."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.se_module(self.bn3(self.conv3(y)))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class SEResNeXt(nn.Module):
    """[N, in_channels, H, W] → [N, features, H / 32, W / 32]."""

    def __init__(self, config: SEResNeXtConfig):
        super().__init__()
        self.layer0 = nn.Sequential()
        stem = nn.Conv2d(config.in_channels, config.stem, 7, 2, 3, bias=False)
        self.layer0.add_module("conv1", stem)
        self.layer0.add_module("bn1", nn.BatchNorm2d(config.stem))
        self.layer0.add_module("relu1", nn.ReLU())
        self.layer0.add_module("pool", nn.MaxPool2d(3, 2, ceil_mode=True))
        channels = config.stem
        for stage, (count, width) in enumerate(zip(config.blocks, config.widths, strict=True)):
            blocks = []
            for number in range(count):
                stride = 2 if stage and number == 0 else 1
                blocks.append(Bottleneck(channels, width, stride, config))
                channels = 2 * width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Extract the last map."""
        x = self.layer0(x)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))
