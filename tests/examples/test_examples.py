"""The examples do what docs/own-network.md says, and functions and commands give the same files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from compiler.__main__ import main as compiler_main
from examples import own_network, sweep_width
from sim.__main__ import main as sim_main
from sim.result import RunResult
from tests.marks import large
from toolkit import build, report, run

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's and onnxruntime's own

TIMES = ("wall_s", "sim_khz", "input")


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """The example's network by torch's newer exporter, at half its width."""
    folder = tmp_path_factory.mktemp("own")
    return own_network.quantized(own_network.network(8), folder)


@pytest.mark.parametrize("exporter", [large("dynamo"), large("torchscript")])
def test_own_network_prints_a_class(exporter, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(own_network, "network", lambda: NETWORK)
    own_network.main(["--exporter", exporter, "--config", "tiny", "-o", str(tmp_path)])
    out = capsys.readouterr().out
    clip = np.load(tmp_path / "clip.npz")["clip"]
    with torch.no_grad():
        wanted = NETWORK.eval()(torch.from_numpy(clip)).numpy()[0]
    first = out.splitlines()[1].split()
    assert int(first[1]) == int(np.argmax(wanted))
    assert abs(float(first[0]) - wanted.max()) < 0.01
    assert "the same class" in out and "cycles" in out
    (result,) = tmp_path.glob("build/runs/*/run.json")
    assert RunResult.load(result).equal is True
    assert Path(out.rstrip().rsplit(" ", 1)[1]).is_file(), "the page"


NETWORK = own_network.network(8)


@pytest.mark.cosim
def test_own_network_on_the_circuit(tmp_path, capsys):
    own_network.main(["--config", "tiny", "--on", "rtl", "-o", str(tmp_path)])
    assert "the same class" in capsys.readouterr().out
    (result,) = tmp_path.glob("build/runs/rtl-*/run.json")
    assert RunResult.load(result).equal is True


@pytest.mark.large
def test_a_sweep_is_a_row_a_width(tmp_path, capsys):
    sweep_width.main(["4", "8", "--config", "tiny", "-o", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in lines[1:]] == [4, 8]
    cycles = [int(line.split()[1].replace(",", "")) for line in lines[1:]]
    assert cycles[0] < cycles[1], "a wider network takes longer"


def test_functions_and_commands_write_the_same(quantized, tmp_path, capsys):
    first, second = tmp_path / "a", tmp_path / "b"
    np.savez(tmp_path / "clip.npz", clip=np.zeros(own_network.SHAPE, np.float32))
    made = build(quantized, "tiny", first, record=tmp_path / "clip.npz")
    words = ["build", str(quantized), "--config", "tiny", "-o", str(second)]
    assert compiler_main([*words, "--record", str(tmp_path / "clip.npz"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["cycles_estimated"] == made.cycles_estimated
    for name in ("program.bin", "program.asm", "golden.npz", "config.yaml", "model.onnx"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    ran = run(first, "cycle", check=True)
    assert ran.result.cycles == made.proof["cycles"], "the proof's run is the recording's"
    assert sim_main(["run", str(second), "--on", "cycle", "--check"]) == 0
    theirs = json.loads((second / "runs" / "cycle-recorded" / "run.json").read_text())
    ours = json.loads(ran.files[0].read_text())
    for name in TIMES:
        ours.pop(name), theirs.pop(name)
    assert ours == theirs
    page = report(first)
    assert page.page == first / "runs" / "cycle-recorded" / "report" / "index.html"
    assert page.run == ran.files[0]
    outputs = np.load(ran.files[1])
    assert np.array_equal(outputs["logits"], ran.outputs["logits"])
