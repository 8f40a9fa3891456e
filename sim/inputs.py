"""What a user brings to a run: arrays, images, videos and folders, as arrays by the graph's names.

One rule for names: an archive holds ``NAME`` or ``input:NAME`` for every input that is read, and
``output:NAME`` are passed over (`sim.build.named_inputs`); a state that is not given holds its
initial value. A single array, an image, a folder or a
video belongs to the only input that is read.

Nothing is guessed about numbers. Pixels become reals by a `Preprocessing`, which lies in the build
folder or is given; integers for a float input are pixels if one is known, and codes only if the
user says so.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.program import Input
from models import media
from models.errors import ModelsError
from models.preprocessing import Preprocessing
from sim import host
from sim.build import Arrays, Build, named_inputs, read_npz
from sim.errors import InputError

LAYOUTS: Mapping[int, tuple[str, ...]] = {
    3: ("CHW", "HWC"),
    4: ("NCHW", "NHWC"),
    5: ("NCTHW", "NTCHW", "NTHWC"),
}
"""Orders of axes in which pictures are looked for, by rank."""
RECORDED = "recorded"


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """Inputs of a run.

    Attributes
    ----------
    arrays: by the graph's names, as the file types them.
    source: the file or folder; ``recorded`` for the recorded run.
    notes: how each input was made of it, for people, by input.
    preprocessing: how pixels became numbers; None where there were none.
    """

    arrays: Arrays
    source: str
    notes: Mapping[str, str]
    preprocessing: Preprocessing | None = None

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits of names and values."""
        hashed = hashlib.sha256()
        for name, value in sorted(self.arrays.items()):
            hashed.update(f"{name} {value.dtype} {value.shape} ".encode())
            hashed.update(np.ascontiguousarray(value).tobytes())
        return hashed.hexdigest()[:8]

    def record(self) -> dict[str, Any]:
        """For run.json."""
        how = self.preprocessing
        return {
            "source": self.source,
            "digest": self.digest,
            "notes": dict(self.notes),
            "shapes": {name: list(value.shape) for name, value in self.arrays.items()},
            "preprocessing": None if how is None else dataclasses.asdict(how),
        }


def stored(build: Build) -> Preprocessing | None:
    """The preprocessing that the build folder holds, if it does.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    if not build.preprocessing.is_file():
        return None
    try:
        return Preprocessing.load(build.preprocessing)
    except ModelsError as error:
        raise InputError(str(error)) from error


def given(
    build: Build,
    source: Path | None = None,
    how: Preprocessing | None = None,
    codes: bool = False,
) -> Given:
    """Inputs of a run: the recorded ones, or those of a file or folder.

    Parameters
    ----------
    source: ``.npz`` with an array per input; ``.npy``, image, video or folder of images for the
        only input; None: the recorded run.
    how: from pixels to numbers; None: as the build folder says.
    codes: integers for a float input are codes of its quantizer.

    Raises
    ------
    InputError
        If it does not fit; names source and input, and expected and given shapes.
    """
    if source is None:
        return Given(build.inputs(), RECORDED, {})
    if not source.exists():
        raise InputError(f"no input file {source}")
    how = how or stored(build)
    try:
        if media.is_media(source):
            return _pictures(build, source, how)
        if source.suffix == ".npz":
            arrays = named_inputs(read_npz(source), build.program)
        elif source.suffix == ".npy":
            arrays = {only_input(build, source).name: _npy(source)}
        else:
            raise InputError(
                "no kind of input that is known: .npz, .npy, an image "
                f"({' '.join(media.IMAGES)}), a video ({' '.join(media.VIDEOS)}) or a folder of "
                "images"
            )
        return _arrays(build, source, arrays, how, codes)
    except (InputError, ModelsError) as error:
        words = str(error)
        raise InputError(words if words.startswith(str(source)) else f"{source}: {words}") from None


def only_input(build: Build, source: Path) -> Input:
    """The only input that is read.

    Raises
    ------
    InputError
        There are several, or none; names them.
    """
    states = build.initial_states()
    ports = [port for port in build.program.inputs if port.used and port.name not in states]
    if len(ports) != 1:
        raise InputError(
            f"one {'folder' if source.is_dir() else source.suffix} does not fit the inputs "
            + ", ".join(f"{port.name!r} of shape {list(port.shape)}" for port in ports)
            + "; give an .npz archive with an array for each"
        )
    return ports[0]


def _npy(source: Path) -> npt.NDArray[Any]:
    try:
        with source.open("rb") as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise InputError(f"not an .npy array: {error}") from error


# Arrays -----------------------------------------------------------------------------------


def _arrays(
    build: Build, source: Path, arrays: Arrays, how: Preprocessing | None, codes: bool
) -> Given:
    result = build.initial_states()
    notes = {}
    used = None
    for port in build.program.inputs:
        if port.name not in arrays:
            continue
        value = arrays[port.name]
        note = f"{value.dtype} {list(value.shape)}"
        integers = value.dtype in (np.uint8, np.int8) and port.dtype == "float32"
        if integers and (codes or value.dtype == np.int8):  # pixels are never negative
            value = host.as_reals(build.program, port, _batched(value, port))
            note += ", codes of its quantizer"
        elif integers and value.dtype == np.uint8 and how is not None:
            used, value = how, _as_pixels(value, port, how)
            note += f", pixels: {how.numbers}"
        elif integers:
            raise InputError(
                f"input {port.name!r} must be float32, and the array is {value.dtype}: say what it "
                "holds, with --mean and --std (pixels), or with --codes"
            )
        else:
            value = _batched(value, port)
        host.check(port, value)
        result[port.name] = np.asarray(value, order="C")
        notes[port.name] = note
    return Given(result, str(source), notes, used)


def _batched(value: npt.NDArray[Any], port: Input) -> npt.NDArray[Any]:
    """With the leading axis of one that the graph has and the array lacks."""
    return value[None] if port.shape[:1] == (1,) and value.shape == port.shape[1:] else value


def _as_pixels(value: npt.NDArray[Any], port: Input, how: Preprocessing) -> npt.NDArray[np.float32]:
    """A uint8 array of the input's shape, or of pictures [picture, H, W, channel], normalised."""
    axes = axes_of(port, how)
    value = _batched(value, port)
    if value.shape == port.shape:
        at = axes.index("C")
        return np.moveaxis(how.apply(np.moveaxis(value, at, -1)), -1, at)
    sizes = dict(zip(axes, port.shape, strict=True))
    count = sizes.get("N", 1) * sizes.get("T", 1)
    shape = (count, sizes["H"], sizes["W"], sizes["C"])
    if value.shape not in (shape, shape[1:] if count == 1 else shape):
        raise InputError(
            f"input {port.name!r} must have shape {list(port.shape)}, or {list(shape)} (channels "
            f"last), not {list(value.shape)}"
        )
    return _arranged(how.apply(value.reshape(shape)), port, axes)


