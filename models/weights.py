"""State dicts of public releases: names mapped, everything that does not fit listed.

A release is a list of rules from its names to those here. Every entry of a file must be used,
and every tensor of the network must come from the file, with the same shape; what a release is
known not to hold (LiteEval's files have no image networks) keeps the drawn weights and is said.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.backbones import mobilenetv2, seresnext
from models.errors import ModelsError

Change = Callable[[torch.Tensor, Any], torch.Tensor]
StateDict = dict[str, torch.Tensor]

_LISTED = 12  # entries that a message names
_UNUSED = "num_batches_tracked"
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")


@dataclass(frozen=True)
class Rule:
    r"""Entries whose whole name matches `pattern` are called `name` here (with \1 and so on).

    `change` makes the tensor fit, given it and the configuration.
    """

    pattern: str
    name: str
    change: Change = lambda tensor, config: tensor


@dataclass(frozen=True)
class Release:
    """A public release.

    Attributes
    ----------
    rules: by configuration; the first that matches counts.
    drawn: modules that its files never hold.
    """

    rules: Callable[[Any], list[Rule]]
    drawn: tuple[str, ...] = ()


def _c3d(_config: Any) -> list[Rule]:
    """Both namings of the public PyTorch C3D: by layer, and by place in a sequence."""
    convs = {
        "features.0": "conv1",
        "features.3": "conv2",
        "features.6": "conv3a",
        "features.8": "conv3b",
        "features.11": "conv4a",
        "features.13": "conv4b",
        "features.16": "conv5a",
        "features.18": "conv5b",
    }
    linear = {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"}
    rules = [Rule(r"(conv\d[ab]?)\.(\w+)", r"convs.\1.\2"), Rule(r"(fc[678]\.\w+)", r"\1")]
    rules += [Rule(rf"{re.escape(old)}\.(\w+)", rf"convs.{new}.\1") for old, new in convs.items()]
    return rules + [Rule(rf"{re.escape(old)}\.(\w+)", rf"{new}.\1") for old, new in linear.items()]


def _slowfast(_config: Any) -> list[Rule]:
    """The public UCF-101 SlowFast."""
    layers = {
        "conv1": "inner.0.0",
        "bn1": "inner.0.1",
        "conv2": "inner.2.0",
        "bn2": "inner.2.1",
        "conv3": "pointwise.0",
        "bn3": "pointwise.1",
        r"downsample\.0": "projection.0",
        r"downsample\.1": "projection.1",
    }
    rules = [
        Rule(r"(slow|fast)_conv1\.(\w+)", r"\1_stem.0.\2"),
        Rule(r"(slow|fast)_bn1\.(\w+)", r"\1_stem.1.\2"),
        Rule(r"lateral_p1\.(\w+)", r"lateral.0.0.\1"),
        Rule(r"fc\.weight", "fc.weight"),
    ]
    for stage in range(4):
        rules.append(Rule(rf"lateral_res{stage + 2}\.(\w+)", rf"lateral.{stage + 1}.0.\1"))
        rules += [
            Rule(rf"(slow|fast)_res{stage + 2}\.(\d+)\.{old}\.(\w+)", rf"\1.{stage}.\2.{new}.\3")
            for old, new in layers.items()
        ]
    return rules


def _resnet3d(_config: Any) -> list[Rule]:
    """The layout here is the release's."""
    return [Rule(r"((?:conv1|bn1|layer\d|fc)\..+)", r"\1")]


def _heads(weight: torch.Tensor, _config: Any) -> torch.Tensor:
    """[heads, width, width / heads] → [width, width] as a linear layer has it."""
    return weight.permute(0, 2, 1).reshape(-1, weight.shape[1])


def _vtn_encoder(config: Any) -> list[Rule]:
    """The image network, which the release numbers as a sequence named `resnet`."""
    to = "encoder.backbone"
    if isinstance(config.encoder, seresnext.SEResNeXtConfig):
        return [Rule(r"resnet\.(\d)\.(.+)", rf"{to}.layer\1.\2")]
    if not isinstance(config.encoder, mobilenetv2.MobileNetV2Config):
        stages = [Rule(rf"resnet\.{n + 3}\.(.+)", rf"{to}.layer{n}.\1") for n in range(1, 5)]
        stem = [
            Rule(rf"resnet\.{n}\.(\w+)", rf"{to}.{m}.\1") for n, m in enumerate(("conv1", "bn1"))
        ]
        return [*stem, *stages]
    # The first block has no expansion; the others' parts are numbered through.
    first = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}
    others = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}
    blocks = [
        Rule(rf"resnet\.1\.conv\.{old}\.(\w+)", rf"{to}.features.1.conv.{new}.\1")
        for old, new in first.items()
    ]
    blocks += [
        Rule(rf"resnet\.(\d+)\.conv\.{old}\.(\w+)", rf"{to}.features.\1.conv.{new}.\2")
        for old, new in others.items()
    ]
    return [*blocks, Rule(r"resnet\.(\d+)\.([01])\.(\w+)", rf"{to}.features.\1.\2.\3")]


