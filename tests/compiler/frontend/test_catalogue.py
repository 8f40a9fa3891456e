"""The list of forms against the importer's registries, the standard, and the source."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler import frontend
from compiler.frontend import reading
from compiler.frontend.catalogue import BY_OPERATOR, FORMS, check_attributes
from compiler.frontend.functions import ELEMENTWISE
from compiler.frontend.model import FIRST_OPSET, LAST_OPSET, Unsupported
from compiler.frontend.qoperator import QOPERATORS
from compiler.onnx_import import import_onnx
from models.errors import ModelsError
from models.reference import Reference

REFUSED = {("LayerNormalization", "stash_type")}
"""Attributes of the standard that are not read: other values than the default are refused."""
FUNCTIONS = {"max", "min", "to"}
"""Attributes of elementwise operators that the importer looks at itself."""
BODIES = {"body", "else_branch", "then_branch"}
"""Of If and Loop, which become part of the graph."""
SCANS = {
    *("num_scan_inputs", "scan_input_directions"),
    *("scan_output_axes", "scan_output_directions"),
}
"""Of Scan: frontend/scans.py looks at them one after another."""
SHAPES = {"end", "start"}
"""Of Shape, which is folded."""


def test_every_operator_of_the_importer_is_listed_once():
    listed = [operator for form in FORMS for operator in form.operators]
    assert len(listed) == len(set(listed))
    known = {*reading.CONVERTERS, *reading.INDICES, *reading.KEPT, *reading.QUANTIZERS}
    assert set(listed) == known | {"If", "Loop", "Scan"}, "read by frontend/control.py"


def standard(operator):
    """Attributes of an operator in any version that is read."""
    found = set()
    for version in range(FIRST_OPSET, min(LAST_OPSET, onnx.defs.onnx_opset_version()) + 1):
        if onnx.defs.has(operator, version, ""):
            found |= set(onnx.defs.get_schema(operator, version).attributes)
    return found


@pytest.mark.parametrize("operator", BY_OPERATOR)
def test_every_attribute_of_the_standard_is_accounted_for(operator):
    form = BY_OPERATOR[operator]
    refused = {name for op, name in REFUSED if op == operator}
    listed = {*form.reads, *form.ignored}
    assert not set(form.reads) & set(form.ignored) and not listed & refused
    own = {"channels_last", "opset"} if operator not in ("Gemm", "MatMul") else set()  # Microsoft
    assert standard(operator) - refused <= listed <= standard(operator) | own


def literals():
    """Attribute names in the frontend's source: what is looked up in a node's attributes."""
    found = set()
    for path in Path(frontend.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "get"
                and "attributes" in ast.unparse(node.func.value)
                and isinstance(node.args[0], ast.Constant)
            ):
                found.add(node.args[0].value)
    return found


def test_what_is_listed_is_what_the_source_looks_up():
    listed = {name for form in FORMS for name in form.reads}
    # `pads` and `value` of Pad are listed so that their own refusal speaks.
    assert literals() == (listed - {"value", *BODIES, *SCANS}) | FUNCTIONS | SHAPES


def model(quantizer=None, **attributes):
    """Quantize, dequantize with some attributes, Relu, quantize."""
    scale = numpy_helper.from_array(np.float32(0.1), "s")
    zero = numpy_helper.from_array(np.uint8(3), "z")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q", **(quantizer or {})),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d", **attributes),
        helper.make_node("Relu", ["d"], ["r"], name="r"),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["y"], name="y"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 8, 4, 4])],
        [scale, zero],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def findings(tmp_path, **attributes):
    onnx.save(model(**attributes), tmp_path / "m.onnx")
    return [(f.node, f.reason) for f in import_onnx(tmp_path / "m.onnx").unsupported]


def test_an_attribute_that_is_not_read_is_refused(tmp_path):
    assert findings(tmp_path) == []
    assert findings(tmp_path, axis=1, block_size=0) == []  # their defaults
    (found,) = findings(tmp_path, block_size=2)
    assert found == ("d", "blocked quantization (block_size) is not read")


def test_other_floats_than_float32_are_refused(tmp_path):
    """They are named in attributes since opset 23."""
    for kind in (0, TensorProto.FLOAT):
        assert findings(tmp_path, output_dtype=kind) == []
        onnx.save(model({"precision": kind}), tmp_path / "m.onnx")
        assert import_onnx(tmp_path / "m.onnx").unsupported == ()
        Reference(model({"precision": kind}))
    (found,) = findings(tmp_path, output_dtype=TensorProto.FLOAT16)
    assert found == ("d", "computes in FLOAT16; float32 is read")
    onnx.save(model({"precision": TensorProto.DOUBLE}), tmp_path / "m.onnx")
    (found,) = [(f.node, f.reason) for f in import_onnx(tmp_path / "m.onnx").unsupported]
    assert found == ("q", "computes in DOUBLE; float32 is read")
    with pytest.raises(ModelsError, match="another precision than float32"):
        Reference(model({"precision": TensorProto.DOUBLE}))


def test_qoperators_are_read_as_their_plain_operators():
    for name, (plain, _) in QOPERATORS.items():
        node = helper.make_node(name, ["x"], ["y"], domain="com.microsoft", unknown=1)
        if plain in BY_OPERATOR:
            with pytest.raises(Unsupported, match="attribute unknown = 1 is not read"):
                check_attributes(node)
        else:
            assert plain in ELEMENTWISE
