"""Whole networks: exports, their graphs, and the oracle on them."""

import collections
import hashlib
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch

from models import export as exporting
from models import fsb
from models.data import load_clip, synthetic_clip
from models.export import config_of, export
from models.media import pictures
from models.ortcheck import compare
from models.preprocessing import Preprocessing
from models.quantgraph import QuantizedGraph
from models.reference import ModelsError, Reference
from models.stats import network_stats
from tests.models.networks import C3D

EXACT = {
    "QuantizeLinear",
    "DequantizeLinear",
    "Conv",
    "Gemm",
    "MaxPool",
    "GlobalAveragePool",
    "Slice",
    "Concat",
    "Reshape",
}


def _feeds(exported) -> dict[str, np.ndarray]:
    return {"clip": np.load(exported.npz)["input:clip"]}


@pytest.mark.parametrize("name", C3D)
def test_graph_is_integer_from_input_to_output(tiny, name):
    graph = QuantizedGraph(str(tiny[name].onnx))  # refuses any float island
    assert graph.groups[0].op == "QuantizeLinear" and graph.groups[-1].op == "DequantizeLinear"
    assert graph.inputs == ["clip"] and graph.outputs == ["logits"]
    model = graph.model
    assert not {n.op_type for n in model.graph.node} & {"Relu", "Clip"}, "fold into the range"
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    for group in graph.groups:
        if group.op in ("Conv", "Gemm"):
            weight, bias = (makers[name] for name in group.node.input[1:])
            codes, scale = constants[weight.input[0]], constants[weight.input[1]]
            assert codes.dtype == np.int8 and constants[bias.input[0]].dtype == np.int32
            assert scale.size == codes.shape[0]
            assert not constants[weight.input[2]].any()
        if group.params is not None:
            assert group.params.dtype == np.uint8


def test_temporal_residual_gradient_is_five_operators(tiny):
    graph = QuantizedGraph(str(tiny["fsb_c3d"].onnx))
    counts = collections.Counter(g.op for g in graph.groups if not g.stands)
    assert (counts["Slice"], counts["Sub"], counts["ReduceMean"], counts["Concat"]) == (4, 2, 2, 2)
    concat = next(g for g in graph.groups if g.op == "Concat" and not g.stands)
    makers = {g.output: g for g in graph.groups}
    sub, mean = (makers[name] for name in concat.reads)
    assert (sub.op, mean.op) == ("Sub", "ReduceMean")
    assert [makers[name].op for name in sub.reads] == ["Slice", "Slice"]


def test_temporal_residual_gradient_by_hand():
    x = torch.arange(2 * 3 * 4 * 5 * 5, dtype=torch.float32).reshape(2, 3, 4, 5, 5) ** 1.5
    y = fsb.TemporalResidualGradient()(x)
    assert y.shape == x.shape
    assert torch.equal(y[:, :, 1], x[:, :, 2] - x[:, :, 1])
    assert torch.allclose(y[:, :, 3], x.mean(dim=2))


def test_same_seed_same_bytes_in_another_process(tiny, tmp_path):
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "models", "export", "fsb_c3d", "--size", "tiny"]
        target = tmp_path / f"{hash_seed}.onnx"
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        subprocess.run([*command, "-o", str(target)], check=True, env=environment)
        for ours, first in (
            (target, tiny["fsb_c3d"].onnx),
            (target.with_suffix(".npz"), tiny["fsb_c3d"].npz),
        ):
            assert hashlib.sha256(ours.read_bytes()).digest() == (
                hashlib.sha256(first.read_bytes()).digest()
            )
    other = export("fsb_c3d", tmp_path / "other.onnx", "tiny", seed=1)
    assert other.sha256 != tiny["fsb_c3d"].sha256


@pytest.mark.parametrize("name", C3D)
def test_operators_equal_onnx_runtime_on_a_network(tiny, name):
    report = compare(tiny[name].onnx, _feeds(tiny[name]))
    for row in report["operators"]:
        if row["op"] in EXACT:
            assert row["mismatches"] == 0, row
        else:  # Sub and ReduceMean: float in ONNX Runtime
            print(f"{name}: {row['op']} {row['mismatches']} of {row['elements']} differ")
            assert row["max_difference"] <= 1 and row["rate"] < 0.01, row
    assert {row["op"] for row in report["operators"]} >= {"Conv", "MaxPool", "Gemm"}
    network = report["network"]
    print(f"{name}: {network}")
    if "fsb" not in name:
        assert network["mismatches"] == 0
    assert report["platform"]["onnxruntime"]


def test_twin_a_corrupt_weight_is_seen(tiny):
    model = onnx.load(tiny["c3d"].onnx)
    reference = Reference(model)
    good = reference.run(_feeds(tiny["c3d"]))
    weight = next(t for t in model.graph.initializer if t.name == "convs.conv1.weight_quantized")
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += 5
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    bad = Reference(model).run(_feeds(tiny["c3d"]))
    assert any((good[name] != bad[name]).any() for name in good)


