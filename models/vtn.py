"""VTN, the Video Transformer Network, in PyTorch.

Source: Kozlov, Andronov, Gritsenko, "Lightweight Network Architecture for Real-Time Action
Recognition". An image network encodes each frame as a vector; four
blocks of attention over the frames decode the vectors; class scores are averaged over frames.
There is no projection behind the heads, and the norm is the first Transformer code's.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from models.backbones import mobilenetv2, resnet, seresnext
from models.layers import MatMul, UnbiasedLayerNorm, frames_to_batch
from models.network import Entry, Input, Option, Signature, State

Encoder = resnet.ResNetConfig | mobilenetv2.MobileNetV2Config | seresnext.SEResNeXtConfig

MODALITIES = ("rgb", "difference", "stacked", "two_stream")
PARTS = ("clip", "encoder", "decoder", "online")


@dataclass(frozen=True)
class VtnConfig:
    """A network of the VTN family.

    Attributes
    ----------
    encoder: configuration made for three channels; "stacked" widens its first convolution to six.
    reduce: 1×1 convolution with bias to `width` channels before the pool.
    modality: "rgb"; "difference": of neighbouring frames, one token fewer; "stacked": frame and
        difference to the next one in six channels, one input frame more; "two_stream": two
        networks, of rgb and of differences, whose class scores are averaged.
    part: "clip"; "encoder": one frame to a vector; "decoder": vectors to scores; "online": one
        frame and the window of the last vectors to scores and the shifted window.
    frames, side: frames that are encoded (for "difference": and one more), and their size.
    width, heads, blocks: of the decoder; the feed-forward layer is twice as wide.
    norm: layer norms; the public release exports without them, too.
    head_scale: scores of attention are divided by the root of a head's width (the paper), otherwise
        of the whole width (the release).
    classes: width of the output.
    """

    encoder: Encoder = resnet.RESNET34
    reduce: bool = False
    modality: str = "rgb"
    part: str = "clip"
    frames: int = 16
    side: int = 224
    width: int = 512
    heads: int = 8
    blocks: int = 4
    norm: bool = True
    head_scale: bool = True
    classes: int = 400

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES or self.part not in PARTS:
            raise ValueError(f"no modality {self.modality!r} or no part {self.part!r}")
        if self.part != "clip" and self.modality != "rgb":
            raise ValueError(f"part {self.part} exists for modality rgb, not {self.modality}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of {self.heads} heads")
        if not self.reduce and self.encoder.features != self.width:
            raise ValueError(
                f"an encoder of {self.encoder.features} features needs the reducing convolution"
            )

    @property
    def tokens(self) -> int:
        """Vectors that the decoder sees."""
        return self.frames - 1 if self.modality == "difference" else self.frames

    @property
    def signature(self) -> Signature:
        """A clip, a frame, or vectors in; logits out; online has the window as its state."""
        frame = (1, 3, self.side, self.side)
        window = (1, self.frames, self.width)
        if self.part == "encoder":
            return Signature((Input("frame", frame, "frame"),), ("embedding",))
        if self.part == "decoder":
            return Signature((Input("embeddings", window, "tokens"),))
        if self.part == "online":
            return Signature(
                (Input("frame", frame, "frame"), Input("window", window, "state")),
                ("logits", "window_next"),
                (State("window", "window_next"),),
            )
        frames = self.frames + 1 if self.modality == "stacked" else self.frames
        return Signature.clip(frames, self.side)

    def build(self) -> nn.Module:
        """Make the module."""
        if self.modality == "two_stream":
            return TwoStreamVtn(self)
        makers = {"clip": Vtn, "encoder": FrameEncoder, "decoder": Decoder, "online": OnlineVtn}
        return makers[self.part](self)


class FrameEncoder(nn.Module):
    """Image network, reducing convolution, global average; [N, C, H, W] → [N, width]."""

    def __init__(self, config: VtnConfig):
        super().__init__()
        channels = 6 if config.modality == "stacked" else 3
        self.backbone = replace(config.encoder, in_channels=channels).build()
        self.reduce = None
        if config.reduce:
            self.reduce = nn.Conv2d(config.encoder.features, config.width, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Encode each frame of the batch by itself."""
        x = self.backbone(frames)
        if self.reduce is not None:
            x = self.reduce(x)
        return self.pool(x).flatten(1)


