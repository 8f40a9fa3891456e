"""Pictures of video files, image files and folders of images, decoded by FFmpeg."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.errors import ModelsError
from models.preprocessing import Preprocessing

if TYPE_CHECKING:
    import av

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".gif", ".ts", ".wmv")


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures as a network takes them, not yet normalised.

    Attributes
    ----------
    pixels: uint8 ``[picture, H, W, channel]``.
    chosen: what was taken, for people: frames of a video, or names of images.
    """

    pixels: npt.NDArray[np.uint8]
    chosen: str


def is_media(path: Path) -> bool:
    """Whether a path is a folder, or called like an image or a video."""
    return path.is_dir() or path.suffix.lower() in (*IMAGES, *VIDEOS)


def pictures(
    path: Path, count: int, height: int, width: int, channels: int, how: Preprocessing
) -> Pictures:
    """Read pictures.

    Parameters
    ----------
    path: a video file, an image file, or a folder of images (frames in the order of their names).
    count: of pictures, from `how.start` on, every `how.stride`-th.
    height, width: size to make.
    channels: 3, or 1 for grey.
    how: which pictures, and how they are brought to size; colours in its order.

    Raises
    ------
    ModelsError
        The file is missing or cannot be decoded, or there are too few pictures.
    """
    if channels not in (1, 3):
        raise ModelsError(f"a picture has 1 or 3 channels, the input {channels}")
    if path.is_dir():
        files = images(path)
        chosen_files = files[how.start :: how.stride][:count]
        taken = [_fit(next(_frames(p)), height, width, channels, how) for p in chosen_files]
        seen = len(files)
    else:
        taken = []
        seen = 0
        for frame in _frames(path):
            at = seen - how.start
            seen += 1
            if at >= 0 and at % how.stride == 0:
                taken.append(_fit(frame, height, width, channels, how))
            if len(taken) == count:
                break
    if len(taken) < count:
        needed = how.start + (count - 1) * how.stride + 1
        raise ModelsError(
            f"{path} has {seen} frames; {count} frames at stride {how.stride} "
            f"need {needed}" + (f" from {how.start} on" if how.start else "")
        )
    if path.is_dir():
        names = [p.name for p in chosen_files]
        chosen = f"{names[0]} … {names[-1]}" if len(names) > 1 else names[0]
        chosen = f"{chosen} ({count} of {len(files)} images)"
    elif path.suffix.lower() in IMAGES:
        chosen = "the image"
    else:
        last = how.start + (count - 1) * how.stride
        chosen = f"frames {how.start} to {last}" if count > 1 else f"frame {how.start}"
        chosen += f", every {how.stride}." if count > 1 and how.stride > 1 else ""
    return Pictures(np.stack(taken), chosen)


def images(folder: Path) -> list[Path]:
    """Image files of a folder, in the order of their names.

    Raises
    ------
    ModelsError
        There is none.
    """
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES)
    if not found:
        raise ModelsError(f"{folder} holds no images ({', '.join(IMAGES)})")
    return found


def _frames(path: Path) -> Iterator[av.VideoFrame]:
    """Decoded frames of a video, or the picture of an image."""
    import av  # here, because only users of pictures need FFmpeg

    if not path.is_file():
        raise ModelsError(f"no video file {path}")
    seen = False
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ModelsError(f"{path} holds no video stream")
            for frame in container.decode(video=0):
                seen = True
                yield frame
    except av.FFmpegError as error:
        raise ModelsError(f"cannot decode {path}: {error}") from error
    if not seen:
        raise ModelsError(f"{path} holds no frame")


def _fit(
    frame: av.VideoFrame, height: int, width: int, channels: int, how: Preprocessing
) -> npt.NDArray[np.uint8]:
    """A frame at the size that is asked for (bicubic, FFmpeg's swscale); uint8 [H, W, C]."""
    if how.crop == "stretch":
        tall, wide = height, width
    else:
        cover = max(height / frame.height, width / frame.width)
        scale = how.resize / min(frame.height, frame.width) if how.resize else cover
        if scale < cover * (1 - 1e-9):
            raise ModelsError(
                f"a shorter side of {how.resize} does not cover the input of {height}×{width}"
            )
        tall = max(height, round(frame.height * scale))
        wide = max(width, round(frame.width * scale))
    kind = {1: "gray", 3: "rgb24" if how.order == "RGB" else "bgr24"}[channels]
    image: Any = frame.reformat(width=wide, height=tall, format=kind, interpolation="BICUBIC")
    top, left = (tall - height) // 2, (wide - width) // 2
    array = np.asarray(image.to_ndarray(), np.uint8).reshape(tall, wide, channels)
    return array[top : top + height, left : left + width]
