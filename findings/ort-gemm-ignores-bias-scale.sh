#!/usr/bin/env bash
# ONNX Runtime: a quantized Gemm takes the int32 bias as it is, whatever its DequantizeLinear says.
#
# Versions: numpy 2.4.6, onnx 1.23.2, onnxruntime 1.31.1
# Expected: an int32 bias may be fused into an integer kernel when its scale is x scale * weight
#   scale; with another scale the node stays in float or the bias is rescaled. Conv does the former.
# Seen: under ORT_ENABLE_ALL (the default) Gemm becomes QGemm in either case and the bias integers
#   are added unscaled: with a bias scale of 1/100 beside a product scale of 1/512 the results
#   differ from the file by far more than a step, without a warning. ORT_DISABLE_ALL and
#   ORT_ENABLE_BASIC are right; a 1x1 Conv with the same numbers is right at every level.
# Run: bash findings/ort-gemm-ignores-bias-scale.sh

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
g (float[%(shape)s] x) => (float[%(shape)s] y)
<float sx = {0.03125}, float sw = {0.0625}, float sb = {%(bias_scale)s}, float sy = {0.125},
 uint8 zx = {0}, int8 zw = {0}, int8[%(weights)s] w = {10, 0, 0, 10}, int32[2] b = {100, 400}> {
  xq = QuantizeLinear(x, sx, zx)
  xd = DequantizeLinear(xq, sx, zx)
  wd = DequantizeLinear(w, sw, zw)
  bd = DequantizeLinear(b, sb)
  p = %(operator)s(xd, wd, bd)
  pq = QuantizeLinear(p, sy, zx)
  y = DequantizeLinear(pq, sy, zx)
}"""
SHAPES = {"Gemm": ("1,2", "2,2"), "Conv": ("1,2,1,1", "2,2,1,1")}
x = np.array([1, 4], np.float32)
for operator, (shape, weights) in SHAPES.items():
    for bias_scale in (1 / 512, 1 / 100):
        values = {"shape": shape, "bias_scale": bias_scale, "weights": weights}
        model = parser.parse_model(GRAPH % (values | {"operator": operator}))
        for level in ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_ALL"):
            got = run(model, level, x=x.reshape([int(n) for n in shape.split(",")])).ravel()
            print(f"{operator}, bias scale 1/{1 / bias_scale:.0f}, {level}: {got.tolist()}")
            unscaled = operator == "Gemm" and level == "ENABLE_ALL"
            bias = np.array([100, 400]) * (1 / 512 if unscaled else bias_scale)
            if not np.array_equal(got, np.rint((x * 0.625 + bias) / 0.125) * 0.125):
                sys.exit("changed: not the values described above")
PY
