"""The SlowFast family in PyTorch: SlowFast, SlowDepth, SlowFSB, FastTRG, FastDepth, Fast3D.

Source: Wang, Lin, Wang, "Temporal Residual, Fully Separable Block, and Fast Algorithm";
SlowFast itself: Feichtenhofer et al. 2019. Two builds, because the paper does not state its
network fully: R4 is the public UCF-101 SlowFast, E2 the one
whose counts fit the paper's tables.

The variants change the 1×3×3 of a path's bottlenecks: depthwise ("fsb"), depthwise and 1×1×1
("depth"), or fused with the temporal convolution before it ("3d"). FastTRG is SlowFSB with TRG
on the input of each residual stage of the fast path.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from models.fsb import TemporalResidualGradient
from models.layers import conv, conv_bn
from models.network import Entry, Option, Signature

SPATIAL = ("full", "fsb", "depth", "3d")


@dataclass(frozen=True)
class SlowFastConfig:
    """A network of the SlowFast family.

    Attributes
    ----------
    frames, side: the clip; the fast path sees every frame.
    slow_stride: the slow path sees every slow_stride-th frame.
    blocks, widths: blocks and inner width per stage of the slow path.
    stem: channels of the slow path's stem.
    beta: the fast path has 1/beta of the slow path's channels.
    expansion: output width of a bottleneck over its inner width.
    slow_heads, fast_heads: temporal kernel of the first convolution in a path's blocks, per stage.
    slow_spatial, fast_spatial: what stands for a path's 1×3×3 convolutions, of SPATIAL.
    stem_pool: max pool 1×3×3 after the stems.
    projections: 1×1×1 convolutions where a block changes shape; without them the block has no
        shortcut.
    lateral_kernel: frames that a lateral convolution sees.
    lateral_norm: batch norm and ReLU behind the lateral convolutions.
    trg: TRG on the input of each fast stage.
    classes: width of the output; 0: the pooled vectors themselves.
    """

    frames: int = 64
    side: int = 112
    slow_stride: int = 8
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: int = 64
    beta: int = 8
    expansion: int = 4
    slow_heads: tuple[int, ...] = (1, 1, 3, 3)
    fast_heads: tuple[int, ...] = (3, 3, 3, 3)
    slow_spatial: str = "full"
    fast_spatial: str = "full"
    stem_pool: bool = True
    projections: bool = True
    lateral_kernel: int = 5
    lateral_norm: bool = False
    trg: bool = False
    classes: int = 101

    def __post_init__(self) -> None:
        for kind in (self.slow_spatial, self.fast_spatial):
            if kind not in SPATIAL:
                raise ValueError(f"spatial convolutions are one of {SPATIAL}, not {kind!r}")

    @property
    def input_shape(self) -> tuple[int, int, int, int, int]:
        """Shape of the clip, [1, 3, T, H, W]."""
        return (1, 3, self.frames, self.side, self.side)

    @property
    def features(self) -> int:
        """Width of the pooled vectors of both paths."""
        slow = self.widths[-1] * self.expansion
        return slow + slow // self.beta

    @property
    def signature(self) -> Signature:
        """A clip in, logits (or features) out."""
        signature = Signature.clip(self.frames, self.side)
        return signature if self.classes else replace(signature, outputs=("features",))

    def build(self) -> "SlowFast":
        """Make the module."""
        return SlowFast(self)


R4 = SlowFastConfig()
E2 = replace(
    R4,
    slow_stride=2,
    expansion=2,
    slow_heads=(3, 3, 3, 3),
    stem_pool=False,
    lateral_norm=True,
)
R4_FASTTRG = replace(R4, slow_spatial="fsb", trg=True)
E2_FASTTRG = replace(E2, slow_spatial="fsb", trg=True)
# The fast path has 2 to 20 channels; four times the frames of the slow one at the laterals.
TINY_R4 = replace(
    R4,
    frames=16,
    side=32,
    blocks=(1, 2, 1, 1),
    widths=(8, 12, 16, 20),
    stem=8,
    beta=4,
    classes=11,
)


class Bottleneck(nn.Module):
    """head×1×1, 1×3×3, 1×1×1 with batch norm, ReLU between, and a shortcut.

    Parameters
    ----------
    spatial: what stands for the 1×3×3, of SPATIAL; "3d" has no head.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        outputs: int,
        head: int,
        stride: int,
        spatial: str,
        projections: bool,
    ):
        super().__init__()
        step = (1, stride, stride)
        if spatial == "3d":
            inner = [conv_bn(inputs, width, (3, 3, 3), step), nn.ReLU()]
        else:
            groups = 1 if spatial == "full" else width
            inner = [conv_bn(inputs, width, (head, 1, 1)), nn.ReLU()]
            inner += [conv_bn(width, width, (1, 3, 3), step, groups), nn.ReLU()]
        if spatial == "depth":
            inner += [conv_bn(width, width, (1, 1, 1)), nn.ReLU()]
        self.inner = nn.Sequential(*inner)
        self.pointwise = conv_bn(width, outputs, (1, 1, 1))
        self.same = inputs == outputs and stride == 1
        self.projection = None
        if not self.same and projections:
            self.projection = conv_bn(inputs, outputs, (1, 1, 1), step)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, T, H, W] → [N, outputs, T, H / stride, W / stride]."""
        y = self.pointwise(self.inner(x))
        if self.projection is not None:
            y = y + self.projection(x)
        elif self.same:
            y = y + x
        return torch.relu(y)


class SlowFast(nn.Module):
    """Both paths with lateral connections; [N, 3, T, H, W] → [N, classes]."""

    def __init__(self, config: SlowFastConfig):
        super().__init__()
        self.config = config
        beta, stem = config.beta, config.stem
        self.slow_stem = conv_bn(3, stem, (1, 7, 7), (1, 2, 2))
        self.fast_stem = conv_bn(3, stem // beta, (5, 7, 7), (1, 2, 2))
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)) if config.stem_pool else None
        self.trg = TemporalResidualGradient() if config.trg else None
        self.slow, self.fast, self.lateral = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        slow_in, fast_in = stem, stem // beta
        for stage, width in enumerate(config.widths):
            self.lateral.append(self._lateral(fast_in))
            slow_in += 2 * fast_in
            out = width * config.expansion
            self.slow.append(
                self._stage(
                    stage, slow_in, width, out, config.slow_heads[stage], config.slow_spatial
                )
            )
            self.fast.append(
                self._stage(
                    stage,
                    fast_in,
                    width // beta,
                    out // beta,
                    config.fast_heads[stage],
                    config.fast_spatial,
                )
            )
            slow_in, fast_in = out, out // beta
        self.gap = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Identity()
        if config.classes:
            self.fc = nn.Linear(config.features, config.classes, bias=False)

    def _lateral(self, channels: int) -> nn.Sequential:
        """From the fast path to the slow one: fewer frames, twice the channels."""
        kernel, stride = (self.config.lateral_kernel, 1, 1), (self.config.slow_stride, 1, 1)
        layers = [conv(channels, 2 * channels, kernel, stride)]
        if self.config.lateral_norm:
            layers += [nn.BatchNorm3d(2 * channels), nn.ReLU()]
        return nn.Sequential(*layers)

    def _stage(
        self, stage: int, inputs: int, width: int, outputs: int, head: int, spatial: str
    ) -> nn.Sequential:
        blocks = []
        for number in range(self.config.blocks[stage]):
            stride = 2 if stage and number == 0 else 1
            blocks.append(
                Bottleneck(inputs, width, outputs, head, stride, spatial, self.config.projections)
            )
            inputs = outputs
        return nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 3, T, H, W] → logits [N, classes]."""
        slow = torch.relu(self.slow_stem(x[:, :, :: self.config.slow_stride]))
        fast = torch.relu(self.fast_stem(x))
        if self.pool is not None:
            slow, fast = self.pool(slow), self.pool(fast)
        stages = zip(self.lateral, self.slow, self.fast, strict=True)
        for lateral, slow_stage, fast_stage in stages:
            slow = slow_stage(torch.cat([slow, lateral(fast)], dim=1))
            fast = fast_stage(fast if self.trg is None else self.trg(fast))
        pooled = torch.cat([self.gap(slow), self.gap(fast)], dim=1)
        return self.fc(pooled.flatten(1))


