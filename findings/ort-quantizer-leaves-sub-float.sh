#!/usr/bin/env bash
# ONNX Runtime: quantize_static quantizes Sub, Div and Max only when they are named.
#
# Versions: numpy 2.4.6, onnx 1.23.2, onnxruntime 1.31.1
# Expected: its documentation says of op_types_to_quantize that all supported operators are
#   quantized by default, so Sub is treated as Add is: both operands through DequantizeLinear.
# Seen: by default the constant operand of Sub, Div and Max stays a float32 initializer, while those
#   of Add and Mul become int8; the call reports nothing. Named in op_types_to_quantize, the same
#   three are quantized: they are supported, but no defaults.
# Run: bash findings/ort-quantizer-leaves-sub-float.sh

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
from onnx import parser
from onnxruntime.quantization import CalibrationDataReader, quantize_static

GRAPH = """<ir_version: 10, opset_import: ["": 17]>
g (float[1,2,4,4] x) => (float[1,2,4,4] y)
<float[2,2,1,1] w = {1, 2, 3, 4}, float[2,1,1] c = {0.5, 0.25}> {
  a = Conv(x, w)
  b = %s(a, c)
  y = Conv(b, w)
}"""


class Data(CalibrationDataReader):
    def __init__(self):
        random = np.random.default_rng(0)
        self.batches = iter(random.standard_normal((4, 1, 2, 4, 4)).astype(np.float32))

    def get_next(self):
        batch = next(self.batches, None)
        return None if batch is None else {"x": batch}


DEFAULTS = {"Add": True, "Mul": True, "Sub": False, "Div": False, "Max": False}
for operator, default in DEFAULTS.items():
    onnx.save(parser.parse_model(GRAPH % operator), "float.onnx")
    for named, title in ((None, "default"), (["Conv", operator], "named")):
        quantize_static("float.onnx", "quantized.onnx", Data(), op_types_to_quantize=named)
        graph = onnx.load("quantized.onnx").graph
        node = next(n for n in graph.node if n.op_type == operator)
        makers = {name: n.op_type for n in graph.node for name in n.output}
        from_dequantize = [makers.get(name) == "DequantizeLinear" for name in node.input]
        print(f"{operator}, {title}: operands dequantized {from_dequantize}")
        if from_dequantize != [True, default or named is not None]:
            sys.exit("changed: not the operands described above")
PY
