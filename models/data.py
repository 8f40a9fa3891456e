"""Clips: seeded synthetic ones and real ones from a video file, normalised alike.

A clip is float32 ``[1, 3, T, H, W]`` in RGB order. Pixels 0..255 become
``(pixel / 255 - MEAN) / STD``, that is -2.0 .. 2.444, the convention of the public
SlowFast and 3D-ResNet code. Calibration, recorded inputs and user video all go through it.
"""

import dataclasses
from pathlib import Path

import numpy as np

from models.media import pictures
from models.preprocessing import Preprocessing

MEAN = 0.45
STD = 0.225
PREPROCESSING = Preprocessing((MEAN,), (STD,))
"""Of every network of this package that takes pictures."""


def normalise(pixels: np.ndarray) -> np.ndarray:
    """Map pixel values 0..255 to network input.

    Parameters
    ----------
    pixels: any shape, any real dtype, 0..255.

    Returns
    -------
    float32, same shape, in -2.0 .. 2.444.
    """
    return PREPROCESSING.apply(pixels[..., None])[..., 0]


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Spectrum of a 1/f texture, the statistics of natural images; complex [3, H, W/2+1]."""
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    radius[0, 0] = np.inf
    shared = np.fft.rfft2(rng.standard_normal((height, width)))
    tinted = np.fft.rfft2(rng.standard_normal((3, height, width)))
    spectrum: np.ndarray = (shared + 0.4 * tinted) / radius
    return spectrum


def _drift(spectrum: np.ndarray, shape: tuple[int, int], dy: float, dx: float) -> np.ndarray:
    """Shift a periodic texture by a fraction of a pixel; unit variance [3, H, W]."""
    height, width = shape
    phase = np.fft.fftfreq(height)[:, None] * dy + np.fft.rfftfreq(width)[None, :] * dx
    image = np.fft.irfft2(spectrum * np.exp(-2j * np.pi * phase), s=shape)
    result: np.ndarray = image / image.std()
    return result


def synthetic_clip(seed: int, frames: int, height: int, width: int) -> np.ndarray:
    """Make a natural-looking moving clip from a seed.

    A drifting 1/f background, a drifting grating and four textured discs that move and hide
    each other. White noise would do none of what calibration needs: neighbouring pixels and
    frames must correlate, or every temporal difference is as large as the picture itself.

    Parameters
    ----------
    seed: same seed and size, same bytes.
    frames, height, width: size of the clip.

    Returns
    -------
    float32 [1, 3, frames, height, width], normalised, pixels rounded to 0..255 first.
    """
    rng = np.random.default_rng([seed, frames, height, width])
    y, x = np.mgrid[0:height, 0:width]
    background, foreground = _texture(rng, height, width), _texture(rng, height, width)
    speed = rng.uniform(-0.015, 0.015, 2) * (height, width)
    angle, cycles, rate = rng.uniform(0, np.pi), rng.uniform(2, 8), rng.uniform(0.02, 0.15)
    tint = rng.uniform(0.2, 1.0, 3)[:, None, None]
    discs = [
        (
            rng.uniform(0, 1, 2) * (height, width),
            rng.uniform(-0.03, 0.03, 2) * (height, width),
            rng.uniform(0.08, 0.25) * min(height, width),
            rng.uniform(-2, 2, 3)[:, None, None],
        )
        for _ in range(4)
    ]
    clip = np.empty((3, frames, height, width))
    for t in range(frames):
        image = _drift(background, (height, width), *(speed * t))
        across = (x * np.cos(angle) / width + y * np.sin(angle) / height) * cycles
        image = image + 0.5 * tint * np.sin(2 * np.pi * (across + rate * t))
        texture = _drift(foreground, (height, width), *(-2 * speed * t))
        for start, velocity, radius, colour in discs:
            cy, cx = (start + velocity * t) % (height, width)
            inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
            image = np.where(inside, colour + 0.5 * texture, image)
        clip[:, t] = image
    low, high = np.percentile(clip, [0.03, 99.97])
    pixels = np.rint(np.clip((clip - low) / (high - low), 0, 1) * 255)
    return normalise(pixels)[None]


def load_clip(
    path: str | Path, frames: int, height: int, width: int, stride: int = 1
) -> np.ndarray:
    """Read the first frames of a video file as an input of this package's networks.

    Frames are scaled so that the shorter side fits (bicubic, FFmpeg's swscale) and cropped at
    the centre.

    Parameters
    ----------
    path: a file that FFmpeg can decode (mp4 and others).
    frames, height, width: size of the clip.
    stride: take every ``stride``-th decoded frame.

    Returns
    -------
    float32 [1, 3, frames, height, width], normalised.

    Raises
    ------
    ModelsError
        The file is missing, no video, or shorter than ``(frames - 1) * stride + 1`` frames.
    """
    how = dataclasses.replace(PREPROCESSING, stride=stride)
    found = pictures(Path(path), frames, height, width, 3, how)
    return how.apply(found.pixels).transpose(3, 0, 1, 2)[None]