@pytest.mark.parametrize("name", C3D)
def test_recorded_outputs_are_the_references(tiny, name):
    arrays = np.load(tiny[name].npz)
    reference = Reference(tiny[name].onnx)
    results = reference.run(_feeds(tiny[name]))
    (integer,) = reference.integer_outputs()
    assert np.array_equal(arrays["output:logits"], results["logits"])
    assert np.array_equal(arrays[f"output:{integer}"], results[integer])
    kept = reference.run(_feeds(tiny[name]), keep=["logits"])
    assert list(kept) == ["logits"]
    made = {
        n.output[0] for n in onnx.load(tiny[name].onnx).graph.node if n.op_type == "QuantizeLinear"
    }
    assert made <= set(results), "every integer tensor comes back under its ONNX name"


def test_int8_ranges_are_used(tiny):
    reference = Reference(tiny["fsb_c3d"].onnx)
    rows = network_stats(reference.groups, reference.run(_feeds(tiny["fsb_c3d"])))
    assert len(rows) == len([g for g in reference.groups if not g.stands]) - 1
    for row in rows:
        assert row["std"] > 8, row
        assert row["at_high"] < 0.02, row
        after_relu = row["zero_point"] == 0
        assert row["at_low"] < (0.7 if after_relu else 0.02), row


def test_different_clips_give_different_answers(tiny):
    reference = Reference(tiny["fsb_c3d"].onnx)
    answers = [
        reference.run({"clip": synthetic_clip(seed, 4, 32, 32)})["logits"] for seed in (7, 8)
    ]
    assert np.abs(answers[0] - answers[1]).max() > 0.2 * np.abs(answers[0]).max()


def test_reference_refuses_bad_feeds(tiny):
    reference = Reference(tiny["c3d"].onnx)
    clip = _feeds(tiny["c3d"])["clip"]
    with pytest.raises(ModelsError, match=r"inputs must be \['clip'\]"):
        reference.run({"other": clip})
    with pytest.raises(ModelsError, match="must have shape"):
        reference.run({"clip": clip[:, :, :2]})
    with pytest.raises(ModelsError, match="not float64"):
        reference.run({"clip": clip.astype(np.float64)})
    with pytest.raises(ModelsError, match="not finite"):
        reference.run({"clip": clip * np.nan})
    with pytest.raises(ModelsError, match="no tensor nothing"):
        reference.run({"clip": clip}, keep=["nothing"])


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        assert list(tmp_path.iterdir()), "the work goes on beside the target"
        raise RuntimeError("disk full")

    monkeypatch.setattr(exporting, "record", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        export("c3d", tmp_path / "c3d.onnx", "tiny")
    assert not list(tmp_path.iterdir())


def test_a_video_becomes_the_recorded_input(tmp_path, video):
    exported = export("c3d", tmp_path / "c3d.onnx", "tiny", video=video)
    clip = np.load(exported.npz)["input:clip"]
    assert np.array_equal(clip, load_clip(video, 4, 32, 32))
    how = Preprocessing.load(tmp_path / "c3d.preprocessing.json")
    picture = pictures(video, 4, 32, 32, 3, how)
    assert np.array_equal(clip[0].transpose(1, 2, 3, 0), how.apply(picture.pixels))


def test_configurations_are_checked():
    with pytest.raises(ModelsError, match="no network 'c4d'"):
        config_of("c4d")
    with pytest.raises(ModelsError, match="must be one of 16, 64, not '32'"):
        config_of("c3d", "paper", frames=32)
    with pytest.raises(ModelsError, match="c3d_fc has no option 'frames'"):
        config_of("c3d_fc", "paper", frames=64)
    with pytest.raises(ModelsError, match="takes no frames at size tiny"):
        config_of("c3d", "tiny", frames=16)
    with pytest.raises(ModelsError, match="no option 'width'; options: frames"):
        config_of("c3d", "tiny", "width=3")
    with pytest.raises(ModelsError, match="part encoder exists for modality rgb, not stacked"):
        config_of("vtn_resnet34", "tiny", "part=encoder,modality=stacked")
    assert config_of("fsb_c3d", "paper", frames=64).frames == 64
    assert config_of("c3d_fc", "paper", frames=16).frames == 16
    with pytest.raises(ValueError, match="8 entries, not 2"):
        fsb.C3dConfig(mids=(1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fsb_c3d", "c3d"])
def test_paper_size_equals_onnx_runtime(tmp_path, name):
    exported = export(name, tmp_path / f"{name}.onnx")
    report = compare(exported.onnx, _feeds(exported))
    for row in report["operators"]:
        limit = 0 if row["op"] in EXACT else 1e-3
        assert row["rate"] <= limit and row["max_difference"] <= 1, row
    print(report["network"])
