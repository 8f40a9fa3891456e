#!/usr/bin/env bash
# onnx: ReferenceEvaluator runs a bare node at the newest operator version.
#
# Versions: numpy 2.4.6, onnx 1.23.2
# Expected: a NodeProto says nothing about its opset, so a helper for single nodes takes the version
#   that fits the node, or the opset handed in with opsets=.
# Seen: ReferenceEvaluator(node) uses the newest version: Unsqueeze with the attribute axes (opset
#   11) and Clip with the attributes min and max (opset 6) raise TypeError, whether or not
#   opsets={'': 11} is passed; the same nodes in a model of their opset give the right result.
# Run: bash findings/onnx-reference-bare-node.sh

set -euo pipefail
sed -n '2,/^$/s/^# \{0,1\}//p' "$0"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet numpy==2.4.6 onnx==1.23.2
cd "$tmp"
"$tmp/venv/bin/python" - <<'PY'
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

x = np.array([-1, 0.5, 2], np.float32)
NODES = (
    (helper.make_node("Unsqueeze", ["x"], ["y"], axes=[0]), 11, x[None]),
    (helper.make_node("Clip", ["x"], ["y"], min=0.0, max=1.0), 6, np.clip(x, 0, 1)),
)
for node, opset, expected in NODES:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, expected.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)
    onnx.checker.check_model(model, full_check=True)
    got = ReferenceEvaluator(model).run(None, {"x": x})[0]
    print(f"{node.op_type} in a model of opset {opset}: {got.tolist()}")
    if not np.array_equal(got, expected):
        sys.exit("changed: the model gives something else")
    for opsets in (None, {"": opset}):
        try:
            ReferenceEvaluator(node, opsets=opsets).run(None, {"x": x})
        except TypeError:
            print(f"{node.op_type} bare, opsets={opsets}: TypeError")
        else:
            sys.exit(f"changed: {node.op_type} bare with opsets={opsets} runs")
PY
