"""Import of ONNX files: the graph, or every reason why there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import onnx

from compiler.frontend.importer import Importer
from compiler.frontend.inline import inline
from compiler.frontend.model import FileError, Model, Unsupported, label, read
from compiler.frontend.qoperator import QOPERATORS
from compiler.ir import Graph, verify

__all__ = ["FileError", "Imported", "Unsupported", "import_model", "import_onnx"]

HOW = (
    "Quantize it to int8 first, e.g. onnxruntime.quantization.quantize_static(in, out, "
    "calibration_reader, quant_format=QuantFormat.QDQ, per_channel=True, "
    "activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8) after "
    "onnxruntime.quantization.shape_inference.quant_pre_process(in, prepared)"
)
HOW_TO_QUANTIZE = (
    "this file is not quantized: it holds no QuantizeLinear, DequantizeLinear or QLinear node. "
    + HOW
)
DYNAMIC = frozenset(
    {"ConvInteger", "DynamicQuantizeLinear", "DynamicQuantizeLSTM", "MatMulInteger"}
)
HOW_TO_CALIBRATE = (
    "this file is quantized dynamically: its nodes measure ranges anew in every run, and the "
    "accelerator needs them before. Take the float file. " + HOW
)
QONNX = frozenset({"BipolarQuant", "IntQuant", "Quant", "Trunc"})
HOW_TO_CONVERT = (
    "this file is quantized by nodes of QONNX (Quant), which are not read: export it with "
    "QuantizeLinear and DequantizeLinear, as brevitas.export.export_onnx_qcdq does"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import.

    Attributes
    ----------
    graph: None if a node is unsupported.
    importable: the operators that could be imported; loose ends are inputs and outputs.
    nodes: (name, operator) of every node that reaches an output, in file order.
    unsupported: findings; operators that are not supported first, each in file order.
    following: nodes (name, operator) of which nothing is known, since they read what has a finding.
    remark: about the file as a whole (how to quantize it), or empty.
    owners: the user's node (name, operator) behind an operator of the graph, by its name.
    """

    graph: Graph | None
    importable: Graph
    nodes: tuple[tuple[str, str], ...]
    unsupported: tuple[Unsupported, ...]
    remark: str = ""
    owners: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    following: tuple[tuple[str, str], ...] = ()

    @property
    def supported(self) -> list[tuple[str, str]]:
        """Nodes without a finding, and of which something is known."""
        bad = {finding.node for finding in self.unsupported} | {name for name, _ in self.following}
        return [node for node in self.nodes if node[0] not in bad]


def import_onnx(path: Path, states: Mapping[str, str] | None = None) -> Imported:
    """Import a file.

    Parameters
    ----------
    states: output by input of states, beside those that the file declares.

    Raises
    ------
    FileError
        The file cannot be read as a model.
    """
    proto = read(path)
    try:
        return import_model(proto, path.stem, states)
    except FileError as error:
        raise FileError(f"{path}: {error}") from error


def import_model(
    proto: onnx.ModelProto, name: str, states: Mapping[str, str] | None = None
) -> Imported:
    """Import a model in memory; see `import_onnx`."""
    flat = inline(proto)
    model = Model(flat)
    nodes = tuple((label(node), str(node.op_type)) for node in model.nodes)
    quantized = {"QuantizeLinear", "DequantizeLinear", *QOPERATORS}
    found = {op for _, op in nodes}
    remark = "" if found & quantized else HOW_TO_QUANTIZE
    if found & QONNX:
        remark = HOW_TO_CONVERT
    if found & DYNAMIC:
        remark = HOW_TO_CALIBRATE
    importer = Importer(model, states)
    graph = importer.run(name)
    importable = graph if graph is not None else importer.importable(name)
    verify(importable)
    owners = {op: (label(n), str(n.op_type)) for op, n in importer.builder.owners.items()}
    following = tuple(importer.following)
    findings = tuple(importer.findings)
    return Imported(graph, importable, nodes, findings, remark, owners, following)
