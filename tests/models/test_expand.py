"""Cells written out: equal to ONNX Runtime's own, as torch exports them, quantized and built."""

import io
import itertools
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hw.arch.config import AcceleratorConfig
from models.__main__ import main
from models.expand import expand
from models.onnxfile import UnsupportedGraph
from proof.build import build

T, N, INPUTS, WIDTH = 4, 2, 5, 3
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def cell(kind, direction="forward", states=True, bias=True, layout=0, extra=(), **attributes):
    """A model of one node with all its outputs."""
    rng = np.random.default_rng(0)
    ways = 2 if direction == "bidirectional" else 1
    rows = GATES[kind] * WIDTH
    weights = {
        "W": rng.normal(0, 0.7, [ways, rows, INPUTS]),
        "R": rng.normal(0, 0.7, [ways, rows, WIDTH]),
        "B": rng.normal(0, 0.7, [ways, 2 * rows]),
    }
    constants = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in weights.items()]
    sequence = [N, T, INPUTS] if layout else [T, N, INPUTS]
    state = [N, ways, WIDTH] if layout else [ways, N, WIDTH]
    held = ["h", "c"] if kind == "LSTM" else ["h"]
    inputs = ["x", "W", "R", "B" if bias else "", "", *(held if states else [])]
    made = ["y", "h_last", "c_last"][: 3 if kind == "LSTM" else 2]
    if layout:
        attributes["layout"] = 1
    node = helper.make_node(
        kind, [*inputs, *extra], made, "cell", hidden_size=WIDTH, direction=direction, **attributes
    )
    float32 = TensorProto.FLOAT
    given = [helper.make_tensor_value_info("x", float32, sequence)]
    given += [helper.make_tensor_value_info(n, float32, state) for n in held if states]
    rows = [N, T, ways, WIDTH] if layout else [T, ways, N, WIDTH]
    shapes = {"y": rows, "h_last": state, "c_last": state}
    outputs = [helper.make_tensor_value_info(n, float32, shapes[n]) for n in made]
    graph = helper.make_graph([node], "net", given, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feeds = {"x": rng.normal(0, 1, sequence).astype(np.float32)}
    feeds |= {n: rng.normal(0, 1, state).astype(np.float32) for n in held if states}
    return model, feeds


def ran(model, feeds):
    return ort.InferenceSession(model.SerializeToString()).run(None, feeds)


FORMS = list(itertools.product(("LSTM", "GRU", "RNN"), ("forward", "reverse", "bidirectional")))


@pytest.mark.parametrize(("kind", "direction"), FORMS)
def test_all_forms_equal_onnx_runtime(kind, direction):
    resets = (0, 1) if kind == "GRU" else (0,)
    for states, bias, before in itertools.product((True, False), (True, False), resets):
        more = {"linear_before_reset": before} if kind == "GRU" else {}
        model, feeds = cell(kind, direction, states, bias, **more)
        made, names = expand(model)
        assert names == ["cell"]
        onnx.checker.check_model(made, full_check=True)
        assert not {node.op_type for node in made.graph.node} & set(GATES)
        for mine, its in zip(ran(made, feeds), ran(model, feeds), strict=True):
            np.testing.assert_allclose(mine, its, atol=2e-6)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_batch_first_is_the_other_one_transposed(kind):
    """ONNX Runtime does not run layout 1: judged by layout 0."""
    first, feeds = cell(kind, "bidirectional")
    other, _ = cell(kind, "bidirectional", layout=1)
    turned = {name: np.ascontiguousarray(v.swapaxes(0, 1)) for name, v in feeds.items()}
    y, *last = ran(expand(other)[0], turned)
    its, *theirs = ran(first, feeds)
    np.testing.assert_allclose(y, its.transpose(2, 0, 1, 3), atol=2e-6)
    for mine, each in zip(last, theirs, strict=True):
        np.testing.assert_allclose(mine, each.swapaxes(0, 1), atol=2e-6)


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU])
def test_what_torch_exports(kind):
    torch.manual_seed(0)
    network = kind(INPUTS, WIDTH, num_layers=2, bidirectional=True, batch_first=True).eval()
    x = torch.randn(1, T, INPUTS)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(network, (x,), file, dynamo=False, opset_version=17, input_names=["x"])
    model = onnx.load_from_string(file.getvalue())
    assert sum(node.op_type in GATES for node in model.graph.node) == 2
    made, names = expand(model)
    assert len(names) == 2
    # Its zeros, which it expands to a shape that it computes, are states that cost nothing.
    kinds = [node.op_type for node in made.graph.node]
    assert kinds.count("Gemm") == 2 * 2 * (T + T - 1)
    assert not {"Expand", "Shape", "ConstantOfShape"} & set(kinds)
    with torch.no_grad():
        theirs = network(x)[0].numpy()
    np.testing.assert_allclose(ran(made, {"x": x.numpy()})[0], theirs, atol=2e-6)


