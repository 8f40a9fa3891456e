"""What `check` says of files that cannot be compiled: what matters first."""

from __future__ import annotations

import json

import numpy as np
import onnx
from onnx import TensorProto, helper

from compiler.__main__ import main
from compiler.frontend.catalogue import BY_OPERATOR
from compiler.frontend.replacements import REPLACEMENTS
from tests.models.net import Net


def test_what_is_recommended_is_supported():
    for operator, (replacement, advice) in REPLACEMENTS.items():
        assert operator not in BY_OPERATOR, f"{operator} needs no replacement any more"
        assert replacement in BY_OPERATOR and advice


def test_a_sum_along_an_axis_as_a_product(tmp_path, capsys):
    net = Net()
    x = net.start((1, 4, 8))
    triangle = net.dequantize(net.constant(np.triu(np.full((8, 8), 100, np.int8))))
    net.end(net.op("MatMul", [x, triangle]))
    path = tmp_path / "net.onnx"
    onnx.save(net.model(), path)
    assert main(["check", str(path)]) == 0


def test_root_causes_first_then_what_follows(tmp_path, capsys):
    net = Net()
    x = net.start((1, 4, 8))
    bad = net.through(net.op("CumSum", [x, net.constant(np.int64(2))]))
    after = net.through(net.op("Relu", [bad]))
    net.end(net.op("Sigmoid", [after]))
    path = tmp_path / "net.onnx"
    onnx.save(net.model(), path)
    assert main(["check", str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "(CumSum): this operator is not supported" in lines[0]
    assert lines[0].endswith("; in its place: MatMul with a constant triangular matrix")
    assert lines[-1].endswith("nodes supported, 1 finding")
    assert main(["check", str(path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    following = [each["node"] for each in report["following"]]
    assert len(lines) == (3 if following else 2)
    if following:
        assert lines[1].startswith(f"{len(following)} node") and "from it: " in lines[1]
    named = {f["node"] for f in report["unsupported"]} | set(following)
    assert not named & {each["node"] for each in report["supported"]}


def test_a_float_file_gets_the_line_that_matters(tmp_path, capsys):
    shape = [1, 3, 8]
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "relu"),
        helper.make_node("CumSum", ["a", "axis"], ["b"], "sum"),
        helper.make_node("CumSum", ["b", "axis"], ["y"], "again"),
    ]
    graph = helper.make_graph(
        nodes,
        "float",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(np.array(2), "axis")],
    )
    path = tmp_path / "float.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    assert main(["check", str(path)]) == 1
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith("this file is not quantized")
    assert others == ["quantized or not, these operators are not supported: CumSum"]
