"""Functions whose codes hang on bits that no standard fixes are refused; others are not."""

import numpy as np
import pytest

from compiler.frontend.last_bits import INEXACT, shifted, uncertain
from tests.compiler.frontend.single import findings
from tests.models.net import Net, by_onnx_runtime
from tests.models.qdq import Q

WIDE = Q(np.float32(0.04351864010095596), 138, np.uint8)
FINE = Q(np.float32(0.02), 60, np.uint8)


def net_of(*nodes, codes=WIDE, target=FINE):
    net = Net(20)
    value = net.start((1, 256), codes)
    for kind, constants, attributes in nodes:
        value = net.op(kind, [value, *(net.floats(c) for c in constants)], **attributes)
    net.end(value, target)
    return net.model()


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_floor_of_what_is_left_of_gelu(approximate):
    model = net_of(("Gelu", (), {"approximate": approximate}), ("Floor", (), {}))
    ((_, op, reason),) = findings(model)
    assert op == "Floor" and reason.startswith("the last bits of a float32 decide its result")
    assert reason.endswith("put QuantizeLinear and DequantizeLinear between Gelu and Floor")


def test_kernels_do_differ_there():
    """ONNX Runtime's own float32 and the definition in float64: codes 50 apart."""
    model = net_of(("Gelu", (), {"approximate": "tanh"}), ("Floor", (), {}))
    reals = (np.arange(256, dtype=np.float32)[None] - WIDE.zero) * np.float32(WIDE.scale)
    theirs = by_onnx_runtime(model, {"x": reals})["ORT_DISABLE_ALL"][0]
    x = reals.astype(np.float64)
    exact = np.floor(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
    codes = np.clip(np.rint(exact / FINE.scale) + FINE.zero, 0, 255)
    made = np.rint(theirs / np.float32(FINE.scale)) + FINE.zero
    assert np.abs(codes - made).max() >= 50


@pytest.mark.parametrize(
    "nodes",
    [
        [("Gelu", (), {})],
        [("Sigmoid", (), {}), ("Mul", (np.float32(0.7),), {})],
        [("Tanh", (), {}), ("Sign", (), {})],  # 0 at 0, whatever the kernel
        [("Mul", (np.float32(0.3),), {}), ("Floor", (), {})],  # a product is exact
        [("Pow", (np.float32(2),), {}), ("Floor", (), {})],
        [("Tanh", (), {}), ("Abs", (), {}), ("Sqrt", (), {})],
    ],
    ids=lambda nodes: " ".join(kind for kind, _, _ in nodes),
)
def test_functions_that_are_read(nodes):
    assert findings(net_of(*nodes)) == []


def test_a_root_of_what_may_be_nothing():
    """1 - tanh² of large operands: its root is 0 or a thousandth, which is several steps here."""
    nodes = [
        ("Tanh", (), {}),
        ("Pow", (np.float32(2),), {}),
        ("Neg", (), {}),
        ("Add", (np.float32(1),), {}),
        ("Sqrt", (), {}),
    ]
    assert findings(net_of(*nodes, target=Q(np.float32(1 / 255), 0, np.uint8))) == []
    ((_, op, reason),) = findings(net_of(*nodes, target=Q(np.float32(2e-4), 0, np.uint8)))
    assert op == "Sqrt" and "last bits" in reason


def test_shifts_stay_in_the_range_of_the_function():
    x = np.float32([-20, 0, 20])
    for op in INEXACT:
        low, high = INEXACT[op]
        value = np.float32([low, max(low, 0.25), high])
        for shift in (-1.0, 1.0):
            made = shifted(op, [x, np.float32(1.5)], value, shift)
            assert made[1] == value[1], "at 0 kernels agree"
            assert made.min() >= low and made.max() <= high
    assert shifted("Tanh", [x], x, 0) is x and shifted("Mul", [x], x, 1.0) is x


def test_one_step_is_none():
    assert uncertain(lambda shift: np.array([3, 4 + (shift > 0)])) is None
    assert uncertain(lambda shift: np.array([3, 4 + 2 * (shift > 0)])) == (1, 4, 6)
