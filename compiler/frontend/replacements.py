"""What a user can put in the place of an operator that is not supported."""

from __future__ import annotations

from collections.abc import Mapping

REPLACEMENTS: Mapping[str, tuple[str, str]] = {
    "CumSum": ("MatMul", "MatMul with a constant triangular matrix"),
    **dict.fromkeys(
        ("GRU", "LSTM", "RNN"),
        (
            "Gemm",
            (
                "the cell written out as Gemm, Sigmoid, Tanh, Mul and Add, which quantizers "
                "quantize (they leave this node in float): `python -m models cells FLOAT.onnx -o "
                "INT8.onnx --calibration CLIP.npz` does both; as one step with `--state h=h_next`, "
                "`python -m models export recurrent` makes one"
            ),
        ),
    ),
    "ReduceSum": (
        "ReduceMean",
        (
            "ReduceMean, then Mul by the number of elements, with one pair of QuantizeLinear and "
            "DequantizeLinear behind each"
        ),
    ),
    "Resize": (
        "Transpose",
        (
            "for nearest neighbours by whole factors, a grouped 1×1 Conv that repeats each "
            "channel, then Reshape, Transpose and Reshape (a pixel shuffle)"
        ),
    ),
    "ConvTranspose": (
        "Transpose",
        (
            "Conv to as many times the channels as a pixel becomes pixels, then Reshape, Transpose "
            "and Reshape (a pixel shuffle)"
        ),
    ),
    "DepthToSpace": ("Transpose", "Reshape, Transpose and Reshape, which only move elements"),
    "SpaceToDepth": ("Transpose", "Reshape, Transpose and Reshape, which only move elements"),
    "Tile": ("Concat", "Concat of the tensor with itself"),
    "ReduceMin": (
        "ReduceMax",
        "Neg, ReduceMax and Neg, with QuantizeLinear and DequantizeLinear behind each",
    ),
    **dict.fromkeys(
        ("GroupNormalization", "InstanceNormalization"),
        ("Conv", "BatchNormalization, which exporters fold into the convolution before it"),
    ),
}
"""By operator: an operator that is supported, and the advice that leads to it."""


def advice(op: str) -> str:
    """A sentence to add to a finding; "" where nothing is known."""
    return f"; in its place: {REPLACEMENTS[op][1]}" if op in REPLACEMENTS else ""


QUANTIZED = frozenset(
    (
        *("Add", "ArgMax", "AveragePool", "BatchNormalization", "Clip"),
        *("Concat", "Conv", "Flatten", "Gather", "Gemm"),
        *("GlobalAveragePool", "LayerNormalization", "LeakyRelu", "MatMul", "MaxPool"),
        *("Mul", "Pad", "Relu", "Reshape", "Sigmoid"),
        *("Slice", "Softmax", "Split", "Squeeze", "Transpose"),
        *("Unsqueeze", "Where"),
    )
)
"""Operators that are read here and that ONNX Runtime's quantize_static quantizes unasked."""


def how_to_quantize(op: str) -> str:
    """What to add where an operator ought to have been quantized; "" where quantizers do it."""
    if op in QUANTIZED:
        return ""
    return f" (onnxruntime's quantize_static does so if op_types_to_quantize names {op})"
