"""3D-ResNets whose convolutions are traditional, spatio-temporal, depthwise or X-Conv.

Source: Chen et al., "Lightweight Action Recognition with Sequence-Specific Global Context";
the layout is that of Hara et al. The stem is traditional always.
"""

from dataclasses import dataclass

import torch
from torch import nn

from models.layers import conv
from models.network import Entry, Option, Signature

CONVS = ("traditional", "st", "dw", "x")


@dataclass(frozen=True)
class ResNet3dConfig:
    """A 3D-ResNet.

    Attributes
    ----------
    blocks: per stage.
    bottleneck: 1×1×1, 3×3×3, 1×1×1 with expansion 4; otherwise two 3×3×3.
    convolution: what stands for a 3×3×3 convolution, of CONVS.
    widths: inner width per stage.
    frames, side: the clip.
    classes: width of the output.
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)
    bottleneck: bool = False
    convolution: str = "traditional"
    widths: tuple[int, ...] = (64, 128, 256, 512)
    frames: int = 16
    side: int = 112
    classes: int = 10

    def __post_init__(self) -> None:
        if self.convolution not in CONVS:
            raise ValueError(f"convolution must be one of {CONVS}, not {self.convolution!r}")

    @property
    def signature(self) -> Signature:
        """A clip in, logits out."""
        return Signature.clip(self.frames, self.side)

    def build(self) -> "ResNet3d":
        """Make the module."""
        return ResNet3d(self)


def convolution(kind: str, inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """3×3×3 convolution of a kind, stride in T, H and W; bias-free, no norm behind it."""
    space, time = (1, stride, stride), (stride, 1, 1)
    if kind == "traditional":
        return conv(inputs, outputs, (3, 3, 3), stride)
    if kind == "st":
        parts = [conv(inputs, inputs, (1, 3, 3), space), nn.BatchNorm3d(inputs), nn.ReLU()]
        return nn.Sequential(*parts, conv(inputs, outputs, (3, 1, 1), time))
    if kind == "dw":
        parts = [conv(inputs, inputs, (3, 3, 3), stride, inputs)]
    else:
        parts = [
            *(conv(inputs, inputs, (1, 3, 3), space, inputs), nn.BatchNorm3d(inputs), nn.ReLU()),
            conv(inputs, inputs, (3, 1, 1), time, inputs),
        ]
    parts += [nn.BatchNorm3d(inputs), nn.ReLU()]
    return nn.Sequential(*parts, conv(inputs, outputs, (1, 1, 1)))


class Block(nn.Module):
    """Basic block or bottleneck with shortcut B (1×1×1 and norm)."""

    def __init__(self, inputs: int, width: int, stride: int, config: ResNet3dConfig):
        super().__init__()
        kind, self.bottleneck = config.convolution, config.bottleneck
        outputs = 4 * width if config.bottleneck else width
        if config.bottleneck:
            self.conv1 = conv(inputs, width, (1, 1, 1))
            self.conv2 = convolution(kind, width, width, stride)
            self.conv3 = conv(width, outputs, (1, 1, 1))
            self.bn3 = nn.BatchNorm3d(outputs)
        else:
            self.conv1 = convolution(kind, inputs, width, stride)
            self.conv2 = convolution(kind, width, width)
        self.bn1, self.bn2 = nn.BatchNorm3d(width), nn.BatchNorm3d(width)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                conv(inputs, outputs, (1, 1, 1), stride), nn.BatchNorm3d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, T, H, W] → [N, outputs, T / stride, H / stride, W / stride]."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            y = self.bn3(self.conv3(torch.relu(y)))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet3d(nn.Module):
    """[N, 3, T, H, W] → [N, classes]."""

    def __init__(self, config: ResNet3dConfig):
        super().__init__()
        channels = config.widths[0]
        self.conv1 = conv(3, channels, (7, 7, 7), (1, 2, 2))
        self.bn1 = nn.BatchNorm3d(channels)
        self.maxpool = nn.MaxPool3d(3, 2, 1)
        for stage, (count, width) in enumerate(zip(config.blocks, config.widths, strict=True)):
            blocks = []
            for number in range(count):
                stride = 2 if stage and number == 0 else 1
                blocks.append(Block(channels, width, stride, config))
                channels = 4 * width if config.bottleneck else width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(channels, config.classes)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """Classify the clip."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(clip))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


DEPTHS = {18: ((2, 2, 2, 2), False), 34: ((3, 4, 6, 3), False), 50: ((3, 4, 6, 3), True)}
_TINY_WIDTHS = {False: (6, 10, 18, 34), True: (4, 6, 8, 10)}
_SHORT = {"traditional": "trad", "st": "st", "dw": "dw", "x": "x"}


def _entry(depth: int, kind: str) -> Entry:
    blocks, bottleneck = DEPTHS[depth]
    return Entry(
        f"r3d{depth}_{_SHORT[kind]}",
        f"3D-ResNet-{depth} with {kind} convolutions",
        {
            "paper": ResNet3dConfig(blocks, bottleneck, kind),
            "tiny": ResNet3dConfig(
                tuple(1 if n < 4 else 2 for n in blocks),
                bottleneck,
                kind,
                _TINY_WIDTHS[bottleneck],
                frames=8,
                side=32,
            ),
        },
        (
            Option.field("classes", {"10": 10, "400": 400, "101": 101}, sizes=("paper",)),
            Option.field("side", {"112": 112, "224": 224}, sizes=("paper",)),
        ),
        weights="resnet3d" if kind == "traditional" else None,
    )


ENTRIES = tuple(_entry(depth, kind) for depth in DEPTHS for kind in CONVS)
