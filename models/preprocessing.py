"""How pixels become numbers: written beside a network, and read by whatever feeds it.

``NAME.preprocessing.json`` lies beside ``NAME.onnx``; the compiler keeps it in the build folder.
A file holds the fields of `Preprocessing` by name; a field that is missing has its default, except
`mean` and `std`, which every file names.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import ModelsError

SUFFIX = ".preprocessing.json"
CROPS = ("center", "stretch")
ORDERS = ("RGB", "BGR")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """From pixels 0..255 to a network's input: ``(pixel / scale - mean) / std``.

    Attributes
    ----------
    mean, std: one number, or one per channel.
    scale: what a pixel is divided by first.
    start, stride: the first frame, and how many decoded frames there are from one to the next.
    resize: length of a picture's shorter side before the crop; 0: that of the smallest picture that
        covers the input.
    crop: ``center``, or ``stretch``: the whole picture, its proportions lost.
    order: of the channels.
    axes: of the input, a permutation of letters of ``NCTHW``; "" to see them in its shape.

    Raises
    ------
    ModelsError
        A value that means nothing.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 255.0
    start: int = 0
    stride: int = 1
    resize: int = 0
    crop: str = CROPS[0]
    order: str = ORDERS[0]
    axes: str = ""

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        rules = (
            (len(self.mean) in (1, 3), "mean must be one number or three"),
            (len(self.std) in (1, 3), "std must be one number or three"),
            (all(np.isfinite([*self.mean, *self.std, self.scale])), "numbers must be finite"),
            (all(value > 0 for value in self.std), "std must be positive"),
            (self.scale > 0, "scale must be positive"),
            (self.start >= 0, f"start must not be negative, not {self.start}"),
            (self.stride >= 1, f"stride must be at least 1, not {self.stride}"),
            (self.resize >= 0, f"resize must not be negative, not {self.resize}"),
            (self.crop in CROPS, f"crop must be {' or '.join(CROPS)}, not {self.crop!r}"),
            (self.order in ORDERS, f"order must be {' or '.join(ORDERS)}, not {self.order!r}"),
            (
                len(set(self.axes)) == len(self.axes) and set(self.axes) <= set("NCTHW"),
                f"axes must be letters of NCTHW, each once, not {self.axes!r}",
            ),
        )
        for holds, message in rules:
            if not holds:
                raise ModelsError(message)

    @property
    def numbers(self) -> str:
        """The formula, for people."""

        def shown(values: tuple[float, ...]) -> str:
            words = ", ".join(f"{value:g}" for value in values)
            return words if len(values) == 1 else f"({words})"

        scaled = "pixel" if self.scale == 1 else f"pixel / {self.scale:g}"
        if set(self.mean) == {0.0} and set(self.std) == {1.0}:
            return scaled
        return f"({scaled} - {shown(self.mean)}) / {shown(self.std)}"

    def apply(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Pixels, channels last in the network's order, as float32 of the same shape.

        Raises
        ------
        ModelsError
            If the numbers are of another count of channels.
        """
        channels = pixels.shape[-1]
        for values in (self.mean, self.std):
            if len(values) not in (1, channels):
                raise ModelsError(f"{len(values)} numbers for {channels} channels")
        unit = pixels.astype(np.float32) / np.float32(self.scale)
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return np.asarray((unit - mean) / std, np.float32)

    def save(self, path: Path) -> None:
        """Write a file."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Preprocessing:
        """Read a file.

        Raises
        ------
        ModelsError
            If it cannot be read, or holds a field that is unknown or no value of its kind.
        """
        try:
            content = json.loads(path.read_text())
        except OSError as error:
            raise ModelsError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise ModelsError(f"{path} is no JSON file: {error}") from error
        if not isinstance(content, dict):
            raise ModelsError(f"{path} holds no object of fields")
        try:
            return cls(**{name: _typed(name, value) for name, value in content.items()})
        except ModelsError as error:
            raise ModelsError(f"{path}: {error}") from error
        except TypeError as error:
            raise ModelsError(f"{path}: mean and std must be given") from error


def _typed(name: str, value: Any) -> Any:
    """The value of a field as its type has it."""
    kinds = {field.name: str(field.type) for field in dataclasses.fields(Preprocessing)}
    if name not in kinds:
        raise ModelsError(f"no field {name!r}; there are {', '.join(kinds)}")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    match kinds[name]:
        case "float" if number:
            return float(value)
        case "int" if number and isinstance(value, int):
            return value
        case "str" if isinstance(value, str):
            return value
        case "tuple[float, ...]":
            several = value if isinstance(value, list) else [value]
            if several and all(
                isinstance(v, (int, float)) and not isinstance(v, bool) for v in several
            ):
                return tuple(float(v) for v in several)
    raise ModelsError(f"{name} is {value!r}, which is no {kinds[name]}")


def beside(onnx: Path) -> Path:
    """Where the preprocessing of a network is written."""
    return onnx.with_name(onnx.stem + SUFFIX)
