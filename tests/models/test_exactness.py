"""Sums of U8 by S8 products are exact on every CPU, whatever its kernels do."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import exactness
from models.exactness import exact_session, saturates, unsaturated

RNG = np.random.default_rng(3)
A = RNG.integers(128, 256, (5, 64)).astype(np.uint8)
B = np.concatenate([np.full((64, 4), 127), np.full((64, 4), -128)], axis=1).astype(np.int8)
ZA, ZB, SCALE, ZY = 3, -5, 14000.0, 128
LEVELS = ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"]


def constant(name, value):
    return numpy_helper.from_array(np.asarray(value), name)


PARAMETERS = [
    constant("one", np.float32(1)),
    constant("za", np.uint8(ZA)),
    constant("zb", np.int8(ZB)),
    constant("sy", np.float32(SCALE)),
    constant("zy", np.uint8(ZY)),
    constant("empty", np.zeros(8, np.int32)),
]


def qlinear_matmul():
    return [
        helper.make_node("QLinearMatMul", ["a", "one", "za", "b", "one", "zb", "sy", "zy"], ["y"])
    ]


def qgemm():
    given = ["a", "one", "za", "b", "one", "zb", "empty", "sy", "zy"]
    return [helper.make_node("QGemm", given, ["y"], domain="com.microsoft")]


def qdq():
    return [
        helper.make_node("DequantizeLinear", ["a", "one", "za"], ["af"]),
        helper.make_node("DequantizeLinear", ["b", "one", "zb"], ["bf"]),
        helper.make_node("MatMul", ["af", "bf"], ["yf"]),
        helper.make_node("QuantizeLinear", ["yf", "sy", "zy"], ["y"]),
    ]


def without_zero_points():
    """What a DequantizeLinear reads says whether it is U8 or S8."""
    nodes = qdq()
    for node in nodes[:2]:
        del node.input[2:]
    return nodes


def branch():
    inner = helper.make_graph(
        qlinear_matmul(), "arm", [], [helper.make_tensor_value_info("y", TensorProto.UINT8, None)]
    )
    inner.output[0].name = inner.node[0].output[0] = "inner"
    return [helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner)]


FORMS = {f.__name__: f for f in (qlinear_matmul, qgemm, qdq, without_zero_points, branch)}


def model(form, b_is_constant):
    constants = [*PARAMETERS, constant("yes", np.bool_(True))]
    inputs = [helper.make_tensor_value_info("a", TensorProto.UINT8, A.shape)]
    if b_is_constant:
        constants.append(constant("b", B))
    else:
        inputs.append(helper.make_tensor_value_info("b", TensorProto.INT8, B.shape))
    output = helper.make_tensor_value_info("y", TensorProto.UINT8, None)
    graph = helper.make_graph(FORMS[form](), "net", inputs, [output], constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def options(level):
    made = ort.SessionOptions()
    made.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    made.log_severity_level = 4
    return made


def expected(form="qdq"):
    za, zb = (0, 0) if form == "without_zero_points" else (ZA, ZB)
    sums = (A.astype(np.int64) - za) @ (B.astype(np.int64) - zb)
    return np.clip(np.rint(sums / np.float64(SCALE)) + ZY, 0, 255)


def run(made, level):
    names = {value.name for value in made.graph.input}
    fed = {name: value for name, value in (("a", A), ("b", B)) if name in names}
    return exact_session(made, options(level)).run(None, fed)[0]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("b_is_constant", [True, False], ids=["weights", "activations"])
@pytest.mark.parametrize("form", FORMS)
def test_sums_beyond_16_bits_are_exact(form, b_is_constant, level):
    assert np.abs((A[0, :2].astype(int) - 0) @ B[:2].astype(int)).max() > 1 << 15
    assert np.array_equal(run(model(form, b_is_constant), level), expected(form))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("b_is_constant", [True, False], ids=["weights", "activations"])
@pytest.mark.parametrize("form", FORMS)
def test_rewritten_files_say_the_same_on_any_cpu(form, b_is_constant, level, monkeypatch):
    """As where the CPU saturates; codes that move by one less are seen."""
    made = model(form, b_is_constant)
    monkeypatch.setattr(exactness, "saturates", lambda: True)
    assert unsaturated(made) != made
    assert np.array_equal(run(made, level), expected(form))
    assert {v.name for v in unsaturated(made).graph.input} == {v.name for v in made.graph.input}

    class Off(exactness._Rewriter):
        def _shift(self, name):
            monkeypatch.setattr(exactness, "HALF", 127 if name == "b" else 128)
            return super()._shift(name)

    monkeypatch.setattr(exactness, "_Rewriter", Off)
    assert not np.array_equal(run(made, level), expected(form))


def test_signed_first_operands_stay():
    made = model("qlinear_matmul", True)
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8
    for each in made.graph.initializer:
        if each.name in ("za", "zy"):
            each.CopyFrom(constant(each.name, np.int8(0)))
    assert unsaturated(made) == made


def test_names_of_the_file_are_left_alone():
    made = model("qlinear_matmul", True)
    made.graph.initializer.append(constant("b/unsigned", np.float32(0)))
    assert np.array_equal(run(unsaturated(made), LEVELS[0]), expected())


def test_what_the_cpu_does_is_measured():
    """Without the rewriting a saturating CPU is wrong, and only such a one."""
    made = model("qlinear_matmul", False)
    session = ort.InferenceSession(made.SerializeToString(), options(LEVELS[0]))
    wrong = np.any(session.run(None, {"a": A, "b": B})[0] != expected())
    assert saturates() == wrong
