"""DPN-107 (Chen et al., Dual Path Networks, 2017; layout and names of the public PyTorch code)."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class DPNConfig:
    """A dual path network without its classifier.

    Attributes
    ----------
    stem: channels of the 7×7 stem.
    reduce: width of the grouped convolutions in the first stage; it doubles at every stage.
    groups: of the 3×3 convolutions.
    residual: channels of the residual path in the first stage; they double at every stage.
    blocks: per stage.
    dense: channels that a block adds to the dense path, per stage.
    in_channels: of the picture.
    """

    stem: int = 128
    reduce: int = 200
    groups: int = 50
    residual: int = 256
    blocks: tuple[int, ...] = (4, 8, 20, 3)
    dense: tuple[int, ...] = (20, 64, 64, 128)
    in_channels: int = 3

    @property
    def features(self) -> int:
        """Channels of the last map, both paths."""
        last = len(self.blocks) - 1
        return (self.residual << last) + (self.blocks[last] + 2) * self.dense[last]

    def build(self) -> "DPN":
        """Make the module."""
        return DPN(self)


DPN107 = DPNConfig()
TINY_DPN107 = DPNConfig(8, 10, 5, 16, (1, 2, 1, 1), (3, 4, 4, 6))
_EPS = 1e-3  # of the batch norms


class BnActConv(nn.Module):
    """Batch norm, ReLU, convolution: pre-activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs, eps=_EPS)
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, H, W] → [N, outputs, H / stride, W / stride]."""
        return self.conv(torch.relu(self.bn(x)))


class DualPathBlock(nn.Module):
    """A bottleneck whose result is added to one path and appended to the other.

    Parameters
    ----------
    inputs: channels of both paths before.
    width: of the grouped convolution.
    residual, dense: channels added to the residual path, appended to the dense path.
    projected: the first block of a stage projects its input.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        residual: int,
        dense: int,
        stride: int,
        projected: bool,
        groups: int,
    ):
        super().__init__()
        self.residual = residual
        self.c1x1_w = None
        if projected:
            self.c1x1_w = BnActConv(inputs, residual + 2 * dense, 1, stride)
        self.c1x1_a = BnActConv(inputs, width, 1)
        self.c3x3_b = BnActConv(width, width, 3, stride, groups)
        self.c1x1_c = BnActConv(width, residual + dense, 1)

    def forward(self, paths: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Residual and dense path, each [N, channels, H, W]; the stem's map is one tensor."""
        x = paths[0] if len(paths) == 1 else torch.cat(paths, dim=1)
        if self.c1x1_w is None:
            residual, dense = paths
        else:
            shortcut = self.c1x1_w(x)
            residual, dense = shortcut[:, : self.residual], shortcut[:, self.residual :]
        y = self.c1x1_c(self.c3x3_b(self.c1x1_a(x)))
        return (
            residual + y[:, : self.residual],
            torch.cat([dense, y[:, self.residual :]], dim=1),
        )


class DPN(nn.Module):
    """[N, in_channels, H, W] → [N, features, H / 32, W / 32], after the last norm and ReLU."""

    def __init__(self, config: DPNConfig):
        super().__init__()
        self.conv1 = nn.Conv2d(config.in_channels, config.stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.stem, eps=_EPS)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.ModuleDict()
        channels = config.stem
        for stage, (count, dense) in enumerate(zip(config.blocks, config.dense, strict=True)):
            residual, width = config.residual << stage, config.reduce << stage
            for number in range(count):
                first = number == 0
                stride = 2 if first and stage else 1
                self.blocks[f"conv{stage + 2}_{number + 1}"] = DualPathBlock(
                    channels, width, residual, dense, stride, first, config.groups
                )
                channels = residual + 3 * dense if first else channels + dense
        self.last = nn.BatchNorm2d(channels, eps=_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Extract the last map."""
        paths: tuple[torch.Tensor, ...] = (self.pool(torch.relu(self.bn1(self.conv1(x)))),)
        for block in self.blocks.values():
            paths = block(paths)
        return torch.relu(self.last(torch.cat(paths, dim=1)))
