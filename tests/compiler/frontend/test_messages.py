"""What `check` says of files that cannot be compiled: what matters first."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from compiler.__main__ import main
from compiler.frontend import functions
from compiler.frontend.catalogue import BY_OPERATOR
from compiler.frontend.replacements import QUANTIZED, REPLACEMENTS, how_to_quantize
from tests.models.net import Net
from tests.models.qdq import Q


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


def _shuffled(net, name, channels):
    """Four channels each become a square of pixels."""
    name = net.op("Reshape", [name, net.ints([1, channels, 2, 2, 6, 6])])
    name = net.op("Transpose", [name], perm=[0, 1, 4, 2, 5, 3])
    return net.op("Reshape", [name, net.ints([1, channels, 12, 12])])


def _resize(net, x):
    ones = net.dequantize(net.constant(np.ones((16, 1, 1, 1), np.int8)), Q(1.0, 0, np.int8))
    return _shuffled(net, net.through(net.op("Conv", [x, ones], group=4)), 4)


def _conv_transpose(net, x):
    return _shuffled(net, net.through(net.op("Conv", [x, net.weight((8, 4, 1, 1))])), 2)


def _reduce_sum(net, x):
    mean = net.through(net.op("ReduceMean", [x], axes=[2], keepdims=1))
    return net.op("Mul", [mean, net.floats(6)])


def _reduce_min(net, x):
    most = net.through(net.op("ReduceMax", [net.through(net.op("Neg", [x]))], axes=[2]))
    return net.op("Neg", [most])


def _space_to_depth(net, x):
    x = net.op("Reshape", [x, net.ints([1, 4, 3, 2, 3, 2])])
    x = net.op("Transpose", [x], perm=[0, 3, 5, 1, 2, 4])
    return net.op("Reshape", [x, net.ints([1, 16, 3, 3])])


def _reflected(net, x):
    first = net.op("Slice", [x, net.ints([1]), net.ints([2]), net.ints([3])])
    last = net.op("Slice", [x, net.ints([-2]), net.ints([-1]), net.ints([3])])
    return net.op("Concat", [first, x, last], axis=3)


def _group_norm(net, x):
    x = net.op("Reshape", [x, net.ints([1, 2, 72])])
    ones, zeros = net.floats(np.ones(72)), net.floats(np.zeros(72))
    x = net.through(net.op("LayerNormalization", [x, ones, zeros]))
    x = net.op("Reshape", [x, net.ints([1, 4, 6, 6])])
    x = net.through(net.op("Mul", [x, net.floats(np.arange(1, 5).reshape(4, 1, 1))]))
    return net.op("Add", [x, net.floats(np.arange(4).reshape(4, 1, 1) / 4)])


def _tile(net, x):
    return net.op("Concat", [x, x], axis=2)


INSTEAD = [_resize, _conv_transpose, _reduce_sum, _reduce_min, _space_to_depth, _reflected, _tile]


@pytest.mark.parametrize("instead", [*INSTEAD, _group_norm])
def test_replacements_are_lowered(tmp_path, instead, capsys):
    net = Net()
    net.end(net.op("Relu", [net.through(instead(net, net.start((1, 4, 6, 6))))]))
    path = tmp_path / "net.onnx"
    onnx.save(net.model(), path)
    assert main(["check", str(path), "--config", "tiny"]) == 0, capsys.readouterr().out


def test_an_operator_that_is_not_supported_comes_before_what_it_reads(tmp_path, capsys):
    net = Net()
    x = net.start((1, 4, 6, 6))
    mean = net.op("ReduceMean", [x], axes=[2], keepdims=1)
    net.end(net.op("Resize", [mean, "", net.floats([1, 1, 2, 2])]))
    path = tmp_path / "net.onnx"
    onnx.save(net.model(), path)
    assert main(["check", str(path)]) == 1
    assert "(Resize): this operator is not supported" in capsys.readouterr().out.splitlines()[0]


def test_what_quantizers_leave_in_float(tmp_path, capsys):
    net = Net()
    x = net.op("Elu", [net.through(net.op("Relu", [net.start((1, 4, 6, 6))]))])
    net.end(net.op("ReduceMean", [x], axes=[2, 3]))
    path = tmp_path / "net.onnx"
    onnx.save(net.model(), path)
    assert main(["check", str(path)]) == 1
    assert "if op_types_to_quantize names Elu" in capsys.readouterr().out


def test_what_quantizers_do_unasked():
    """What the advice is silent about is what ONNX Runtime's own registry has."""
    theirs = set(QDQRegistry) | set(QLinearOpsRegistry)
    ours = set(BY_OPERATOR) | functions.ELEMENTWISE
    assert ours & theirs == QUANTIZED
    assert how_to_quantize("Conv") == ""


