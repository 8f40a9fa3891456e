#!/usr/bin/env bash
# ONNX Runtime: Conv with auto_pad SAME_UPPER and a stride beyond the kernel starts inside the
# input.
#
# Versions: numpy 2.4.6, onnx 1.23.2, onnxruntime 1.31.1
# Expected: SAME pads so that the output has ceil(input / stride) elements. With kernel 1, stride 4
#   on 8 elements no padding is needed, so both SAME modes read elements 0 and 4, as VALID does and
#   as onnx's ReferenceEvaluator does.
# Seen: the padding total is negative (-3) and is not held at 0: Conv with SAME_UPPER reads elements
#   1 and 5, with SAME_LOWER elements 0 and 4. MaxPool and AveragePool with the same attributes
#   refuse at run time: RuntimeException, 'padding values must be non-negative'.
# Run: bash findings/ort-conv-same-padding-crops.sh

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


GRAPH = """<ir_version: 10, opset_import: ["": 17]>
g (float[1,1,8] x) => (float[1,1,2] y) <%s> {
  y = %s<auto_pad = "%s", kernel_shape = [1], strides = [4]>(%s)
}"""
x = np.arange(8, dtype=np.float32).reshape(1, 1, 8)
for mode, first in (("VALID", 0), ("SAME_LOWER", 0), ("SAME_UPPER", 1)):
    model = parser.parse_model(GRAPH % ("float[1,1,1] w = {1}", "Conv", mode, "x, w"))
    reference = ReferenceEvaluator(model).run(None, {"x": x})[0].ravel().tolist()
    for level in ("DISABLE_ALL", "ENABLE_ALL"):
        got = run(model, level, x=x).ravel().tolist()
        print(f"Conv {mode}, {level}: elements {got}; onnx's reference: {reference}")
        if got != [first, first + 4] or reference != [0, 4]:
            sys.exit("changed: not the elements described above")
for operator in ("MaxPool", "AveragePool"):
    try:
        run(parser.parse_model(GRAPH % ("", operator, "SAME_UPPER", "x")), "DISABLE_ALL", x=x)
    except Exception as error:
        print(f"{operator} SAME_UPPER: {type(error).__name__}")
        if "padding values must be non-negative" not in str(error):
            sys.exit("changed: another error")
    else:
        sys.exit(f"changed: {operator} runs")
PY
