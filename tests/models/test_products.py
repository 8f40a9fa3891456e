"""Products by constants and of two activations, and QOperator forms, against ONNX Runtime."""

import numpy as np
import pytest
from onnx import helper

from models.quantgraph import QuantizedGraph, UnsupportedGraph
from tests.models.net import U8, Net, agree
from tests.models.qdq import Q

SHAPE = (1, 12, 6, 6)
FINE = Q(0.0213, 11, np.int8)


def _refused(net: Net) -> str:
    with pytest.raises(UnsupportedGraph) as caught:
        QuantizedGraph(net.model())
    return str(caught.value)


# Products ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 5, 12), (1, 1, 12), (1, 5, 3, 12), (3, 12)])
def test_tokens_by_a_constant_matrix(shape):
    net = Net()
    net.end(net.op("MatMul", [net.start(shape), net.weight((12, 7), axis=1)]), Q(0.3, 3, np.int8))
    agree(net, limit=1, share=0.02)


def test_a_constant_matrix_by_activations():
    net = Net()
    left = net.weight((7, 12), q=Q(0.02, 0, np.int8))
    net.end(net.op("MatMul", [left, net.start((12, 5))]), Q(0.3, 3, np.int8))
    agree(net, limit=1, share=0.04)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 1.0), (1.0, 2.0), (0.3, 0.7)])
def test_gemm(trans_a, trans_b, alpha, beta):
    net = Net()
    x = net.start((6, 4) if trans_a else (4, 6))
    weight = net.weight((9, 6) if trans_b else (6, 9), axis=0 if trans_b else 1)
    bias = net.floats(net.rng.normal(0, 1, (9,)))
    attributes = {"transA": trans_a, "transB": trans_b, "alpha": alpha, "beta": beta}
    net.end(net.op("Gemm", [x, weight, bias], **attributes), Q(0.113, 3, np.int8))
    agree(net, limit=1, share=0.06)


@pytest.mark.parametrize("shape", [(), (1,), (1, 9), (4, 1), (4, 9)])
def test_gemm_adds_whatever_broadcasts(shape):
    net = Net()
    bias = net.floats(net.rng.normal(0, 1, shape))
    y = net.op("Gemm", [net.start((4, 6)), net.weight((9, 6)), bias], transB=1)
    net.end(y, Q(0.113, 3, np.int8))
    agree(net, limit=1, share=0.06)


@pytest.mark.parametrize("shape", [(9,), (4, 1)])
def test_gemm_of_two_activations_adds_a_bias(shape):
    net = Net()
    a, b = net.start((4, 6), name="a"), net.start((6, 9), Q(0.03, 20, np.int8), "b")
    bias = net.floats(net.rng.normal(0, 3, shape))
    net.end(net.op("Gemm", [a, b, bias]), Q(0.4, 3, np.int8))
    agree(net, limit=1, share=0.03)


def test_a_relu_between_a_dequantizer_and_a_product():
    net = Net()
    x = net.op("Relu", [net.start((1, 4, 5, 5))])
    net.end(net.op("Conv", [x, net.weight((6, 4, 3, 3))]), Q(0.5, 3, np.int8))
    agree(net, limit=1, share=0.02)


# QOperator forms --------------------------------------------------------------------------


def _qparams(net, scale, zero, dtype=np.uint8):
    return [net.floats(scale), net.constant(dtype(zero))]


def _qlinear_conv(net, channels_last=False):
    shape = (1, 6, 7, 4) if channels_last else (1, 4, 6, 7)
    x = net.input(shape, dtype=np.uint8)
    weight = net.constant(net.rng.integers(-99, 99, (5, 4, 3, 3)).astype(np.int8))
    scales = [net.floats(net.rng.uniform(0.01, 0.03, 5)), net.constant(np.zeros(5, np.int8))]
    bias = net.constant(net.rng.integers(-3000, 3000, 5).astype(np.int32))
    given = [x, *_qparams(net, 0.05, 117), weight, *scales, *_qparams(net, 1.1, 103), bias]
    attributes = {"channels_last": 1, "domain": "com.microsoft"} if channels_last else {}
    return net.op("QLinearConv", given, pads=[1, 0, 1, 2], **attributes)


