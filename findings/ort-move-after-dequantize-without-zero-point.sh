#!/usr/bin/env bash
# ONNX Runtime: negative int8 values become 0 behind a DequantizeLinear without zero point.
#
# Versions: numpy 2.4.6, onnx 1.23.2, onnxruntime 1.31.1
# Expected: DequantizeLinear's zero point is optional, and left out it is 0 of the input's type.
#   Transpose and Reshape behind it give the same values at every optimization level.
# Seen: from ORT_ENABLE_BASIC on (the default is ORT_ENABLE_ALL) the optimizer carries the pair
#   behind the move and inserts a QuantizeLinear without zero point, which is a uint8 one: every
#   negative value becomes 0, without a warning. ORT_DISABLE_ALL is right, and so is every level
#   when the zero point 0 is written.
# Run: bash findings/ort-move-after-dequantize-without-zero-point.sh

set -euo pipefail
sed -n '2,/^$/s/^# \{0,1\}//p' "$0"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet numpy==2.4.6 onnx==1.23.2 onnxruntime==1.31.1
cd "$tmp"
"$tmp/venv/bin/python" - <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import parser


def run(model, level, **feed):
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, "ORT_" + level)
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, feed)[0]


GRAPH = """<ir_version: 10, opset_import: ["": 17]>
g (float[1,4] x) => (float[4,1] y)
<float s = {0.5}, int8 z = {0}%s> {
  q = QuantizeLinear(x, s, z)
  d = DequantizeLinear(q, s%s)
  y = %s
}"""
x = np.array([[-4, -2, -1, 3]], np.float32)
MOVES = {
    "Transpose": ("", "Transpose<perm = [1, 0]>(d)"),
    "Reshape": (", int64[2] shape = {4, 1}", "Reshape(d, shape)"),
}
for name, (constant, move) in MOVES.items():
    for zero_point, title in ((", z", "zero point written"), ("", "zero point left out")):
        for level in ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_ALL"):
            model = parser.parse_model(GRAPH % (constant, zero_point, move))
            got = run(model, level, x=x).ravel()
            print(f"{name}, {title}, {level}: {got.tolist()}")
            lost = not zero_point and level != "DISABLE_ALL"
            if not np.array_equal(got, np.maximum(x[0], 0) if lost else x[0]):
                sys.exit("changed: not the values described above")
PY
