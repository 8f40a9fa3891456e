"""Whether a node is one of the standard's at all: inputs, outputs, and the types of its attributes.

Importers rely on it, as ONNX Runtime does when it loads a file.
"""

from __future__ import annotations

import onnx

from compiler.frontend.model import refuse

REQUIRED = {"QLinearConcat": ("axis",), "QLinearSoftmax": ("opset",)}
INT, INTS = onnx.AttributeProto.INT, onnx.AttributeProto.INTS
MICROSOFT_TYPES = {
    **dict.fromkeys(("axis", "opset", "transA", "transB", "channels_last", "keepdims"), INT),
    **dict.fromkeys(("group", "ceil_mode", "count_include_pad"), INT),
    **dict.fromkeys(("axes", "kernel_shape", "pads", "strides", "dilations"), INTS),
    "alpha": onnx.AttributeProto.FLOAT,
    "auto_pad": onnx.AttributeProto.STRING,
}
"""Types of attributes of ONNX Runtime's own operators."""
FORMAL = onnx.defs.OpSchema.FormalParameterOption


def check_schema(node: onnx.NodeProto, opset: int) -> None:
    """Refuse a node of the standard that its schema does not describe.

    Attributes that the schema does not name are judged elsewhere (`catalogue.check_attributes`),
    and so are operators that it does not know.

    Raises
    ------
    Unsupported
        An input or an attribute is missing, of the wrong type, or one too many; or an output
        without a name is none that may be left out.
    """
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return
    _check_inputs(node, schema)
    _check_outputs(node, schema)
    for attribute in node.attribute:
        known = schema.attributes.get(attribute.name)
        if known is not None and int(known.type.value) != attribute.type:
            names = onnx.AttributeProto.AttributeType
            own = names.Name(attribute.type) if attribute.type in names.values() else "unknown"
            raise refuse(
                node, f"attribute {attribute.name} is of type {own}; it must be {known.type.name}"
            )
    given = {attribute.name for attribute in node.attribute}
    for name, known in schema.attributes.items():
        if known.required and name not in given:
            raise refuse(node, f"attribute {name} is missing")


def check_qoperator(node: onnx.NodeProto) -> None:
    """The same for an operator of com.microsoft, of which onnx holds no schema.

    Raises
    ------
    Unsupported
        An attribute is missing or of the wrong type, or a part of a Concat is incomplete.
    """
    for attribute in node.attribute:
        kind = MICROSOFT_TYPES.get(attribute.name)
        if kind is not None and attribute.type != kind:
            raise refuse(node, f"attribute {attribute.name} is of the wrong type")
    given = {attribute.name for attribute in node.attribute}
    for name in REQUIRED.get(node.op_type, ()):
        if name not in given:
            raise refuse(node, f"attribute {name} is missing")
    parts, rest = divmod(len(node.input) - 2, 3)
    if node.op_type == "QLinearConcat" and (parts < 1 or rest):
        raise refuse(
            node, f"{len(node.input)} inputs; two of the result and three of each part are read"
        )


def _check_inputs(node: onnx.NodeProto, schema: onnx.defs.OpSchema) -> None:
    if len(node.input) > schema.max_input:
        raise refuse(node, f"{len(node.input)} inputs; it has {schema.max_input} at most")
    for index in range(schema.min_input):
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        if formal.option == FORMAL.Optional:
            continue
        if index >= len(node.input) or not node.input[index]:
            raise refuse(node, f"input {index} ({formal.name}) is missing")


def _check_outputs(node: onnx.NodeProto, schema: onnx.defs.OpSchema) -> None:
    """Only optional results may go without a name."""
    for index, name in enumerate(node.output):
        formal = schema.outputs[min(index, len(schema.outputs) - 1)]
        if not name and formal.option != FORMAL.Optional:
            raise refuse(node, f"output {index} ({formal.name}) has no name: give it one")