class Attention(nn.Module):
    """Self-attention of several heads over the tokens of a clip; [N·T, width] → the same."""

    def __init__(self, config: VtnConfig):
        super().__init__()
        width, self.heads, self.tokens = config.width, config.heads, config.tokens
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.scale = 1 / math.sqrt(width // config.heads if config.head_scale else width)
        self.scores, self.mix = MatMul(), MatMul()

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """[N·T, width] → [N, heads, T, width / heads]; without N for a single clip."""
        clips = () if x.shape[0] == self.tokens else (x.shape[0] // self.tokens,)
        heads = x.reshape(*clips, self.tokens, self.heads, x.shape[1] // self.heads)
        return heads.transpose(-3, -2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend."""
        query, key, value = (self._split(m(x)) for m in (self.query, self.key, self.value))
        scores = self.scores(query, key.transpose(-2, -1)) * self.scale
        mixed = self.mix(torch.softmax(scores, dim=-1), value)
        return mixed.transpose(-3, -2).reshape(x.shape)


class DecoderBlock(nn.Module):
    """Attention and two linear layers, each added to its input and normed."""

    def __init__(self, config: VtnConfig):
        super().__init__()
        width = config.width
        self.attention = Attention(config)
        self.expand = nn.Linear(width, 2 * width)
        self.project = nn.Linear(2 * width, width)
        self.norm1 = UnbiasedLayerNorm(width) if config.norm else nn.Identity()
        self.norm2 = UnbiasedLayerNorm(width) if config.norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N·T, width] → the same."""
        y = self.norm1(self.attention(x) + x)
        return self.norm2(self.project(torch.relu(self.expand(y))) + y)


def sinusoids(tokens: int, width: int) -> torch.Tensor:
    """The sine and cosine table that position vectors start from, [tokens, width]."""
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000) / width))
    phase = torch.arange(tokens)[:, None] * rate
    return torch.stack([phase.sin(), phase.cos()], dim=2).flatten(1)[:, :width]


class Decoder(nn.Module):
    """Position vectors, blocks, class scores per token, and their mean.

    [N·T, width] or [N, T, width] → [N, classes].
    """

    def __init__(self, config: VtnConfig):
        super().__init__()
        self.tokens = config.tokens
        self.position = nn.Parameter(sinusoids(config.tokens, config.width))
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.blocks))
        self.fc = nn.Linear(config.width, config.classes)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Decode the vectors of each clip."""
        x = embeddings.flatten(0, 1) if embeddings.dim() == 3 else embeddings
        clips = x.shape[0] // self.tokens
        x = x + (self.position if clips == 1 else self.position.repeat(clips, 1))
        for block in self.blocks:
            x = block(x)
        logits = self.fc(x)
        if clips == 1:
            return logits.mean(dim=0, keepdim=True)
        return logits.unflatten(0, (clips, self.tokens)).mean(dim=1)


class Vtn(nn.Module):
    """The whole network on a clip; [N, 3, T, H, W] → [N, classes]."""

    def __init__(self, config: VtnConfig):
        super().__init__()
        self.modality = config.modality
        self.encoder, self.decoder = FrameEncoder(config), Decoder(config)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """Encode every frame, decode them together."""
        if self.modality != "rgb":
            difference = clip[:, :, 1:] - clip[:, :, :-1]
            if self.modality == "stacked":
                clip = torch.cat([clip[:, :, :-1], difference], dim=1)
            else:
                clip = difference
        return self.decoder(self.encoder(frames_to_batch(clip)))


class TwoStreamVtn(nn.Module):
    """Two networks, of frames and of their differences, whose class scores are averaged."""

    def __init__(self, config: VtnConfig):
        super().__init__()
        self.rgb = Vtn(replace(config, modality="rgb"))
        self.difference = Vtn(replace(config, modality="difference"))

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """[N, 3, T, H, W] → [N, classes]."""
        return (self.rgb(clip) + self.difference(clip)) * 0.5


class OnlineVtn(nn.Module):
    """A frame in: its vector enters the window, the oldest leaves, the window is decoded."""

    def __init__(self, config: VtnConfig):
        super().__init__()
        self.encoder, self.decoder = FrameEncoder(config), Decoder(config)

    def forward(
        self, frame: torch.Tensor, window: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[N, 3, H, W] and [N, T, width] → logits [N, classes] and the next window."""
        newest = self.encoder(frame).unsqueeze(1)
        window = torch.cat([window[:, 1:], newest], dim=1)
        return self.decoder(window), window


