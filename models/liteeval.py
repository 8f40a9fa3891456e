"""LiteEval in PyTorch: a cheap look at every frame decides whether to look closely.

Source: Wu et al., "LiteEval: A Coarse-to-Fine Framework for Resource Efficient Video
Recognition". Per step a small network and a coarse recurrent cell see
the frame; a gate decides; only then a large network and the fine cell see it, otherwise the
first part of the fine cell's state becomes the coarse cell's. The network is written as four
parts, of which "read" or "skip" runs; control.py puts them into one graph with If and Loop.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.backbones import dpn, mobilenetv2, resnet
from models.cells import CELLS, Cell
from models.network import Entry, Feeds, Input, Option, Signature, State
from models.samples import outputs_of
from models.slowfast import R4, TINY_R4, SlowFastConfig

Fine = resnet.ResNetConfig | dpn.DPNConfig | mobilenetv2.MobileNetV2Config | SlowFastConfig
Tensors = tuple[torch.Tensor, ...]

ENCODERS = ("coarse", "fine")
STEP_PARTS = ("look", "read", "skip", "answer")
PARTS = ("step", "clip", *ENCODERS, *STEP_PARTS)


@dataclass(frozen=True)
class LiteEvalConfig:
    """A network of the LiteEval family.

    Attributes
    ----------
    coarse, fine: configurations of the two backbones.
    coarse_side, fine_side: frames as either network sees them; SlowFast has its own clip.
    cell: "lstm", "gru" or "sru".
    coarse_width, fine_width: of the cells.
    embed: linear, batch norm, ReLU before cells and gate, for coarse and fine features, and a gate
        with bias that sees the fine cell's state c too and whose first score means "fine": the
        public code. None: the paper.
    classes: width of the output.
    part: "step" (If around the fine network); "clip" (Loop over `steps` frames); "coarse", "fine":
        an encoder alone; or a part of the step, of STEP_PARTS.
    steps: of a clip.
    budget: a clip ends with the budget-th fine step, and its outputs are the last step's scores and
        how many steps were fine (the paper's online setting); 0: it never ends before its last
        step, and hands out the scores of all.
    """

    coarse: mobilenetv2.MobileNetV2Config = mobilenetv2.MOBILENETV2
    fine: Fine = resnet.RESNET101
    coarse_side: int = 112
    fine_side: int = 224
    cell: str = "lstm"
    coarse_width: int = 512
    fine_width: int = 2048
    embed: tuple[int, int] | None = None
    classes: int = 239
    part: str = "step"
    steps: int = 129
    budget: int = 0

    def __post_init__(self) -> None:
        if self.cell not in CELLS or self.part not in PARTS:
            raise ValueError(f"no cell {self.cell!r} or no part {self.part!r}")
        if self.coarse_width >= self.fine_width:
            raise ValueError("the coarse cell must be narrower than the fine one")
        if self.budget and self.part != "clip":
            raise ValueError("a budget belongs to a whole clip")

    @property
    def coarse_features(self) -> int:
        """Width of the coarse vector that cells and gate see."""
        return self.embed[0] if self.embed else self.coarse.features

    @property
    def fine_features(self) -> int:
        """Width of the fine vector that its cell sees."""
        return self.embed[1] if self.embed else self.fine.features

    @property
    def fine_index(self) -> int:
        """The gate's score that means "fine"."""
        return 0 if self.embed else 1

    @property
    def states(self) -> tuple[str, ...]:
        """What a step leaves to the next, of h_coarse, c_coarse, h_fine, c_fine."""
        cell = CELLS[self.cell]
        names = ["h_coarse"] if cell.uses_hidden else []
        names += ["c_coarse"] if cell.uses_cell else []
        names += ["h_fine"]  # gate and synchronisation read it, whatever the cell
        return (*names, "c_fine") if cell.uses_cell else tuple(names)

    @property
    def picture(self) -> Input:
        """What the fine network sees."""
        if isinstance(self.fine, SlowFastConfig):
            return Input("clip", self.fine.input_shape)
        return Input("frame", (1, 3, self.fine_side, self.fine_side), "frame")

    def state(self, name: str) -> Input:
        """A state, or another vector that parts of the step pass on, as an input."""
        if name == "v_coarse":
            width = self.coarse_features
        else:
            width = self.coarse_width if "coarse" in name else self.fine_width
        return Input(name, (1, width), "state")

    @property
    def composed(self) -> bool:
        """Whether the graph has control flow and is put together of parts."""
        return self.part in ("step", "clip")

    @property
    def signature(self) -> Signature:
        """Inputs, outputs and states of the part."""
        side, picture = self.coarse_side, self.picture
        thumbnail = Input("thumbnail", (1, 3, side, side), "thumbnail")
        if self.part == "coarse":
            return Signature((replace(thumbnail, kind="frame"),), ("v_coarse",))
        if self.part == "fine":
            return Signature((picture,), ("v_fine",))
        if self.part in STEP_PARTS:
            pictures = {"look": (thumbnail,), "read": (picture,)}.get(self.part, ())
            given, made = self.passed(self.part)
            return Signature((*pictures, *map(self.state, given)), made)
        if self.part == "step":
            following = tuple(f"{name}_next" for name in self.states)
            inputs = (picture, thumbnail, *map(self.state, self.states))
            pairs = tuple(map(State, self.states, following))
            return Signature(inputs, ("logits", "gate", *following), pairs)
        frames = Input("frames", (self.steps, *picture.shape[1:]), "video")
        thumbnails = Input("thumbnails", (self.steps, *thumbnail.shape[1:]), "thumbnail")
        return Signature((frames, thumbnails), ("logits", "reads" if self.budget else "gates"))

    def passed(self, part: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Tensors that a part of the step takes from others, beside its picture, and makes.

        `h_coarse` is the state before the step, `h_coarse_next` after it; likewise the others.
        """
        cell = CELLS[self.cell]
        kinds = ("h", "c") if cell.uses_cell else ("h",)
        synced = tuple(f"{kind}_coarse_next" for kind in kinds)
        after = tuple(f"{kind}_fine_next" for kind in kinds)
        needed = tuple(k for k, used in (("h", cell.uses_hidden), ("c", cell.uses_cell)) if used)
        seen = ("h_fine", "c_fine") if self.embed and cell.uses_cell else ("h_fine",)
        return {
            "look": (
                (*(f"{kind}_coarse" for kind in needed), *seen),
                ("v_coarse", "gate", *synced),
            ),
            "read": (("v_coarse", *(f"{kind}_fine" for kind in needed)), after),
            "skip": ((*synced, *(f"{kind}_fine" for kind in kinds)), after),
            "answer": (("h_fine_next",), ("logits",)),
        }[part]

    def initialise(self, network: nn.Module, feeds: list[Feeds], seed: int) -> None:
        """Draw weights."""
        from models import liteeval_graph  # it knows this file

        liteeval_graph.draw(self, network, feeds, seed)

    def compose(self, network: nn.Module, feeds: list[Feeds], folder: Path) -> Path:
        """Write the quantized graph of a step or clip."""
        from models import liteeval_graph  # it knows this file

        return liteeval_graph.compose(self, network, feeds, folder)

    def build(self) -> nn.Module:
        """Make the module."""
        if self.part in ENCODERS:
            return FrameFeatures(self, self.part)
        return LiteEval(self)


class FrameFeatures(nn.Module):
    """An image network and its global average; [N, 3, H, W] → [N, features]."""

    def __init__(self, config: LiteEvalConfig, which: str):
        super().__init__()
        chosen = config.coarse if which == "coarse" else config.fine
        self.pool = None
        if isinstance(chosen, SlowFastConfig):
            self.backbone = replace(chosen, classes=0).build()
        else:
            self.backbone, self.pool = chosen.build(), nn.AdaptiveAvgPool2d(1)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Encode."""
        x = self.backbone(picture)
        return x if self.pool is None else self.pool(x).flatten(1)


def _embedding(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())


class LiteEval(nn.Module):
    """The step in four parts; `forward` is the part that the configuration names."""

    def __init__(self, config: LiteEvalConfig):
        super().__init__()
        self.config = config
        cell = CELLS[config.cell]
        vector, width = config.coarse_features, config.fine_width
        self.coarse, self.fine = (FrameFeatures(config, which) for which in ENCODERS)
        self.embed_coarse, self.embed_fine = nn.Identity(), nn.Identity()
        if config.embed:
            self.embed_coarse = _embedding(config.coarse.features, config.embed[0])
            self.embed_fine = _embedding(config.fine.features, config.embed[1])
        self.small: Cell = cell(vector, config.coarse_width)
        self.large: Cell = cell(vector + config.fine_features, width)
        seen = vector + width * (2 if config.embed and cell.uses_cell else 1)
        self.gate = nn.Linear(seen, 2, bias=config.embed is not None)
        self.classifier = nn.Linear(width, config.classes)

    def _given(self, part: str, tensors: Tensors) -> dict[str, torch.Tensor]:
        return dict(zip(self.config.passed(part)[0], tensors, strict=True))

    def look(self, thumbnail: torch.Tensor, *passed: torch.Tensor) -> Tensors:
        """Thumbnail and states → coarse vector, gate scores, the coarse cell's next state."""
        return self.look_at(self.coarse(thumbnail), *passed)

    def look_at(self, features: torch.Tensor, *passed: torch.Tensor) -> Tensors:
        """`look` from the coarse encoder's features on."""
        now = self._given("look", passed)
        vector = self.embed_coarse(features)
        h, c = self.small(vector, now.get("h_coarse"), now.get("c_coarse"))
        seen = [vector, *(now[name] for name in ("h_fine", "c_fine") if name in now)]
        gate = self.gate(torch.cat(seen, dim=1))
        return (vector, gate, h) if c is None else (vector, gate, h, c)

    def read(self, picture: torch.Tensor, *passed: torch.Tensor) -> Tensors:
        """Picture, coarse vector, fine state → the fine cell's next state."""
        return self.read_in(self.fine(picture), *passed)

    def read_in(self, features: torch.Tensor, *passed: torch.Tensor) -> Tensors:
        """`read` from the fine encoder's features on."""
        now = self._given("read", passed)
        x = torch.cat([now["v_coarse"], self.embed_fine(features)], dim=1)
        h, c = self.large(x, now.get("h_fine"), now.get("c_fine"))
        return (h,) if c is None else (h, c)

    def skip(self, *passed: torch.Tensor) -> Tensors:
        """Coarse state after the look, fine state → fine state whose first part is the coarse."""
        half, width = len(passed) // 2, self.config.coarse_width
        pairs = zip(passed[:half], passed[half:], strict=True)
        return tuple(torch.cat([coarse, fine[:, width:]], dim=1) for coarse, fine in pairs)

    def answer(self, h_fine: torch.Tensor) -> torch.Tensor:
        """Class scores."""
        return self.classifier(h_fine)

    def run_part(
        self,
        part: str,
        tensors: dict[str, torch.Tensor],
        *picture: torch.Tensor,
        run: Callable[..., torch.Tensor | Tensors] | None = None,
    ) -> None:
        """Run a part (or what stands for it) on the tensors of a step; they get what it makes."""
        given, made = self.config.passed(part)
        result = (run or getattr(self, part))(*picture, *(tensors[name] for name in given))
        tensors.update(zip(made, outputs_of(result), strict=True))

    def reads(self, gate: torch.Tensor) -> torch.Tensor:
        """Whether gate scores [N, 2] say "fine"."""
        return gate.argmax(dim=1) == self.config.fine_index

    def step(
        self, picture: torch.Tensor, thumbnail: torch.Tensor, *states: torch.Tensor
    ) -> Tensors:
        """Both pictures and all states → logits, gate scores, next states; one clip."""
        names = self.config.states
        tensors = dict(zip(names, states, strict=True))
        self.run_part("look", tensors, thumbnail)
        if bool(self.reads(tensors["gate"])):
            self.run_part("read", tensors, picture)
        else:
            self.run_part("skip", tensors)
        self.run_part("answer", tensors)
        following = (tensors[f"{name}_next"] for name in names)
        return (tensors["logits"], tensors["gate"], *following)

    def clip(self, frames: torch.Tensor, thumbnails: torch.Tensor) -> Tensors:
        """[steps, ...] pictures → logits and gate scores [steps, ...].

        With a budget: the last logits [1, classes] and the number of fine steps [1, 1].
        """
        config = self.config
        states = [torch.zeros(config.state(name).shape) for name in config.states]
        logits, gates, read = [], [], 0
        for t in range(config.steps):
            found, gate, *states = self.step(frames[t : t + 1], thumbnails[t : t + 1], *states)
            logits.append(found)
            gates.append(gate)
            read += int(self.reads(gate))
            if config.budget and read == config.budget:
                break
        if config.budget:
            return found, torch.full((1, 1), float(read))
        return torch.cat(logits), torch.cat(gates)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | Tensors:
        """Run the configured part."""
        return getattr(self, self.config.part)(*inputs)


SLOWFAST_8X8 = replace(
    R4,
    frames=32,
    side=256,
    slow_stride=4,
    lateral_kernel=7,
    lateral_norm=True,
    classes=400,
)
"""SlowFast-8x8 R50 (Kinetics-400), of which LiteEval takes the pooled vectors."""

FCVID = LiteEvalConfig()
ACTIVITYNET = replace(FCVID, coarse_width=64, fine_width=512, classes=200)
KINETICS = replace(FCVID, coarse_width=1024, fine_width=2048, classes=400)
CODE_EMBED = (512, 2048)
# Coarse and fine cells of 20 and 44: two and three lane blocks, the last ones ragged.
TINY = LiteEvalConfig(
    coarse=mobilenetv2.TINY_MOBILENETV2,
    fine=resnet.TINY_RESNET50,
    coarse_side=32,
    fine_side=64,
    coarse_width=20,
    fine_width=44,
    classes=11,
)
_TINY_SLOWFAST = replace(
    TINY_R4, frames=8, side=64, slow_stride=4, lateral_kernel=7, lateral_norm=True
)

_DATASETS = Option(
    "dataset",
    {
        name: {field: getattr(size, field) for field in ("coarse_width", "fine_width", "classes")}
        for name, size in (("fcvid", FCVID), ("activitynet", ACTIVITYNET), ("kinetics", KINETICS))
    },
    sizes=("paper",),
)
_FINE = {
    "paper": {"resnet101": resnet.RESNET101, "dpn107": dpn.DPN107, "slowfast": SLOWFAST_8X8},
    "tiny": {
        "resnet101": resnet.TINY_RESNET50,
        "dpn107": dpn.TINY_DPN107,
        "slowfast": _TINY_SLOWFAST,
    },
}


def _fine(size: str, *without: str) -> Option:
    kinds = {name: config for name, config in _FINE[size].items() if name not in without}
    return Option.field("fine", kinds, sizes=(size,))


_CELL = Option.field("cell", {name: name for name in CELLS})
_RULES = tuple(
    Option("rules", {"paper": {}, "code": {"embed": embed}}, sizes=(size,))
    for size, embed in (("paper", CODE_EMBED), ("tiny", (24, 40)))
)
_STEP = (_CELL, *_RULES, _DATASETS)
_ANY_FINE = (_fine("paper"), _fine("tiny"))
_FINE_FRAMES = (_fine("paper", "slowfast"), _fine("tiny", "slowfast"))
"""A clip's steps look at a frame each; SlowFast takes frames around it, as a step alone may."""
_BUDGET = Option.field("budget", {"none": 0, "3": 3, "5": 5, "9": 9})
_STEPS = (
    Option.field("steps", {"129": 129, "32": 32}, sizes=("paper",)),
    Option.field("steps", {"12": 12, "129": 129}, sizes=("tiny",)),
)


def _entry(
    name: str, description: str, part: str, options: tuple[Option, ...], **tiny: Any
) -> Entry:
    sizes = {"paper": replace(FCVID, part=part), "tiny": replace(TINY, part=part, **tiny)}
    weights = "liteeval" if part in ("step", "clip") else None
    return Entry(name, description, sizes, options, weights=weights)


ENTRIES = (
    _entry(
        "liteeval", "LiteEval, one step: If around the fine network", "step", (*_STEP, *_ANY_FINE)
    ),
    _entry(
        "liteeval_clip",
        "LiteEval over a clip: Loop around the step",
        "clip",
        (*_STEP, *_FINE_FRAMES, _BUDGET, *_STEPS),
        steps=12,
    ),
    _entry("liteeval_coarse", "LiteEval's coarse encoder, MobileNetV2 at 112×112", "coarse", ()),
    _entry("liteeval_fine", "LiteEval's fine encoder", "fine", _ANY_FINE),
)
