"""C3D and FSB-C3D with the temporal residual gradient (TRG), in PyTorch.

Source: Wang, Lin, Wang, "Temporal Residual, Fully Separable Block, and Fast Algorithm".
C3D: eight 3×3×3 convolutions with bias and ReLU, five max pools. FSB-C3D: every convolution
becomes a fully separable block (FSB), and the first two layers see TRG of their input.
SlowFast and FastTRG of the same paper are in slowfast.py.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from models.network import Entry, Option, Signature

CONVS = ("conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b")
POOL_AFTER = {"conv1": 1, "conv2": 2, "conv3b": 3, "conv4b": 4, "conv5b": 5}

# Inner widths ("groups") of the blocks. The paper's text prints 64, 64, 128, 256, 256, 512 for
# conv1 .. conv6 (conv6 stands for conv4b, conv5a, conv5b): MID_G, which fits its Table 1.
# Its printed rate of 13.3x and its total of 3.7 M for conv3b need 128 there: MID_R.
MID_G = (64, 64, 128, 256, 256, 512, 512, 512)
MID_R = (64, 64, 128, 128, 256, 512, 512, 512)


@dataclass(frozen=True)
class C3dConfig:
    """A network of the C3D family.

    Attributes
    ----------
    frames, side: input is [1, 3, frames, side, side].
    widths: output channels of the eight convolutions, in the order of CONVS.
    mids: inner widths of the eight FSBs; None builds dense 3×3×3 convolutions.
    trg_layers: how many first layers see TRG of their input.
    head: "gap" (global average pooling and one linear layer) or "fc" (three linear layers).
    fc_width: width of the two hidden layers of the "fc" head.
    classes: width of the output.
    """

    frames: int = 16
    side: int = 112
    widths: tuple[int, ...] = (64, 128, 256, 256, 512, 512, 512, 512)
    mids: tuple[int, ...] | None = None
    trg_layers: int = 0
    head: str = "gap"
    fc_width: int = 4096
    classes: int = 101

    def __post_init__(self) -> None:
        if len(self.widths) != len(CONVS):
            raise ValueError(f"widths must have {len(CONVS)} entries, not {len(self.widths)}")
        if self.mids is not None and len(self.mids) != len(CONVS):
            raise ValueError(f"mids must have {len(CONVS)} entries, not {len(self.mids)}")
        if self.head not in ("gap", "fc"):
            raise ValueError(f"head must be 'gap' or 'fc', not {self.head!r}")
        if self.side < 16 or self.frames < 2:
            raise ValueError(
                f"side must be at least 16 and frames 2, not {self.side} and {self.frames}"
            )

    @property
    def input_shape(self) -> tuple[int, int, int, int, int]:
        """Shape of the clip, [1, 3, T, H, W]."""
        return (1, 3, self.frames, self.side, self.side)

    @property
    def signature(self) -> Signature:
        """A clip in, logits out."""
        return Signature.clip(self.frames, self.side)

    def build(self) -> "C3dNetwork":
        """Make the module."""
        return C3dNetwork(self)

    def pools(self) -> list[tuple[tuple[int, int, int], tuple[int, int, int]]]:
        """Kernels (= strides) and paddings of the five pools.

        pool1 keeps the frames (C3D), and so does any pool once a single frame is left, which
        happens only in `tiny`.
        """
        frames, pools = self.frames, []
        for number in range(1, 6):
            temporal = 1 if number == 1 or frames == 1 else 2
            frames //= temporal
            pools.append(((temporal, 2, 2), (0, 1, 1) if number == 5 else (0, 0, 0)))
        return pools


C3D = C3dConfig()
C3D_FC = replace(C3D, head="fc")
FSB_C3D = replace(C3D, mids=MID_G, trg_layers=2)
FSB_C3D_R = replace(FSB_C3D, mids=MID_R)

# Same topology in seconds of RTL simulation: 14 and 6 are no multiple of four lanes, and 32
# rows are the fewest that leave pool5 more than one pixel to pad.
TINY_C3D = C3dConfig(
    frames=4, side=32, widths=(8, 14, 16, 16, 24, 24, 32, 32), fc_width=48, classes=10
)
TINY_MID_G = (8, 6, 8, 16, 16, 24, 24, 24)
TINY_MID_R = (8, 6, 8, 8, 16, 24, 24, 24)
TINY_C3D_FC = replace(TINY_C3D, head="fc")
TINY_FSB_C3D = replace(TINY_C3D, mids=TINY_MID_G, trg_layers=2)
TINY_FSB_C3D_R = replace(TINY_FSB_C3D, mids=TINY_MID_R)


class TemporalResidualGradient(nn.Module):
    """TRG: differences of neighbouring frames, then the mean frame; T frames in, T out.

    [N, C, T, H, W] → [N, C, T, H, W]: Slice, Slice, Sub, ReduceMean, Concat on the time axis.
    The mean keeps the appearance, which the differences lose (paper, TRG).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply TRG to x, [N, C, T, H, W]."""
        gradient = x[:, :, 1:] - x[:, :, :-1]
        return torch.cat([gradient, x.mean(dim=2, keepdim=True)], dim=2)


class FullySeparableBlock(nn.Module):
    """FSB: 3×1×1 dense in→mid, 1×3×3 depthwise, 1×1×1 mid→out; all with bias, as in C3D.

    No activation inside the block (the paper states none); the caller applies ReLU after it.
    """

    def __init__(self, in_channels: int, mid: int, out_channels: int):
        super().__init__()
        self.temporal = nn.Conv3d(in_channels, mid, (3, 1, 1), padding=(1, 0, 0))
        self.spatial = nn.Conv3d(mid, mid, (1, 3, 3), padding=(0, 1, 1), groups=mid)
        self.pointwise = nn.Conv3d(mid, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, in, T, H, W] → [N, out, T, H, W]."""
        return self.pointwise(self.spatial(self.temporal(x)))


