"""What the fold of SiLU and hard-swish is worth on the kind of network that a newcomer brings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compiler import pipeline
from compiler.passes.compose import COMPOSE
from examples import own_network
from models.data import synthetic_clip
from tests.marks import large
from toolkit import build, run

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's and onnxruntime's own


def blocks(activation):
    """Two dense 3-D blocks and a classifier."""
    torch.manual_seed(0)
    layers = []
    for inner, outer in ((3, 16), (16, 32)):
        layers += [nn.Conv3d(inner, outer, 3, padding=1), nn.BatchNorm3d(outer), activation]
        layers += [nn.MaxPool3d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(32, 10))


@pytest.mark.parametrize("activation", [nn.SiLU(), large(nn.Hardswish())])
def test_the_fold_saves_a_sixth_of_the_cycles(activation, tmp_path, monkeypatch):
    onnx = own_network.quantized(blocks(activation), tmp_path)
    np.savez(tmp_path / "clip.npz", clip=synthetic_clip(100, *own_network.SHAPE[2:]))
    results = {}
    for folded in (True, False):
        if not folded:
            without = tuple(step for step in pipeline.FUSE if step is not COMPOSE)
            monkeypatch.setattr(pipeline, "FUSE", without)
        made = build(onnx, "base", tmp_path / f"{folded}", record=tmp_path / "clip.npz")
        results[folded] = run(Path(made.output), "cycle", check=True)
        assert results[folded].result.equal is True
    fast, slow = results[True].result.cycles, results[False].result.cycles
    assert fast <= 5 / 6 * slow, (fast, slow)
    same = [ran.outputs["logits"] for ran in results.values()]
    assert np.array_equal(*same), "the same bits"
    names = [layer.op for layer in results[True].result.layers]
    assert sum("(x)" in name for name in names) == 2
