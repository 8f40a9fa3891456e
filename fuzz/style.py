"""How a graph is written: format, types, opset, names. Exporters differ in these throughout."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fuzz.choices import Choices

OPSETS = (13, 17, 20, 21, *(n for n in range(10, 27) if n not in (13, 17, 20, 21)))
"""Those that exporters write most come first."""


@dataclasses.dataclass(frozen=True, slots=True)
class Style:
    """What all operators of a graph have in common.

    Attributes
    ----------
    opset: version of the standard operators.
    qoperator: QLinearConv and the like instead of QDQ pairs.
    signed: S8 activations instead of U8.
    mixed: U8 where S8 is the rule, if nothing is negative.
    symmetric: zero point 0 (S8) or 128 (U8) where the range has both signs.
    scales: ``full`` float32, ``short`` decimals, or ``power`` of two.
    per_channel: weight scales.
    weights: how weights reach their operator.
    bias: how biases are written, where there are any.
    shared: one DequantizeLinear for all readers of a tensor, else one each.
    zero_points: ``given``, ``omitted`` where they are 0, or ``output_dtype`` where they are 0.
    names: scheme of tensor names.
    node_names: ``number``, ``none``, or ``output`` (that of the first output).
    constants: ``initializer``, ``node`` (Constant), or ``input`` (initializers listed as inputs).
    bare: percentage of moves and pools that get no quantizer of their own.
    extra: percentage of places where a graph does something unusual that is legal.
    """

    opset: int
    qoperator: bool
    signed: bool
    mixed: bool
    symmetric: bool
    scales: str
    per_channel: bool
    weights: str
    bias: str
    shared: bool
    zero_points: str
    names: str
    node_names: str
    constants: str
    bare: int
    extra: int

    @property
    def dtype(self) -> Any:
        """Type of activations."""
        return np.int8 if self.signed else np.uint8


def choose_style(c: Choices) -> Style:
    """Draw a style that one exporter or another could have."""
    opset = c.pick(OPSETS, [8, 8, 8, 8] + [1.6] * (len(OPSETS) - 4))
    qoperator = c.chance(20)
    late = opset >= 21
    per_channel = c.chance(60) and (opset >= 13 or qoperator)
    signed = c.chance(50)
    zero_points = c.pick(("given", "omitted", "output_dtype") if late else ("given", "omitted"))
    weights = ["codes", "codes", "quantized", "transposed", "clipped", "unsigned"]
    if opset < 12 or qoperator:  # Clip on integers begins with 12
        weights = ["codes"] if qoperator else ["codes", "quantized", "transposed"]
    if qoperator and not signed:  # ONNX Runtime has no kernel for S8 activations and U8 weights
        weights.append("unsigned")
    if "quantized" in weights and zero_points == "output_dtype":
        weights += ["quantized"] * 3
    return Style(
        opset=opset,
        qoperator=qoperator,
        signed=signed,
        mixed=c.chance(12) and not qoperator,
        symmetric=c.chance(40),
        scales=c.pick(("full", "short", "power"), (60, 25, 15)),
        per_channel=per_channel,
        weights=c.pick(weights),
        bias=c.pick(("int32", "float", "none", "int8"), (50, 25, 10, 15)),
        shared=c.chance(60),
        zero_points=zero_points,
        names=c.pick(("plain", "torch", "tf", "blank", "ours", "number"), (30, 20, 15, 15, 12, 8)),
        node_names=c.pick(("number", "none", "output"), (60, 20, 20)),
        constants=c.pick(("initializer", "node", "input"), (80, 12, 8)),
        bare=c.pick((0, 50, 100)),
        extra=c.pick((0, 12, 40), (30, 50, 20)),
    )
