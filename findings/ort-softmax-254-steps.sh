#!/usr/bin/env bash
# ONNX Runtime: its own quantizer's Softmax scale, 1/255, makes the integer Softmax count in 254
# steps.
#
# Versions: numpy 2.4.6, onnx 1.23.2, onnxruntime 1.31.1
# Expected: with an output scale of 1/255 the value 1.0 is code 255, and DequantizeLinear, Softmax,
#   QuantizeLinear fused to one integer kernel gives the codes of the unfused nodes.
# Seen: under ORT_ENABLE_ALL (the default) every code is round(254 * probability): 1.0 becomes 254,
#   and about a tenth of the codes of the 10-class rows below are one too low. At 1/256 every code
#   is right, and at ORT_DISABLE_ALL and ORT_ENABLE_BASIC with either scale. quantize_static fixes a
#   Softmax output at 1/255.
# Run: bash findings/ort-softmax-254-steps.sh

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
g (uint8[64,10] x) => (uint8[64,10] y)
<float s = {0.0625}, uint8 z = {128}, float sy = {%.9f}, uint8 zy = {0}> {
  d = DequantizeLinear(x, s, z)
  p = Softmax<axis = 1>(d)
  y = QuantizeLinear(p, sy, zy)
}"""
x = np.random.default_rng(0).integers(0, 256, (64, 10)).astype(np.uint8)
x[0] = [255] + [0] * 9
power = np.exp((x.astype(np.float64) - 128) / 16)
probability = power / power.sum(1, keepdims=True)
for steps in (255, 256):
    for level in ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_ALL"):
        got = run(parser.parse_model(GRAPH % (1 / steps)), level, x=x)
        exact = np.minimum(np.rint(probability * steps), 255)
        print(f"1/{steps}, {level}: {np.mean(got != exact):.1%} wrong; largest code {got.max()}")
        short = steps == 255 and level == "ENABLE_ALL"
        if not np.array_equal(got, np.rint(probability * 254) if short else exact):
            sys.exit("changed: not the codes described above")
PY
