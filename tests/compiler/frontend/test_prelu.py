"""PRelu with a slope per channel: every code of every channel, against ONNX Runtime and PyTorch."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch

from compiler.__main__ import main as compiler_main
from compiler.frontend import prelu
from hw.arch.arrays import read_arrays, write_arrays
from models.reference import Reference
from sim.__main__ import main as sim_main
from tests.models.net import Net, by_onnx_runtime
from tests.models.qdq import Q

SLOPES = np.array([0.25, -0.7, 0.0, 1.0, 3.3, -1e-4, 1e-45, 0.013, -2.0, 1e3, 0.5], np.float32)
C = SLOPES.size
SCALES = {
    "u8 to u8": (Q(0.0371, 131), Q(0.0533, 97)),
    "u8 to s8": (Q(0.0371, 3), Q(0.0119, -40, np.int8)),
    "s8 to s8, short decimals": (Q(0.05, 0, np.int8), Q(0.1, 0, np.int8)),
    "s8 to u8, no code below zero": (Q(0.021, -128, np.int8), Q(0.02, 0)),
}
FORMS = {
    "map": ((1, C, 16, 16), (C, 1, 1)),
    "volume": ((1, C, 4, 8, 8), (C, 1, 1, 1)),
    "features": ((1, C), (C,)),
    "leading ones": ((1, C, 256), (1, C, 1)),
}


def network(source: Q, result: Q, shape=FORMS["map"][0], slopes=FORMS["map"][1], clip=False) -> Net:
    net = Net()
    x = net.through(net.input(shape), source)
    y = net.op("PRelu", [x, net.floats(SLOPES.reshape(slopes))])
    net.end(net.op("Relu", [y]) if clip else y, result)
    return net


def every_code(source: Q, shape) -> dict[str, np.ndarray]:
    """All codes in every channel, as far as there is room."""
    low = -128 if source.dtype == np.int8 else 0
    count = int(np.prod(shape[2:], dtype=int))
    codes = (
        np.resize(np.arange(low, low + 256), (C, count)) if count > 1 else low + np.arange(C) * 25
    )
    real = (codes.astype(np.float32) - source.zero) * np.float32(source.scale)
    return {"x": real.reshape(shape).astype(np.float32)}


def outputs_of(folder, net: Net, feeds, config: str) -> np.ndarray:
    onnx.save(net.model(), str(folder / "net.onnx"))
    write_arrays(folder / "feeds.npz", feeds)
    words = [str(folder / "net.onnx"), "--config", config]
    assert compiler_main(["check", *words]) == 0
    assert compiler_main(["build", *words, "-o", str(folder / "build")]) == 0
    run = ["run", str(folder / "build"), "--check", "--input", str(folder / "feeds.npz")]
    assert sim_main([*run, "--outputs", str(folder / "outputs.npz")]) == 0
    return read_arrays(folder / "outputs.npz")[net.outputs[0].name]


def by_torch(source: Q, result: Q, x: np.ndarray) -> np.ndarray:
    """Codes that torch's own PReLU rounds to, and how far its real is from a tie."""
    real = torch.nn.functional.prelu(torch.from_numpy(x), torch.from_numpy(SLOPES))
    exact = real.numpy().astype(np.float64) / np.float64(np.float32(result.scale))
    limits = np.iinfo(result.dtype)
    codes = np.clip(np.rint(exact) + result.zero, limits.min, limits.max)
    return codes, np.abs(exact - np.floor(exact) - 0.5)


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("config", ["tiny", "base"])
def test_every_code_of_every_channel(scales, config, tmp_path):
    source, result = SCALES[scales]
    net, feeds = network(source, result), every_code(source, FORMS["map"][0])
    ours = outputs_of(tmp_path, net, feeds, config)
    codes = np.rint(ours / np.float64(np.float32(result.scale))) + result.zero
    wanted, from_tie = by_torch(source, result, feeds["x"])
    apart = np.abs(codes - wanted)
    assert apart[from_tie > 1e-4].max() == 0 and apart.max() <= 1
    for theirs in (outputs[0] for outputs in by_onnx_runtime(net.model(), feeds).values()):
        assert np.abs(theirs - ours)[from_tie > 1e-4].max() == 0
    assert len(np.unique(ours)) > 50


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("clip", [False, True])
def test_forms(form, clip, tmp_path):
    source, result = SCALES["u8 to u8"]
    shape, slopes = FORMS[form]
    net, feeds = network(source, result, shape, slopes, clip), every_code(source, shape)
    ours = outputs_of(tmp_path, net, feeds, "tiny")
    theirs = [outputs[0] for outputs in by_onnx_runtime(net.model(), feeds).values()]
    wanted, from_tie = by_torch(source, result, feeds["x"])
    assert wanted.shape == ours.shape
    assert all(np.abs(t - ours)[from_tie > 1e-4].max() == 0 for t in theirs)
    assert (ours.min() < 0) is not clip