class C3dNetwork(nn.Module):
    """C3D or FSB-C3D, as the configuration says; [N, 3, T, H, W] → [N, classes]."""

    def __init__(self, config: C3dConfig):
        super().__init__()
        self.config = config
        self.convs = nn.ModuleDict()
        channels = 3
        for number, name in enumerate(CONVS):
            width = config.widths[number]
            if config.mids is None:
                self.convs[name] = nn.Conv3d(channels, width, 3, padding=1)
            else:
                self.convs[name] = FullySeparableBlock(channels, config.mids[number], width)
            channels = width
        self.pools = nn.ModuleDict(
            {f"pool{n}": nn.MaxPool3d(k, padding=p) for n, (k, p) in enumerate(config.pools(), 1)}
        )
        self.trg = TemporalResidualGradient()
        self.gap = nn.AdaptiveAvgPool3d(1)
        if config.head == "gap":
            self.fc = nn.Linear(channels, config.classes)
        else:
            self.fc6 = nn.Linear(self._features(), config.fc_width)
            self.fc7 = nn.Linear(config.fc_width, config.fc_width)
            self.fc8 = nn.Linear(config.fc_width, config.classes)

    def _features(self) -> int:
        """Elements that leave pool5: 8192 at 16×112×112 (C3D)."""
        size = [self.config.frames, self.config.side, self.config.side]
        for kernel, padding in self.config.pools():
            size = [(n + 2 * p) // k for n, k, p in zip(size, kernel, padding, strict=True)]
        return self.config.widths[-1] * size[0] * size[1] * size[2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 3, T, H, W] → logits [N, classes]."""
        for number, name in enumerate(CONVS):
            if number < self.config.trg_layers:
                x = self.trg(x)
            x = torch.relu(self.convs[name](x))
            if name in POOL_AFTER:
                x = self.pools[f"pool{POOL_AFTER[name]}"](x)
        if self.config.head == "gap":
            x = self.gap(x)
            return self.fc(x.reshape(x.shape[0], self.config.widths[-1]))
        x = x.reshape(x.shape[0], self.fc6.in_features)
        return self.fc8(torch.relu(self.fc7(torch.relu(self.fc6(x)))))


_FRAMES = Option.field("frames", {"16": 16, "64": 64}, sizes=("paper",))
_CLASSES = Option.field("classes", {"101": 101, "487": 487}, sizes=("paper",))

ENTRIES = (
    Entry(
        "fsb_c3d",
        "C3D of fully separable blocks with TRG, inner widths as the paper prints them",
        {"paper": FSB_C3D, "tiny": TINY_FSB_C3D},
        (_FRAMES,),
    ),
    Entry(
        "fsb_c3d_r",
        "the same with inner width 128 in conv3b (fits the paper's rates)",
        {"paper": FSB_C3D_R, "tiny": TINY_FSB_C3D_R},
        (_FRAMES,),
    ),
    Entry(
        "c3d",
        "C3D, global average pooling and one linear layer",
        {"paper": C3D, "tiny": TINY_C3D},
        (_FRAMES,),
    ),
    Entry(
        "c3d_fc",
        "C3D, linear layers 8192-4096-4096-101",
        {"paper": C3D_FC, "tiny": TINY_C3D_FC},
        (_CLASSES,),
        weights="c3d",
    ),
)
