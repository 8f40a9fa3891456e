"""A build is proven, and whatever is wrong with one is found."""

import dataclasses
import shutil

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from compiler.tensor import CompilerError
from hw.arch.program import COMPILER, Program
from models import quantization
from models.quantgraph import QuantizedGraph
from models.tables import QParams
from proof import inner, prove
from proof.inputs import inputs_of
from proof.limits import BEGIN, LIMITS, PAGE, main, table
from proof.written import Written
from sim.build import Build
from tests.models.net import S8, U8, Net
from tests.models.qdq import Q
from tests.proof.conftest import Made, make

WIDE = Q(0.11, 7, np.int8)
OTHER = Q(0.17, 1, np.int8)


# What is proven ---------------------------------------------------------------------------


def test_a_network_with_a_recorded_input(fsb):
    model, made = fsb
    proven = made.prove()
    program = Program.load(made.folder / "program.bin")
    quantizers = sum(n.op_type == "QuantizeLinear" for n in model.graph.node)
    assert proven["input"] == "recorded" and proven["unproven"] == []
    assert proven["tensors"] == len(program.tensors)
    assert proven["elements"] == sum(int(np.prod(t.shape)) for t in program.tensors)
    assert sum(f["operators"] for f in proven["forms"].values()) == quantizers + 1  # the output
    assert proven["forms"]["product"]["operators"] > 20


def _branches(net: Net) -> Net:
    """Operators of every form, two outputs."""
    x = net.start((1, 6, 8, 9), U8)
    y = net.op("Conv", [x, net.weight((8, 6, 3, 3))], pads=[1, 1, 1, 1])
    y = net.through(net.op("Relu", [y]), Q(0.4, 3, np.int8))
    z = net.through(net.op("Tanh", [y]), Q(1 / 127, 0, np.int8))
    s = net.through(net.op("Add", [y, z]), Q(0.45, 5, np.int8))
    m = net.through(net.op("Max", [s, y]), Q(0.45, 11, np.int8))
    net.end(net.op("GlobalAveragePool", [m]), Q(0.051, 2, np.int8))
    # Channels that lie elsewhere are brought into lanes: a tensor of the compiler's own.
    turned = net.op("Transpose", [s], perm=[0, 3, 2, 1])
    w = net.through(net.op("Conv", [turned, net.weight((4, 9, 1, 1))]), Q(0.5, 3, np.int8))
    net.output(net.quantize(net.op("Neg", [w]), Q(0.5, -3, np.int8)), np.int8)
    net.output(net.quantize(net.op("Mul", [s, y]), Q(0.9, -20, np.int8)), np.int8)
    return net


def test_without_a_recording_the_input_is_random_and_the_compilers_own_tensors_count(tmp_path):
    made = make(_branches(Net()).model(), tmp_path)
    proven = made.prove()
    assert proven["input"] == "random, seed 0"
    own = [t for t in Program.load(made.folder / "program.bin").tensors if t.origin == COMPILER]
    assert proven["compiler"] == len(own) > 0
    assert {"product", "function", "Add", "Mul", "extremum", "mean"} <= set(proven["forms"])


def test_outputs_that_are_moves_and_constants_of_the_compilers_own(tmp_path):
    net = Net()
    x = net.start((1, 4, 6, 6))
    channels = net.dequantize(net.constant(np.arange(4, dtype=np.int8).reshape(4, 1, 1)), OTHER)
    m = net.through(net.op("Max", [x, channels]), Q(0.061, 9, np.int8))
    y = net.through(net.op("Conv", [m, net.weight((4, 4, 1, 1))]), WIDE)
    net.output(net.op("Reshape", [y, net.ints([1, 4, 36])]))
    net.output(net.op("Identity", [y]))
    proven = make(net.model(), tmp_path).prove()
    assert proven["forms"]["dequantize"]["operators"] == 2 and proven["compiler"] >= 1


