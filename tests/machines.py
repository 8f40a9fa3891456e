"""Configurations for tests that no preset has."""

from __future__ import annotations

import dataclasses

from hw.arch.config import SOFTMAX_TABLES, AcceleratorConfig


def plain(preset: str) -> AcceleratorConfig:
    """A preset without the features fold and attention, and with two tables."""
    config = AcceleratorConfig.load(preset)
    return dataclasses.replace(
        config,
        name=f"{config.name}_plain",
        memory=dataclasses.replace(config.memory, tables=2),
        features=tuple(f for f in config.features if f not in ("fold", "attention")),
    )


def folding(
    preset: str, *, attention: bool = True, weight_bits: int | None = None
) -> AcceleratorConfig:
    """A preset with the features fold and attention, and the tables that they need.

    Parameters
    ----------
    preset: name.
    attention: also with the path of activations to the weights.
    weight_bits: of the array, instead of the preset's.
    """
    config = plain(preset)
    features = ("fold", "attention") if attention else ("fold",)
    return dataclasses.replace(
        config,
        name=f"{preset}_folding",
        array=dataclasses.replace(
            config.array, weight_bits=weight_bits or config.array.weight_bits
        ),
        memory=dataclasses.replace(config.memory, tables=SOFTMAX_TABLES),
        features=(*config.features, *features),
    )