def test_quantized_slopes_and_a_tensor_of_other_axes(tmp_path):
    """Slopes through DequantizeLinear; channels last in the file until right before."""
    source, result = SCALES["u8 to u8"]
    net = Net()
    x = net.op("Transpose", [net.through(net.input((1, 16, 16, C)), source)], perm=[0, 3, 1, 2])
    codes = np.linspace(-100, 100, C).astype(np.int8).reshape(C, 1, 1)
    slopes = net.dequantize(net.constant(codes), Q(0.013, 7, np.int8))
    net.end(net.op("PRelu", [x, slopes]), result)
    feeds = every_code(source, (1, C, 16, 16))
    feeds = {"x": np.ascontiguousarray(feeds["x"].transpose(0, 2, 3, 1))}
    ours = outputs_of(tmp_path, net, feeds, "tiny")
    step = np.float32(result.scale)
    for theirs in (outputs[0] for outputs in by_onnx_runtime(net.model(), feeds).values()):
        apart = np.abs(theirs - ours)
        assert apart.max() <= 1.01 * step and np.count_nonzero(apart) < 0.01 * apart.size
    assert len(np.unique(ours)) > 50


def test_the_oracle_is_of_the_form():
    (group,) = (
        g for g in Reference(network(*SCALES["u8 to u8"]).model()).groups if g.op == "PRelu"
    )
    assert group.form == "PRelu"


def test_twin_slopes_of_other_channels_end_the_build(monkeypatch, tmp_path, capsys):
    slopes = prelu._slopes
    monkeypatch.setattr(prelu, "_slopes", lambda site, kind: np.roll(slopes(site, kind), 1))
    onnx.save(network(*SCALES["u8 to u8"]).model(), str(tmp_path / "net.onnx"))
    words = ["build", str(tmp_path / "net.onnx"), "--config", "tiny", "-o", str(tmp_path / "out")]
    assert compiler_main(words) != 0
    assert "layer node_t8 differs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("slopes", "reason"),
    [
        (np.linspace(0.1, 1, 16, dtype=np.float32), "one for each of the 11 channels is lowered"),
        (np.where(SLOPES > 1, np.inf, SLOPES).reshape(C, 1, 1), "finite float32"),
        (SLOPES.reshape(C, 1, 1) * np.float32(1e34), "overflow"),
    ],
)
def test_other_slopes_are_refused(slopes, reason, tmp_path, capsys):
    net = Net()
    x = net.start((1, C, 16, 16))
    net.end(net.op("PRelu", [x, net.constant(slopes)]), Q(0.05, 0, np.int8))
    onnx.save(net.model(), str(tmp_path / "net.onnx"))
    words = ["check", str(tmp_path / "net.onnx"), "--config", "tiny", "--json"]
    assert compiler_main(words) == 1
    (finding,) = json.loads(capsys.readouterr().out)["unsupported"]
    assert finding["op"] == "PRelu" and reason in finding["reason"]
