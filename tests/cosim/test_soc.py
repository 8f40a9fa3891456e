"""The board's whole SoC under Verilator, over its serial line: networks, losses, a reset."""

from __future__ import annotations

import dataclasses

import pytest

from models.export import export
from proof.build import build
from sim.backend import Options
from sim.board.backend import SocBackend
from sim.board.transport import LossyTransport
from sim.build import Build
from sim.energy import EnergyTable
from sim.errors import InputError
from sim.functional.backend import FunctionalBackend
from sim.run import run_build

pytestmark = pytest.mark.cosim

LOST = 2e-4
"""Share of the bytes that get lost, either way."""
NETWORKS = [
    "vtn_decoder",
    *(pytest.param(n, marks=pytest.mark.slow) for n in ("fsb_c3d", "liteeval")),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A network of size tiny on `tiny`, all of whose tensors are there when a run ends."""
    folder = tmp_path_factory.mktemp("soc")

    def make(name: str) -> Build:
        target = folder / name
        if not target.exists():
            export(name, folder / f"{name}.onnx", "tiny")
            build(folder / f"{name}.onnx", "tiny", target, dram="all")
        return Build.load(target)

    return make


def ran(backend, built, **options):
    table = EnergyTable.load("asic_45nm")
    inputs = {port.name: built.golden[f"input:{port.name}"] for port in built.program.inputs}
    return run_build(built, backend, inputs, Options(check_reads=True, **options), table, True)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_tensors_are_equal_and_lost_bytes_change_nothing(made, name):
    built = made(name)
    lines = []

    def lossy(line):
        lines.append(LossyTransport(line, LOST, seed=1))
        return lines[0]

    backend = SocBackend(through=lossy)
    try:
        result = ran(backend, built).result
        assert lines[0].lost > 0 and backend.counts.repeated > 0
    finally:
        backend.close()
    plain = ran(FunctionalBackend(), built).result
    assert result.equal and result.tensors_compared == plain.tensors_compared > 15


def test_a_difference_is_seen_and_a_reset_begins_again(made):
    """The twin: with a weight changed on its way, tensors differ. Then the board is reset."""
    built = made("vtn_decoder")
    address, data = built.program.image[0]
    changed = bytes([data[0] ^ 0x40]) + data[1:]
    image = ((address, changed), *built.program.image[1:])
    wrong = dataclasses.replace(built, program=dataclasses.replace(built.program, image=image))
    backend = SocBackend()
    try:
        assert ran(backend, wrong).result.equal is False
        said = []
        backend.line.reset()
        assert ran(backend, built, say=said.append).result.equal
    finally:
        backend.close()


def test_tensors_that_are_gone_are_not_compared(made, tmp_path):
    made("vtn_decoder")
    source = made("vtn_decoder").folder.parent / "vtn_decoder.onnx"
    build(source, "tiny", tmp_path / "shared")
    backend = SocBackend()
    try:
        with pytest.raises(InputError, match="a board cannot show them; build with --dram all"):
            ran(backend, Build.load(tmp_path / "shared"))
    finally:
        backend.close()
