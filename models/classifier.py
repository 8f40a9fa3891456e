"""The frames' networks with the classifier that their papers have: 224×224 to 1,000 classes.

None of the five papers' networks; other accelerators publish cycles of these (VTA, Gemmini), and
users know them best.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from models.backbones import mobilenetv2, resnet
from models.network import Entry, Input, Option, Signature

_BACKBONES: dict[str, tuple[mobilenetv2.MobileNetV2Config | resnet.ResNetConfig, ...]] = {
    "mobilenetv2": (mobilenetv2.MOBILENETV2, replace(mobilenetv2.TINY_MOBILENETV2, features=80)),
    "resnet34": (resnet.RESNET34, resnet.TINY_RESNET34),
    "resnet50": (resnet.RESNET50, resnet.TINY_RESNET50),
    "resnet101": (resnet.RESNET101, resnet.TINY_RESNET50),
}
"""By name: at paper size, tiny."""


@dataclass(frozen=True)
class ClassifierConfig:
    """A network of frames, the mean of its last map, and one linear layer.

    Attributes
    ----------
    backbone: its name.
    tiny: the small one of that kind.
    side, classes: of the picture, of the answer.
    """

    backbone: str = "mobilenetv2"
    tiny: bool = False
    side: int = 224
    classes: int = 1000

    @property
    def signature(self) -> Signature:
        """A picture in, scores out."""
        return Signature((Input("frame", (1, 3, self.side, self.side), "frame"),))

    def build(self) -> nn.Module:
        """Make the module."""
        return Classifier(self)


class Classifier(nn.Module):
    """[N, 3, side, side] → [N, classes]."""

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        backbone = _BACKBONES[config.backbone][int(config.tiny)]
        self.backbone = backbone.build()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(backbone.features, config.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify."""
        return self.classifier(self.pool(self.backbone(x)).flatten(1))


ENTRIES = (
    Entry(
        "classifier",
        "MobileNetV2 or a ResNet with its classifier, one picture",
        {"paper": ClassifierConfig(), "tiny": ClassifierConfig(tiny=True, side=32, classes=61)},
        (Option.field("backbone", {name: name for name in _BACKBONES}),),
    ),
)