def _qlinear_pair(kind):
    def make(net):
        a = [net.input(SHAPE, "a", np.uint8), *_qparams(net, 0.04, 99)]
        b = [net.input((12, 1, 1), "b", np.uint8), *_qparams(net, 0.03, 101)]
        return net.op(kind, [*a, *b, *_qparams(net, 0.21, 120)], domain="com.microsoft")

    return make


def _qlinear_concat(net):
    parts = [
        each
        for i in range(2)
        for each in (net.input((1, 3, 4), f"x{i}", np.uint8), *_qparams(net, 0.04 + 0.02 * i, 99))
    ]
    given = [*_qparams(net, 0.05, 120), *parts]
    return net.op("QLinearConcat", given, axis=1, domain="com.microsoft")


def _qlinear_single(kind, **attributes):
    def make(net):
        x = [net.input((1, 4, 6, 6), dtype=np.uint8), *_qparams(net, 0.04, 120)]
        given = [*x, *_qparams(net, 0.02, 100)]
        return net.op(kind, given, domain="com.microsoft", **attributes)

    return make


def _qlinear_matmul(net):
    a = [net.input((1, 5, 12), dtype=np.uint8), *_qparams(net, 0.04, 120)]
    codes = net.constant(net.rng.integers(-99, 99, (12, 7)).astype(np.int8))
    scales = [net.floats(net.rng.uniform(0.01, 0.03, 7)), net.constant(np.zeros(7, np.int8))]
    return net.op("QLinearMatMul", [*a, codes, *scales, *_qparams(net, 0.5, 101)])


def _qgemm(net):
    a = [net.input((3, 12), dtype=np.uint8), *_qparams(net, 0.04, 120)]
    b = [net.constant(net.rng.integers(-99, 99, (7, 12)).astype(np.int8))]
    b += _qparams(net, 0.02, 0, np.int8)
    bias = net.constant(net.rng.integers(-3000, 3000, 7).astype(np.int32))
    given = [*a, *b, bias, *_qparams(net, 0.5, 101)]
    return net.op("QGemm", given, transB=1, domain="com.microsoft")


QOPERATORS = {
    "QLinearConv": _qlinear_conv,
    "QLinearConv, channels last": lambda net: _qlinear_conv(net, True),
    "QLinearMatMul": _qlinear_matmul,
    "QGemm": _qgemm,
    "QLinearAdd": _qlinear_pair("QLinearAdd"),
    "QLinearMul": _qlinear_pair("QLinearMul"),
    "QLinearConcat": _qlinear_concat,
    "QLinearGlobalAveragePool": _qlinear_single("QLinearGlobalAveragePool"),
    "QLinearAveragePool": _qlinear_single("QLinearAveragePool", kernel_shape=[2, 2]),
    "QLinearLeakyRelu": _qlinear_single("QLinearLeakyRelu", alpha=0.2),
    "QLinearSigmoid": _qlinear_single("QLinearSigmoid"),
}


@pytest.mark.parametrize("form", QOPERATORS)
def test_qoperator_forms(form):
    net = Net()
    net.domains.append(helper.make_opsetid("com.microsoft", 1))
    net.output(QOPERATORS[form](net), np.uint8)
    agree(net, limit=1 if "Average" in form else 0, share=0.05 if "Average" in form else 0.02)


def test_domains_are_told_apart():
    for domain, op in (("my.ops", "Relu"), ("com.microsoft", "Relu"), ("", "QLinearAdd")):
        net = Net()
        net.domains.append(helper.make_opsetid(domain or "com.microsoft", 1))
        x = net.input(SHAPE)
        x = net.through(x) if op == "Relu" else net.quantize(x)
        net.output(net.op(op, [x], domain=domain))
        assert f"({op}):" in _refused(net)


def test_microsoft_quantizers_are_read():
    net = Net()
    net.domains.append(helper.make_opsetid("com.microsoft", 1))
    net.end(net.op("Relu", [net.start(SHAPE, U8)]), Q(0.03))
    for node in net.nodes:
        if "Quantize" in node.op_type or "Dequantize" in node.op_type:
            node.domain = "com.microsoft"
    agree(net)
