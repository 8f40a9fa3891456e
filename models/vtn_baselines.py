"""What VTN's paper compares itself with, for the table only (figures/vtn.py)."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from models.backbones.resnet import RESNET34
from models.cells import LstmCell
from models.network import Input, Signature

CLASSES = 200  # Mini-Kinetics


class _Classifier(nn.Module):
    """ResNet-34 with `channels` input channels and a linear layer."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.backbone = replace(RESNET34, in_channels=channels).build()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(RESNET34.features, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.backbone(x)).flatten(1))


@dataclass(frozen=True)
class TwoStream:
    """A frame, and a stack of flow or difference maps beside it.

    Attributes
    ----------
    channels: of the stack: 32 of optical flow, 48 of RGB differences.
    """

    channels: int

    @property
    def signature(self) -> Signature:
        """Frame and stack."""
        shapes = {"frame": 3, "stack": self.channels}
        return Signature(tuple(Input(n, (1, c, 224, 224), "frame") for n, c in shapes.items()))

    def build(self) -> nn.Module:
        """Make the module."""
        return _TwoStream(self.channels)


class _TwoStream(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.rgb, self.stack = _Classifier(3, CLASSES), _Classifier(channels, CLASSES)

    def forward(self, frame: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        return (self.rgb(frame) + self.stack(stack)) * 0.5


@dataclass(frozen=True)
class Lstms:
    """ResNet-34 and three LSTM layers of width 512, one frame."""

    @property
    def signature(self) -> Signature:
        """One frame; states start at zero inside."""
        return Signature((Input("frame", (1, 3, 224, 224), "frame"),))

    def build(self) -> nn.Module:
        """Make the module."""
        return _Lstms()


class _Lstms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = RESNET34.features
        self.backbone, self.pool = RESNET34.build(), nn.AdaptiveAvgPool2d(1)
        self.cells = nn.ModuleList(LstmCell(width, width) for _ in range(3))
        self.fc = nn.Linear(width, CLASSES)

    def forward(self, frame: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.backbone(frame)).flatten(1)
        zeros = torch.zeros_like(x)
        for cell in self.cells:
            x, _ = cell(x, zeros, zeros)
        return self.fc(x)
