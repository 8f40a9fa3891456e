"""Scan is read as a Loop, by compiler and oracle; ONNX Runtime says what it makes."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from compiler.onnx_import import FileError, import_model
from hw.arch.config import AcceleratorConfig
from models.onnxfile import UnsupportedGraph
from models.reference import Reference
from proof.build import build
from sim.build import Build
from tests.models.net import Net
from tests.models.qdq import Q

CODES = Q(0.03, 118)
WIDTH, STEPS = 6, 5


def scanned(**attributes):
    """c' = tanh(c + x_t) over rows of x, and all c'."""
    net = Net()
    x = net.quantize(net.input([STEPS, WIDTH]), CODES)
    c = net.quantize(net.input([WIDTH], "c0"), CODES)
    scale = [net.constant(np.float32(CODES.scale)), net.constant(np.uint8(CODES.zero))]
    nodes = [
        helper.make_node("DequantizeLinear", ["c", *scale], ["c_real"]),
        helper.make_node("DequantizeLinear", ["row", *scale], ["row_real"]),
        helper.make_node("Add", ["c_real", "row_real"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", *scale], ["sum_codes"]),
        helper.make_node("DequantizeLinear", ["sum_codes", *scale], ["sum_real"]),
        helper.make_node("Tanh", ["sum_real"], ["tanh"]),
        helper.make_node("QuantizeLinear", ["tanh", *scale], ["c_next"]),
        helper.make_node("Identity", ["c_next"], ["out"]),
    ]
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        nodes,
        "body",
        [value("c", TensorProto.UINT8, [WIDTH]), value("row", TensorProto.UINT8, [WIDTH])],
        [value("c_next", TensorProto.UINT8, [WIDTH]), value("out", TensorProto.UINT8, [WIDTH])],
    )
    last, rows = net.op("Scan", [c, x], 2, body=body, num_scan_inputs=1, **attributes)
    net.output(net.dequantize(last, CODES))
    net.output(net.dequantize(rows, CODES))
    return net.model()


def test_a_scan_is_what_onnx_runtime_makes(tmp_path):
    model = scanned()
    onnx.save(model, tmp_path / "net.onnx")
    build(tmp_path / "net.onnx", AcceleratorConfig.load("tiny"), tmp_path / "build")
    assert [loop.trips for loop in Build.load(tmp_path / "build").program.loops] == [STEPS]
    rng = np.random.default_rng(1)
    reference = Reference(model)
    shapes = {name: reference.input_shape(name) for name in reference.input_names}
    given = {n: rng.normal(0, 1, shape).astype(np.float32) for n, shape in shapes.items()}
    ours = reference.run(given, keep=reference.output_names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    for name, other in zip(
        reference.output_names, session.run(reference.output_names, given), strict=True
    ):
        assert ours[name].shape == other.shape
        assert np.abs(ours[name] - other).max() <= CODES.scale * 1.001


def test_refusals():
    model = scanned(scan_input_directions=[1])
    with pytest.raises(FileError, match="scan_input_directions"):
        import_model(model, "net")
    with pytest.raises(UnsupportedGraph, match="backwards"):
        Reference(model)
