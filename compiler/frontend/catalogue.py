"""Which ONNX operators are read, with which attributes: the registries of the frontend as one list.

docs/operators.md is printed from it, and an attribute that it does not name refuses a node.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import onnx

from compiler.frontend.model import refuse
from compiler.frontend.qoperator import QOPERATORS
from compiler.ops import (
    AnyOperation,
    ArgMax,
    AxisMean,
    BatchedMatMul,
    Concat,
    Convolution,
    Enter,
    Join,
    Leave,
    Normalize,
    Pairwise,
    Pick,
    Pool,
    Slice,
    Softmax,
    Stack,
    UnaryTable,
)

WINDOW = ("auto_pad", "kernel_shape", "pads", "strides", "dilations")


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """Operators that are read alike.

    Attributes
    ----------
    operators: ONNX names.
    deviation: how the result may differ from the file's own nodes, a key of the proof's limits.
    becomes: the operator of the graph whose limits are its own; () where there are none.
    reads: attributes that are read.
    ignored: attributes that make no difference here, and why.
    notes: what else is refused, and what an attribute's values mean.
    """

    operators: tuple[str, ...]
    deviation: str
    becomes: tuple[type[AnyOperation], ...] = ()
    reads: tuple[str, ...] = ()
    ignored: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: str = ""


FORMS = (
    Form(
        ("Conv",),
        "product",
        (Convolution,),
        (*WINDOW, "group", "channels_last"),
        notes="One to three spatial axes. Weights and bias are constants; weights minus zero point "
        "lie in -128..127, with one scale or one per output channel. `channels_last` is "
        "com.microsoft's.",
    ),
    Form(
        ("Gemm",),
        "product",
        reads=("alpha", "beta", "transA", "transB"),
        notes="Constant weights; `alpha` > 0.",
    ),
    Form(
        ("MatMul",),
        "product",
        (BatchedMatMul,),
        notes="An activation of any rank by a constant matrix; a constant matrix of one scale by "
        "an activation; two activations: any batch, transposed or not, U8 or S8. Constant factors "
        "(1/√d) on either operand or on the result may stay in float.",
    ),
    Form(
        ("Einsum",),
        "product",
        reads=("equation",),
        notes="Of two activations, each axis once in each: `bhqd,bhkd->bhqk` and its relatives. As "
        "MatMul.",
    ),
    Form(
        ("Softmax",),
        "softmax",
        (Softmax,),
        ("axis", "opset"),
        notes="Over one axis, before opset 13 over all from `axis` on, of at most 2,047 elements. "
        "The result's scale is 1/256 at least. A constant factor in front of it may stay in float. "
        "`opset` is com.microsoft's.",
    ),
    Form(
        ("LayerNormalization",),
        "norm",
        (Normalize,),
        ("axis", "epsilon"),
        notes="Over all axes from `axis` on, of at most 1,024 elements together; scale and bias "
        "are constants, float or quantized. Mean and deviation are not made. A norm written out "
        "(Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul, Add), float from one DequantizeLinear to one "
        "QuantizeLinear, is read as it: biased or unbiased, ε under or behind the root.",
    ),
    Form(
        ("BatchNormalization",),
        "channelwise",
        reads=("epsilon", "training_mode"),
        ignored={"momentum": "it is about training"},
        notes="Behind no convolution (exporters fold the others): a depthwise convolution with "
        "weights ±127. Constant scale, offset, mean and variance.",
    ),
    Form(
        ("Div",),
        "channelwise",
        notes="By a float constant of each channel; Add, Sub and Mul with one are read alike.",
    ),
    Form(
        ("ArgMax",),
        "move",
        (ArgMax,),
        ("axis", "keepdims", "select_last_index"),
        notes="The first of equal ones. Between DequantizeLinear and a graph output, a comparison "
        "with a constant, or moves; of more than 256 elements only a graph output. It needs no "
        "QuantizeLinear.",
    ),
    *(
        Form((op,), op, (Pairwise,), notes="Two operands, any broadcasting.")
        for op in ("Add", "Sub", "Mul")
    ),
    Form(("Max", "Min"), "extremum", (Pairwise,), notes="Any number of operands and any scales."),
    Form(
        ("PRelu",),
        "PRelu",
        notes="A constant slope per channel; with one slope it is a function of one activation.",
    ),
    Form(("Concat",), "Concat", (Concat,), ("axis",), notes="Any scales."),
    Form(
        ("AveragePool",),
        "AveragePool",
        (Pool,),
        (*WINDOW, "ceil_mode", "count_include_pad", "channels_last"),
        notes="All windows average as many elements. `dilations` above 1 and `channels_last` are "
        "refused.",
    ),
    Form(
        ("MaxPool",),
        "requantize",
        (Pool,),
        (*WINDOW, "ceil_mode", "channels_last"),
        {"storage_order": "it orders the indices, which are not made"},
        notes="Without indices. `dilations` above 1 and `channels_last` are refused.",
    ),
    Form(
        ("GlobalAveragePool",),
        "mean",
        (AxisMean,),
        ("channels_last",),
        notes="`channels_last` is refused.",
    ),
    Form(
        ("ReduceMean",),
        "mean",
        (AxisMean,),
        ("axes", "keepdims", "noop_with_empty_axes"),
        notes="Over channels it is a convolution with ones. Axes may be a constant input.",
    ),
    Form(
        ("GlobalMaxPool",),
        "requantize",
        (Pool,),
        ("channels_last",),
        notes="`channels_last` is refused.",
    ),
    Form(
        ("ReduceMax",),
        "requantize",
        (Pool,),
        ("axes", "keepdims", "noop_with_empty_axes"),
        notes="Channels are turned onto another axis first. Axes may be a constant input.",
    ),
    Form(("Transpose",), "move", reads=("perm",), notes="Any permutation."),
    Form(("Reshape",), "move", reads=("allowzero",), notes="The shape is constant."),
    Form(("Flatten",), "move", reads=("axis",)),
    Form(("Squeeze", "Unsqueeze"), "move", reads=("axes",), notes="Axes may be a constant input."),
    Form(("Identity",), "move"),
    Form(
        ("Dropout",),
        "move",
        ignored={
            "ratio": "inference keeps every element",
            "seed": "inference draws nothing",
        },
        notes="As in inference, without the mask.",
    ),
    Form(("Slice",), "move", (Slice,), notes="Constant starts and ends as inputs; steps forward."),
    Form(("Split",), "move", (Slice,), ("axis", "split", "num_outputs")),
    Form(
        ("Gather",),
        "move",
        (Slice,),
        ("axis",),
        notes="Constant indices that rise evenly, of any sign and nesting.",
    ),
    Form(("Expand",), "move", (Concat,), notes="The shape is constant."),
    Form(
        ("Pad",),
        "move",
        (Concat,),
        ("mode", "pads", "value"),
        notes="Constant padding with constant widths that are not negative; the value is a code. "
        "`pads` and `value` are inputs since opset 11; as attributes they are refused.",
    ),
    Form(
        ("If",),
        "move",
        (Join,),
        ("then_branch", "else_branch"),
        notes="The accelerator decides. The condition is a comparison (or any bool function) of "
        "one quantized element, or ArgMax of a few, compared with a constant; results of both arms "
        "have one shape and scale. Bodies must be quantized: models/control.py shows how.",
    ),
    Form(
        ("Loop",),
        "move",
        (Enter, Leave, Pick, Stack),
        ("body",),
        notes="A constant number of trips. The body stands in the program once where a trip's "
        "number only takes its element of a tensor (Gather) and what is carried are codes, or "
        "reals of one scale; else each trip is written out, at most 64. Rows only where all trips "
        "are made. An exit is a condition as that of If.",
    ),
    Form(
        ("Scan",),
        "move",
        (Enter, Leave, Pick, Stack),
        (
            *("body", "num_scan_inputs", "scan_input_axes", "scan_input_directions"),
            *("scan_output_axes", "scan_output_directions"),
        ),
        notes="As the Loop that it is; forwards, and stacked along the first axis.",
    ),
    Form(
        ("QuantizeLinear",),
        "quantize",
        (UnaryTable,),
        ("axis", "block_size", "output_dtype", "precision"),
        {"saturate": "it is about float8"},
        notes="8 bits, one scale per tensor; weights one per output channel. No `block_size`.",
    ),
    Form(
        ("DequantizeLinear",),
        "dequantize",
        (),
        ("axis", "block_size", "output_dtype"),
        notes="8 bits, 32 for biases; float32 scales. No `block_size`.",
    ),
)
"""Every operator that is not a float function of one activation."""

_INSTEAD = (
    "export MatMul, Softmax, MatMul (opset 22 or below, no attention fusion) and quantize each"
)
_ATTENTION = (
    "pairs around it give scales to its operands and its result, none to its scores and their "
    f"softmax, which stay float: {_INSTEAD}"
)
_INTEGER_ATTENTION = (
    "only its input and its weights are int8; queries, keys, values, scores and the result are "
    f"float, without a scale: {_INSTEAD}"
)
_DYNAMIC = "its scales are computed at run time: quantize statically"
UNREAD = {
    **dict.fromkeys(
        ("Attention", "GroupQueryAttention", "MultiHeadAttention", "PackedAttention"),
        _ATTENTION,
    ),
    "QAttention": _INTEGER_ATTENTION,
    **dict.fromkeys(("ConvInteger", "DynamicQuantizeLinear", "MatMulInteger"), _DYNAMIC),
    "DynamicQuantizeLSTM": f"{_DYNAMIC}; of the float file `python -m models cells` makes one",
    **dict.fromkeys(
        ("GroupNormalization", "InstanceNormalization"),
        "of the norms LayerNormalization is read: Reshape to [1, groups, elements], "
        "LayerNormalization with scale 1 and bias 0, Reshape, Mul and Add per channel, each "
        "quantized; or BatchNormalization, which exporters fold into the convolution before it",
    ),
    "RMSNormalization": "of the norms LayerNormalization is read: export at opset 22 or below, "
    "which writes this one out, and quantize each of its operators",
}
"""Operators of which more can be said than that they are not supported."""

BY_OPERATOR = {operator: form for form in FORMS for operator in form.operators}


def check_attributes(node: onnx.NodeProto) -> None:
    """Refuse a node with an attribute that is not read and does not have its default.

    Float functions are evaluated with all their attributes; what is not read at all is refused
    elsewhere.
    """
    plain, _ = QOPERATORS.get(node.op_type, (node.op_type, ""))
    form = BY_OPERATOR.get(plain)
    if form is None:
        return
    for attribute in node.attribute:
        if attribute.name in form.reads or attribute.name in form.ignored:
            continue
        value = onnx.helper.get_attribute_value(attribute)
        if value != _default(node, attribute.name):
            raise refuse(node, f"attribute {attribute.name} = {value!r} is not read")


def _default(node: onnx.NodeProto, name: str) -> object:
    """What the standard says where the attribute is absent; None where it says nothing."""
    if node.domain not in ("", "ai.onnx"):
        return None
    known = onnx.defs.get_schema(node.op_type).attributes.get(name)
    if known is None or not known.default_value.type:
        return None
    return onnx.helper.get_attribute_value(known.default_value)