RESNET34 = VtnConfig()
RESNET50 = VtnConfig(encoder=resnet.RESNET50, reduce=True)
MOBILENETV2 = VtnConfig(encoder=mobilenetv2.MOBILENETV2, reduce=True)
SERESNEXT101 = VtnConfig(encoder=seresnext.SERESNEXT101, reduce=True)
# Two heads of 18 in a width of two lane blocks and a ragged third; five tokens.
_TINY = VtnConfig(
    encoder=resnet.TINY_RESNET34, frames=5, side=32, width=36, heads=2, blocks=2, classes=11
)
TINY = {
    "resnet34": _TINY,
    "resnet50": replace(_TINY, encoder=resnet.TINY_RESNET50, reduce=True),
    "mobilenetv2": replace(_TINY, encoder=mobilenetv2.TINY_MOBILENETV2, reduce=True),
    "seresnext101": replace(_TINY, encoder=seresnext.TINY_SERESNEXT101, reduce=True),
}

_MODALITY = Option.field("modality", {name: name for name in MODALITIES})
_PART = Option.field("part", {"clip": "clip", "encoder": "encoder"})
_DECODER = (
    Option.field("norm", {"layer": True, "none": False}),
    Option("scale", {"head": {"head_scale": True}, "model": {"head_scale": False}}),
    Option.field("classes", {"400": 400, "200": 200}, sizes=("paper",)),
)
_REDUCE = Option.field("reduce", {"no": False, "yes": True})

ENTRIES = (
    Entry(
        "vtn_resnet34",
        "VTN on a clip, ResNet-34 encoder",
        {"paper": RESNET34, "tiny": TINY["resnet34"]},
        (_MODALITY, *_DECODER, _PART, _REDUCE),
        weights="vtn",
    ),
    Entry(
        "vtn_resnet50",
        "VTN on a clip, ResNet-50 encoder",
        {"paper": RESNET50, "tiny": TINY["resnet50"]},
        (_MODALITY, *_DECODER, _PART),
        weights="vtn",
    ),
    Entry(
        "vtn_mobilenetv2",
        "VTN on a clip, MobileNetV2 encoder",
        {"paper": MOBILENETV2, "tiny": TINY["mobilenetv2"]},
        (_MODALITY, *_DECODER, _PART),
        weights="vtn",
    ),
    Entry(
        "vtn_seresnext101",
        "VTN on a clip, SE-ResNeXt-101 32×4d encoder",
        {"paper": SERESNEXT101, "tiny": TINY["seresnext101"]},
        (_MODALITY, *_DECODER, _PART),
        weights="vtn",
    ),
    Entry(
        "vtn_decoder",
        "VTN's decoder alone: the vectors of 16 frames in, logits out",
        {"paper": replace(RESNET34, part="decoder"), "tiny": replace(_TINY, part="decoder")},
        _DECODER,
        weights="vtn",
    ),
    Entry(
        "vtn_online",
        "VTN frame by frame: the window of vectors is the state",
        {"paper": replace(RESNET34, part="online"), "tiny": replace(_TINY, part="online")},
        (
            Option(
                "encoder",
                {
                    "resnet34": {"encoder": resnet.RESNET34, "reduce": False},
                    "resnet50": {"encoder": resnet.RESNET50, "reduce": True},
                    "mobilenetv2": {"encoder": mobilenetv2.MOBILENETV2, "reduce": True},
                },
                sizes=("paper",),
            ),
            *_DECODER,
        ),
        weights="vtn",
    ),
)
