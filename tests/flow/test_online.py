"""VTN online: a frame in, the window of vectors shifted on the accelerator, a label out."""

import itertools
import json

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from models.export import export
from models.registry import ENTRIES
from models.samples import samples
from proof.build import build
from sim.__main__ import main as sim_main

STEPS = 3


@pytest.mark.parametrize(
    "backend",
    [pytest.param("cycle", marks=pytest.mark.large), pytest.param("rtl", marks=pytest.mark.cosim)],
)
def test_frame_by_frame(backend, tmp_path):
    export("vtn_online", tmp_path / "online.onnx", "tiny")
    build(tmp_path / "online.onnx", AcceleratorConfig.load("tiny"), tmp_path / "online")
    signature = ENTRIES["vtn_online"].config("tiny", "").signature
    frames = samples(signature, 7, STEPS)
    stacked = {f"steps:input:{n}": np.stack([f[n] for f in frames]) for n in frames[0]}
    np.savez(tmp_path / "in.npz", **{n: v for n, v in stacked.items() if "window" not in n})
    words = ["run", str(tmp_path / "online"), "--on", backend, "--check", "--reset-state"]
    words += ["--steps", str(STEPS), "--input", str(tmp_path / "in.npz")]
    words += ["-o", str(tmp_path / "run.json"), "--outputs", str(tmp_path / "out.npz")]
    assert sim_main(words) == 0
    result = json.loads((tmp_path / "run.json").read_text())
    assert result["equal"] and len(result["steps"]) == STEPS
    out = np.load(tmp_path / "out.npz")
    windows, logits = out["window_next"], out["logits"]
    assert logits.shape[0] == STEPS and len(np.unique(logits, axis=0)) == STEPS
    for before, after in itertools.pairwise(windows):
        assert np.array_equal(after[:, :-1], before[:, 1:]), "all vectors move by one place"
        assert not np.array_equal(after[:, -1], before[:, -1]), "and a new one enters"
    assert not windows[0][:, :-1].any(), "the window began as zeros"
