"""SlowFast, SlowFSB and FastTRG, in PyTorch.

Source: Wang, Lin, Wang, "Temporal Residual, Fully Separable Block, and Fast Algorithm";
SlowFast itself: Feichtenhofer et al. 2019. Two readings are built, because the paper does not
state its network fully (networks.md section 5): R4 is the public UCF-101 SlowFast, E2 the one
whose counts fit the paper's tables.

SlowFSB makes the 1×3×3 convolutions of the slow path depthwise; FastTRG is SlowFSB with TRG on
the input of each residual stage of the fast path.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from models.fsb import TemporalResidualGradient

BLOCKS = (3, 4, 6, 3)  # ResNet-50
WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class SlowFastConfig:
    """A network of the SlowFast family.

    Attributes
    ----------
    frames, side : int
        The clip; the fast path sees every frame.
    slow_stride : int
        The slow path sees every slow_stride-th frame.
    expansion : int
        Output width of a bottleneck over its inner width.
    slow_heads : tuple of int
        Temporal kernel of the first convolution in the slow path's blocks, per stage.
    stem_pool : bool
        Max pool 1×3×3 after the stems.
    projections : bool
        1×1×1 convolutions where a block changes shape; without them the block has no shortcut.
    slow_depthwise : bool
        SlowFSB: the slow path's 1×3×3 convolutions are depthwise.
    trg : bool
        TRG on the input of each fast stage.
    classes : int
        Width of the output.
    """

    frames: int = 64
    side: int = 112
    slow_stride: int = 8
    expansion: int = 4
    slow_heads: tuple[int, ...] = (1, 1, 3, 3)
    stem_pool: bool = True
    projections: bool = True
    slow_depthwise: bool = False
    trg: bool = False
    classes: int = 101

    @property
    def input_shape(self) -> tuple[int, int, int, int, int]:
        """Shape of the clip, [1, 3, T, H, W]."""
        return (1, 3, self.frames, self.side, self.side)


R4 = SlowFastConfig()
E2 = replace(R4, slow_stride=2, expansion=2, slow_heads=(3, 3, 3, 3), stem_pool=False)
R4_FASTTRG = replace(R4, slow_depthwise=True, trg=True)
E2_FASTTRG = replace(E2, slow_depthwise=True, trg=True)


def _conv_bn(inputs: int, outputs: int, kernel, stride=1, groups: int = 1) -> nn.Sequential:
    """Bias-free convolution with same padding, and batch norm."""
    padding = tuple(k // 2 for k in kernel)
    conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(outputs))


class Bottleneck(nn.Module):
    """head×1×1, 1×3×3, 1×1×1 with batch norm, ReLU between, and a shortcut."""

    def __init__(self, inputs, width, outputs, head, stride, depthwise, projections):
        super().__init__()
        self.head = _conv_bn(inputs, width, (head, 1, 1))
        groups = width if depthwise else 1
        self.spatial = _conv_bn(width, width, (1, 3, 3), (1, stride, stride), groups)
        self.pointwise = _conv_bn(width, outputs, (1, 1, 1))
        self.same = inputs == outputs and stride == 1
        self.projection = None
        if not self.same and projections:
            self.projection = _conv_bn(inputs, outputs, (1, 1, 1), (1, stride, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, T, H, W] → [N, outputs, T, H / stride, W / stride]."""
        y = torch.relu(self.spatial(torch.relu(self.head(x))))
        y = self.pointwise(y)
        if self.projection is not None:
            y = y + self.projection(x)
        elif self.same:
            y = y + x
        return torch.relu(y)


class SlowFast(nn.Module):
    """Both paths with lateral connections; [N, 3, T, H, W] → [N, classes]."""

    beta = 8  # the fast path has 1/8 of the channels

    def __init__(self, config: SlowFastConfig):
        super().__init__()
        self.config = config
        alpha, beta = config.slow_stride, self.beta
        self.slow_stem = _conv_bn(3, 64, (1, 7, 7), (1, 2, 2))
        self.fast_stem = _conv_bn(3, 64 // beta, (5, 7, 7), (1, 2, 2))
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)) if config.stem_pool else None
        self.trg = TemporalResidualGradient() if config.trg else None
        self.slow, self.fast, self.lateral = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        slow_in, fast_in = 64, 64 // beta
        for stage, (blocks, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True)):
            lateral = nn.Conv3d(
                fast_in, 2 * fast_in, (5, 1, 1), (alpha, 1, 1), (2, 0, 0), bias=False
            )
            self.lateral.append(nn.Sequential(lateral, nn.BatchNorm3d(2 * fast_in)))
            slow_in += 2 * fast_in
            out, stride = width * config.expansion, 1 if stage == 0 else 2
            head = config.slow_heads[stage]
            self.slow.append(
                self._stage(blocks, slow_in, width, out, head, stride, config.slow_depthwise)
            )
            self.fast.append(
                self._stage(blocks, fast_in, width // beta, out // beta, 3, stride, False)
            )
            slow_in, fast_in = out, out // beta
        self.gap = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(slow_in + fast_in, config.classes)

    def _stage(self, blocks, inputs, width, outputs, head, stride, depthwise) -> nn.Sequential:
        config = self.config
        return nn.Sequential(
            *(
                Bottleneck(
                    inputs if block == 0 else outputs,
                    width,
                    outputs,
                    head,
                    stride if block == 0 else 1,
                    depthwise,
                    config.projections,
                )
                for block in range(blocks)
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 3, T, H, W] → logits [N, classes]."""
        slow = torch.relu(self.slow_stem(x[:, :, :: self.config.slow_stride]))
        fast = torch.relu(self.fast_stem(x))
        if self.pool is not None:
            slow, fast = self.pool(slow), self.pool(fast)
        stages = zip(self.lateral, self.slow, self.fast, strict=True)
        for lateral, slow_stage, fast_stage in stages:
            slow = slow_stage(torch.cat([slow, torch.relu(lateral(fast))], dim=1))
            fast = fast_stage(fast if self.trg is None else self.trg(fast))
        pooled = torch.cat([self.gap(slow), self.gap(fast)], dim=1)
        return self.fc(pooled.flatten(1))
