"""PyTorch network → float ONNX → int8 ONNX (QDQ), the same bytes for the same seed.

The path of numerics.md section 1: torch.onnx.export (opset 17) → quant_pre_process →
quantize_static with U8 asymmetric activations, S8 symmetric weights per output channel and
int32 biases. Every operator type of the graph is quantized, also those that ONNX Runtime leaves
in float by default (Sub, ReduceMean), so that no activation stays in float.
"""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

OPSET = 17  # in 18 ReduceMean takes its axes as an input, and the exporter rewrites pools
INPUT = "clip"
OUTPUT = "logits"


# Ops whose output the quantizer gives the scale of their input: a range of their own is void.
_SAME_SCALE = ("Slice", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "MaxPool")
TAIL = 2e-4  # share of elements left outside the range on either side
_SMALL = 20_000  # fewer elements than this on all clips: extremes, not quantiles
_MARGIN = 0.03  # how far extremes are widened, for clips not seen
_SAMPLE = 500_000  # elements looked at per tensor and clip


class Clips(CalibrationDataReader):
    """Hands calibration clips to ONNX Runtime one at a time."""

    def __init__(self, name: str, clips: np.ndarray):
        self._feeds = iter([{name: clip[None]} for clip in clips])

    def get_next(self):
        """Feed of the next clip, or None after the last."""
        return next(self._feeds, None)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide what the exporter and the quantizer say about themselves on every call."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # quantize_static: "please consider pre-processing", though done
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            # We want the TorchScript exporter: the dynamo one rewrites average pools.
            warnings.filterwarnings("ignore", message="You are using the legacy TorchScript")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.onnx")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"onnxruntime")
            yield
    finally:
        root.setLevel(level)


def export_float(network: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    """Write a network as float ONNX with a fixed input shape."""
    with quiet():
        torch.onnx.export(
            network.eval(),
            (torch.zeros(shape),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            do_constant_folding=True,
        )


def _tail(values: list[np.ndarray], size: int) -> tuple[float, float]:
    """Range of a tensor from samples of each clip; `size` elements in all."""
    everything = np.concatenate(values)
    low, high = float(everything.min()), float(everything.max())
    if size < _SMALL:
        margin = _MARGIN * (high - low)
        return low - margin * (low < 0), high + margin
    inner = np.quantile(everything, [TAIL, 1 - TAIL])
    # A tensor with many equal extremes (a clipped picture) keeps them: they are its true ends.
    return float(min(inner[0], 0)), float(inner[1])


def ranges(path: Path, clips: np.ndarray) -> dict[str, tuple[float, float]]:
    """Range of each activation of a float ONNX file on calibration clips.

    All but a small share of the elements lie inside. The extremes of a large tensor are rare:
    a range that reaches them would leave most codes unused, and where a difference of two
    tensors spans exactly twice their range every odd result would be a rounding tie.

    Parameters
    ----------
    path : Path
        Float ONNX file with one input.
    clips : np.ndarray
        Float32 [N, 3, T, H, W].

    Returns
    -------
    dict
        Least and greatest real value by tensor name; 0 lies inside.
    """
    model = onnx.load(path)
    name = model.graph.input[0].name
    made = {
        value: None
        for node in model.graph.node
        if node.op_type not in (*_SAME_SCALE, "Constant")
        for value in node.output
    }
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=value) for value in made)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    samples: dict[str, list[np.ndarray]] = {value: [] for value in [name, *made]}
    sizes = dict.fromkeys(samples, 0)
    for clip in clips:
        tensors = [clip, *session.run(list(made), {name: clip[None]})]
        for value, tensor in zip(samples, tensors, strict=True):
            flat = tensor.reshape(-1)
            # An odd step, so that samples do not fall into step with rows and channels.
            samples[value].append(flat[:: (flat.size // _SAMPLE) | 1].copy())
            sizes[value] += flat.size
    return {value: _tail(several, sizes[value]) for value, several in samples.items()}


def quantize(float_path: Path, clips: np.ndarray, path: Path) -> None:
    """Quantize a float ONNX file after calibrating activation ranges on clips.

    Parameters
    ----------
    float_path : Path
        Float ONNX file with one input.
    clips : np.ndarray
        Float32 [N, 3, T, H, W], see `ranges`.
    path : Path
        Where to write the quantized file.
    """
    with tempfile.TemporaryDirectory() as folder, quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(float_path), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        overrides = {
            value: [{"rmin": np.float32(low), "rmax": np.float32(high)}]
            for value, (low, high) in ranges(prepared, clips).items()
        }
        quantize_static(
            str(prepared),
            str(path),
            # Every range is overridden; the quantizer insists on calibrating nevertheless.
            Clips(graph.input[0].name, clips[:1]),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=sorted({node.op_type for node in graph.node} - {"Constant"}),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"TensorQuantOverrides": overrides},
        )
    _canonicalise(path)


def _canonicalise(path: Path) -> None:
    """Make the bytes a function of the graph: fixed order, no tool's traces."""
    model = onnx.load(path)
    model.producer_name, model.producer_version, model.doc_string = "models", "", ""
    del model.metadata_props[:]
    graph = model.graph
    graph.name = "network"
    for entries in (graph.initializer, graph.value_info):
        ordered = sorted(entries, key=lambda entry: entry.name)
        del entries[:]
        entries.extend(ordered)
    ready = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    waiting, ordered_nodes = list(graph.node), []
    while waiting:  # stable topological order
        late = []
        for node in waiting:
            if all(name in ready or not name for name in node.input):
                node.doc_string = ""
                ordered_nodes.append(node)
                ready.update(node.output)
            else:
                late.append(node)
        if len(late) == len(waiting):
            raise RuntimeError(f"{path}: node {late[0].name} waits for an input nobody makes")
        waiting = late
    del graph.node[:]
    graph.node.extend(ordered_nodes)
    path.write_bytes(model.SerializeToString(deterministic=True))
