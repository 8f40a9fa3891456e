"""Options that say how pixels become numbers."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from models.errors import ModelsError
from models.preprocessing import CROPS, ORDERS, Preprocessing
from sim.build import Build
from sim.errors import InputError
from sim.inputs import stored

FIELDS = tuple(field.name for field in dataclasses.fields(Preprocessing))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number, or three with commas") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; `chosen` reads them."""
    group = parser.add_argument_group(
        "pixels",
        "(pixel / scale - mean) / std; what is not given is as the build's preprocessing.json says",
    )
    group.add_argument("--mean", type=_numbers, metavar="A[,B,C]", help="one number or three")
    group.add_argument("--std", type=_numbers, metavar="A[,B,C]", help="one number or three")
    group.add_argument("--scale", type=float, help="default: 255")
    group.add_argument("--start", type=int, help="first frame; default: 0")
    group.add_argument("--stride", type=int, help="every so many frames; default: 1")
    group.add_argument(
        "--resize", type=int, help="shorter side before the crop; default: covers the input"
    )
    group.add_argument("--crop", choices=CROPS, help="default: center")
    group.add_argument("--order", choices=ORDERS, help="of colours; default: RGB")
    group.add_argument("--axes", help="of the input, e.g. NTCHW; default: as its shape tells")
    group.add_argument(
        "--codes", action="store_true", help="integers for a float input are codes, not pixels"
    )


def chosen(arguments: argparse.Namespace, build: Build) -> Preprocessing | None:
    """The build's preprocessing with what the options change; None if neither says anything.

    Raises
    ------
    InputError
        If options mean nothing, or change what is not known.
    """
    given: dict[str, Any] = {
        name: value for name in FIELDS if (value := getattr(arguments, name)) is not None
    }
    known = stored(build)
    if not given:
        return known
    try:
        if known is not None:
            return dataclasses.replace(known, **given)
        if not {"mean", "std"} <= set(given):
            raise InputError(
                f"--{next(iter(given))} needs --mean and --std too: the build has no "
                "preprocessing.json"
            )
        return Preprocessing(**given)
    except ModelsError as error:
        raise InputError(str(error)) from error
