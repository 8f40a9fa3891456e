"""Write a network as a quantized ONNX file with recorded inputs and outputs beside it."""

import contextlib
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from models.data import PREPROCESSING, load_clip
from models.errors import ModelsError
from models.initialise import initialise
from models.network import Config, Feeds, Signature, is_composed
from models.preprocessing import beside
from models.quantgraph import UnsupportedGraph
from models.quantize import export_graph, quantize
from models.reference import Reference
from models.registry import entry
from models.samples import roll, samples, tensors, zero_states
from models.weights import load

STEPS = ("samples", "weights", "float ONNX", "quantize", "record")
# Samples that shape the weights, and others that calibrate ranges, by the least number of
# positions in the first input. One layer of three clips of 64 frames takes 600 MB, and several
# are alive; the last maps of `tiny` have four pixels: it takes many clips to know their
# statistics.
CLIPS = {"tiny": {0: (32, 32)}, "paper": {0: (8, 16), 100_000: (3, 5), 500_000: (2, 3)}}
VIDEOS = {"tiny": (3, 3), "paper": (1, 1)}  # of networks that take a whole video at once
RECORDED = 500  # offset of the recorded sample's seed: one that calibration has not seen
PICTURES = ("clip", "frame", "video")
"""Kinds of inputs whose preprocessing is written beside the network."""
RECORDED_STEPS = 4  # of a network with states


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes
    ----------
    onnx, npz: the network, and the arrays recorded from it.
    sha256: of the ONNX file.
    recorded_by: "oracle", or "onnxruntime" where the oracle has no definition of an operator.
    drawn: modules whose weights are drawn although a file was given: it never holds them.
    seconds: wall time of everything.
    """

    onnx: Path
    npz: Path
    sha256: str
    recorded_by: str
    drawn: tuple[str, ...]
    seconds: float


def config_of(
    name: str, size: str = "paper", variant: str = "", frames: int | None = None
) -> Config:
    """Look a network's configuration up.

    Raises
    ------
    ModelsError
        Unknown name, size or variant, or a frame count that the network does not take.
    """
    found = entry(name)
    config: Config = found.config(size, variant)
    if frames is None or frames == getattr(config, "frames", None):
        return config
    config = found.config(size, ",".join(filter(None, (variant, f"frames={frames}"))))
    return config


def sample_counts(signature: Signature, size: str) -> tuple[int, int]:
    """How many samples shape weights and how many calibrate."""
    if signature.inputs[0].kind == "video":
        return VIDEOS[size]
    shape = signature.inputs[0].shape
    positions = prod(shape[2:])
    counts = CLIPS[size]
    return counts[max(least for least in counts if least <= positions)]


def weighted(config: Config, size: str, seed: int) -> nn.Module:
    """Build a network and draw its weights from a seed."""
    signature = config.signature
    torch.manual_seed(seed)  # module constructors draw weights that `initialise` replaces
    network = config.build().eval()
    shaping = samples(signature, 1000 * seed, sample_counts(signature, size)[0])
    if is_composed(config):
        config.initialise(network, shaping, seed)
    else:
        initialise(network, tensors(signature, shaping), seed)
    return network


def _write(config: Config, network: nn.Module, feeds: list[Feeds], folder: Path) -> Path:
    """Export and quantize a network whose graph is a straight line."""
    signature = config.signature
    float_path, int_path = folder / "float.onnx", folder / "int8.onnx"
    export_graph(network, signature, float_path)
    ties = [(pair.input, pair.output) for pair in signature.states]
    quantize(float_path, feeds, int_path, network=network, ties=ties)
    return int_path


def declare_states(path: Path, signature: Signature) -> None:
    """Say in a file which output is which input of the next step.

    ONNX has no field for that: a property ``state:INPUT`` of the model names the output.
    """
    if not signature.states:
        return
    model = onnx.load(path)
    pairs = {f"state:{pair.input}": pair.output for pair in signature.states}
    onnx.helper.set_model_props(model, pairs)
    path.write_bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _threads(size: str) -> Iterator[None]:
    """One thread for tiny networks: more would wait for each other, and sum in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if size == "tiny" else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def export(
    name: str,
    target: Path,
    size: str = "paper",
    frames: int | None = None,
    seed: int = 0,
    video: Path | None = None,
    progress: Callable[[str], None] = lambda step: None,
    variant: str = "",
    weights: Path | None = None,
) -> Exported:
    """Build, initialise, quantize and record one network.

    Parameters
    ----------
    name, size, frames, variant: see `config_of`.
    target: the ONNX file; recorded arrays go beside it with the suffix .npz, see `record`, and how
        pixels become numbers with the suffix .preprocessing.json. They appear only when everything
        has succeeded.
    seed: decides weights and clips.
    video: a video file: joins the calibration, and its first frames become the recorded input.
    progress: is told each of STEPS before it starts.
    weights: state dict of the network's public release, in place of drawn weights.

    Raises
    ------
    ModelsError
        A bad argument, an unreadable video, or a state dict that does not fit.
    """
    start = time.perf_counter()
    config = config_of(name, size, variant, frames)
    if seed < 0:
        raise ModelsError(f"seed must not be negative, not {seed}")
    if target.suffix != ".onnx":
        raise ModelsError(f"the output must be named *.onnx, not {target.name}")
    if not target.parent.is_dir():
        raise ModelsError(f"no folder {target.parent} to write to")
    release = entry(name).weights
    if weights is not None and release is None:
        raise ModelsError(f"no public release of {name} is known, so --weights cannot be mapped")
    with _threads(size):
        job = _Job(config, target, size, seed, video, release, weights)
        recorded_by, drawn = _export(job, progress)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    seconds = time.perf_counter() - start
    npz = target.with_suffix(".npz")
    return Exported(target, npz, digest, recorded_by, tuple(drawn), seconds)


