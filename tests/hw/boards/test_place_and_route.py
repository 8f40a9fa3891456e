"""What is asked of nextpnr and read from it, and how it ends; a stand-in plays nextpnr."""

import json
import time

import pytest

from hw.boards import nextpnr
from hw.boards.ecp5 import BLOCK_SITES
from hw.boards.nextpnr import PATIENCE, Job, place_and_route, standstill
from hw.synthesis import SynthesisError, route
from tests.hw.boards.test_floorplan import chains

STAND_IN = """#!/bin/sh
# Seed S is placed at 40 + S MHz and routed at 80 + S + 0.5; seed 7 fails to route. Seed 4 has late
# arcs that no rip-up mends; without rip-up it comes to 70.5 MHz. Seed 5 does not route at all.
ripup=no only=both router=router1
while [ $# -gt 0 ]; do
    case "$1" in
        --seed) seed=$2;; --json) json=$2;; --report) report=$2;; --write) write=$2;;
        --textcfg) config=$2;; --lpf) lpf="$lpf $2";;
        --no-route) only=place;; --no-place) only=route;; --tmg-ripup) ripup=yes;;
        --router) router=$2;;
    esac
    shift
done
echo "$only $seed $ripup" >> runs
clocks() {
    echo '{"fmax": {"clk": {"achieved": '$1', "constraint": 85}}, "critical_paths": []}' > $report
}
iteration() { echo "Info:     iter=$1 wires=9 overused=$2 overuse=$2 tmgfail=$3 archfail=NA"; }
if [ $only = place ]; then
    cp $json $write || exit 3
    echo $router $ripup > $write.settings  # which win over the words of the run that reads them
    echo "Info: Max frequency for clock         'clk': 10.00 MHz (FAIL at 85.00 MHz)"
    echo "Info: Max frequency for clock         'clk': 4$seed.00 MHz (FAIL at 85.00 MHz)"
    echo "Info: Max frequency for clock 'clk\$outer': 190.00 MHz (PASS at 25.00 MHz)"
    exit 0
fi
[ $only = route ] || exit 4
grep -q 'FREQUENCY NET "clk" 85.00 MHZ;' $lpf || exit 5
grep -q 'FREQUENCY NET "clk$outer" 25.00 MHZ;' $lpf || exit 5
grep -q DP16KD $json || exit 6
grep -q '^router2 no$' $json.settings || exit 8
[ $seed = 7 ] && exit 7
iteration 1 100 30
iteration 2 50 30
if [ $seed = 5 ] || [ $seed$ripup = 4yes ]; then
    for i in $(seq 3 60); do iteration $i $((50 + i % 3)) 30; done
    sleep 60
fi
iteration 3 0 0
mhz=8$seed.5
[ $seed = 4 ] && mhz=70.5
[ $seed = 9 ] && sleep 2
clocks $mhz
echo "config of $seed" > $config
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(nextpnr, "POLL_S", 0.05)


@pytest.fixture
def directory(tmp_path):
    cells = chains(12, 3)
    for cell in cells.values():
        cell["attributes"] = {}
    (tmp_path / "design.json").write_text(json.dumps({"modules": {"top": {"cells": cells}}}))
    return tmp_path


def stand_in(directory) -> str:
    program = directory / "nextpnr-stand-in"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    return str(program)


def routed(directory, *seeds):
    said = []
    found = route(
        directory, seeds=seeds, frequency=85.0, nextpnr=stand_in(directory), say=said.append
    )
    return found, said


def shares(directory, *seeds, every=False):
    (directory / "pins.lpf").write_text("")
    job = Job(stand_in(directory), directory, "CABGA381", "pins.lpf", 85.0)
    return place_and_route(job, seeds, every=every)


def runs(directory) -> list[str]:
    return (directory / "runs").read_text().splitlines()


def test_a_figure_per_seed_after_routing(directory):
    found, _ = routed(directory, 3, 1, 2)
    assert found == pytest.approx([83.5, 81.5, 82.5])


def test_blocks_have_their_sites_in_every_placed_netlist(directory):
    routed(directory, 1, 2)
    for seed in (1, 2):
        netlist = json.loads((directory / f"placement-{seed}.json").read_text())
        cells = netlist["modules"]["top"]["cells"].values()
        assert all(("BEL" in c["attributes"]) == (c["type"] in BLOCK_SITES) for c in cells)


def test_all_are_placed_and_the_best_estimate_is_routed_first(directory, monkeypatch):
    monkeypatch.setattr(nextpnr.os, "cpu_count", lambda: 1)
    assert list(shares(directory, 1, 3, 2, every=True)) == [3, 2, 1]
    assert runs(directory) == [
        *("place 1 no", "place 3 no", "place 2 no"),
        *("route 3 yes", "route 2 yes", "route 1 yes"),
    ]


def test_who_meets_the_clocks_ends_the_routes_behind_it(directory, monkeypatch):
    monkeypatch.setattr(nextpnr.os, "cpu_count", lambda: 2)
    start = time.monotonic()
    assert shares(directory, 8, 9, 4) == pytest.approx({9: 89.5 / 85})
    # Seed 8, whose route is over long before that of seed 9, stands behind it.
    assert "route 8 yes" in runs(directory)
    assert time.monotonic() - start > 2


def test_who_misses_them_does_not(directory):
    found = shares(directory, 1, 6)
    assert found == pytest.approx({6: 86.5 / 85})
    assert shares(directory, 1, 3) == pytest.approx({3: 83.5 / 85, 1: 81.5 / 85})


def test_ripup_that_comes_no_further_gives_way_to_a_route_without(directory):
    start = time.monotonic()
    (fmax,), said = routed(directory, 4)
    assert time.monotonic() - start < 50, "the stand-in sleeps until it is ended"
    assert fmax == pytest.approx(70.5)
    assert runs(directory) == ["place 4 no", "route 4 yes", "route 4 no"]
    assert f"seed 4: the router came no further in {PATIENCE} iterations" in "\n".join(said)


def test_a_seed_that_does_not_route_has_no_clock(directory):
    (fmax,), said = routed(directory, 5)
    assert fmax == 0 and "wires used twice, 30 arcs late in iteration" in said[-1]
    assert runs(directory) == ["place 5 no", "route 5 yes", "route 5 no"]


def test_a_failure_is_an_error(directory):
    with pytest.raises(SynthesisError, match=r"nextpnr-stand-in failed \(7\)"):
        routed(directory, 7)


@pytest.mark.parametrize("name", ["no-such-nextpnr", "./no/such/nextpnr"])
def test_a_missing_program_is_named(directory, name):
    with pytest.raises(SynthesisError, match=f"{name} is no program"):
        route(directory, seeds=[1], frequency=85.0, nextpnr=name)


def log_of(conflicts) -> str:
    line = "Info:     iter={} wires=5 overused={} overuse={} {}archfail={}\n"
    return "Info: Running main router loop...\n" + "".join(
        line.format(n, used, used, "" if late is None else f"tmgfail={late} ", "NA")
        for n, (used, late) in enumerate(conflicts, start=1)
    )


def test_a_standstill_is_what_has_not_fallen_for_so_long():
    falling = [(100 - n, 5) for n in range(80)]
    assert standstill(log_of(falling)) is None
    assert standstill("") is None
    flat = [(0, 80)] * PATIENCE
    assert standstill(log_of(flat)) is None
    assert "80 arcs late in iteration 41" in standstill(log_of([*flat, (0, 80)]))
    assert standstill(log_of([*flat, (0, 79)])) is None
    # Of a run that goes on, or has ended since: the same place.
    assert standstill(log_of([*flat, (0, 80), (0, 0)])) == standstill(log_of([*flat, (0, 80)]))
    assert standstill(log_of([(7, None)] * (PATIENCE + 1))).endswith("0 arcs late in iteration 41")
    assert standstill(log_of([(7 - n // 30, None) for n in range(200)])) is None
    # A line that is not yet whole does not count.
    assert standstill(log_of([*flat, (0, 80)])[:-1]) is None
