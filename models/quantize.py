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


class _Clips(CalibrationDataReader):
    """Hands calibration clips to ONNX Runtime one at a time."""

    def __init__(self, name: str, clips: np.ndarray):
        self._feeds = iter([{name: clip[None]} for clip in clips])

    def get_next(self):
        return next(self._feeds, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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
    with _quiet():
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


def quantize(float_path: Path, clips: np.ndarray, path: Path) -> None:
    """Quantize a float ONNX file after calibrating activation ranges on clips.

    Parameters
    ----------
    float_path : Path
        Float ONNX file with one input.
    clips : np.ndarray
        Float32 [N, 3, T, H, W]. The range of an activation is the mean over the clips of each
        clip's smallest and largest value (see `_ranges_over_clips`).
    path : Path
        Where to write the quantized file.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(float_path), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        quantize_static(
            str(prepared),
            str(path),
            _Clips(graph.input[0].name, clips),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=sorted({node.op_type for node in graph.node} - {"Constant"}),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
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
