"""Files that cannot be compiled: each is refused with a message that names the cause."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.__main__ import main
from compiler.onnx_import import FileError, import_onnx
from tests.compiler.frontend.single import codes, findings, imported, ours, steps, theirs
from tests.models.qdq import Builder, Q, conv_model


def save(path, model):
    path.write_bytes(model.SerializeToString())
    return path


def conv(opset=17, shape=(1, 4, 9, 9), large=False):
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (8, 4, 3, 3))
    model = conv_model(shape, weights, Q(0.02, 100), Q(0.002, 0, np.int8), Q(0.05, 120))
    model.opset_import[0].version = opset
    return model


def float_model():
    shape = [1, 3, 8, 8]
    weight = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "conv")]
    graph = helper.make_graph(
        nodes,
        "float",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def without_node(model, name):
    nodes = [n for n in model.graph.node if n.name != name]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def with_short_weight(model):
    for tensor in model.graph.initializer:
        if tensor.name == "w":
            tensor.raw_data = tensor.raw_data[:-5]
    return model


def doubled(model):
    model.graph.node.append(model.graph.node[0])
    return model


def no_opset(model):
    del model.opset_import[:]
    return model


UNREADABLE = {
    "missing": (lambda p: p, "no ONNX file"),
    "folder": (lambda p: (p.mkdir(), p)[1], "no ONNX file"),
    "text": (lambda p: (p.write_text("hello " * 99), p)[1], "is no ONNX file"),
    "empty": (lambda p: (p.write_bytes(b""), p)[1], "bad.onnx is empty"),
    "truncated": (
        lambda p: (p.write_bytes(conv().SerializeToString()[:-40]), p)[1],
        "is no ONNX file, or it is truncated",
    ),
    "old opset": (lambda p: save(p, conv(9)), "bad.onnx: opset 9; 10 to 26 are read"),
    "new opset": (lambda p: save(p, conv(27)), "opset 27"),
    "no opset": (lambda p: save(p, no_opset(conv())), "no version of the standard operators"),
    "short weight": (lambda p: save(p, with_short_weight(conv())), "initializer w is damaged"),
    "missing producer": (
        lambda p: save(p, without_node(conv(), "dq_w")),
        "reads 'w_f', which nothing makes",
    ),
    "made twice": (lambda p: save(p, doubled(conv())), "a second time"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_files(case, tmp_path, capsys):
    make, message = UNREADABLE[case]
    path = make(tmp_path / "bad.onnx")
    with pytest.raises(FileError, match=message):
        import_onnx(path)
    target = tmp_path / "out"
    for arguments in (["check", str(path)], ["build", str(path), "-o", str(target)]):
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.startswith("error: ")
        assert message in printed.err and str(path) in printed.err
    assert list(tmp_path.iterdir()) == ([path] if path.exists() else [])


def test_float_file_says_how_to_quantize(tmp_path, capsys):
    path = save(tmp_path / "float.onnx", float_model())
    assert main(["check", str(path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert "quantize_static" in report["remark"] and report["supported"] == []
    (finding,) = report["unsupported"]
    assert finding["node"] == "conv" and "float" in finding["reason"]
    assert main(["build", str(path), "-o", str(tmp_path / "out")]) == 2
    assert "not quantized" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def symbolic(axis, name="frames"):
    model = conv()
    model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    return model


def test_dynamic_axis_is_named_and_a_dynamic_batch_is_one():
    (finding, *_) = findings(symbolic(2))
    assert finding[:2] == ("x", "input") and "'frames'" in finding[2]
    rng = np.random.default_rng(1)
    model, feeds = symbolic(0, "batch"), {"x": codes(rng, (1, 4, 9, 9))}
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def test_external_data(tmp_path):
    path = tmp_path / "external.onnx"
    onnx.save_model(
        conv(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    assert import_onnx(path).graph is not None
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(FileError, match="cannot be read"):
        import_onnx(path)


def mixed_model():
    """Conv, a Hardmax that nobody quantized, an LpNormalization between Q and DQ, and a Relu."""
    builder = Builder()
    x = builder.dequantize("x", Q(0.02, 100), shape=(1, 4, 9, 9))
    w = builder.dequantize("w", Q(0.002, 0, np.int8), np.ones((4, 4, 1, 1), np.int64))
    y = builder.op("Conv", [x, w], "c_f")
    builder.nodes.append(helper.make_node("QuantizeLinear", [y, "x_s", "x_z"], ["c"], "q_c"))
    builder.nodes.append(helper.make_node("DequantizeLinear", ["c", "x_s", "x_z"], ["c2"], "d_c"))
    s = builder.op("Hardmax", ["c2"], "s_f")
    e = builder.op("LpNormalization", [s], "e_f")
    builder.nodes.append(helper.make_node("QuantizeLinear", [e, "x_s", "x_z"], ["e"], "q_e"))
    builder.nodes.append(helper.make_node("DequantizeLinear", ["e", "x_s", "x_z"], ["e2"], "d_e"))
    builder.op("Relu", ["e2"])
    return builder.model(Q(0.02, 100))


def test_every_unsupported_node_is_reported_and_the_rest_is_checked(tmp_path, capsys):
    path = save(tmp_path / "mixed.onnx", mixed_model())
    assert main(["check", str(path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [(f["node"], f["op"]) for f in report["unsupported"]] == [
        ("hardmax", "Hardmax"),
        ("lpnormalization", "LpNormalization"),
    ]
    supported = [entry["node"] for entry in report["supported"]]
    assert {"conv", "relu", "q_e", "d_e"} <= set(supported)
    assert main(["check", str(path)]) == 1
    assert (
        "lpnormalization (LpNormalization): this operator is not supported"
        in capsys.readouterr().out
    )


def ends_in(operator):
    """A convolution whose output goes through another operator in float."""
    model = conv()
    (last,) = (n for n in model.graph.node if model.graph.output[0].name in n.output)
    name, last.output[0] = last.output[0], "inner"
    dequantize = helper.make_node("DequantizeLinear", ["inner", *last.input[1:]], ["inner_f"], "dq")
    model.graph.node.extend([dequantize, helper.make_node(operator, ["inner_f"], [name], "tail")])
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    return model


@pytest.mark.parametrize(
    ("operator", "reason"),
    [
        ("LogSoftmax", "this operator is not supported; docs/operators.md lists those that are"),
        ("Softmax", "computes the graph output y in float: quantize it"),
        ("Sigmoid", "computes the graph output y in float: quantize it"),
    ],
)
def test_a_float_end_is_quantized_only_where_that_helps(operator, reason, tmp_path, capsys):
    path = save(tmp_path / "end.onnx", ends_in(operator))
    assert main(["check", str(path)]) == 1
    printed = capsys.readouterr().out
    assert f"tail ({operator}): {reason}" in printed and printed.endswith(", 1 finding\n")
    assert main(["build", str(path), "-o", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.err == f"error: node tail ({operator}): {findings(ends_in(operator))[0][2]}\n"
    assert not (tmp_path / "out").exists()


def test_a_float_input_is_to_be_quantized():
    model, shape = conv(), [1, 4, 9, 9]
    model.graph.input.append(helper.make_tensor_value_info("raw", TensorProto.FLOAT, shape))
    model.graph.output.append(helper.make_tensor_value_info("q", TensorProto.UINT8, shape))
    model.graph.node.append(helper.make_node("Add", ["raw", "x_f"], ["sum"], "add"))
    model.graph.node.append(helper.make_node("QuantizeLinear", ["sum", "x_s", "x_z"], ["q"], "qq"))
    (finding, *_) = findings(model)
    assert finding[:2] == ("add", "Add")
    assert "reads raw in float: put QuantizeLinear" in finding[2]


def with_scale(model, name, value):
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), name))
    return model


@pytest.mark.parametrize(
    ("model", "node", "reason"),
    [
        (with_scale(conv(), "y_s", np.float32(0)), "q_y", "y_s is not a positive normal float32"),
        (with_scale(conv(), "y_s", np.float32(np.nan)), "q_y", "y_s is not a positive normal"),
        (with_scale(conv(), "y_s", np.float16(1)), "q_y", "float16"),
        (with_scale(conv(), "y_z", np.uint16(3)), "q_y", "uint16; 8 bits"),
        (
            with_scale(conv(), "w", np.ones((8, 4, 3, 3), np.int32)),
            "dq_w",
            "holds int32, its zero point is int8",
        ),
        (with_scale(conv(), "x_s", np.ones(4, np.float32)), "dq_x", "one scale and 8 bits"),
    ],
)
def test_bad_parameters_name_the_node_and_the_value(model, node, reason):
    found = findings(model)
    assert found[0][0] == node and reason in found[0][2], found


def test_mismatched_dequantization_is_refused():
    builder = Builder()
    x = builder.dequantize("x", Q(0.02, 100), shape=(1, 4, 9, 9))
    first = builder.op("Relu", [x], "r_f")
    builder.nodes.append(helper.make_node("QuantizeLinear", [first, "x_s", "x_z"], ["r"], "q_r"))
    other = builder._scale("other", Q(0.03, 100))
    builder.nodes.append(helper.make_node("DequantizeLinear", ["r", *other], ["r2"], "d_r"))
    builder.op("Relu", ["r2"])
    assert "reads r with scale 0.0299999993" in findings(builder.model(Q(0.02, 100)))[0][2]


def test_unused_nodes_are_left_out():
    model = conv()
    model.graph.node.insert(1, helper.make_node("Softmax", ["x_f"], ["nobody"], "loose"))
    graph = imported(model)
    assert [op.name for op in graph.ops] == ["conv"]
