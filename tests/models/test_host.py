"""What the host computes in float before the first quantizer."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from models.quantgraph import QuantizedGraph, UnsupportedGraph
from tests.models.net import Net, agree
from tests.models.qdq import Q

SHAPE = (1, 12, 6, 6)
FINE = Q(0.0213, 11, np.int8)


def _refused(net: Net) -> str:
    with pytest.raises(UnsupportedGraph) as caught:
        QuantizedGraph(net.model())
    return str(caught.value)


PREFIXES = {
    "x / 255": lambda n, x: n.op("Div", [x, n.floats(255)]),
    "per channel": lambda n, x: n.op(
        "Div", [n.op("Sub", [x, n.floats([[[0.1]], [[0.2]], [[0.3]]])]), n.floats([[[0.7]]] * 3)]
    ),
    "sigmoid": lambda n, x: n.op("Sigmoid", [x]),
    "a convolution": lambda n, x: n.op("Conv", [x, n.floats(np.ones((2, 3, 2, 2)) / 7)]),
    "a pool": lambda n, x: n.op("MaxPool", [x], kernel_shape=[2, 2]),
    "its own shape": lambda n, x: n.op("Reshape", [x, n.op("Shape", [n.op("Abs", [x])])]),
    "another input": lambda n, x: n.op("Sub", [x, n.input((1, 3, 1, 6), "y")]),
    "not moved": lambda n, x: n.op("Transpose", [x], perm=[0, 2, 3, 1]),
}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_stands_before_the_first_quantizer_is_evaluated_as_it_stands(prefix):
    net = Net()
    y = net.through(PREFIXES[prefix](net, net.input((1, 3, 6, 6))), Q(0.021, 77))
    net.end(net.op("Relu", [y]), Q(0.021, 77))
    agree(net)


def test_an_image_of_bytes_cast_to_float():
    net = Net()
    real = net.op("Cast", [net.input((1, 6, 6, 3), dtype=np.uint8)], to=TensorProto.FLOAT)
    moved = net.op("Transpose", [real], perm=[0, 3, 1, 2])
    scaled = net.op("Mul", [moved, net.floats([[[0.01]], [[0.02]], [[0.03]]])])
    net.end(net.op("Relu", [net.through(scaled, Q(0.02))]), Q(0.02))
    agree(net)


def test_indices_into_a_table_of_embeddings():
    net = Net()
    net.inputs.append(helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, 5]))
    rows = net.op("Gather", [net.floats(net.rng.normal(0, 1, (9, 8))), "tokens"])
    net.end(net.op("MatMul", [net.through(rows, Q(0.02, 0, np.int8)), net.weight((8, 6), 1)]), FINE)
    agree(net, {"tokens": np.array([[1, 8, 0, 3, 3]])}, limit=1, share=0.05)


def test_the_host_and_codes_do_not_mix():
    net = Net()
    x = net.input(SHAPE)
    net.end(net.op("Add", [net.through(x), x]))
    assert "(Add): input x is a float that nothing has quantized" in _refused(net)
    net = Net()
    net.output(net.op("Relu", [net.input(SHAPE)]))
    assert "computed in float: quantize it" in _refused(net)
