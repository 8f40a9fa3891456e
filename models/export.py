"""Write a network as a quantized ONNX file with recorded inputs and outputs beside it."""

import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from models import fsb
from models.data import load_clip, synthetic_clip
from models.errors import ModelsError
from models.initialise import initialise
from models.quantize import export_float, quantize
from models.reference import Reference

SIZES = ("paper", "tiny")
STEPS = ("clips", "initialise", "float ONNX", "quantize", "record")
FRAMES = (16, 64)
# Clips that shape the weights, and others that calibrate ranges. The last maps of `tiny` have
# four pixels: it takes many clips to know their statistics.
CLIPS = {"paper": (3, 5), "tiny": (32, 32)}
CLIPS_64_FRAMES = (2, 3)  # one layer of three clips takes 600 MB, and several are alive
RECORDED = 500  # offset of the recorded clip's seed: one that calibration has not seen

NETWORKS: dict[str, dict[str, fsb.C3dConfig]] = {
    "fsb_c3d": {"paper": fsb.FSB_C3D, "tiny": fsb.TINY_FSB_C3D},
    "fsb_c3d_r": {"paper": fsb.FSB_C3D_R, "tiny": fsb.TINY_FSB_C3D_R},
    "c3d": {"paper": fsb.C3D, "tiny": fsb.TINY_C3D},
    "c3d_fc": {"paper": fsb.C3D_FC, "tiny": fsb.TINY_C3D_FC},
}
DESCRIPTIONS = {
    "fsb_c3d": "C3D of fully separable blocks with TRG, inner widths as the paper prints them",
    "fsb_c3d_r": "the same with inner width 128 in conv3b (fits the paper's rates)",
    "c3d": "C3D, global average pooling and one linear layer",
    "c3d_fc": "C3D, linear layers 8192-4096-4096-101",
}


@dataclass(frozen=True)
class Exported:
    """What `export` wrote."""

    onnx: Path
    npz: Path
    sha256: str
    seconds: float


def config_of(name: str, size: str = "paper", frames: int | None = None) -> fsb.C3dConfig:
    """Look a network's configuration up.

    Raises
    ------
    ModelsError
        Unknown name or size, or a frame count that the network does not take.
    """
    if name not in NETWORKS:
        raise ModelsError(f"no network {name!r}; known: {', '.join(NETWORKS)}")
    if size not in SIZES:
        raise ModelsError(f"no size {size!r}; known: {', '.join(SIZES)}")
    config = NETWORKS[name][size]
    if frames is None or frames == config.frames:
        return config
    if size != "paper":
        raise ModelsError(f"size {size} has {config.frames} frames, not {frames}")
    if config.head == "fc":
        raise ModelsError(f"the linear head of {name} is made for 16 frames, not {frames}")
    if frames not in FRAMES:
        raise ModelsError(f"frames must be one of {FRAMES}, not {frames}")
    return replace(config, frames=frames)


def _clips(config: fsb.C3dConfig, first_seed: int, count: int) -> np.ndarray:
    """Synthetic clips of consecutive seeds, [count, 3, T, H, W]."""
    size = (config.frames, config.side, config.side)
    return np.concatenate([synthetic_clip(first_seed + n, *size) for n in range(count)])


def export(
    name: str,
    target: Path,
    size: str = "paper",
    frames: int | None = None,
    seed: int = 0,
    video: Path | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Exported:
    """Build, initialise, quantize and record one network.

    Parameters
    ----------
    name, size, frames : str, str, int
        See `config_of`.
    target : Path
        The ONNX file; recorded arrays go beside it with the suffix .npz, under the keys
        ``input:clip``, ``output:logits`` and ``output:<integer tensor behind the logits>``.
        Both appear only when everything has succeeded.
    seed : int
        Decides weights and clips.
    video : Path, optional
        A video file: joins the calibration, and its first frames become the recorded input.
    progress : callable
        Is told each of STEPS before it starts.

    Raises
    ------
    ModelsError
        A bad argument or an unreadable video.
    """
    start = time.perf_counter()
    config = config_of(name, size, frames)
    if seed < 0:
        raise ModelsError(f"seed must not be negative, not {seed}")
    if target.suffix != ".onnx":
        raise ModelsError(f"the output must be named *.onnx, not {target.name}")
    if not target.parent.is_dir():
        raise ModelsError(f"no folder {target.parent} to write to")
    progress("clips")
    first, count = CLIPS_64_FRAMES if config.frames == 64 else CLIPS[size]
    shaping = _clips(config, 1000 * seed, first)
    clips = _clips(config, 1000 * seed + first, count)
    if video is None:
        clip = _clips(config, 1000 * seed + RECORDED, 1)
    else:
        clip = load_clip(video, *config.input_shape[2:])
        clips = np.concatenate([clips, clip])
    progress("initialise")
    torch.manual_seed(seed)  # module constructors draw weights that `initialise` replaces
    network = fsb.C3dNetwork(config)
    initialise(network, torch.from_numpy(shaping), seed)
    # Beside the target, so that the final renames stay on one file system and are atomic.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        float_path, int_path = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        arrays_path = Path(folder) / "arrays.npz"
        progress("float ONNX")
        export_float(network, config.input_shape, float_path)
        progress("quantize")
        quantize(float_path, clips, int_path)
        progress("record")
        np.savez(arrays_path, **record(int_path, clip))
        target.with_suffix(".npz").unlink(missing_ok=True)  # never a pair of two exports
        int_path.replace(target)
        arrays_path.replace(target.with_suffix(".npz"))
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    return Exported(target, target.with_suffix(".npz"), digest, time.perf_counter() - start)


def record(path: Path, clip: np.ndarray) -> dict[str, np.ndarray]:
    """Run the integer reference on a clip and name inputs and outputs for the .npz."""
    reference = Reference(path)
    (input_name,) = reference.input_names
    keep = [*reference.output_names, *reference.integer_outputs()]
    results = reference.run({input_name: clip}, keep=keep)
    return {
        f"input:{input_name}": clip,
        **{f"output:{name}": results[name] for name in keep},
    }
