"""Samples of a network's inputs from a seed: for calibration, and to be recorded.

A network without states gets samples that have nothing to do with each other. One with states
gets the frames of a video in order, at few frames per second: scenes change after some steps,
or no decision would.
"""

import numpy as np
import torch
from torch import nn

from models.data import synthetic_clip
from models.network import Feeds, Input, Signature

SCENE = (2, 7)  # steps that a scene of a video lasts, from and below


def video(seed: int, steps: int, height: int, width: int) -> np.ndarray:
    """Frames of a video with cuts, float32 [steps, 3, height, width], normalised."""
    rng = np.random.default_rng([seed, steps])
    frames: list[np.ndarray] = []
    while len(frames) < steps:
        length = int(rng.integers(*SCENE))
        scene = synthetic_clip(int(rng.integers(1 << 31)), length, height, width)
        frames.extend(scene[0].swapaxes(0, 1))
    return np.stack(frames[:steps])


def tokens(seed: int, count: int, width: int) -> np.ndarray:
    """Vectors like those of an encoder on neighbouring frames, float32 [1, count, width].

    Means of maps after ReLU: not negative, and alike from frame to frame.
    """
    rng = np.random.default_rng([seed, count, width])
    steps = np.cumsum(0.3 * rng.standard_normal((count, width)), axis=0)
    return np.maximum(rng.standard_normal(width) + steps, 0).astype(np.float32)[None]


def thumbnail(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Scale a picture (of a clip [1, 3, T, H, W]: its middle frame) down to a shape."""
    if picture.ndim == 5:
        picture = picture[:, :, picture.shape[2] // 2]
    small = nn.functional.interpolate(torch.from_numpy(picture), shape[-2:], mode="area")
    result: np.ndarray = small.numpy()
    return result


def _sample(each: Input, seed: int, first: np.ndarray | None) -> np.ndarray:
    """One input of one sample; `first` is the sample's first input."""
    match each.kind:
        case "clip":
            return synthetic_clip(seed, *each.shape[2:])
        case "frame":
            return synthetic_clip(seed, 1, *each.shape[2:])[:, :, 0]
        case "video" if len(each.shape) == 5:
            clips = [synthetic_clip(seed + n, *each.shape[2:]) for n in range(each.shape[0])]
            return np.concatenate(clips)
        case "video":
            return video(seed, each.shape[0], *each.shape[2:])
        case "tokens" if len(each.shape) == 2:
            return tokens(seed, 1, each.shape[1])[:, 0]
        case "tokens":
            return tokens(seed, *each.shape[1:])
        case "thumbnail":
            assert first is not None
            return thumbnail(first, each.shape)
    raise ValueError(f"no samples of kind {each.kind!r} for input {each.name}")


def samples(signature: Signature, seed: int, count: int) -> list[Feeds]:
    """Make feeds of every input that is no state.

    Parameters
    ----------
    signature: of the network.
    seed: sample n of a network without states is a function of seed + n alone.
    count: samples; of a network with states, steps of one video.
    """
    given = [each for each in signature.inputs if each.kind != "state"]
    picture = given[0]
    if signature.states and picture.kind == "frame":
        firsts = list(video(seed, count, *picture.shape[2:])[:, None])
    else:
        firsts = [_sample(picture, seed + n, None) for n in range(count)]
    return [
        {picture.name: first} | {each.name: _sample(each, seed + n, first) for each in given[1:]}
        for n, first in enumerate(firsts)
    ]


def zero_states(signature: Signature) -> Feeds:
    """States before the first step."""
    states = [each for each in signature.inputs if each.kind == "state"]
    return {each.name: np.zeros(each.shape, np.float32) for each in states}


def tensors(signature: Signature, feeds: list[Feeds]) -> list[torch.Tensor]:
    """Samples as a batch, one tensor an input; states are zero."""
    zeros = zero_states(signature)
    return [
        torch.from_numpy(np.concatenate([zeros.get(e.name, f.get(e.name)) for f in feeds]))
        for e in signature.inputs
    ]


def outputs_of(result: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Results of a module as a tuple."""
    return result if isinstance(result, tuple) else (result,)


@torch.no_grad()
def roll(module: nn.Module, signature: Signature, feeds: list[Feeds]) -> list[Feeds]:
    """Add to each step's feeds the states that the module leaves from the steps before."""
    if not signature.states:
        return feeds
    states, complete = zero_states(signature), []
    for step in feeds:
        complete.append(step | states)
        inputs = [torch.from_numpy(complete[-1][each.name]) for each in signature.inputs]
        results = dict(zip(signature.outputs, outputs_of(module(*inputs)), strict=True))
        states = {pair.input: results[pair.output].numpy() for pair in signature.states}
    return complete