@pytest.mark.parametrize("start", [0.0, 0.5])
def test_a_state_that_nodes_make_of_constants(start):
    """It is left out where it is zero, and nowhere else."""
    model, feeds = cell("LSTM", states=True)
    node = model.graph.node[0]
    shape = numpy_helper.from_array(np.array([1, N, WIDTH], np.int64), "shape")
    value = numpy_helper.from_array(np.array([[start]], np.float32), "start")
    model.graph.initializer.extend([shape, value])
    for name in ("h", "c"):
        model.graph.node.insert(0, helper.make_node("Expand", ["start", "shape"], [f"{name}_0"]))
    node = model.graph.node[2]
    node.input[5], node.input[6] = "h_0", "c_0"
    made, _ = expand(model)
    assert sum(each.op_type == "Gemm" for each in made.graph.node) == 2 * T - (start == 0)
    for mine, its in zip(ran(made, feeds), ran(model, feeds), strict=True):
        np.testing.assert_allclose(mine, its, atol=2e-6)


def test_a_network_of_two_bidirectional_layers_builds(tmp_path):
    """As torch exports it; a zero state that were computed with would have no scale."""
    torch.manual_seed(3)
    network = torch.nn.LSTM(INPUTS, WIDTH, num_layers=2, bidirectional=True, batch_first=True)
    file, source, target = (tmp_path / name for name in ("torch.onnx", "x.npz", "int8.onnx"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(
            network.eval(), (torch.randn(1, T, INPUTS),), file, dynamo=False, opset_version=17,
            input_names=["x"],
        )  # fmt: skip
    np.savez(source, x=np.random.default_rng(0).normal(size=(1, T, INPUTS)).astype(np.float32))
    words = ["cells", str(file), "-o", str(target), "--calibration", str(source)]
    assert main(words) == 0
    done = build(target, AcceleratorConfig.load("tiny"), tmp_path / "build", dram="all")
    assert done.proof["tensors"] > 2 * 2 * T * 8


def test_refusals():
    lengths = numpy_helper.from_array(np.full(N, T, np.int32), "lengths")
    model, _ = cell("LSTM")
    model.graph.node[0].input[4] = "lengths"
    model.graph.initializer.append(lengths)
    with pytest.raises(UnsupportedGraph, match="sequence_lens"):
        expand(model)
    with pytest.raises(UnsupportedGraph, match="clip"):
        expand(cell("LSTM", clip=2.0)[0])
    with pytest.raises(UnsupportedGraph, match="activations"):
        expand(cell("RNN", activations=["Affine"])[0])


def test_from_a_float_file_to_a_build(tmp_path, capsys):
    """The command writes out, quantizes with one scale for a state on both sides, and it builds."""
    model, feeds = cell("LSTM", states=True)
    onnx.save(model, tmp_path / "float.onnx")
    np.savez(tmp_path / "clip.npz", **feeds)
    words = ["cells", str(tmp_path / "float.onnx"), "-o", str(tmp_path / "int8.onnx")]
    words += ["--calibration", str(tmp_path / "clip.npz"), "--state", "h=h_last"]
    assert main([*words, "--state", "c=c_last"]) == 0
    assert "cell" in capsys.readouterr().out
    states = {"h": "h_last", "c": "c_last"}
    done = build(
        tmp_path / "int8.onnx",
        AcceleratorConfig.load("tiny"),
        tmp_path / "build",
        states=states,
    )
    assert done.proof["tensors"] > 4 * 8
    onnx.save(helper_only_add(), tmp_path / "none.onnx")
    assert main(["cells", str(tmp_path / "none.onnx"), "-o", str(tmp_path / "o.onnx")]) == 2


def helper_only_add():
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "net",
        [value("x", TensorProto.FLOAT, [1, 3])],
        [value("y", TensorProto.FLOAT, [1, 3])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
