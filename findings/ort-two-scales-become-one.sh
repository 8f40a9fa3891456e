#!/usr/bin/env bash
# ONNX Runtime: a requantization (Q DQ Q DQ with two scales) is merged away at ORT_ENABLE_BASIC.
#
# Versions: numpy 2.4.6, onnx 1.23.2, onnxruntime 1.31.1
# Expected: two pairs with different scales round twice and saturate twice; a level whose
#   optimizations keep the meaning of the graph leaves the values as the file says.
# Seen: from ORT_ENABLE_BASIC on one pair of the narrower range is left, whichever pair came first:
#   values rounded to the coarse grid in the file come out on the fine grid, and the reverse order
#   the same. ORT_DISABLE_ALL computes what the file says.
# Run: bash findings/ort-two-scales-become-one.sh

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
g (float[7] x) => (float[7] y) <float s1 = {%s}, float s2 = {%s}, int8 z = {0}> {
  a = QuantizeLinear(x, s1, z)
  b = DequantizeLinear(a, s1, z)
  c = QuantizeLinear(b, s2, z)
  y = DequantizeLinear(c, s2, z)
}"""


def pair(values, scale):
    return np.clip(np.rint(values / np.float32(scale)), -128, 127) * np.float32(scale)


x = np.array([-3.3, -1.2, -0.3, 0.3, 1.2, 2.2, 3.3], np.float32)
for first, second in ((1.0, 0.25), (0.25, 1.0)):
    for level in ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_ALL"):
        got = run(parser.parse_model(GRAPH % (first, second)), level, x=x)
        print(f"scales {first} then {second}, {level}: {got.tolist()}")
        file_says, merged = pair(pair(x, first), second), pair(x, 0.25)
        assert not np.array_equal(file_says, merged)
        if not np.array_equal(got, file_says if level == "DISABLE_ALL" else merged):
            sys.exit("changed: not the values described above")
PY
