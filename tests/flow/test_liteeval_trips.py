"""LiteEval's clip and its steps, with the accelerator's own decisions."""

import json

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from models.export import export
from models.registry import ENTRIES
from models.samples import samples
from proof.build import build
from sim import host, path
from sim.__main__ import main as sim_main
from sim.backend import Options
from sim.backends import make_backend
from sim.build import Build
from tests.ladder.compare import differences

TINY = AcceleratorConfig.load("tiny")


@pytest.mark.slow
def test_liteeval_steps_and_clip(tmp_path):
    """The step graph with states and If, and the clip as a Loop, decide alike and both ways."""
    export("liteeval", tmp_path / "step.onnx", "tiny")
    build(tmp_path / "step.onnx", TINY, tmp_path / "step")
    signature = ENTRIES["liteeval"].config("tiny", "").signature
    pictures = samples(signature, 500, 24)
    stacked = {f"steps:input:{n}": np.stack([p[n] for p in pictures]) for n in pictures[0]}
    np.savez(tmp_path / "in.npz", **stacked)
    words = ["run", str(tmp_path / "step"), "--on", "cycle", "--input", str(tmp_path / "in.npz")]
    words += ["--steps", "24", "--check", "-o", str(tmp_path / "run.json")]
    assert sim_main(words) == 0
    steps = json.loads((tmp_path / "run.json").read_text())["steps"]
    fine = [any(name.endswith(": then") for name in step["path"]) for step in steps]
    assert 0.1 <= np.mean(fine) <= 0.9 and np.count_nonzero(np.diff(fine)) >= 3
    cycles = {taken: {s["cycles"] for s, f in zip(steps, fine, strict=True) if f == taken}
              for taken in (True, False)}  # fmt: skip
    assert len(cycles[True]) == len(cycles[False]) == 1, "time depends on the path alone"
    assert max(cycles[True]) > 3 * max(cycles[False])

    export("liteeval_clip", tmp_path / "clip.onnx", "tiny")
    done = build(tmp_path / "clip.onnx", TINY, tmp_path / "clip")
    assert done.golden == "equal" and len(done.proof["paths"]) >= 2
    assert sim_main(["run", str(tmp_path / "clip"), "--on", "cycle", "--check"]) == 0


@pytest.mark.cosim
@pytest.mark.slow
def test_a_fine_and_a_skipped_step_on_rtl(tmp_path):
    """Values and the times of every instruction along both paths that the data choose."""
    export("liteeval", tmp_path / "step.onnx", "tiny")
    build(tmp_path / "step.onnx", TINY, tmp_path / "step")
    found = Build.load(tmp_path / "step")
    signature = ENTRIES["liteeval"].config("tiny", "").signature
    paths, memory = set(), None
    for pictures in samples(signature, 500, 5):
        inputs = pictures | found.initial_states()
        fed = found.feeds(inputs)
        memory = (
            host.start_image(found.program, fed)
            if memory is None
            else host.next_image(found.program, memory, fed)
        )
        rtl, cycle = (
            make_backend(name).run(found.program, TINY, memory, Options())
            for name in ("rtl", "cycle")
        )
        assert differences(rtl, cycle) == []
        paths.add(path.names(found.program, rtl.trace))
        memory = rtl.memory
    assert len(paths) == 2
