"""What a network is to the exporter: inputs, outputs, states, sizes and options.

A new network is one file. It holds a configuration (a frozen dataclass with `signature` and
`build`), the module that it builds, and `ENTRIES`, the names under which the commands offer it;
registry.py lists the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
from torch import nn

from models.errors import ModelsError

SIZES = ("paper", "tiny")

Feeds = dict[str, np.ndarray]


@dataclass(frozen=True)
class Input:
    """A graph input, float32.

    Attributes
    ----------
    name: in the graph.
    shape: without free axes.
    kind: how samples of it are made (samples.py): "clip" [1, 3, T, H, W]; "frame" [1, 3, H, W] of a
        video that goes on from step to step; "thumbnail", the same picture as the first input at
        this input's size; "tokens" [1, T, C] or [1, C], features of frames; "state", an output
        of the step before.
    """

    name: str
    shape: tuple[int, ...]
    kind: str = "clip"


@dataclass(frozen=True)
class State:
    """An output that is an input of the next step; zeros before the first."""

    input: str
    output: str


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a network's graph, in order, and which belong together."""

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...] = ("logits",)
    states: tuple[State, ...] = ()

    @classmethod
    def clip(cls, frames: int, side: int) -> "Signature":
        """A clip in, logits out."""
        return cls((Input("clip", (1, 3, frames, side, side)),))


class Config(Protocol):
    """A network at one size, every choice made."""

    @property
    def signature(self) -> Signature:
        """Inputs, outputs and states."""
        ...

    def build(self) -> nn.Module:
        """Make the module; it takes the inputs and returns the outputs, in order."""
        ...

    def __hash__(self) -> int:
        """Configurations are frozen; counts are kept by them."""
        ...


class Composed(Config, Protocol):
    """A network whose graph is put together of parts, with control flow between them."""

    def initialise(self, network: nn.Module, feeds: list[Feeds], seed: int) -> None:
        """Draw weights."""
        ...

    def compose(self, network: nn.Module, feeds: list[Feeds], folder: Path) -> Path:
        """Write the quantized graph."""
        ...


def is_composed(config: Config) -> TypeGuard[Composed]:
    """Whether a configuration composes its graph itself; others are straight lines."""
    return bool(getattr(config, "composed", False))


@dataclass(frozen=True)
class Option:
    """A choice that ``--variant KEY=VALUE`` makes.

    Attributes
    ----------
    key: its name on the command line.
    values: fields of the configuration by value; the first value is the default.
    sizes: at which the choice exists.
    """

    key: str
    values: Mapping[str, Mapping[str, Any]]
    sizes: tuple[str, ...] = SIZES

    @classmethod
    def field(cls, key: str, values: Mapping[str, Any], sizes: tuple[str, ...] = SIZES) -> "Option":
        """An option that sets the field of its own name."""
        return cls(key, {text: {key: value} for text, value in values.items()}, sizes)


@dataclass(frozen=True)
class Entry:
    """A network that the commands know by name.

    Attributes
    ----------
    name, description: as `list` prints them.
    sizes: configuration by size.
    options: choices that it leaves open.
    combinations: variants of several options that belong to the family's variants, beside each
        value alone.
    weights: which public release's state dicts fit (weights.py).
    """

    name: str
    description: str
    sizes: Mapping[str, Any]
    options: tuple[Option, ...] = ()
    combinations: tuple[str, ...] = ()
    weights: str | None = None

    def option(self, key: str, size: str) -> Option:
        """An option that exists at a size.

        Raises
        ------
        ModelsError
            There is none of that key, or not at that size.
        """
        named = [option for option in self.options if option.key == key]
        for option in named:
            if size in option.sizes:
                return option
        if named:
            raise ModelsError(f"{self.name} takes no {key} at size {size}")
        known = ", ".join(dict.fromkeys(option.key for option in self.options)) or "none"
        raise ModelsError(f"{self.name} has no option {key!r}; options: {known}")

    def config(self, size: str = "paper", variant: str = "") -> Any:
        """Look the configuration of a size and variant up.

        Parameters
        ----------
        size: "paper" or "tiny".
        variant: comma-separated ``key=value``; empty: every option at its default.

        Raises
        ------
        ModelsError
            Unknown size, option or value, or values that exclude each other.
        """
        if size not in SIZES:
            raise ModelsError(f"no size {size!r}; known: {', '.join(SIZES)}")
        fields: dict[str, Any] = {}
        for part in filter(None, variant.split(",")):
            key, _, value = part.partition("=")
            option = self.option(key, size)
            if value not in option.values:
                raise ModelsError(
                    f"{key} of {self.name} must be one of {', '.join(option.values)}, not {value!r}"
                )
            fields |= option.values[value]
        try:
            return replace(self.sizes[size], **fields)
        except ValueError as error:
            raise ModelsError(f"{self.name} with {variant}: {error}") from error

    def variants(self, size: str = "paper") -> list[str]:
        """Every variant: none, each option's other values alone, the listed combinations."""
        alone = [
            f"{option.key}={value}"
            for option in self.options
            if size in option.sizes
            for value in list(option.values)[1:]
        ]
        return ["", *alone, *self.combinations]
