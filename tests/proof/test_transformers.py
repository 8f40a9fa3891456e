"""torch's attention as its exporters and ONNX Runtime's quantizer write it: built and proven."""

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from compiler.onnx_import import import_onnx
from compiler.pipeline import build
from models.export import export
from models.quantize import Samples, quiet
from proof.prove import prove_and_run
from tests.machines import folding
from tests.marks import large

WIDTH, HEADS = 36, 3


class MultiHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class ScaledDotProduct(nn.Module):
    """Its scale is two multiplications, one of each operand."""

    def __init__(self):
        super().__init__()
        self.all = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x):
        n, tokens, _ = x.shape
        parts = self.all(x).reshape(n, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        made = nn.functional.scaled_dot_product_attention(*parts.unbind(0))
        return made.transpose(1, 2).reshape(x.shape)


class VisionTransformer(nn.Module):
    """Patches, a class token, positions, one encoder layer, a head on the token."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.token = nn.Parameter(torch.rand(1, 1, WIDTH))
        self.position = nn.Parameter(torch.rand(1, 17, WIDTH))
        self.encoder = encoder(True)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.encoder(x))[:, 0])


class UnbiasedNorm(nn.Module):
    """torch.std: by default the quantizer puts pairs around its Mul and Add."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        x = self.linear(x)
        centred = x - x.mean(-1, keepdim=True)
        return self.linear(1.3 * centred / (x.std(-1, keepdim=True) + 1e-3) + 0.1)


def encoder(norm_first):
    layer = {"batch_first": True, "activation": "gelu", "norm_first": norm_first}
    return nn.Sequential(nn.TransformerEncoderLayer(WIDTH, HEADS, 48, **layer))


MODULES = {
    "multi_head": (MultiHead, (1, 7, WIDTH)),
    "scaled_dot_product": (ScaledDotProduct, (1, 16, WIDTH)),
    "encoder": (lambda: encoder(False), (1, 7, WIDTH)),
    "vision": (VisionTransformer, (1, 3, 16, 16)),
}


def exported(module, shape, folder, opset, every):
    """Quantized as ONNX Runtime does it by default, or with all operators of the graph."""
    torch.manual_seed(0)
    paths = [folder / f"{name}.onnx" for name in ("float", "prepared", "quantized")]
    dynamo = {"dynamo": opset > 17}
    if opset > 17:
        dynamo["external_data"] = False
    rng = np.random.default_rng(1)
    feeds = [{"x": rng.normal(0, 1, shape).astype(np.float32)} for _ in range(8)]
    with quiet():
        network = module().eval()
        inputs = (torch.zeros(shape),)
        names = {"input_names": ["x"], "output_names": ["y"], "opset_version": opset}
        torch.onnx.export(network, inputs, str(paths[0]), **names, **dynamo)
        quant_pre_process(str(paths[0]), str(paths[1]), skip_symbolic_shape=True)
        kinds = {n.op_type for n in onnx.load(paths[1]).graph.node} - {"Constant"}
        quantize_static(
            str(paths[1]),
            str(paths[2]),
            Samples(feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=every,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=sorted(kinds) if every else None,
        )
    return paths[2]


@pytest.mark.parametrize("every", [False, True], ids=["default", "every"])
@pytest.mark.parametrize("opset", [17, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", MODULES)
def test_attention_of_torch_is_built_and_proven(name, opset, every, tmp_path):
    path = exported(*MODULES[name], tmp_path, opset, every)
    built = build(path, folding("base"), tmp_path / "built", verify=prove_and_run)
    forms = built.proof["forms"]
    assert {"softmax", "product"} <= set(forms) and built.proof["unproven"] == []
    assert ("norm" in forms) == (name in ("encoder", "vision"))
    assert all(figures["beyond"] == 0 for figures in forms.values())


@pytest.mark.parametrize("every", [False, True], ids=["default", "every"])
def test_a_norm_with_pairs_inside_is_refused_by_node(every, tmp_path):
    path = exported(UnbiasedNorm, (1, 7, WIDTH), tmp_path, 17, every)
    reasons = {finding.op: finding.reason for finding in import_onnx(path).unsupported}
    assert "nodes_to_exclude" in reasons["Div"]


@pytest.mark.parametrize("name", ["vtn_decoder", large("xwisenet")])
def test_networks_of_ours_keep_to_their_files(name, tmp_path):
    """Operator by operator, whatever a whole network makes of one step."""
    path = export(name, tmp_path / f"{name}.onnx", "tiny").onnx
    built = build(path, folding("base"), tmp_path / "built", verify=prove_and_run)
    forms = built.proof["forms"]
    assert {"softmax", "norm", "product"} <= set(forms) and built.proof["unproven"] == []
    assert all(f["beyond"] == 0 and f["steps"] <= 1 for f in forms.values())
