"""A tensor that meets itself is a function of its codes, by whatever views it comes back.

Product and function round ties differently, so compiler and oracle must agree which of the two a
file says. The scales here give ties: 1/256 squared, in steps of 1/128. ONNX Runtime, told to
compute as written, is the judge.
"""

from collections.abc import Callable

import numpy as np
import pytest

from compiler.ir import Pairwise, UnaryTable
from models.reference import Reference
from tests.compiler.frontend.single import imported, outputs, steps
from tests.models.net import Net, by_onnx_runtime
from tests.models.qdq import Q

TIES = Q(1 / 256, 154)
RESULT = Q(1 / 128, 125)
SHAPE = (1, 4, 8, 8)
Way = Callable[[Net, str], str]


def reshaped(net: Net, x: str, shape=SHAPE) -> str:
    return net.op("Reshape", [x, net.ints(shape)])


def turned(net: Net, x: str) -> str:
    return net.op("Transpose", [x], perm=[0, 1, 3, 2])


WAYS: dict[str, Way] = {
    "identity": lambda net, x: net.op("Identity", [x]),
    "dropout": lambda net, x: net.op("Dropout", [x]),
    "cast": lambda net, x: net.op("Cast", [x], to=1),
    "same shape": reshaped,
    "flat and back": lambda net, x: reshaped(net, reshaped(net, x, (1, 4, 64))),
    "turned twice": lambda net, x: turned(net, turned(net, x)),
    "squeezed": lambda net, x: net.op(
        "Unsqueeze", [net.op("Squeeze", [x, net.ints([0])]), net.ints([0])]
    ),
    "whole slice": lambda net, x: net.op("Slice", [x, net.ints([0]), net.ints([999])]),
    "all in order": lambda net, x: net.op("Gather", [x, net.ints(range(4))], axis=1),
    "one part": lambda net, x: net.op("Split", [x], axis=1),
    "alone": lambda net, x: net.op("Concat", [x], axis=1),
    "no pads": lambda net, x: net.op("Pad", [x, net.ints([0] * 8)]),
    "expanded": lambda net, x: net.op("Expand", [x, net.ints(SHAPE)]),
    "mean of one": lambda net, x: net.op(
        "ReduceMean", [reshaped(net, x, (1, 1, *SHAPE[1:]))], axes=[1], keepdims=0
    ),
    "same codes": lambda net, x: net.through(x, TIES),
}
FUNCTIONS: dict[str, Way] = {
    "function of a view": lambda net, x: net.op(
        "Sigmoid", [reshaped(net, reshaped(net, x, (1, 4, 64)))]
    ),
    "view of a function": lambda net, x: reshaped(
        net, net.op("Sigmoid", [reshaped(net, x, (1, 4, 64))])
    ),
}
NOT_ITSELF: dict[str, Way] = {
    "turned": turned,
    "halves swapped": lambda net, x: net.through(
        net.op("Concat", net.op("Split", [x], 2, axis=1)[::-1], axis=1), TIES
    ),
    "maximum of one": lambda net, x: net.op("MaxPool", [x], kernel_shape=[1, 1]),
}
"""Other elements, or another tensor: a product."""


def product(way: Way) -> tuple[Net, dict[str, np.ndarray]]:
    """x · way(x), clipped, and an input of all codes."""
    net = Net()
    x = net.start(SHAPE, TIES)
    net.end(net.op("Mul", [x, way(net, x)]), RESULT)
    codes = net.rng.permutation(np.arange(256)).reshape(SHAPE)
    return net, {"x": ((codes - TIES.zero) * TIES.scale).astype(np.float32)}


@pytest.mark.parametrize("way", {**WAYS, **FUNCTIONS, **NOT_ITSELF})
def test_compiler_and_oracle_say_the_same(way):
    net, feeds = product({**WAYS, **FUNCTIONS, **NOT_ITSELF}[way])
    model = net.model()
    graph = imported(model)
    kind = Pairwise if way in NOT_ITSELF else UnaryTable
    assert isinstance(graph.ops[-1], kind)
    (ours,) = outputs(graph, feeds)
    name = model.graph.output[0].name
    oracle = Reference(model).run(feeds, keep=[name])[name]
    assert np.array_equal(ours, oracle)
    theirs = by_onnx_runtime(model, feeds)["ORT_DISABLE_ALL"][0]
    apart = np.abs(ours - theirs) * 128
    assert apart.max() < 1.01
    assert way in NOT_ITSELF or not apart.any()


def test_twin_a_product_for_the_function_is_seen():
    """The two definitions differ on this input: taking one for the other cannot pass."""
    views, turned_twice = (product(WAYS[way]) for way in ("same shape", "turned twice"))
    net, feeds = product(NOT_ITSELF["maximum of one"])
    (as_product,) = outputs(imported(net.model()), feeds)
    for net, feeds in (views, turned_twice):
        (as_function,) = outputs(imported(net.model()), feeds)
        assert steps(np.rint(128 * as_function), np.rint(128 * as_product))[0] > 0
