"""Whether a node is one of the standard's at all: its inputs and the types of its attributes.

Importers rely on it, as ONNX Runtime does when it loads a file.
"""

from __future__ import annotations

import onnx

from compiler.frontend.model import refuse

FORMAL = onnx.defs.OpSchema.FormalParameterOption


def check_schema(node: onnx.NodeProto, opset: int) -> None:
    """Refuse a node of the standard that its schema does not describe.

    Attributes that the schema does not name are judged elsewhere (`catalogue.check_attributes`),
    and so are operators that it does not know.

    Raises
    ------
    Unsupported
        An input or an attribute is missing, of the wrong type, or one too many.
    """
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return
    _check_inputs(node, schema)
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


def _check_inputs(node: onnx.NodeProto, schema: onnx.defs.OpSchema) -> None:
    if len(node.input) > schema.max_input:
        raise refuse(node, f"{len(node.input)} inputs; it has {schema.max_input} at most")
    for index in range(schema.min_input):
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        if formal.option == FORMAL.Optional:
            continue
        if index >= len(node.input) or not node.input[index]:
            raise refuse(node, f"input {index} ({formal.name}) is missing")
