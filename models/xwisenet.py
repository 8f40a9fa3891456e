"""XwiseNet in PyTorch: shuffled units of depthwise X-Conv with sequence-specific global context.

Source: Chen et al., "Lightweight Action Recognition with Sequence-Specific Global Context".
The paper's figure is lost: widths are certain, units and stem fitted to its counts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from models.layers import MatMul, conv
from models.network import Entry, Option, Signature

BLOCKS = ("ss", "gc", "se", "none")
POSITIONS = ("before", "after", "branch")


@dataclass(frozen=True)
class XwiseNetConfig:
    """A network of the XwiseNet family.

    Attributes
    ----------
    context: block in every unit: "ss", "gc" (global context), "se" (squeeze and excitation),
        "none".
    position: "before" or "after" the channel shuffle, or at the end of the right "branch".
    stages: those (1 to 4) whose units have the block.
    widths, units: per stage.
    stem, head: channels of the first and the last convolution.
    frames, side: the clip.
    classes: width of the output.
    """

    context: str = "ss"
    position: str = "before"
    stages: tuple[int, ...] = (1, 2, 3, 4)
    widths: tuple[int, ...] = (88, 176, 352, 704)
    units: tuple[int, ...] = (4, 4, 6, 3)
    stem: int = 64
    head: int = 2048
    frames: int = 16
    side: int = 112
    classes: int = 10

    def __post_init__(self) -> None:
        if self.context not in BLOCKS or self.position not in POSITIONS:
            raise ValueError(f"no context {self.context!r} or no position {self.position!r}")

    @property
    def signature(self) -> Signature:
        """A clip in, logits out."""
        return Signature.clip(self.frames, self.side)

    def build(self) -> "XwiseNet":
        """Make the module."""
        return XwiseNet(self)


class SequenceContext(nn.Module):
    """SS: each frame's weighted mean over its positions, transformed, added to every position.

    The norm runs over channels and frames together. [N, C, T, H, W] → the same.
    """

    reduction = 8

    def __init__(self, channels: int, frames: int):
        super().__init__()
        hidden = channels // self.reduction
        self.attend = conv(channels, 1, (1, 1, 1))
        self.pool = MatMul()
        self.squeeze = conv(channels, hidden, (1, 1, 1))
        self.norm = nn.LayerNorm([hidden, self._groups(frames), 1, 1])
        self.restore = conv(hidden, channels, (1, 1, 1))

    @staticmethod
    def _groups(frames: int) -> int:
        """Contexts per clip: one of each frame."""
        return frames

    def context(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, T, H, W] → [N, C, T, 1, 1]."""
        n, c, t, h, w = x.shape
        weights = torch.softmax(self.attend(x).reshape(n, t, h * w), dim=2).unsqueeze(3)
        positions = x.transpose(1, 2).reshape(n, t, c, h * w)
        return self.pool(positions, weights).transpose(1, 2).unsqueeze(-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the transformed context."""
        return x + self.restore(torch.relu(self.norm(self.squeeze(self.context(x)))))


class GlobalContext(SequenceContext):
    """GC: one weighted mean over all positions of the clip."""

    @staticmethod
    def _groups(frames: int) -> int:
        """One context per clip."""
        return 1

    def context(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, T, H, W] → [N, C, 1, 1, 1]."""
        n, c, t, h, w = x.shape
        weights = torch.softmax(self.attend(x).reshape(n, t * h * w), dim=1).unsqueeze(2)
        return self.pool(x.reshape(n, c, t * h * w), weights).reshape(n, c, 1, 1, 1)


class SqueezeExcitation(nn.Module):
    """SE: one factor per channel from the mean of the clip."""

    reduction = 16

    def __init__(self, channels: int):
        super().__init__()
        hidden = channels // self.reduction
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.squeeze = conv(channels, hidden, (1, 1, 1))
        self.restore = conv(hidden, channels, (1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, T, H, W] → the same."""
        return x * torch.sigmoid(self.restore(torch.relu(self.squeeze(self.pool(x)))))


def shuffle(x: torch.Tensor) -> torch.Tensor:
    """Interleave the two halves of the channels."""
    n, c, t, h, w = x.shape
    return x.reshape(n, 2, c // 2, t * h * w).transpose(1, 2).reshape(n, c, t, h, w)


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return [conv(inputs, outputs, (1, 1, 1)), nn.BatchNorm3d(outputs), nn.ReLU()]


def _separable(channels: int, stride: tuple[int, int, int]) -> list[nn.Module]:
    """Depthwise 1×3×3 and 3×1×1; the first strides in H and W, the second in T."""
    time, *space = stride
    return [
        conv(channels, channels, (1, 3, 3), (1, *space), channels),
        *(nn.BatchNorm3d(channels), nn.ReLU()),
        conv(channels, channels, (3, 1, 1), (time, 1, 1), channels),
        nn.BatchNorm3d(channels),
    ]


class Unit(nn.Module):
    """Two halves, X-Conv on one of them (on both where the shape changes), shuffled.

    [N, inputs, T, H, W] → [N, outputs, T / st, H / s, W / s].
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: tuple[int, int, int],
        frames: int,
        config: XwiseNetConfig,
        context: str,
    ):
        super().__init__()
        half = outputs // 2
        self.half, self.left = half, None
        if inputs != outputs:
            self.left = nn.Sequential(*_separable(inputs, stride), *_pointwise(inputs, half))
        first = half if self.left is None else inputs
        self.right = nn.Sequential(
            *_pointwise(first, half), *_separable(half, stride), *_pointwise(half, half)
        )
        self.position = config.position
        channels = half if config.position == "branch" else outputs
        makers: dict[str, Callable[[], nn.Module]] = {
            "ss": lambda: SequenceContext(channels, frames),
            "gc": lambda: GlobalContext(channels, frames),
            "se": lambda: SqueezeExcitation(channels),
        }
        self.context = makers[context]() if context != "none" else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the unit."""
        if self.left is None:
            left, right = x[:, : self.half], self.right(x[:, self.half :])
        else:
            left, right = self.left(x), self.right(x)
        if self.position == "branch":
            return shuffle(torch.cat([left, self.context(right)], dim=1))
        x = torch.cat([left, right], dim=1)
        return shuffle(self.context(x)) if self.position == "before" else self.context(shuffle(x))


class XwiseNet(nn.Module):
    """[N, 3, T, H, W] → [N, classes]."""

    def __init__(self, config: XwiseNetConfig):
        super().__init__()
        self.stem = nn.Sequential(
            conv(3, config.stem, (1, 7, 7), (1, 2, 2)), nn.BatchNorm3d(config.stem), nn.ReLU()
        )
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.stages = nn.ModuleList()
        channels, frames = config.stem, config.frames
        for stage, (width, units) in enumerate(zip(config.widths, config.units, strict=True)):
            step = 2 if stage else 1
            frames //= step
            context = config.context if stage + 1 in config.stages else "none"
            blocks = []
            for number in range(units):
                stride = (step,) * 3 if number == 0 else (1, 1, 1)
                blocks.append(Unit(channels, width, stride, frames, config, context))
                channels = width
            self.stages.append(nn.Sequential(*blocks))
        self.head = nn.Sequential(*_pointwise(channels, config.head))
        self.gap = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(config.head, config.classes)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """Classify the clip."""
        x = self.pool(self.stem(clip))
        for stage in self.stages:
            x = stage(x)
        return self.fc(self.gap(self.head(x)).flatten(1))


XWISENET = XwiseNetConfig()
# Halves of 12, 20, 24 and 36: none a multiple of the lanes.
TINY_XWISENET = XwiseNetConfig(
    widths=(24, 40, 48, 72), units=(2, 2, 1, 1), stem=8, head=40, frames=8, side=48
)

ENTRIES = (
    Entry(
        "xwisenet",
        "XwiseNet with SS blocks",
        {"paper": XWISENET, "tiny": TINY_XWISENET},
        (
            Option.field("context", {name: name for name in BLOCKS}),
            Option.field("position", {name: name for name in POSITIONS}),
            Option.field("stages", {"all": (1, 2, 3, 4), **{str(n): (n,) for n in (1, 2, 3, 4)}}),
            Option.field("side", {"112": 112, "224": 224}, sizes=("paper",)),
            Option.field("classes", {"10": 10, "6": 6}, sizes=("paper",)),
        ),
    ),
)
