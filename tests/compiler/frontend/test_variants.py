"""The forms in which users bring int8 networks, quantized by ONNX Runtime's own tool."""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from compiler import interpreter
from compiler.onnx_import import import_onnx
from compiler.pipeline import optimize
from models import fsb
from models.data import synthetic_clip
from models.exactness import exact_session
from models.initialise import initialise
from models.quantize import Clips, export_float, quiet
from models.reference import Reference

SMALL = {"frames": 2, "side": 16, "widths": (4, 6, 8, 8, 8, 8, 8, 8), "classes": 5}
PLAIN = fsb.C3dConfig(**SMALL)
RESIDUAL = dataclasses.replace(PLAIN, mids=(4, 4, 6, 6, 6, 6, 6, 6), trg_layers=1)

VARIANTS = {
    "s8 activations": (RESIDUAL, {"activation_type": QuantType.QInt8}),
    "per tensor": (RESIDUAL, {"per_channel": False}),
    "QOperator": (PLAIN, {"quant_format": QuantFormat.QOperator}),
    "QOperator s8": (
        PLAIN,
        {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QInt8},
    ),
}


def clip(config, seed):
    return synthetic_clip(seed, *config.input_shape[2:])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Float files by configuration, ready to quantize."""
    folder = tmp_path_factory.mktemp("float")
    made = {}

    def get(config):
        if config not in made:
            clips = np.concatenate([clip(config, seed) for seed in range(2)])
            network = fsb.C3dNetwork(config)
            initialise(network, torch.from_numpy(clips), 0)
            plain = folder / f"{len(made)}.onnx"
            made[config] = (folder / f"{len(made)}-prepared.onnx", clips)
            export_float(network, config.input_shape, plain)
            with quiet():
                quant_pre_process(str(plain), str(made[config][0]), skip_symbolic_shape=True)
        return made[config]

    return get


def quantized(path, prepared, config, options):
    source, clips = prepared(config)
    operators = {node.op_type for node in onnx.load(source).graph.node} - {"Constant"}
    settings = {
        "quant_format": QuantFormat.QDQ,
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
        "per_channel": True,
        "op_types_to_quantize": sorted(operators),
        **options,
    }
    with quiet():
        quantize_static(str(source), str(path), Clips("clip", clips), **settings)
    return path


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_equals_the_oracle_and_onnx_runtime(variant, prepared, tmp_path):
    config, options = VARIANTS[variant]
    path = quantized(tmp_path / "net.onnx", prepared, config, options)
    imported = import_onnx(path)
    assert imported.unsupported == ()
    feeds = {"clip": clip(config, 99)}
    reference = Reference(path).run(feeds)
    for graph in (imported.graph, optimize(imported.graph)):
        results = interpreter.run(graph, feeds)
        known = [name for name in results if name in reference]
        assert len(known) == len(results)
        assert [n for n in known if not np.array_equal(results[n], reference[n])] == []
    if config is PLAIN:  # no float operator inside: ONNX Runtime's output is the same
        (port,) = imported.graph.outputs
        value = interpreter.dequantize(results[port.value], imported.graph.type(port.value))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = exact_session(str(path), options)
        (expected,) = session.run(None, feeds)
        assert np.array_equal(value, expected)


def test_power_of_two_scales(prepared, tmp_path):
    """Scales rounded to powers of two: multiplier 2^23, and ties occur."""
    path = quantized(tmp_path / "net.onnx", prepared, PLAIN, {})
    model = onnx.load(path)
    quantizers = ("QuantizeLinear", "DequantizeLinear")
    biases = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT32}
    names = {
        node.input[1]
        for node in model.graph.node
        if node.op_type in quantizers and node.input[0] not in biases
    }
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if tensor.name in names:
            power = np.exp2(np.round(np.log2(array))).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(power, tensor.name))
    # The biases' scales must follow: one product per convolution.
    scales = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    behind = {node.output[0]: node for node in model.graph.node}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            x, w, b = (scales[behind[n].input[1]] for n in node.input)
            name = behind[node.input[2]].input[1]
            target = next(t for t in model.graph.initializer if t.name == name)
            target.CopyFrom(onnx.numpy_helper.from_array((x * w).astype(b.dtype), name))
    onnx.save(model, str(path))
    graph = import_onnx(path).graph
    multipliers = [op.multiplier for op in graph.ops if hasattr(op, "multiplier")]
    assert all((m == 1 << 23).all() for m in multipliers) and len(multipliers) == 9
    feeds = {"clip": clip(PLAIN, 99)}
    reference, results = Reference(path).run(feeds), interpreter.run(graph, feeds)
    assert [n for n in results if not np.array_equal(results[n], reference[n])] == []