@pytest.mark.parametrize("q", [S8, U8, Q(0.003, 255)])
def test_random_inputs_span_the_codes(tmp_path, q):
    net = Net()
    net.end(net.op("Relu", [net.start((1, 8, 16, 16), q)]), S8)
    build = Build.load(make(net.model(), tmp_path).folder)
    inputs, origin = inputs_of(build)
    (fed,) = build.feeds(inputs).values()
    assert origin.startswith("random") and len(np.unique(fed)) == 256
    again, _ = inputs_of(build)
    assert np.array_equal(again["x"], inputs["x"]), "the same each time"


def test_random_inputs_span_what_the_host_computes(tmp_path):
    net = Net()
    x = net.op(
        "Div", [net.op("Sub", [net.input((1, 8, 16, 16)), net.floats(127.5)]), net.floats(127.5)]
    )
    net.end(net.op("Relu", [net.through(x, Q(1 / 127, 0, np.int8))]), Q(1 / 127, 0, np.int8))
    made = make(net.model(), tmp_path)
    build = Build.load(made.folder)
    (fed,) = build.feeds(inputs_of(build)[0]).values()
    assert len(np.unique(fed)) > 200
    assert made.prove()["forms"]["quantize"]["operators"] == 1


def test_random_indices_stay_within_their_table(tmp_path):
    net = Net()
    net.inputs.append(helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, 5]))
    rows = net.op("Gather", [net.floats(net.rng.normal(0, 1, (9, 8))), "tokens"])
    net.end(net.op("MatMul", [net.through(rows, Q(0.02, 0, np.int8)), net.weight((8, 6), 1)]), WIDE)
    made = make(net.model(), tmp_path)
    tokens = inputs_of(Build.load(made.folder))[0]["tokens"]
    assert tokens.min() >= -9 and tokens.max() < 9 and len(np.unique(tokens)) > 1
    made.prove()


# Twins of the program: the file is right, the program is of a wrong one -----------------------


def _zero_points(model: onnx.ModelProto) -> list[str]:
    names = (n.input[2] for n in model.graph.node if n.op_type == "QuantizeLinear")
    return sorted(set(names))


def _shifted(model: onnx.ModelProto, zero: str, alone: bool) -> onnx.ModelProto:
    """A zero point off by one: of the quantizer alone, or of whoever reads its integers, too."""
    wrong = onnx.ModelProto.FromString(model.SerializeToString())
    tensor = next(t for t in wrong.graph.initializer if t.name == zero)
    value = numpy_helper.to_array(tensor)
    step = -1 if value == np.iinfo(value.dtype).max else 1
    name = "shifted" if alone else zero
    shifted = numpy_helper.from_array(np.asarray(value + step, value.dtype), name)
    if not alone:
        tensor.CopyFrom(shifted)
        return wrong
    wrong.graph.initializer.append(shifted)
    for node in wrong.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[2] == zero:
            node.input[2] = name
    return wrong


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_a_zero_point_off_by_one_in_any_quantizer_of_a_network(fsb, tmp_path, every):
    model, made = fsb
    names = _zero_points(model)
    assert len(names) > 20
    for number, zero in enumerate(names[::every]):
        twin = made.of(_shifted(model, zero, True), tmp_path / str(number))
        with pytest.raises(CompilerError, match=r"differs at|instead of"):
            twin.prove()


def _swapped(net: Net, op: str) -> onnx.ModelProto:
    node = next(n for n in net.nodes if n.op_type == op)
    node.input[0], node.input[1] = node.input[1], node.input[0]
    return net.model()


def test_operands_and_lane_runs_that_are_swapped(tmp_path):
    for op in ("Sub", "Concat"):
        net = Net()
        a, b = net.start((1, 8, 4, 4), S8, "a"), net.start((1, 8, 4, 4), S8, "b")
        attributes = {"axis": 1} if op == "Concat" else {}
        net.end(net.op(op, [a, b], **attributes), WIDE)
        made = make(net.model(), tmp_path / op)
        made.prove()
        with pytest.raises(CompilerError, match=r"tensor 't\d+' of layer .* differs at \[0, 0, 0"):
            made.of(_swapped(net, op), tmp_path / f"{op}-twin").prove()


