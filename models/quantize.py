"""PyTorch network → float ONNX → int8 ONNX (QDQ), the same bytes for the same seed.

The path is torch.onnx.export (opset 17) → quant_pre_process → quantize_static with U8 asymmetric
activations, S8 symmetric weights per output channel and int32 biases. Every operator type of the
graph is quantized, also those that ONNX Runtime leaves in float by default (Sub, ReduceMean), so
that no activation stays in float; except inside a norm that ONNX has no operator for, whose
float subgraph is one operation from its input to its output. Softmax has scale 1/256, which
holds 1 - 1/256 and every smaller multiple exactly.
"""

import contextlib
import copy
import io
import itertools
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
from torch.nn.utils.fusion import fuse_linear_bn_eval

from models.errors import ModelsError
from models.layers import UnbiasedLayerNorm
from models.network import Input, Signature
from models.ranges import SAME_SCALE, Feeds, Scale, concat_ties, disjoint, ranges, union

OPSET = 17  # in 18 ReduceMean takes its axes as an input, and the exporter rewrites pools
INPUT = "clip"
OUTPUT = "logits"

_SOFTMAX = (0.0, 255 / 256)


class Samples(CalibrationDataReader):
    """Hands feeds to ONNX Runtime one at a time."""

    def __init__(self, feeds: Iterable[Feeds]):
        self._feeds = iter(feeds)

    def get_next(self) -> Feeds | None:
        """The next feeds, or None after the last."""
        return next(self._feeds, None)


class Clips(Samples):
    """Hands the clips of an array to ONNX Runtime, as the input of that name."""

    def __init__(self, name: str, clips: np.ndarray):
        super().__init__({name: clip[None]} for clip in clips)


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
            # Shapes are fixed: a branch on one is part of the network.
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.onnx")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"onnxruntime")
            yield
    finally:
        root.setLevel(level)


def folded(network: nn.Module) -> nn.Module:
    """A copy in which batch norms behind linear layers are part of them.

    The exporter folds those behind convolutions itself.
    """
    network = copy.deepcopy(network).eval()
    for chain in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        for number, (first, second) in enumerate(itertools.pairwise(list(chain))):
            if isinstance(first, nn.Linear) and isinstance(second, nn.BatchNorm1d):
                chain[number] = fuse_linear_bn_eval(first, second)
                chain[number + 1] = nn.Identity()
    return network


def export_graph(network: nn.Module, signature: Signature, path: Path) -> None:
    """Write a network as float ONNX with fixed shapes."""
    with quiet():
        torch.onnx.export(
            folded(network),
            tuple(torch.zeros(each.shape) for each in signature.inputs),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[each.name for each in signature.inputs],
            output_names=list(signature.outputs),
            do_constant_folding=True,
        )


