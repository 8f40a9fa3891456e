"""Inputs that the host writes in another form than the file has them in."""

import numpy as np

from tests.compiler.frontend.agreement import agreed, written
from tests.compiler.frontend.single import codes, imported
from tests.models.qdq import Builder, Q


def test_an_input_that_is_needed_in_a_third_form_only():
    """Neither as the file has it nor as its view is cut, but as the norm wants it."""
    builder = Builder()
    x = builder.dequantize("x", Q(0.0047, 0, np.int8), shape=(1, 4, 2, 2, 2))
    lines = builder.op("Reshape", [x, builder.constant("shape", np.array([1, 4, 8]))], "lines")
    rng = np.random.default_rng(2)
    constants = [rng.uniform(0.8, 1.4, 8), rng.uniform(-0.7, 0.1, 8)]
    names = [
        builder.constant(n, c.astype(np.float32)) for n, c in zip("gb", constants, strict=True)
    ]
    builder.op("LayerNormalization", [lines, *names], axis=2, epsilon=1e-3)
    model = builder.model(Q(0.00993695, -27, np.int8))
    feeds = {"x": codes(np.random.default_rng(4), (1, 4, 2, 2, 2), np.int8)}
    (port,) = imported(model).inputs
    assert (port.value, port.onnx_name) == ("x", "x")
    agreed(model, feeds)
    assert written(model, feeds)["norm"].steps <= 1
