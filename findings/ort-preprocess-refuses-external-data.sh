#!/usr/bin/env bash
# ONNX Runtime: quant_pre_process refuses a file with external data when symbolic shapes are skipped.
#
# Versions: numpy 2.4.6, onnx 1.23.2, onnxruntime 1.31.1, sympy 1.14.0
# Expected: a file whose weights lie in a file beside it (torch's newer exporter writes every model
#   so) is prepared for quantization with or without symbolic shape inference.
# Seen: with it, the prepared file comes out; with skip_symbolic_shape=True, which ONNX Runtime's own
#   ImportError recommends where sympy is missing, onnx raises a ValidationError: the optimized copy
#   in a temporary folder looks for the weights beside itself, where nobody has put them. A file with
#   its weights inside is prepared either way.
# Run: bash findings/ort-preprocess-refuses-external-data.sh

set -euo pipefail
sed -n '2,/^$/s/^# \{0,1\}//p' "$0"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet numpy==2.4.6 onnx==1.23.2 onnxruntime==1.31.1 sympy==1.14.0
cd "$tmp"
"$tmp/venv/bin/python" - <<'PY'
import logging
import sys

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process

logging.disable()
weight = numpy_helper.from_array(np.ones((8, 4, 3, 3), np.float32), "w")
graph = helper.make_graph(
    [helper.make_node("Conv", ["x", "w"], ["y"])],
    "g",
    [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4, 8, 8])],
    [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 8, 6, 6])],
    [weight],
)
opset = helper.make_opsetid("", 18)
for outside in (False, True):
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    path = "outside.onnx" if outside else "inside.onnx"
    onnx.save(model, path, save_as_external_data=outside, size_threshold=0)
    onnx.checker.check_model(path)
    for skip in (False, True):
        try:
            quant_pre_process(path, "prepared.onnx", skip_symbolic_shape=skip)
            seen = "prepared"
        except Exception as error:
            seen = type(error).__name__
        print(f"{path}, skip_symbolic_shape={skip}: {seen}")
        if seen != ("ValidationError" if outside and skip else "prepared"):
            sys.exit("changed: not what is described above")
PY
