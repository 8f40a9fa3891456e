#!/usr/bin/env bash
# onnx: below opset 22 shape inference counts a pool window that begins in the end padding.
#
# Versions: numpy 2.4.6, onnx 1.23.2, onnxruntime 1.31.1
# Expected: with ceil_mode a last window that would begin in the padding behind the input is left
#   out, as the frameworks do, and at every opset the inferred shape is the shape that comes out.
# Seen: for MaxPool and AveragePool up to opset 21 onnx's shape inference counts that window and
#   ONNX Runtime and onnx's own ReferenceEvaluator do not compute it: length 8, kernel 2, stride 3,
#   pads 0 and 1 is inferred as 4 and computed as 3 (ONNX Runtime reports 4 in get_outputs and gives
#   3). From opset 22 on, whose text is the first to name such windows, all say 3.
# Run: bash findings/onnx-ceil-mode-shape.sh

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

GRAPH = """<ir_version: 10, opset_import: ["": %d]>
g (float[1,1,8] x) => (float[a,b,c] y) {
  y = %s<kernel_shape = [2], strides = [3], pads = [0, 1], ceil_mode = 1>(x)
}"""
x = np.ones((1, 1, 8), np.float32)
options = ort.SessionOptions()
options.log_severity_level = 3
for operator in ("MaxPool", "AveragePool"):
    for opset, shape in ((12, 4), (21, 4), (22, 3)):
        model = parser.parse_model(GRAPH % (opset, operator))
        del model.graph.output[0].type.tensor_type.shape.dim[:]
        model.graph.output[0].type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        onnx.checker.check_model(inferred, full_check=True)
        inferred = inferred.graph.output[0].type.tensor_type.shape.dim[2].dim_value
        session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        said = session.get_outputs()[0].shape[2]
        runtime = session.run(None, {"x": x})[0].shape[2]
        reference = ReferenceEvaluator(model).run(None, {"x": x})[0].shape[2]
        print(
            f"{operator}, opset {opset}: inferred {inferred}, ONNX Runtime says {said}"
            f" and gives {runtime}, onnx's reference gives {reference}"
        )
        if (inferred, said, runtime, reference) != (shape, shape, 3, 3):
            sys.exit("changed: not the lengths described above")
PY
