"""Queries, keys and values from one product, parted as torch's exporters part them."""

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.compiler.frontend.agreement import agreed
from tests.compiler.frontend.single import codes, findings, theirs
from tests.models.net import Net
from tests.models.qdq import Q

TOKENS, HEADS, WIDTH = 7, 3, 4
INNER, OUTER = Q(0.05, 3, np.int8), Q(0.2, -4, np.int8)


def parted(how: str, part: int, front: bool = True) -> onnx.ModelProto:
    """[1, T, C] by weights, [1, T, 3, H, D] turned to [3, 1, H, T, D], one of the three taken."""
    net = Net(opset=18)
    features = 3 * HEADS * WIDTH
    x = net.input((1, TOKENS, 12), "x", np.int8)
    y = net.dequantize(x, INNER)
    if front:  # the product's features are channels, and the three lie along them
        y = net.through(net.op("MatMul", [y, net.weight((12, features), 1)]), OUTER)
    y = net.op("Reshape", [y, net.ints([1, TOKENS, 3, -1, WIDTH])])
    y = net.op("Transpose", [y], perm=[2, 0, 3, 1, 4])
    if how == "Slice":
        y = net.op("Slice", [y, net.ints([part]), net.ints([part + 1]), net.ints([0])])
    elif how == "Gather":
        y = net.op("Gather", [y, net.ints([part])], axis=0)
    else:
        y = net.op("Split", [y], count=3, axis=0, num_outputs=3)[part]
    y = net.op("Squeeze", [y, net.ints([0])])
    net.output(net.quantize(y, OUTER if front else INNER), np.int8)
    return net.model()


def feeds():
    return {"x": codes(np.random.default_rng(5), (1, TOKENS, 12), np.int8)}


@pytest.mark.parametrize("how", ["Slice", "Gather", "Split"])
@pytest.mark.parametrize("front", [True, False])
def test_each_of_the_three(how, front):
    made = []
    for part in range(3):
        model = parted(how, part, front)
        made.append(agreed(model, feeds()))
        assert np.array_equal(made[-1], theirs(model, feeds(), optimize=False))
    # Twin: the parts are told apart.
    assert not any(np.array_equal(made[i], made[i - 1]) for i in range(3))


def test_more_axes_than_memory_has():
    model = parted("Slice", 1)
    shape = next(node for node in model.graph.node if node.op_type == "Reshape")
    turn = next(node for node in model.graph.node if node.op_type == "Transpose")
    (wanted,) = (c for c in model.graph.initializer if c.name == shape.input[1])
    wanted.CopyFrom(onnx.numpy_helper.from_array(np.array([TOKENS, 3, 3, 2, 2]), wanted.name))
    turn.attribute[0].CopyFrom(helper.make_attribute("perm", [1, 2, 0, 3, 4]))
    reasons = [why for node, op, why in findings(model) if op == "Slice"]
    assert len(reasons) == 1 and "programs are built for 1" in reasons[0]