def test_a_mean_in_float_at_the_end(tmp_path, capsys):
    net = Net()
    x = net.through(net.op("Relu", [net.start((4, 6, 8))]))
    net.end(net.op("Relu", [x]))
    model = net.model()
    mean = onnx.helper.make_node("ReduceMean", [model.graph.output[0].name], ["m"], axes=[0])
    model.graph.node.append(mean)
    model.graph.output[0].name = "m"
    model.graph.output[0].type.tensor_type.shape.Clear()
    onnx.save(model, tmp_path / "net.onnx")
    assert main(["check", str(tmp_path / "net.onnx")]) == 1
    told = capsys.readouterr().out
    assert "computes the graph output m in float" in told
    assert "if op_types_to_quantize names ReduceMean" in told


@pytest.mark.parametrize("operator", ["Sum", "Mean", "Pow"])
def test_activations_that_meet_in_no_operator(tmp_path, operator, capsys):
    """Their pairs are there: the advice is not to add some."""
    net = Net(opset=13)
    x = net.start((1, 4, 6, 6))
    net.end(net.op(operator, [x, net.through(net.op("Relu", [x]))]))
    path = tmp_path / "net.onnx"
    onnx.save(net.model(), path)
    assert main(["check", str(path)]) == 1
    told = capsys.readouterr().out
    assert f"no operator here is {operator} of several activations" in told
    assert ("Add of two at a time" in told) == (operator != "Pow")
    assert "around it" not in told


def test_a_dynamically_quantized_file(tmp_path, capsys):
    shape = [2, 8]
    weight = onnx.numpy_helper.from_array(np.ones((8, 4), np.int8), "w")
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "s"], ["y"]),
    ]
    kind = TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(*e) for e in (("x", kind, shape), ("y", kind, None))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    assert main(["check", str(path)]) == 1
    assert capsys.readouterr().out.startswith("this file is quantized dynamically")


def test_an_empty_file(tmp_path, capsys):
    (tmp_path / "net.onnx").write_bytes(b"")
    assert main(["check", str(tmp_path / "net.onnx")]) == 2
    assert capsys.readouterr().err.rstrip().endswith("net.onnx is empty")


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
    assert others == [
        "quantized or not, these operators are not supported: CumSum (2)",
        "CumSum: in its place: MatMul with a constant triangular matrix",
    ]


def test_a_float_cell_gets_the_command_that_writes_it_out(tmp_path, capsys):
    """Also the first one of a file, which stands where preprocessing does."""
    rng = np.random.default_rng(0)
    weights = {"w": [1, 9, 4], "r": [1, 9, 3]}
    graph = helper.make_graph(
        [helper.make_node("GRU", ["x", "w", "r"], ["y"], "gru", hidden_size=3)],
        "float",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [5, 1, 1, 3])],
        [onnx.numpy_helper.from_array(rng.random(s, np.float32), n) for n, s in weights.items()],
    )
    path = tmp_path / "float.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    assert main(["check", str(path)]) == 1
    *_, names, instead = capsys.readouterr().out.splitlines()
    assert names.endswith("not supported: GRU")
    assert instead.startswith("GRU: ") and "`python -m models cells FLOAT.onnx" in instead


def test_nodes_of_qonnx_get_the_exporter_that_is_read(tmp_path, capsys):
    net = Net()
    net.domains = [helper.make_opsetid("qonnx.custom_op.general", 1)]
    bounds = [net.floats(0.05), net.floats(0), net.floats(8)]
    x = net.op("Quant", [net.input((1, 4)), *bounds], domain="qonnx.custom_op.general", signed=1)
    net.output(net.op("Relu", [x]))
    onnx.save(net.model(), tmp_path / "net.onnx")
    assert main(["check", str(tmp_path / "net.onnx")]) == 1
    first = capsys.readouterr().out.splitlines()[0]
    assert "nodes of QONNX (Quant), which are not read" in first and "qcdq" in first


@pytest.mark.parametrize(("least", "told"), [(-1e9, True), (-100.0, False)])
def test_a_mask_that_swallows_what_it_masks(least, told, tmp_path, capsys):
    net = Net()
    x = net.start((1, 3, 5, 5))
    wide = Q(-least / 255, 127, np.int8)
    mask = np.triu(np.full((5, 5), -128), 1) + np.tril(np.full((5, 5), 127))
    net.end(net.op("Add", [x, net.dequantize(net.constant(mask.astype(np.int8)), wide)]), wide)
    onnx.save(net.model(), tmp_path / "net.onnx")
    assert main(["check", str(tmp_path / "net.onnx")]) == int(told)
    assert ("Mask with a finite number" in capsys.readouterr().out) == told