def _vtn(config: Any) -> list[Rule]:
    """The release of VTN; names inside its attention are those of the code it descends from."""
    source, to = r"self_attention_decoder\.layers\.(\d+)", r"decoder.blocks.\1"
    squeeze: Change = lambda tensor, _config: tensor.squeeze(-1)  # noqa: E731
    position: Change = lambda tensor, cfg: tensor.reshape(-1, cfg.width)  # noqa: E731
    rules = [
        *_vtn_encoder(config),
        Rule(r"reduce_conv\.(\w+)", r"encoder.reduce.\1"),
        Rule(r"self_attention_decoder\.position_encoding\..+", "decoder.position", position),
        Rule(r"fc\.(\w+)", r"decoder.fc.\1"),
    ]
    for short, name in (("q", "query"), ("k", "key"), ("v", "value")):
        rules.append(
            Rule(rf"{source}\.slf_attn\.w_{short}s", rf"{to}.attention.{name}.weight", _heads)
        )
    for old, new in (("slf_attn", "norm1"), ("pos_ffn", "norm2")):
        for part, name in (("a_2", "weight"), ("b_2", "bias")):
            rules.append(Rule(rf"{source}\.{old}\.layer_norm\.{part}", rf"{to}.{new}.{name}"))
    for number, name in (("1", "expand"), ("2", "project")):
        pattern = rf"{source}\.pos_ffn\.w_{number}"
        rules.append(Rule(rf"{pattern}\.weight", rf"{to}.{name}.weight", squeeze))
        rules.append(Rule(rf"{pattern}\.bias", rf"{to}.{name}.bias"))
    if config.part in ("encoder", "decoder"):  # the part is the network itself
        prefix = f"{config.part}."
        rules = [Rule(r.pattern, r.name.removeprefix(prefix), r.change) for r in rules]
    return rules


def _liteeval(_config: Any) -> list[Rule]:
    """The public FCVID code: cells, gate and classifier; features are files there."""
    rules = [
        Rule(r"proj_mlp\.([01])\.(\w+)", r"embed_fine.\1.\2"),
        Rule(r"small_proj_mlp\.([01])\.(\w+)", r"embed_coarse.\1.\2"),
        Rule(r"linear\.(\w+)", r"gate.\1"),
        Rule(r"classifier\.(\w+)", r"classifier.\1"),
    ]
    for cell in ("small", "large"):
        for kind, name in (("ih", "input"), ("hh", "hidden")):
            rules.append(Rule(rf"{cell}_rnn\.(weight|bias)_{kind}", rf"{cell}.{name}.\1"))
    return rules


RELEASES: dict[str, Release] = {
    "c3d": Release(_c3d),
    "slowfast": Release(_slowfast),
    "resnet3d": Release(_resnet3d),
    "vtn": Release(_vtn),
    "liteeval": Release(_liteeval, drawn=("coarse", "fine")),
}


def read(path: Path) -> StateDict:
    """Read a state dict; wrappers of training scripts and data parallelism are taken off.

    Raises
    ------
    ModelsError
        No such file, or it holds no state dict.
    """
    if not path.is_file():
        raise ModelsError(f"no file {path}")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have their own
        raise ModelsError(f"{path} is no state dict of torch: {error}") from error
    for wrapper in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not all(map(torch.is_tensor, found.values())):
        raise ModelsError(f"{path} holds no state dict: a name and a tensor each")
    return {name.removeprefix("module."): tensor for name, tensor in found.items()}


def _rename(name: str, rules: list[Rule]) -> tuple[str, Change] | None:
    for rule in rules:
        match = re.fullmatch(rule.pattern, name)
        if match:
            return match.expand(rule.name), rule.change
    return None


class _Placing:
    """Entries of a file on their way into a network."""

    def __init__(self, rules: list[Rule], own: StateDict):
        self.rules, self.own = rules, own
        self.children = {name.split(".")[0] for name in own}
        self.taken: StateDict = {}
        self.problems: list[str] = []

    def place(self, name: str, tensor: torch.Tensor, config: Any) -> None:
        """Take an entry, or note why not; one of a module that the network lacks is passed over."""
        renamed = _rename(name, self.rules)
        if renamed is None:
            self.problems.append(f"{name} has no place in the network")
            return
        target, change = renamed
        if target not in self.own:
            # A file of the whole network fits a part of it.
            if target.split(".")[0] in self.children:
                self.problems.append(f"{name} would be {target}, which the network does not have")
            return
        try:
            changed = change(tensor, config)
        except (RuntimeError, IndexError) as error:
            shape = list(tensor.shape)
            self.problems.append(f"{name} of shape {shape} cannot become {target}: {error}")
            return
        theirs, ours = list(changed.shape), list(self.own[target].shape)
        if theirs != ours:
            self.problems.append(f"{name} has shape {theirs}, the network's {target} {ours}")
        self.taken[target] = changed


def load(release: str, config: Any, network: nn.Module, path: Path) -> list[str]:
    """Put a release's state dict into a network, in place.

    Parameters
    ----------
    release: one of RELEASES.
    config: what `network` was built from.
    network: what takes the weights.
    path: of the state dict.

    Returns
    -------
    Modules that keep their drawn weights, because the release does not hold them.

    Raises
    ------
    ModelsError
        Lists every entry that has no place here, another shape, or is missing.
    """
    known = RELEASES[release]
    own = {n: t for n, t in network.state_dict().items() if not n.endswith(_UNUSED)}
    placing = _Placing(known.rules(config), own)
    for name, tensor in read(path).items():
        if not name.endswith(_UNUSED):
            placing.place(name, tensor, config)
    kept = own.keys() - placing.taken.keys()
    drawn = {target.split(".")[0] for target in kept} & set(known.drawn)
    problems = placing.problems + [
        f"{target} is not in the file" for target in kept if target.split(".")[0] not in drawn
    ]
    if problems:
        listed = "\n  ".join(sorted(problems)[:_LISTED])
        more = len(problems) - _LISTED
        rest = f"\n  and {more} more" if more > 0 else ""
        raise ModelsError(f"{path} does not fit, {len(problems)} mismatches:\n  {listed}{rest}")
    network.load_state_dict(placing.taken, strict=False)
    return sorted(drawn)