def test_a_dropped_pad_and_a_moved_one(tmp_path):
    net = Net()
    x, weight = net.start((1, 8, 6, 6)), net.weight((8, 8, 3, 3))
    net.end(net.op("Conv", [x, weight], pads=[1, 0, 1, 1]), WIDE)
    made = make(net.model(), tmp_path / "made")
    pads = next(n for n in net.nodes if n.op_type == "Conv").attribute[0].ints
    made.prove()
    pads[0], pads[2] = 0, 2
    with pytest.raises(CompilerError, match="differs at"):
        made.of(net.model(), tmp_path / "moved").prove()
    pads[2] = 0
    with pytest.raises(
        CompilerError, match=r"is stored as int8 \[1, 8, 6, 5\]; it is int8 \[1, 8, 4, 5\]"
    ):
        made.of(net.model(), tmp_path / "dropped").prove()


def test_a_weight_that_is_off_by_one_in_the_program(fsb, tmp_path):
    _, made = fsb
    folder = tmp_path / "build"
    shutil.copytree(made.folder, folder)
    program = Program.load(folder / "program.bin")
    address, data = program.image[0]
    wrong = bytes([data[0] ^ 1]) + data[1:]
    dataclasses.replace(program, image=((address, wrong), *program.image[1:])).save(
        folder / "program.bin"
    )
    with pytest.raises(CompilerError, match="stored by instruction"):
        Made(folder, made.graph).prove()


def test_a_tensor_of_the_compilers_own_that_differs(tmp_path, monkeypatch):
    made = make(_branches(Net()).model(), tmp_path)
    real = inner.evaluate

    def corrupt(graph, operators, known):
        results = real(graph, operators, known)
        next(iter(results.values())).reshape(-1)[3] ^= 1
        return results

    monkeypatch.setattr(inner, "evaluate", corrupt)
    with pytest.raises(CompilerError, match=r"\(1 of \d+ elements differ"):
        made.prove()


def test_a_tensor_that_nobody_knows(fsb, tmp_path):
    _, made = fsb
    folder = tmp_path / "build"
    shutil.copytree(made.folder, folder)
    program = Program.load(folder / "program.bin")
    old = program.tensors[3].name

    def named(name):
        return "nobody's" if name == old else name

    tensors = tuple(dataclasses.replace(t, name=named(t.name)) for t in program.tensors)
    layers = tuple(
        dataclasses.replace(layer, tensors=tuple(named(n) for n in layer.tensors))
        for layer in program.layers
    )
    dataclasses.replace(program, tensors=tensors, layers=layers).save(folder / "program.bin")
    with pytest.raises(CompilerError, match="the file has no codes under the name nobody's"):
        Made(folder, made.graph).prove()


# Twins of the reading: compiler and oracle agree, and are wrong --------------------------------


def _misread(monkeypatch, truth: onnx.ModelProto) -> None:
    """Compiler and oracle have read another file than the user's."""
    right = QuantizedGraph(truth)
    monkeypatch.setattr(prove, "Written", lambda graph: Written(right))


def test_a_zero_point_that_everybody_misreads(fsb, tmp_path, monkeypatch):
    model, _ = fsb
    names = _zero_points(model)
    for number in range(4, len(names), 18):
        wrong = make(_shifted(model, names[number], False), tmp_path / str(number))
        _misread(monkeypatch, model)
        with pytest.raises(CompilerError, match="differs from the file's own nodes at"):
            wrong.prove()
        monkeypatch.undo()
        wrong.prove()


def test_operands_and_a_node_that_everybody_misreads(tmp_path, monkeypatch):
    net = Net()
    a, b = net.start((1, 8, 4, 4), S8, "a"), net.start((1, 8, 4, 4), S8, "b")
    net.end(net.op("Relu", [net.op("Sub", [a, b])]), WIDE)
    truth = net.model()
    made = make(_swapped(net, "Sub"), tmp_path / "swapped")
    _misread(monkeypatch, truth)
    with pytest.raises(
        CompilerError, match=r"node node_t\d+ \(Sub\): t\d+ differs from the file's"
    ):
        made.prove()