@dataclass(frozen=True)
class _Job:
    """Arguments of `export`, checked and looked up."""

    config: Config
    target: Path
    size: str
    seed: int
    video: Path | None
    release: str | None
    weights: Path | None


def _export(job: _Job, progress: Callable[[str], None]) -> tuple[str, list[str]]:
    """Do what `export` says; who recorded the outputs, and which modules' weights are drawn."""
    config, target, seed = job.config, job.target, job.seed
    signature = config.signature
    progress("samples")
    first, count = sample_counts(signature, job.size)
    feeds = samples(signature, 1000 * seed + first, count)
    steps = RECORDED_STEPS if signature.states else 1
    recorded = samples(signature, 1000 * seed + RECORDED, steps)
    if job.video is not None:
        recorded = _from_video(signature, job.video, steps)
        feeds = feeds + recorded
    progress("weights")
    network = weighted(config, job.size, seed)
    drawn: list[str] = []
    if job.weights is not None:
        assert job.release is not None
        drawn = load(job.release, config, network, job.weights)
    # Beside the target, so that the final renames stay on one file system and are atomic.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        progress("float ONNX")
        if is_composed(config):
            int_path = config.compose(network, feeds, Path(folder))
        else:
            int_path = _write(config, network, roll(network, signature, feeds), Path(folder))
        declare_states(int_path, signature)
        progress("record")
        arrays_path = Path(folder) / "arrays.npz"
        recorded_by, arrays = record(int_path, signature, recorded)
        # By savez's types any keyword could be its option allow_pickle.
        np.savez(arrays_path, **cast(dict[str, Any], arrays))
        target.with_suffix(".npz").unlink(missing_ok=True)  # never a pair of two exports
        beside(target).unlink(missing_ok=True)
        int_path.replace(target)
        if any(each.kind in PICTURES for each in signature.inputs):
            PREPROCESSING.save(beside(target))
        arrays_path.replace(target.with_suffix(".npz"))
    return recorded_by, drawn


def _from_video(signature: Signature, path: Path, steps: int) -> list[Feeds]:
    """Recorded feeds from the first frames of a video file."""
    given = [each for each in signature.inputs if each.kind != "state"]
    picture = given[0]
    if picture.kind not in ("clip", "frame") or len(given) > 1:
        raise ModelsError(f"input {picture.name} is not taken from a video alone")
    if picture.kind == "clip":
        return [{picture.name: load_clip(path, *picture.shape[2:])}]
    clip = load_clip(path, steps, *picture.shape[2:])
    return [{picture.name: np.ascontiguousarray(clip[:, :, t])} for t in range(steps)]


class OrtRunner:
    """ONNX Runtime without optimizations: what the file says, node by node."""

    def __init__(self, path: Path):
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        self.output_names = [each.name for each in self._session.get_outputs()]

    def integer_outputs(self) -> list[str]:
        """None: inner tensors are not handed out."""
        return []

    def run(self, feeds: Feeds, keep: list[str]) -> dict[str, np.ndarray]:
        """Outputs of the graph."""
        return dict(zip(keep, self._session.run(keep, feeds), strict=True))


@dataclass(frozen=True)
class Recording:
    """A file's inputs and outputs, step by step, and who computed the outputs."""

    by: str
    inputs: list[Feeds]
    outputs: list[dict[str, np.ndarray]]


def _run(by: str, runner: Any, signature: Signature, feeds: list[Feeds]) -> Recording:
    """Run every step; states go from one to the next."""
    keep = [*runner.output_names, *runner.integer_outputs()]
    states = zero_states(signature)
    inputs: list[Feeds] = []
    outputs: list[dict[str, np.ndarray]] = []
    for step in feeds:
        inputs.append(step | states)
        outputs.append(runner.run(inputs[-1], keep=keep))
        states = {pair.input: outputs[-1][pair.output] for pair in signature.states}
    return Recording(by, inputs, outputs)


def record(
    path: Path, signature: Signature, feeds: list[Feeds]
) -> tuple[str, dict[str, np.ndarray]]:
    """Run a file on feeds and name inputs and outputs for the .npz.

    Returns
    -------
    Who ran it, "oracle" or "onnxruntime", and the arrays: ``input:<name>`` and ``output:<name>``
    (graph outputs, and the integer tensors behind them where the oracle ran). With states: of the
    last step, the states as that step found them; and ``steps:input:<name>``,
    ``steps:output:<name>`` of all steps from zero states on, along a new first axis.
    """
    try:
        recording = _run("oracle", Reference(path), signature, feeds)
    except UnsupportedGraph:  # the oracle has no definition of an operator of the file
        recording = _run("onnxruntime", OrtRunner(path), signature, feeds)
    arrays = {f"input:{name}": array for name, array in recording.inputs[-1].items()}
    arrays |= {f"output:{name}": array for name, array in recording.outputs[-1].items()}
    if signature.states:
        for kind, several in (("input", recording.inputs), ("output", recording.outputs)):
            for name in several[0]:
                arrays[f"steps:{kind}:{name}"] = np.stack([each[name] for each in several])
    return recording.by, arrays
