"""Small networks with states, written as a quantizer writes them."""

import numpy as np
import onnx

from tests.models.net import U8, Net
from tests.models.qdq import Q

H = Q(1 / 128, 128)
CODES = Q(0.03, 117)


def declared(net: Net, pairs: dict[str, str]) -> onnx.ModelProto:
    model = net.model()
    onnx.helper.set_model_props(model, {f"state:{name}": out for name, out in pairs.items()})
    return model


def cell(width: int = 6, seed: int = 0) -> Net:
    """h' = tanh(Wx + Uh), c' = c + h' (saturating): `y` = c' and both states."""
    net = Net(seed=seed)
    x = net.start([1, 5], U8)
    h = net.start([1, width], H, "h")
    c = net.start([1, width], CODES, "c")
    joined = net.through(net.op("Concat", [x, h], axis=1), Q(0.05, 120))
    scores = net.op("MatMul", [joined, net.weight([5 + width, width], axis=1)])
    following = net.through(net.op("Tanh", [net.through(scores, Q(0.02, 128))]), H)
    summed = net.through(net.op("Add", [c, following]), CODES)
    net.op("Identity", [following], output="h_next")
    net.op("Identity", [summed], output="c_next")
    net.output("h_next")
    net.output("c_next")
    net.end(net.op("Sigmoid", [summed]), U8)
    return net


CELL = {"h": "h_next", "c": "c_next"}


def window(frames: int = 3, width: int = 6, axis: int = 1) -> Net:
    """A window of vectors that moves by one: `window` [1, T, C], or [1, C, T] along axis 2."""
    net = Net()
    shape = [1, frames, width] if axis == 1 else [1, width, frames]
    one = [n if a != axis else 1 for a, n in enumerate(shape)]
    x = net.start(one, CODES)
    before = net.start(shape, CODES, "window")
    ends = [net.ints(v) for v in ([1], [frames], [axis])]
    kept = net.op("Slice", [before, *ends])
    moved = net.through(net.op("Concat", [kept, x], axis=axis), CODES)
    net.op("Identity", [moved], output="window_next")
    net.output("window_next")
    net.end(net.op("Tanh", [moved]), U8)
    return net


def swapped() -> Net:
    """a' = b, b' = a, and `y` = a + b' where b' = a: every state comes from another's input."""
    net = Net()
    a, b = net.start([1, 9], CODES, "a"), net.start([1, 9], CODES, "b")
    x = net.start([1, 9], CODES)
    net.op("Identity", [b], output="a_next")
    net.op("Identity", [a], output="b_next")
    net.output("a_next")
    net.output("b_next")
    net.end(net.op("Add", [a, x]), CODES)
    return net


def feeds(net: Net, names: list[str], steps: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs of steps, under the names that `sim run --steps` reads."""
    rng = np.random.default_rng(seed)
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in net.inputs
        if v.name in names
    }
    return {
        f"steps:input:{name}": rng.normal(0, 2, [steps, *shape]).astype(np.float32)
        for name, shape in shapes.items()
    }
