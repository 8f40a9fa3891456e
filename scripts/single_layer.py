"""Write one quantized convolution as ONNX, for single-layer benchmarks.

Usage: python -m scripts.single_layer OUT.onnx INPUT_CHANNELS OUTPUT_CHANNELS KERNEL SIZE [STRIDE]
KERNEL, SIZE and STRIDE are [T x] H x W, e.g. 3x3 and 56x56, or 3x1x1 and 16x56x56.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.ortcheck import session

Shape = tuple[int, ...]


def single_convolution(
    cin: int, cout: int, kernel: Shape, size: Shape, stride: Shape | None = None
) -> onnx.ModelProto:
    """QDQ graph of a convolution, of stride 1 unless given, padded by half its kernel."""
    strides = stride or (1,) * len(kernel)
    pads = [k // 2 for k in kernel]
    results = [
        (n + 2 * p - k) // s + 1 for n, p, k, s in zip(size, pads, kernel, strides, strict=True)
    ]
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (cout, cin, *kernel)).astype(np.int8)
    weight_scale = rng.uniform(0.002, 0.004, cout).astype(np.float32)
    # The sum of n products of standard deviations 74 (u8) and 73 (s8) should span the u8 range.
    spread = 74.0 * 73.0 * np.sqrt(cin * math.prod(kernel)) * 0.003 * 0.02
    constants = {
        "x_scale": np.float32(0.02),
        "x_zero": np.uint8(128),
        "y_scale": np.float32(6.0 * spread / 255.0),
        "y_zero": np.uint8(128),
        "w": weight,
        "w_scale": weight_scale,
        "w_zero": np.zeros(cout, np.int8),
        "b": rng.integers(-5000, 5000, cout).astype(np.int32),
        "b_scale": (np.float32(0.02) * weight_scale).astype(np.float32),
        "b_zero": np.zeros(cout, np.int32),
    }
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["clip", "x_scale", "x_zero"], ["x_q"], "quantize_x"),
        make("DequantizeLinear", ["x_q", "x_scale", "x_zero"], ["x"], "dequantize_x"),
        make("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wf"], "dequantize_w", axis=0),
        make("DequantizeLinear", ["b", "b_scale", "b_zero"], ["bf"], "dequantize_b", axis=0),
        make("Conv", ["x", "wf", "bf"], ["y"], "conv", pads=pads * 2, strides=strides),
        make("QuantizeLinear", ["y", "y_scale", "y_zero"], ["y_q"], "quantize_y"),
        make("DequantizeLinear", ["y_q", "y_scale", "y_zero"], ["out"], "dequantize_y"),
    ]
    graph = helper.make_graph(
        nodes,
        f"conv{_name(kernel)}_{cin}_{cout}_{_name(size)}",
        [helper.make_tensor_value_info("clip", TensorProto.FLOAT, [1, cin, *size])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, cout, *results])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def _name(shape: Shape) -> str:
    return "x".join(map(str, shape))


def main() -> None:
    """Write the model and, beside it, a recorded input and ONNX Runtime's output."""
    out = Path(sys.argv[1])
    cin, cout = map(int, sys.argv[2:4])
    kernel, size, *stride = (tuple(map(int, word.split("x"))) for word in sys.argv[4:7])
    out.parent.mkdir(parents=True, exist_ok=True)
    model = single_convolution(cin, cout, kernel, size, *stride)
    onnx.save(model, out)
    clip = np.random.default_rng(1).normal(0, 1.2, (1, cin, *size)).astype(np.float32)
    (result,) = session(model).run(["out"], {"clip": clip})
    np.savez(out.with_suffix(".npz"), **{"input:clip": clip, "output:out": result})


if __name__ == "__main__":
    main()