def export_float(network: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    """Write a network of one clip and logits as float ONNX."""
    export_graph(network, Signature((Input(INPUT, shape),), (OUTPUT,)), path)


def _inside_norms(network: nn.Module, graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes of norms that stay float."""
    inside = []
    for name, module in network.named_modules():
        if isinstance(module, UnbiasedLayerNorm):
            # The exporter writes list elements as `blocks.0` and everything else as a path.
            scope = "/" + name.replace(".", "/") + "/"
            nodes = [n.name for n in graph.node if n.name.replace(".", "/").startswith(scope)]
            if not nodes:
                raise RuntimeError(f"no node of the exported graph belongs to norm {name}")
            inside += nodes
    return inside


def _overrides(
    prepared: Path,
    feeds: list[Feeds],
    ties: Iterable[tuple[str, ...]],
    pinned: Mapping[str, Scale],
) -> dict[str, list[dict[str, Any]]]:
    """Range or scale of every tensor, in the quantizer's words."""
    graph = onnx.load(prepared).graph
    found = ranges(prepared, feeds)
    fixed = {n.output[0]: _SOFTMAX for n in graph.node if n.op_type == "Softmax"}
    free = {name: each for name, each in found.items() if name not in {*fixed, *pinned}}
    found |= fixed
    union(found, disjoint([*ties, *concat_ties(graph, free)]))
    overrides: dict[str, list[dict[str, Any]]] = {
        name: [{"rmin": np.float32(low), "rmax": np.float32(high)}]
        for name, (low, high) in found.items()
    }
    for name, (scale, zero) in pinned.items():
        given = {"scale": np.array(scale, np.float32), "zero_point": np.array(zero, np.uint8)}
        overrides[name] = [{**given, "quant_type": QuantType.QUInt8}]
    # Per channel, onnxruntime 1.31 fails on scales of more than one axis (ValueError).
    norm_scales = [n.input[1] for n in graph.node if n.op_type == "LayerNormalization"]
    return overrides | {name: [{"quant_type": QuantType.QInt8}] for name in norm_scales}


def quantize(
    float_path: Path,
    feeds: Iterable[Feeds],
    path: Path,
    *,
    network: nn.Module | None = None,
    ties: Iterable[tuple[str, ...]] = (),
    pinned: Mapping[str, Scale] | None = None,
) -> None:
    """Quantize a float ONNX file after calibrating activation ranges on samples.

    Parameters
    ----------
    float_path: float ONNX file.
    feeds: samples of its inputs, see `ranges`.
    path: where to write the quantized file.
    network: what was exported: tells which norms stay float.
    ties: tensors that share a range: a state as input and as output.
    pinned: scale and zero point that are given, by tensor name.
    """
    feeds = list(feeds)
    with tempfile.TemporaryDirectory() as folder, quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(float_path), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        norms = _inside_norms(network, graph) if network is not None else []
        overrides = _overrides(prepared, feeds, ties, pinned or {})
        quantize_static(
            str(prepared),
            str(path),
            # Every range is overridden; the quantizer insists on calibrating nevertheless.
            Samples(feeds[:1]),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=sorted({node.op_type for node in graph.node} - {"Constant"}),
            nodes_to_exclude=norms,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "TensorQuantOverrides": overrides,
                # A move of a graph input is a move of codes, too.
                "ForceQuantizeNoInputCheck": True,
            },
        )
    canonicalise(path)


def quantize_file(
    float_path: Path,
    samples: Sequence[Path],
    path: Path,
    states: Iterable[tuple[str, ...]] = (),
) -> None:
    """Quantize a float ONNX file with samples from archives.

    Parameters
    ----------
    samples: arrays of every input by ``input:NAME`` or ``NAME``.
    states: inputs and outputs that share a scale.

    Raises
    ------
    ModelsError
        An archive cannot be read, or lacks an input.
    """
    graph = onnx.load(float_path).graph
    constants = {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input if value.name not in constants]
    known = {*names, *(value.name for value in graph.output)}
    for name in (name for pair in states for name in pair):
        if name not in known:
            raise ModelsError(
                f"the graph has no input or output {name}: {', '.join(sorted(known))}"
            )
    feeds = []
    for sample in samples:
        try:
            arrays = np.load(sample)
            keys = {n: f"input:{n}" if f"input:{n}" in arrays else n for n in names}
            feeds.append({name: arrays[key] for name, key in keys.items()})
        except (KeyError, OSError, ValueError) as error:
            raise ModelsError(f"{sample} does not hold the inputs {names}: {error}") from error
    makers = {name: node for node in graph.node for name in node.output}

    def moved(name: str) -> str:
        """The tensor whose range a tensor has: moves keep it."""
        while (node := makers.get(name)) is not None and node.op_type in (*SAME_SCALE, "Identity"):
            name = node.input[0]
        return name

    ties = [tuple(map(moved, pair)) for pair in states]
    quantize(float_path, feeds, path, ties=ties)


def canonicalise(path: Path) -> None:
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