def test_a_node_that_the_reading_passes_over(tmp_path, monkeypatch):
    """The nodes are found in the file, not in the reading: a skipped Relu is evaluated."""
    net = Net()
    net.end(net.op("Relu", [net.start((1, 8, 4, 4))]), S8)
    truth = net.model()
    next(n for n in net.nodes if n.op_type == "Relu").op_type = "Identity"
    made = make(net.model(), tmp_path)
    _misread(monkeypatch, truth)
    with pytest.raises(CompilerError, match="instead of 0"):
        made.prove()


def test_a_type_that_everybody_misreads(tmp_path, monkeypatch):
    """The most silent of the nine kinds: output_dtype taken for uint8."""
    net = Net(21)
    scale = net.floats(0.05)
    x = net.op("QuantizeLinear", [net.input((1, 8, 4, 4)), scale], output_dtype=3)
    net.output(net.op("DequantizeLinear", [x, scale]))
    graph = QuantizedGraph(net.model())
    real = quantization.of_quantize
    monkeypatch.setattr(
        quantization,
        "of_quantize",
        lambda call: QParams(real(call).scale, real(call).zero_point, np.dtype(np.uint8)),
    )
    wrong = QuantizedGraph(net.model())
    group, tensors = wrong.groups[0], {"x": np.linspace(-1, 1, 128, dtype=np.float32)}
    tensors["x"] = tensors["x"].reshape(1, 8, 4, 4)
    codes = np.zeros((1, 8, 4, 4), np.uint8)
    with pytest.raises(CompilerError, match=r"is uint8 \[1, 8, 4, 4\]; the file makes int8"):
        Written(graph).check(group, codes, tensors)


# The limits -------------------------------------------------------------------------------


def _checked(scale: float, change: int, odd: bool) -> Written:
    """A layer of ones whose results are x / scale; the code of one odd or even x is changed."""
    net = Net()
    one = net.dequantize(net.constant(np.ones((1, 1, 1, 1), np.int8)), Q(1.0, 0, np.int8))
    net.end(net.op("Conv", [net.start((1, 1, 9, 9), Q(1.0, 0, np.int8)), one]), Q(scale))
    graph = QuantizedGraph(net.model())
    first, group = graph.groups[0], graph.groups[1]
    codes = np.arange(81, dtype=np.int8).reshape(1, 1, 9, 9)
    result = group.compute({first.output: torch.from_numpy(codes)}).numpy().copy()
    result.reshape(-1)[41 if odd else 40] += change
    written = Written(graph)
    written.check(group, result, {first.output: codes})
    return written


def test_a_step_at_a_tie_is_allowed_elsewhere_it_is_not():
    assert _checked(2.0, 0, odd=True).figures["product"].differ == 0
    figures = _checked(2.0, 1, odd=True).figures["product"]  # 41 / 2 is 20 or 21
    assert (figures.differ, figures.beyond, figures.steps) == (1, 0, 1)
    for scale, odd in ((2.0, False), (1.0, True)):
        with pytest.raises(CompilerError, match=r"\(1 of 81 elements beyond ties"):
            _checked(scale, 1, odd)
    with pytest.raises(CompilerError, match=r"\(1 of 81 elements; 1 step is allowed"):
        _checked(2.0, 2, odd=True)


def test_what_onnx_runtime_does_not_run_is_said():
    net = Net()
    net.end(net.op("Relu", [net.start((1, 4))]))
    graph = QuantizedGraph(net.model())
    graph.file.model.opset_import[0].version = 99
    written = Written(graph)
    written.check(graph.groups[-2], np.zeros((1, 4), np.int8), {"t3": np.zeros((1, 4), np.int8)})
    (said,) = written.unproven
    assert said["op"] == "Relu" and said["node"].startswith("node_") and said["reason"]


def test_the_page_states_the_limits(tmp_path):
    text = PAGE.read_text()
    assert table() in text, "run `python -m proof.limits`"
    copy = tmp_path / "numerics.md"
    copy.write_text(text.replace("| Mul | 1 |", "| Mul | 7 |"))
    main([str(copy)])
    assert copy.read_text() == text and text.count(BEGIN) == 1


def test_every_form_has_a_limit():
    from models import operators

    forms = {"quantize", "requantize", "function", "dequantize", "move", *operators.FORMS}
    assert forms == set(LIMITS)
