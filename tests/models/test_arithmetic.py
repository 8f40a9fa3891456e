"""Functions, pairs, means and products in the forms that files have, against ONNX Runtime."""

import numpy as np
import pytest
from onnx import TensorProto

from models import functions, ortcheck
from models.quantgraph import QuantizedGraph, UnsupportedGraph
from models.reference import Reference
from tests.models.net import S8, Net, agree
from tests.models.qdq import Q

SHAPE = (1, 12, 6, 6)
FINE = Q(0.0213, 11, np.int8)


def _refused(net: Net) -> str:
    with pytest.raises(UnsupportedGraph) as caught:
        QuantizedGraph(net.model())
    return str(caught.value)


# Functions of one tensor ------------------------------------------------------------------

SINGLE = [
    *("Abs", "Acos", "Asinh", "Atan", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp"),
    *("Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mish"),
    *("Neg", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh"),
    *("Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu"),
]


@pytest.mark.parametrize("kind", SINGLE)
def test_functions_of_one_tensor(kind):
    net = Net(20)
    net.end(net.op(kind, [net.start((1, 4, 16, 16))]), FINE)
    agree(net, limit=1, share=0.002)


ATTRIBUTES = {
    "Celu": {"alpha": 0.7},
    "Elu": {"alpha": 0.3},
    "Gelu": {"approximate": "tanh"},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "LeakyRelu": {"alpha": 0.2},
    "Selu": {"alpha": 1.2, "gamma": 0.9},
    "Shrink": {"bias": 0.2, "lambd": 1.1},
    "ThresholdedRelu": {"alpha": 0.6},
}


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_attributes_of_functions(kind):
    plain, other = Net(20), Net(20)
    for net, attributes in ((plain, {}), (other, ATTRIBUTES[kind])):
        net.end(net.op(kind, [net.start((1, 4, 16, 16))], **attributes), FINE)
    agree(other, limit=1, share=0.002)
    feeds = plain.feeds()
    results = [Reference(n.model()).run(feeds)[n.outputs[0].name] for n in (plain, other)]
    assert (results[0] != results[1]).any(), "the attribute makes no difference"


def _hard_swish(net, x):
    gate = net.op("Clip", [net.op("Add", [x, net.floats(3)]), net.floats(0), net.floats(6)])
    return net.op("Div", [net.op("Mul", [x, gate]), net.floats(6)])


def _where(net, x):
    return net.op("Where", [net.op("Greater", [x, net.floats(0.3)]), x, net.op("Exp", [x])])


def _integers(net, x):
    whole = net.op("Cast", [x], to=TensorProto.INT32)
    doubled = net.op("Mul", [whole, net.constant(np.int32(3))])
    halved = net.op("Div", [doubled, net.constant(np.int32(2))])
    return net.op("Cast", [halved], to=TensorProto.FLOAT)


SUBGRAPHS = {
    "x · sigmoid(x)": lambda n, x: n.op("Mul", [x, n.op("Sigmoid", [x])]),
    "hard swish, spelled out": _hard_swish,
    "x + x": lambda n, x: n.op("Tanh", [n.op("Add", [x, x])]),
    "mish, spelled out": lambda n, x: n.op("Mul", [x, n.op("Tanh", [n.op("Softplus", [x])])]),
    "where": _where,
    "through integers": _integers,
    "through float16": lambda n, x: n.op(
        "Cast", [n.op("Cast", [x], to=TensorProto.FLOAT16)], to=TensorProto.FLOAT
    ),
    "square": lambda n, x: n.op("Pow", [x, n.floats(2)]),
    "square root of a square": lambda n, x: n.op("Sqrt", [n.op("Pow", [x, n.floats(2)])]),
    "prelu": lambda n, x: n.op("PRelu", [x, n.floats([[[0.1]]])]),
    "normalised": lambda n, x: n.op(
        "Div", [n.op("Sub", [x, n.floats(0.4)]), n.floats([[[[0.7]]]])]
    ),
    "moved between": lambda n, x: n.op(
        "Tanh", [n.op("Reshape", [n.op("Sigmoid", [x]), n.ints([1, -1])])]
    ),
    "alike constant of many elements": lambda n, x: n.op("Mul", [x, n.floats(np.full(6, 0.3))]),
    "quantized constants": lambda n, x: n.op(
        "Sigmoid", [n.op("Mul", [x, n.dequantize(n.constant(np.int8(30)))])]
    ),
    "bounds through quantizers": lambda n, x: n.op(
        "Clip", [x, *(n.dequantize(n.constant(np.int8(c))) for c in (-20, 45))]
    ),
    "k / x": lambda n, x: n.op("Div", [n.floats(2), x]),
    "largest of three": lambda n, x: n.op("Max", [x, n.floats(0.3), n.op("Neg", [x])]),
    "mean with a constant": lambda n, x: n.op("Mean", [x, n.floats(0.5), n.op("Exp", [x])]),
}


@pytest.mark.parametrize("name", SUBGRAPHS)
def test_float_subgraphs_of_one_tensor_are_tables(name):
    net = Net(17)
    net.end(SUBGRAPHS[name](net, net.start((1, 4, 16, 6))), FINE)
    agree(net, limit=1, share=0.002)
    tables = [g for g in Reference(net.model()).groups if g.form == "function"]
    assert len(tables) == 1


def test_twin_a_function_evaluated_wrongly_is_seen(monkeypatch):
    monkeypatch.setitem(functions._SINGLE, "Mish", lambda x, a: x * np.tanh(np.abs(x)))
    with pytest.raises(AssertionError, match="steps"):
        test_functions_of_one_tensor("Mish")


def test_a_function_behind_another_result_and_several_tensors_are_refused():
    net = Net()
    x, y = net.start((1, 4), name="x"), net.start((1, 4), name="y")
    net.end(net.op("Mul", [x, net.op("Sigmoid", [y])]))
    assert "(Mul): input t13 comes in float from Sigmoid" in _refused(net)
    net = Net()
    net.end(net.op("Pow", [net.start((1, 4), name="x"), net.start((1, 4), name="y")]))
    assert "(Pow): has no integer definition for several quantized tensors" in _refused(net)
    net = Net()
    pooled = net.op("MaxPool", [net.op("Tanh", [net.start(SHAPE)])], kernel_shape=[2, 2])
    net.end(net.op("Exp", [pooled]))
    assert "(Exp): follows MaxPool without a quantization between" in _refused(net)


@pytest.mark.parametrize("kind", ["Pow", "Max"])
def test_an_operand_that_is_missing_is_refused(kind):
    net = Net()
    net.end(net.op(kind, [net.start(SHAPE), ""]))
    assert f"({kind}): input 1 is missing" in _refused(net)


def test_float_constants_over_several_axes_are_refused():
    """Scalars, and offsets and factors along one axis, are read."""
    for kind in ("Add", "Mul", "Div"):
        net = Net()
        net.end(net.op(kind, [net.start((1, 4, 3)), net.floats([[0.1, 0.2, 0.3]] * 4)]))
        assert "a float constant of shape [1, 4, 3]: quantize it" in _refused(net)


# Pairs ------------------------------------------------------------------------------------

OPERANDS = {
    "channels": (1, 12, 1, 1),
    "channels, rank 3": (12, 1, 1),
    "elements": (1, 12, 6, 6),
    "rows": (6, 1),
    "scalar": (),
    "one element": (1,),
    "rank 5": (1, 1, 1, 1, 1),
    "five axes": (2, 1, 12, 1, 6),
}


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Max", "Min"])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("operand", OPERANDS)
def test_quantized_constants_of_any_shape(kind, first, operand):
    net = Net()
    codes = net.rng.integers(0, 256, OPERANDS[operand]).astype(np.uint8)
    names = [net.start(SHAPE, Q(0.05, 131)), net.dequantize(net.constant(codes), Q(0.05, 100))]
    net.end(net.op(kind, names[::-1] if first else names), Q(0.1, 120))
    agree(net, limit=1, share=0.12)


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
@pytest.mark.parametrize("shape", [(), (1, 1, 1), (1, 1, 1, 1, 1)])
def test_float_scalars_of_any_rank(kind, shape):
    net = Net()
    scalar = net.floats(np.full(shape, 1.7))
    y = net.through(net.op(kind, [net.start((1, 4, 6, 6)), scalar]), Q(0.11, 7, np.int8))
    net.end(net.op("GlobalAveragePool", [y]), Q(0.051, 0, np.int8))
    agree(net, limit=1, share=0.2)


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Max", "Min"])
@pytest.mark.parametrize("other", [(1, 12, 6, 6), (12, 1, 6), (6,), (1, 12, 1, 1), (3, 1, 1, 1, 1)])
def test_activations_that_broadcast(kind, other):
    net = Net()
    a, b = net.start(SHAPE, S8, "a"), net.start(other, Q(0.03, 20, np.int8), "b")
    net.end(net.op(kind, [a, b]), Q(0.117, 5, np.int8))
    agree(net, limit=1, share=0.02)


def test_division_of_activations_and_by_constants():
    net = Net()
    a, b = net.start(SHAPE, S8, "a"), net.start((6,), Q(0.03, 0), "b")
    feeds = net.feeds() | {"b": np.linspace(0.5, 7, 6, dtype=np.float32)}
    divisors = net.constant(np.arange(3, 15, dtype=np.int8).reshape(12, 1, 1))
    net.end(net.op("Div", [a, b]), FINE)
    net.end(net.op("Div", [a, net.dequantize(divisors)]), FINE)
    agree(net, feeds, limit=1, share=0.002)
    feeds["b"][2] = 0
    feeds["a"][0, 0, 0, 2] = 0
    with pytest.raises(UnsupportedGraph, match=r"Div\): divides 0 by 0"):
        Reference(net.model()).run(feeds)


@pytest.mark.parametrize("kind", ["Max", "Min"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_extrema_of_several_with_other_scales(kind, count):
    net = Net()
    scales = [S8, Q(0.02, 9, np.int8), Q(0.06, 99)]
    names = [net.start((1, 12, 6, 6), q, f"x{i}") for i, q in enumerate(scales[:count])]
    net.end(net.op(kind, names), Q(0.07, 3, np.int8))
    agree(net)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_sums_of_several(count):
    net = Net()
    names = [net.start((1, 12, 6, 6), Q(0.03 + 0.0141 * i, 99 + i), f"x{i}") for i in range(count)]
    net.end(net.op("Sum", names), Q(0.237, 117))
    agree(net, limit=1, share=0.002)


@pytest.mark.parametrize("kind", ["Add", "Mul"])
@pytest.mark.parametrize("clamp", ["Relu", "Clip"])
def test_clamps_behind_pairs(kind, clamp):
    net = Net()
    a, b = net.start(SHAPE, S8, "a"), net.start(SHAPE, Q(0.03, 20, np.int8), "b")
    bounds = [] if clamp == "Relu" else [net.floats(-1.03), net.floats(2.5)]
    net.end(net.op(clamp, [net.op(kind, [a, b]), *bounds]), Q(0.0817, 5, np.int8))
    agree(net, limit=1, share=0.01)


# Integers as they are ---------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [(-100, 90), (-100, None), (None, 50)])
def test_clip_of_codes(bounds):
    net = Net()
    codes = net.quantize(net.input(SHAPE))
    given = ["" if b is None else net.constant(np.int8(b)) for b in bounds]
    net.output(net.dequantize(net.op("Clip", [codes, *given])))
    agree(net)


@pytest.mark.parametrize("kind", ["Max", "Min"])
def test_extrema_of_codes(kind):
    net = Net()
    codes = [net.quantize(net.input(SHAPE, f"x{i}")) for i in range(2)]
    limit = net.constant(np.full((6,), 20, np.int8))
    net.output(net.op(kind, [*codes, limit]), np.int8)
    agree(net)


def test_a_comparison_of_a_file_whose_inputs_are_codes(monkeypatch):
    net = Net()
    net.output(net.dequantize(net.input(SHAPE, dtype=np.int8), Q(0.01, 3, np.int8)))
    feeds = net.feeds()
    reference = Reference(net.model())
    same = ortcheck.compare_network(reference, feeds)
    assert (same["elements"], same["mismatches"]) == (np.prod(SHAPE), 0)
    run = reference.run
    monkeypatch.setattr(
        reference,
        "run",
        lambda *given, **kept: {n: v + 0.01 for n, v in run(*given, **kept).items()},
    )
    off = ortcheck.compare_network(reference, feeds)
    assert (off["mismatches"], off["max_difference"]) == (np.prod(SHAPE), 1)


def test_arithmetic_on_codes_is_refused():
    net = Net()
    codes = net.quantize(net.input(SHAPE))
    net.output(net.op("Add", [codes, codes]), np.int8)
    assert "(Add): is not read on integers as they are" in _refused(net)


# Means ------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [[2], [-1, -2], [0], [2, 3, 4], [1], None])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", [13, 18])
def test_means_over_any_axes(axes, keepdims, opset):
    net = Net(opset)
    x = net.start((1, 5, 3, 6, 7))
    if opset < 18:
        listed = {} if axes is None else {"axes": axes}
        y = net.op("ReduceMean", [x], keepdims=keepdims, **listed)
    else:
        listed = [] if axes is None else [net.ints(axes)]
        y = net.op("ReduceMean", [x, *listed], keepdims=keepdims)
    net.end(net.op("Reshape", [y, net.ints([1, -1])]), Q(0.0213, 2, np.int8))
    agree(net, limit=1, share=0.01)


def test_means_over_axes_of_size_one():
    for q in (FINE, S8):
        net = Net()
        net.end(net.op("ReduceMean", [net.start((1, 5, 1, 7))], axes=[0, 2], keepdims=0), q)
        agree(net)


def test_a_mean_and_views_behind_it():
    net = Net()
    pooled = net.op("GlobalAveragePool", [net.start((1, 6, 5, 5))])
    flat = net.op("Flatten", [pooled])
    net.end(net.op("Gemm", [net.through(flat, FINE), net.weight((4, 6))], transB=1), FINE)
    net.end(net.op("Squeeze", [net.op("Clip", [pooled, net.floats(-0.2)]), net.ints([2])]), FINE)
    agree(net, limit=1, share=0.1)
