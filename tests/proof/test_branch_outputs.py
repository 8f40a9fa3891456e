"""A branch whose float result is an output of the graph: each arm is compared where it is taken."""

import numpy as np
import onnx
import onnx.parser
import pytest

from compiler.tensor import CompilerError
from proof import written
from tests.proof.conftest import make

TEXT = """
<ir_version: 8, opset_import: ["": 13]>
g (float[1, 4] x) => (float[1, 4] y)
<float s = {0.05}, int8 z = {0}, float one = {1.0}>
{
  q = QuantizeLinear (x, s, z)
  d = DequantizeLinear (q, s, z)
  m = ReduceMax <axes = [0, 1], keepdims = 0> (d)
  mq = QuantizeLinear (m, s, z)
  md = DequantizeLinear (mq, s, z)
  c = Greater (md, one)
  [branch] y = If (c) <
    then_branch = t () => (float[1, 4] td) {
      tr = Relu (d)
      tq = QuantizeLinear (tr, s, z)
      td = DequantizeLinear (tq, s, z)
    },
    else_branch = e () => (float[1, 4] ed) {
      en = Neg (d)
      eq = QuantizeLinear (en, s, z)
      ed = DequantizeLinear (eq, s, z)
    }
  >
}
"""


def model() -> onnx.ModelProto:
    return onnx.parser.parse_model(TEXT)


def test_both_arms_are_compared_with_the_file(tmp_path):
    proven = make(model(), tmp_path).prove()
    assert len(proven["passes"]) == 2 and proven["unproven"] == []
    # The output, of each arm in the pass that takes it.
    assert proven["forms"]["dequantize"]["operators"] == 2


@pytest.mark.parametrize("number", [0, 1])
def test_an_arm_that_everybody_misreads_is_found(tmp_path, monkeypatch, number):
    """The twin: the file's own nodes say otherwise, in the pass that takes the arm."""
    made = make(model(), tmp_path)
    whole = written._one_way
    found: list[str] = []

    def changed(piece, taken):
        piece = whole(piece, taken)
        found.extend(n.input[0] for n in piece.model.graph.node if n.op_type == "Identity")
        if len(found) == number + 1 and piece.output == "y":
            scale = onnx.numpy_helper.from_array(np.float32(0.06), "wider")
            piece.model.graph.initializer.append(scale)
            for node in piece.model.graph.node:
                if node.op_type == "DequantizeLinear":
                    node.input[1] = "wider"
        return piece

    monkeypatch.setattr(written, "_one_way", changed)
    with pytest.raises(CompilerError, match="y differs from the file's own nodes"):
        made.prove()
    assert len(found) == number + 1
