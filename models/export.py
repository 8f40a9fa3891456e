"""Write a network as a quantized ONNX file with recorded inputs and outputs beside it."""

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
FRAMES = (16, 64)
CALIBRATION_CLIPS = 3
# Recorded clips use seeds far from the calibration clips': ranges must hold on unseen input.
RECORDED_SEED = 1_000_000

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


def _clips(config: fsb.C3dConfig, seed: int, video: Path | None) -> np.ndarray:
    """Calibration clips [N, 3, T, H, W]: synthetic, and one more from a video if given."""
    size = (config.frames, config.side, config.side)
    clips = [synthetic_clip(seed + n, *size) for n in range(CALIBRATION_CLIPS)]
    if video is not None:
        clips.append(load_clip(video, *size))
    return np.concatenate(clips)


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
        Is told each step before it starts.

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
    clips = _clips(config, seed, video)
    progress("initialise")
    torch.manual_seed(seed)  # module constructors draw weights that `initialise` replaces
    network = fsb.C3dNetwork(config)
    initialise(network, torch.from_numpy(clips), seed)
    # Beside the target, so that the final renames stay on one file system and are atomic.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        float_path, int_path = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        arrays_path = Path(folder) / "arrays.npz"
        progress("float ONNX")
        export_float(network, config.input_shape, float_path)
        progress("quantize")
        quantize(float_path, clips, int_path)
        progress("record")
        if video is None:
            clip = synthetic_clip(RECORDED_SEED + seed, *config.input_shape[2:])
        else:
            clip = clips[-1:]
        np.savez(arrays_path, **record(int_path, clip))
        target.with_suffix(".npz").unlink(missing_ok=True)  # never a pair of two exports
        int_path.replace(target)
        arrays_path.replace(target.with_suffix(".npz"))
    return Exported(target, target.with_suffix(".npz"), time.perf_counter() - start)


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
