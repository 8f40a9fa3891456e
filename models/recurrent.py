"""Recurrent cells as networks of one step: what enters and leaves as state stays where it is.

A vector of features in, class scores out; h and c are states, outputs of the step before. Files
hold the cell written out (cells.py), which a quantizer quantizes, with one scale on both sides of
a state, and say which output is which input.
"""

from dataclasses import dataclass

import torch
from torch import nn

from models.cells import CELLS
from models.network import Entry, Input, Option, Signature, State


@dataclass(frozen=True)
class RecurrentConfig:
    """One cell and a classifier.

    Attributes
    ----------
    cell: "lstm", "gru" or "sru".
    inputs, width, classes: sizes of the features, of the state and of the answer.
    """

    cell: str
    inputs: int
    width: int
    classes: int

    @property
    def states(self) -> tuple[str, ...]:
        """Of h and c those that the cell reads again."""
        kind = CELLS[self.cell]
        used = (("h", kind.uses_hidden), ("c", kind.uses_cell))
        return tuple(name for name, needed in used if needed)

    @property
    def signature(self) -> Signature:
        """Features and states in, scores and states out."""
        states = tuple(Input(name, (1, self.width), "state") for name in self.states)
        following = tuple(f"{name}_next" for name in self.states)
        return Signature(
            (Input("features", (1, self.inputs), "tokens"), *states),
            ("logits", *following),
            tuple(State(name, f"{name}_next") for name in self.states),
        )

    def build(self) -> nn.Module:
        """Make the module."""
        return Recurrent(self)


class Recurrent(nn.Module):
    """One step; [N, inputs] and the states → [N, classes] and the states."""

    def __init__(self, config: RecurrentConfig):
        super().__init__()
        self.names = config.states
        self.cell = CELLS[config.cell](config.inputs, config.width)
        self.classifier = nn.Linear(config.width, config.classes)

    def forward(self, features: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Take a step."""
        given = dict(zip(self.names, states, strict=True))
        h, c = self.cell(features, given.get("h"), given.get("c"))
        made = {"h": h, "c": c}
        return (self.classifier(h), *(made[name] for name in self.names))


_PAPER = RecurrentConfig("lstm", 1280 + 2048, 2048, 239)  # LiteEval's fine cell on FCVID
_TINY = RecurrentConfig("lstm", 20, 22, 7)

ENTRIES = (
    Entry(
        "recurrent",
        "a cell and a classifier, one step: the states stay on the accelerator",
        {"paper": _PAPER, "tiny": _TINY},
        (Option.field("cell", {name: name for name in CELLS}),),
    ),
)
