"""EAC-Net in PyTorch: a 2-D network per frame with temporal excitation and aggregation.

Source: Jin and Xu, AAAI 2020. MGTE halves the frames inside the
network, ATE looks at the remaining ones at several distances before the classifier. Frames lie
on the batch axis; a batch of clips has its frames one after another.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from models.backbones import bninception, resnet
from models.layers import conv_bn, frames_to_batch, mean_over_frames, repeat_over_frames
from models.network import Entry, Option, Signature

Backbone = resnet.ResNetConfig | bninception.BNInceptionConfig


@dataclass(frozen=True)
class EacNetConfig:
    """A network of the EAC-Net family; without `mgte` and `ate` it is C2D.

    Attributes
    ----------
    backbone: configuration of the image network.
    mgte: where frames are halved, and the inner width d there. Of a ResNet "3" to "5": after the
        first block of that stage (Res3 is layer2); of BN-Inception a module's name.
    excite: if False, MGTE is its max pool of frame pairs alone.
    ate: inner width of the aggregation before the classifier; 0: none.
    frames, side: the clip.
    classes: width of the output.
    """

    backbone: Backbone = resnet.RESNET50
    mgte: tuple[tuple[str, int], ...] = (("4", 128), ("5", 256))
    excite: bool = True
    ate: int = 1024
    frames: int = 32
    side: int = 256
    classes: int = 400

    def __post_init__(self) -> None:
        if self.frames % (1 << len(self.mgte)):
            raise ValueError(f"{self.frames} frames cannot be halved {len(self.mgte)} times")

    @property
    def signature(self) -> Signature:
        """A clip in, logits out."""
        return Signature.clip(self.frames, self.side)

    def build(self) -> "EacNet":
        """Make the module."""
        return EacNet(self)


class TemporalExcitation(nn.Module):
    """MGTE: max of frame pairs, plus what a gate lets through of both frames' features.

    [N·T, C, H, W] → [N·T/2, C, H, W]. The gate, one map per pair, sees how the pair differs
    and the mean of the whole clip.
    """

    def __init__(self, channels: int, width: int, frames: int, excite: bool = True):
        super().__init__()
        self.frames, self.excite = frames, excite
        if excite:
            self.squeeze = conv_bn(channels, width, (1, 1))
            self.pair = conv_bn(2 * width, width, (1, 1))
            self.gate = conv_bn(2 * width, 1, (1, 1))
            self.restore = nn.Conv2d(width, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Halve the frames."""
        pooled = torch.maximum(x[0::2], x[1::2])
        if not self.excite:
            return pooled
        squeezed = torch.relu(self.squeeze(x))
        first, second = squeezed[0::2], squeezed[1::2]
        pair = torch.relu(self.pair(torch.cat([first, second], dim=1)))
        mean = repeat_over_frames(mean_over_frames(squeezed, self.frames), self.frames // 2)
        gate = self.gate(torch.cat([(first - second).abs(), mean], dim=1))
        return pooled + self.restore(pair * torch.sigmoid(gate))


class TemporalAggregation(nn.Module):
    """ATE: dilated convolutions over time and the mean of all frames, added to the features.

    [N, C, T] → [N, C, T].
    """

    dilations = (1, 2, 3)

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.local = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(channels, width, 3, padding=d, dilation=d, bias=False),
                nn.BatchNorm1d(width),
            )
            for d in self.dilations
        )
        self.whole = conv_bn(channels, width, (1,))
        self.restore = nn.Conv1d((len(self.dilations) + 1) * width, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Aggregate."""
        parts = [torch.relu(branch(x)) for branch in self.local]
        whole = torch.relu(self.whole(x.mean(dim=2, keepdim=True)))
        parts.append(whole.expand(-1, -1, x.shape[2]))
        return x + self.restore(torch.cat(parts, dim=1))


class EacNet(nn.Module):
    """[N, 3, T, H, W] → [N, classes]."""

    def __init__(self, config: EacNetConfig):
        super().__init__()
        self.backbone = config.backbone.build()
        self.mgte = nn.ModuleDict()
        frames = config.frames
        for place, width in config.mgte:
            channels = _channels(config.backbone, place)
            self.mgte[place] = TemporalExcitation(channels, width, frames, config.excite)
            frames //= 2
        self.frames = frames
        self.pool = nn.AdaptiveAvgPool2d(1)
        features = config.backbone.features
        self.ate = TemporalAggregation(features, config.ate) if config.ate else None
        self.fc = nn.Linear(features, config.classes)

    def _parts(self) -> list[tuple[str, nn.Module]]:
        """The backbone's parts after the stem; an excitation follows the part of its name."""
        if isinstance(self.backbone, bninception.BNInception):
            return list(self.backbone.inception.items())
        parts = []
        for number, stage in enumerate(self.backbone.stages(), 2):
            parts += [(str(number), stage[0]), *(("", block) for block in stage[1:])]
        return parts

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """Classify the clip."""
        x = self.backbone.stem(frames_to_batch(clip))
        for name, part in self._parts():
            x = part(x)
            if name in self.mgte:
                x = self.mgte[name](x)
        x = self.pool(x).flatten(1)
        if self.ate is None:
            return self.fc(mean_over_frames(x, self.frames))
        if clip.shape[0] == 1:
            x = x.transpose(0, 1).unsqueeze(0)
        else:
            x = x.unflatten(0, (-1, self.frames)).transpose(1, 2)
        return self.fc(self.ate(x).mean(dim=2))


def _channels(backbone: Backbone, place: str) -> int:
    """Channels of the map at a place of MGTE."""
    if isinstance(backbone, bninception.BNInceptionConfig):
        return backbone.channels(place)
    return backbone.widths[int(place) - 2] * backbone.expansion


R50 = EacNetConfig()
R101 = replace(R50, backbone=resnet.RESNET101)
R152 = replace(R50, backbone=resnet.RESNET152)
BNINCEPTION = EacNetConfig(bninception.BNINCEPTION, (("3c", 128), ("4e", 256)), ate=512)
C2D = replace(R50, mgte=(), ate=0)
_WIDTHS = {"3": 64, "4": 128, "5": 256}
_TINY_WIDTHS = {"3": 4, "4": 6, "5": 10}
TINY_R50 = EacNetConfig(
    resnet.TINY_RESNET50, (("4", 6), ("5", 10)), ate=12, frames=8, side=48, classes=11
)
TINY_BNINCEPTION = replace(
    TINY_R50, backbone=bninception.TINY_BNINCEPTION, mgte=(("3c", 6), ("4e", 10)), side=64
)

_PLACES = ("4+5", "none", "3", "4", "5", "3+4+5")


def _mgte(widths: dict[str, int], size: str) -> Option:
    places = {
        text: () if text == "none" else tuple((p, widths[p]) for p in text.split("+"))
        for text in _PLACES
    }
    return Option.field("mgte", places, sizes=(size,))


_ATE = tuple(
    Option.field("ate", {"yes": width, "no": 0}, sizes=(size,))
    for size, width in (("paper", 1024), ("tiny", 12))
)
_PAPER = (
    Option.field("frames", {"32": 32, "48": 48}, sizes=("paper",)),
    Option.field("side", {"256": 256, "224": 224}, sizes=("paper",)),
    Option.field("classes", {"400": 400, "174": 174}, sizes=("paper",)),
)
_EXCITE = Option.field("excite", {"yes": True, "no": False})


def _resnet_entry(name: str, depth: int, paper: EacNetConfig) -> Entry:
    return Entry(
        name,
        f"EAC-Net, ResNet-{depth} on every frame, MGTE and ATE",
        {"paper": paper, "tiny": TINY_R50},
        (_mgte(_WIDTHS, "paper"), _mgte(_TINY_WIDTHS, "tiny"), *_ATE, _EXCITE, *_PAPER),
        combinations=("mgte=none,ate=no", "ate=no,excite=no"),
    )


ENTRIES = (
    _resnet_entry("eacnet_r50", 50, R50),
    _resnet_entry("eacnet_r101", 101, R101),
    _resnet_entry("eacnet_r152", 152, R152),
    Entry(
        "eacnet_bninception",
        "EAC-Net, BN-Inception on every frame (the places of MGTE are a guess)",
        {"paper": BNINCEPTION, "tiny": TINY_BNINCEPTION},
        _PAPER,
    ),
)
