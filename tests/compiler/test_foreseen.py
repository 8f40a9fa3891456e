"""What a program takes is foreseen without its values: each layer's cycles are those of a run."""

import dataclasses

import numpy as np
import onnx
import pytest

from compiler import foreseen as module
from compiler.foreseen import FORESEEN, foreseen
from hw.arch.config import AcceleratorConfig
from models.export import export
from models.registry import ENTRIES
from models.samples import samples
from proof.build import build
from sim.backend import Options
from sim.backends import make_backend
from sim.build import Build
from sim.energy import EnergyTable
from sim.run import run_build
from tests.flow.test_loops import WIDTH, counted

TINY = AcceleratorConfig.load("tiny")


def ran(folder, given):
    """A build and what a run of it took."""
    made = Build.load(folder)
    table = EnergyTable.load("asic_45nm")
    return made, run_build(made, make_backend("cycle"), given, Options(), table, False).result


@pytest.mark.parametrize("name", ["fsb_c3d", "vtn_decoder", "xwisenet"])
def test_a_straight_program_takes_what_is_foreseen(name, tmp_path):
    export(name, tmp_path / "net.onnx", "tiny")
    done = build(tmp_path / "net.onnx", TINY, tmp_path / "build", verify=False)
    signature = ENTRIES[name].config("tiny", "").signature
    made, result = ran(tmp_path / "build", samples(signature, 1, 1)[0])
    assert done.cycles_estimated == result.cycles
    assert [layer.tiling[FORESEEN] for layer in made.program.layers] == [
        layer.cycles for layer in result.layers
    ]
    # Twin: another memory port does not take as long.
    port = dataclasses.replace(TINY.port, outstanding=1)
    assert foreseen(made.program, dataclasses.replace(TINY, port=port)).cycles != result.cycles


def test_every_trip_counts(tmp_path, monkeypatch):
    """Also the jumps back, which flush the fetch."""
    onnx.save(counted(6).model(), tmp_path / "net.onnx")
    build(tmp_path / "net.onnx", TINY, tmp_path / "build", verify=False)
    given = {"x": np.random.default_rng(0).normal(0, 1, (1, WIDTH)).astype(np.float32)}
    made, result = ran(tmp_path / "build", given)
    found = foreseen(made.program, TINY)
    assert found.cycles == result.cycles
    monkeypatch.setattr(module, "_passed", lambda loops, first, end: module._between(first, end))
    assert foreseen(made.program, TINY).cycles < 0.5 * result.cycles
