"""Other people's quantized files: QOperator format, S8 activations, float biases."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from torch import nn

from models import quantize as q
from models.ortcheck import compare
from models.reference import Reference


class _Small(nn.Module):
    """Residual block, pools and a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.pointwise = nn.Conv2d(12, 12, 1)
        self.pool = nn.MaxPool2d(2)
        self.gap = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(24, 7)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        y = self.pointwise(torch.sigmoid(self.depthwise(x)))
        x = self.pool(torch.cat([x + y, x * y], dim=1))
        return self.fc(self.gap(x).reshape(1, 24))


def _quantized(folder, form: QuantFormat, activations: QuantType, power_of_two=False):
    torch.manual_seed(0)
    clips = np.random.default_rng(0).standard_normal((4, 3, 24, 24)).astype(np.float32)
    q.export_float(_Small(), (1, 3, 24, 24), folder / "float.onnx")
    with q.quiet():
        q.quant_pre_process(str(folder / "float.onnx"), str(folder / "prepared.onnx"))
        quantize_static(
            str(folder / "prepared.onnx"),
            str(folder / "int8.onnx"),
            q.Clips("clip", clips),
            quant_format=form,
            per_channel=form is QuantFormat.QDQ,
            activation_type=activations,
            weight_type=QuantType.QInt8,
        )
    model = onnx.load(folder / "int8.onnx")
    if power_of_two:
        for tensor in model.graph.initializer:
            if tensor.name.endswith("_scale") and "weight" not in tensor.name:
                value = numpy_helper.to_array(tensor)
                if "bias" not in tensor.name:
                    value = np.exp2(np.ceil(np.log2(value))).astype(np.float32)
                    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        _rescale_biases(model)
    return model, {"clip": clips[:1]}


def _rescale_biases(model):
    """Set the bias scales to input scale × weight scale after the input scales have changed."""
    tensors = {t.name: t for t in model.graph.initializer}
    makers = {n.output[0]: n for n in model.graph.node}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            x, w, b = (makers[name] for name in node.input)
            sx, sw = (numpy_helper.to_array(tensors[n.input[1]]) for n in (x, w))
            tensors[b.input[1]].CopyFrom(
                numpy_helper.from_array((sx * sw).astype(np.float32), b.input[1])
            )


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize("activations", [QuantType.QUInt8, QuantType.QInt8])
def test_small_network_equals_onnx_runtime(tmp_path, form, activations):
    model, feeds = _quantized(tmp_path, form, activations)
    report = compare(model, feeds)
    ops = {row["op"]: row for row in report["operators"]}
    assert {"Conv", "Add", "Mul", "Concat", "Sigmoid", "GlobalAveragePool", "Gemm"} <= set(ops)
    for row in ops.values():
        assert row["mismatches"] == 0, row


def test_power_of_two_scales_equal_onnx_runtime(tmp_path):
    model, feeds = _quantized(tmp_path, QuantFormat.QDQ, QuantType.QUInt8, power_of_two=True)
    for row in compare(model, feeds)["operators"]:
        assert row["mismatches"] == 0, row


def test_float_bias_is_quantized_at_the_accumulators_scale(tmp_path):
    model, feeds = _quantized(tmp_path, QuantFormat.QDQ, QuantType.QUInt8)
    tensors = {t.name: t for t in model.graph.initializer}
    expected = Reference(model).run(feeds)
    for node in [n for n in model.graph.node if n.op_type == "DequantizeLinear"]:
        bias = tensors.get(node.input[0])
        if bias is not None and bias.data_type == onnx.TensorProto.INT32:
            scale = numpy_helper.to_array(tensors[node.input[1]])
            real = numpy_helper.to_array(bias).astype(np.float32) * scale
            model.graph.initializer.append(numpy_helper.from_array(real, node.output[0]))
            model.graph.node.remove(node)
    results = Reference(model).run(feeds)
    assert all(np.array_equal(expected[name], results[name]) for name in expected)
