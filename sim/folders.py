"""A folder of single images, for a network that takes fewer of them at once: a run for each.

A network with an axis of time takes a folder as one clip (`sim.inputs`); one without takes its
images one after the other, or as many together as its batch has.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from models import media
from models.errors import ModelsError
from models.preprocessing import Preprocessing
from sim.answers import Answer
from sim.build import Build
from sim.errors import InputError
from sim.inputs import axes_of, only_input, preprocessing

COLUMNS = ("image", "output", "rank", "index", "label", "value")


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """What one run takes of a folder.

    Attributes
    ----------
    name: file name of its first image.
    images: all of its files.
    source: what the run reads: the image, or the folder of which `how` chooses.
    how: how pixels become numbers, and which images of the folder.
    """

    name: str
    images: tuple[Path, ...]
    source: Path
    how: Preprocessing


def parts(build: Build, source: Path, how: Preprocessing | None) -> tuple[Part, ...]:
    """The runs that a folder of images asks for, from ``start`` on, every ``stride``-th image.

    Returns
    -------
    () if the folder is a single input: a clip, or as many images as the network takes at once.

    Raises
    ------
    InputError
        The images are no multiple of those that the network takes at once.
    """
    if not source.is_dir():
        return ()
    port = only_input(build, source)
    how = preprocessing(build, port, how)
    axes = axes_of(port, how)
    if "T" in axes:
        return ()
    together = port.shape[axes.index("N")] if "N" in axes else 1
    try:
        files = media.images(source)[how.start :: how.stride]
    except ModelsError as error:
        raise InputError(str(error)) from error
    if len(files) <= together:
        return ()
    if len(files) % together:
        raise InputError(
            f"{source}: {len(files)} images, and input {port.name!r} takes {together} at once, of "
            "which they are no multiple"
        )
    if together == 1:
        single = dataclasses.replace(how, start=0, stride=1)
        return tuple(Part(path.name, (path,), path, single) for path in files)
    return tuple(
        Part(
            files[first].name,
            tuple(files[first : first + together]),
            source,
            dataclasses.replace(how, start=how.start + first * how.stride),
        )
        for first in range(0, len(files), together)
    )


def digest(found: Sequence[Part]) -> str:
    """Eight hexadecimal digits of the images' contents and of how they become numbers.

    Raises
    ------
    InputError
        An image cannot be read.
    """
    hashed = hashlib.sha256()
    for part in found:
        hashed.update(f"{part.how} {[path.name for path in part.images]} ".encode())
        for path in part.images:
            try:
                hashed.update(path.read_bytes())
            except OSError as error:
                raise InputError(f"cannot read {path}: {error.strerror}") from error
    return hashed.hexdigest()[:8]


def name_of(source: Path, found: Sequence[Part]) -> str:
    """Of the folder that holds the runs, behind the backend's name."""
    stem = re.sub(r"[^\w.-]+", "_", source.resolve().name)
    return f"{stem}-{digest(found)}"


def write_table(path: Path, found: Sequence[tuple[Part, Sequence[Answer]]]) -> None:
    """The answers of every image as CSV, a row for each value (`COLUMNS`).

    Raises
    ------
    InputError
        The file cannot be written.
    """
    rows = [
        (
            part.images[max(answer.item, 0)].name,
            answer.output,
            rank,
            " ".join(map(str, entry.index)),
            entry.label,
            f"{entry.value:.9g}",
        )
        for part, answers in found
        for answer in answers
        for rank, entry in enumerate(answer.entries, 1)
    ]
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