_E2_FIELDS = {
    name: getattr(E2, name)
    for name in ("slow_stride", "expansion", "slow_heads", "stem_pool", "lateral_norm")
}
_BUILD = Option("build", {"r4": {}, "e2": _E2_FIELDS})
_OPTIONS = (
    _BUILD,
    Option.field("projections", {"yes": True, "no": False}),
    Option.field("classes", {"101": 101, "400": 400}, sizes=("paper",)),
)


def _entry(name: str, description: str, weights: str | None = None, **fields: Any) -> Entry:
    sizes = {"paper": replace(R4, **fields), "tiny": replace(TINY_R4, **fields)}
    return Entry(name, description, sizes, _OPTIONS, weights=weights)


ENTRIES = (
    _entry("slowfast", "SlowFast, ResNet-50", "slowfast"),
    _entry("slowdepth", "SlowFast, slow 1×3×3 as depthwise and 1×1×1", slow_spatial="depth"),
    _entry("slowfsb", "SlowFast, slow 1×3×3 depthwise", slow_spatial="fsb"),
    _entry("fasttrg", "SlowFSB with TRG in the fast path", slow_spatial="fsb", trg=True),
    _entry("fastdepth", "SlowFast, fast 1×3×3 depthwise", fast_spatial="fsb"),
    _entry("fast3d", "SlowFast, fast blocks of one 3×3×3", fast_spatial="3d"),
)
