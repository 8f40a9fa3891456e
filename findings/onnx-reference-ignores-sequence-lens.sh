#!/usr/bin/env bash
# onnx: ReferenceEvaluator runs LSTM, GRU and RNN over the whole length, whatever sequence_lens
# says.
#
# Versions: numpy 2.4.6, onnx 1.23.2, onnxruntime 1.31.1
# Expected: the input sequence_lens ends each batch entry at its own length: Y_h is the state after
#   that many steps. An evaluator that does not support it raises.
# Seen: the input is taken and not used: an entry of length 1 in a batch padded to 3 steps gets the
#   state after 3 steps, without a warning. ONNX Runtime honours it.
# Run: bash findings/onnx-reference-ignores-sequence-lens.sh

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


from onnx import numpy_helper

GRAPH = """<ir_version: 10, opset_import: ["": 17]>
g (float[3,2,2] x, int32[2] l) => (float[1,2,2] h) {
  h0, h = %s<hidden_size = 2>(x, w, r, b, l)
}"""
random = np.random.default_rng(1)
x = random.standard_normal((3, 2, 2)).astype(np.float32)
for operator, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
    model = parser.parse_model(GRAPH % operator)
    for name, shape in (("w", (2 * gates, 2)), ("r", (2 * gates, 2)), ("b", (4 * gates,))):
        values = random.standard_normal((1, *shape)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    states = {}
    for lengths in ((3, 1), (3, 3)):
        feed = {"x": x, "l": np.array(lengths, np.int32)}
        states["runtime", lengths] = run(model, "DISABLE_ALL", **feed)
        states["reference", lengths] = ReferenceEvaluator(model).run(None, feed)[0]
    whole, short = states["runtime", (3, 3)], states["runtime", (3, 1)]
    reference = states["reference", (3, 1)]
    print(f"{operator}, lengths 3 and 1, second state: ONNX Runtime {short[0, 1].tolist()},")
    print(f"  onnx's reference {reference[0, 1].tolist()}, after 3 steps {whole[0, 1].tolist()}")
    if np.allclose(whole[0, 1], short[0, 1], atol=1e-3):
        sys.exit("changed: ONNX Runtime no longer ends the entry")
    if not np.allclose(reference, whole, atol=1e-5):
        sys.exit("changed: the reference no longer gives the state after 3 steps")
PY
