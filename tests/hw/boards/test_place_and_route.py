"""What place and route asks of nextpnr and reads from it; a stand-in plays nextpnr."""

import json

import pytest

from hw.boards.ecp5 import BLOCK_SITES
from hw.synthesis import SynthesisError, place_and_route
from tests.hw.boards.test_floorplan import chains

STAND_IN = """#!/bin/sh
while [ $# -gt 0 ]; do
    case "$1" in --seed) seed=$2;; --json) json=$2;; esac
    shift
done
test -f "$json" || exit 3
echo "Info: Max frequency for clock 'clk': 10.00 MHz (FAIL at 85.00 MHz)"
echo "Info: Max frequency for clock 'clk': 8$seed.50 MHz (PASS at 85.00 MHz)"
exit {code}
"""


@pytest.fixture
def directory(tmp_path):
    cells = chains(12, 3)
    for cell in cells.values():
        cell["attributes"] = {}
    (tmp_path / "design.json").write_text(json.dumps({"modules": {"top": {"cells": cells}}}))
    return tmp_path


def stand_in(directory, code=0) -> str:
    program = directory / "nextpnr-stand-in"
    program.write_text(STAND_IN.replace("{code}", str(code)))
    program.chmod(0o755)
    return str(program)


def test_a_figure_per_seed_after_routing(directory):
    found = place_and_route(directory, seeds=[3, 1, 2], frequency=85.0, nextpnr=stand_in(directory))
    assert found == [83.5, 81.5, 82.5]


def test_blocks_have_their_sites_in_every_netlist(directory):
    place_and_route(directory, seeds=[1, 2], frequency=85.0, nextpnr=stand_in(directory))
    for seed in (1, 2):
        netlist = json.loads((directory / f"placed-{seed}.json").read_text())
        cells = netlist["modules"]["top"]["cells"].values()
        assert all(("BEL" in c["attributes"]) == (c["type"] in BLOCK_SITES) for c in cells)


def test_a_failure_is_an_error(directory):
    with pytest.raises(SynthesisError, match=r"nextpnr-stand-in failed \(7\)"):
        place_and_route(directory, seeds=[1], frequency=85.0, nextpnr=stand_in(directory, 7))


@pytest.mark.parametrize("name", ["no-such-nextpnr", "./no/such/nextpnr"])
def test_a_missing_program_is_named(directory, name):
    with pytest.raises(SynthesisError, match=f"{name} is no program"):
        place_and_route(directory, seeds=[1], frequency=85.0, nextpnr=name)