# Pictures ---------------------------------------------------------------------------------


def axes_of(port: Input, how: Preprocessing) -> str:
    """Which axes of an input are channels, time and space.

    Raises
    ------
    InputError
        If its shape does not tell.
    """
    rank = len(port.shape)
    if how.axes:
        if len(how.axes) != rank or not set("CHW") <= set(how.axes):
            raise InputError(
                f"axes {how.axes} do not fit {port.name!r} of shape {list(port.shape)}"
            )
        return how.axes
    fits = [a for a in LAYOUTS.get(rank, ()) if port.shape[a.index("C")] in (1, 3)]
    if len(fits) != 1:
        why = "has no axis of 1 or 3 channels" if not fits else f"may be {' or '.join(fits)}"
        raise InputError(
            f"input {port.name!r} of shape {list(port.shape)} {why}; say which axis is which with "
            "--axes, or give an .npz archive"
        )
    return fits[0]


def preprocessing(build: Build, port: Input, how: Preprocessing | None) -> Preprocessing:
    """How pixels become the numbers of an input: as given, or as the build folder says.

    Raises
    ------
    InputError
        Neither says anything, and the input is not pixels as they are.
    """
    how = how or stored(build)
    if how is None and np.dtype(port.dtype) == np.uint8:
        return Preprocessing((0.0,), (1.0,), scale=1.0)
    if how is None:
        raise InputError(
            "how do pixels become numbers? The build has no preprocessing.json: give --mean and "
            "--std, e.g. --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 for "
            "(pixel / 255 - mean) / std"
        )
    return how


def _pictures(build: Build, source: Path, how: Preprocessing | None) -> Given:
    port = only_input(build, source)
    typed = np.dtype(port.dtype)
    how = preprocessing(build, port, how)
    axes = axes_of(port, how)
    sizes = dict(zip(axes, port.shape, strict=True))
    items, frames = sizes.get("N", 1), sizes.get("T", 1)
    if items > 1 and frames > 1:
        raise InputError(f"input {port.name!r} takes {items} clips at once; give an .npz archive")
    found = media.pictures(source, items * frames, sizes["H"], sizes["W"], sizes["C"], how)
    if typed == np.uint8:
        if how.numbers != "pixel":
            raise InputError(f"input {port.name!r} takes pixels as they are, not {how.numbers}")
        value: npt.NDArray[Any] = _arranged(found.pixels, port, axes)
    elif typed == np.float32:
        value = _arranged(how.apply(found.pixels), port, axes)
    else:
        raise InputError(f"input {port.name!r} is {port.dtype}: pictures do not fit")
    host.check(port, value)
    size = f"{how.crop} crop of a side of {how.resize}" if how.resize else f"{how.crop} crop"
    note = (
        f"{found.chosen}, {size} to {sizes['H']}×{sizes['W']}, "
        f"{how.order if sizes['C'] == 3 else 'grey'}, {axes}, {how.numbers}"
    )
    arrays = build.initial_states() | {port.name: value}
    return Given(arrays, str(source), {port.name: note}, how)


def _arranged(pictures: npt.NDArray[Any], port: Input, axes: str) -> npt.NDArray[Any]:
    """[picture, H, W, C] in the order of an input's axes."""
    sizes = dict(zip(axes, port.shape, strict=True))
    shape = [sizes.get("N", 1), sizes.get("T", 1), sizes["H"], sizes["W"], sizes["C"]]
    assert math.prod(shape) == pictures.size
    ordered = pictures.reshape(shape)
    kept = [i for i, letter in enumerate("NTHWC") if letter in axes]
    ordered = ordered.reshape([shape[i] for i in kept])
    letters = "".join("NTHWC"[i] for i in kept)
    return np.ascontiguousarray(ordered.transpose([letters.index(letter) for letter in axes]))
