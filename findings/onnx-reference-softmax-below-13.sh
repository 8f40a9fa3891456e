#!/usr/bin/env bash
# onnx: ReferenceEvaluator computes Softmax, LogSoftmax and Hardmax below opset 13 by the rule of
# 13.
#
# Versions: numpy 2.4.6, onnx 1.23.2, onnxruntime 1.31.1
# Expected: up to opset 12 these operators flatten their input to two dimensions at axis (default 1)
#   and normalize whole rows; from 13 on they work along one axis (default -1). A model of opset 11
#   gets the old rule.
# Seen: a [1, 2, 2] input in a model of opset 11 is normalized along the last axis only, so its
#   Softmax sums to 2 and its Hardmax has two ones, without a warning. ONNX Runtime follows each
#   opset.
# Run: bash findings/onnx-reference-softmax-below-13.sh

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
from onnx.reference import ReferenceEvaluator


def run(model, level, **feed):
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, "ORT_" + level)
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, feed)[0]


GRAPH = """<ir_version: 6, opset_import: ["": %d]>
g (float[1,2,2] x) => (float[1,2,2] y) { y = %s(x) }"""
x = np.arange(4, dtype=np.float32).reshape(1, 2, 2)


def total(operator, values):
    return float((np.exp(values) if operator == "LogSoftmax" else values).sum())


for operator in ("Softmax", "LogSoftmax", "Hardmax"):
    for opset, right in ((11, 1), (13, 2)):
        model = parser.parse_model(GRAPH % (opset, operator))
        runtime = total(operator, run(model, "DISABLE_ALL", x=x))
        reference = total(operator, ReferenceEvaluator(model).run(None, {"x": x})[0])
        print(
            f"{operator}, opset {opset}: probabilities sum to {runtime:.3f} in ONNX Runtime,"
            f" to {reference:.3f} in onnx's reference"
        )
        if abs(runtime - right) > 1e-5 or abs(reference - 2) > 1e-5:
            sys.exit("changed: not the sums described above")
PY
