"""The flow to a bitstream: who wins, what is an error, what is kept; stand-ins play the tools."""

from __future__ import annotations

import json
import subprocess

import pytest

from hw.__main__ import main
from hw.arch.board import BOARD_FILE, BoardFile
from hw.arch.boards import BOARDS
from hw.arch.config import AcceleratorConfig
from hw.boards import bitstream
from hw.boards.bitstream import BIT, IMAGE, ClockError, critical_path, make_bitstream, unit_of
from hw.boards.floorplan_image import draw, placed_cells, tiles_of
from hw.boards.mapping import SynthesisError
from hw.synthesis import Resources
from tests.cosim.traffic import Traffic
from tests.hw.boards.test_floorplan import chains

pytestmark = pytest.mark.large

NEXTPNR = """#!/bin/sh
echo run >> {log}
while [ $# -gt 0 ]; do
    case "$1" in
        --version) echo stand-in; exit 0;;
        --seed) seed=$2;; --textcfg) config=$2;; --report) report=$2;; --lpf) lpf="$lpf $2";;
        --write) placed=$2;; --no-route) place=yes;;
    esac
    shift
done
grep -q 'LOCATE COMP "sdram_dq\\[15\\]" SITE "J17"' $lpf || exit 9
[ $seed = 7 ] && exit 7
[ $seed = 2 ] && mhz=63 || mhz=50
[ $seed = 5 ] && mhz=63 && between=9.0 || between=7.9
[ -n "$placed" ] && cat > $placed <<END
{{
      "cells": {{
        "board_shell.accelerator.core.load.x_LUT4": {{
          "attributes": {{
            "NEXTPNR_BEL": "X3/Y4/SLICEA.LUT0"
          }}
        }},
        "board_shell.bridge.y": {{
          "attributes": {{
            "NEXTPNR_BEL": "X9/Y4/SLICEA.LUT0"
          }}
        }}
END
cat > $report <<END
{{"fmax": {{"sys": {{"achieved": $mhz, "constraint": 62.5}},
           "sys2x": {{"achieved": 200, "constraint": 125}}}},
 "critical_paths": [
  {{"from": "posedge sys", "to": "posedge sys", "path": [
    {{"delay": 1.5, "to": {{"cell": "board_shell.accelerator.core.load.x_LUT4"}}}},
    {{"delay": 0.5, "to": {{"cell": "board_shell.accelerator.core.load.y"}}}},
    {{"delay": 2.0, "to": {{"cell": "board_shell.converter.reads.z"}}}}]}},
  {{"from": "posedge sys", "to": "posedge sys2x", "path": [
    {{"delay": $between, "to": {{"cell": "OFS1P3BX"}}}}]}},
  {{"from": "<async>", "to": "posedge sys", "path": [
    {{"delay": 99.0, "to": {{"cell": "rst"}}}}]}}]}}
END
if [ -n "$place" ]; then
    echo "Info: Max frequency for clock   'sys': $mhz.00 MHz (FAIL at 62.50 MHz)"
    echo "Info: Max frequency for clock 'sys2x': 200.00 MHz (PASS at 125.00 MHz)"
    exit 0
fi
grep -q 'FREQUENCY NET "sys2x" 125.00 MHZ;' $lpf || exit 8
[ $seed = 2 ] || sleep {slow}
echo "config of $seed" > $config
"""
PACK = """#!/bin/sh
cp "$2" "$3"
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Stand-ins for nextpnr, ecppack and the mapping; the log of nextpnr's runs."""

    def script(name, text):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def mapped(rtlil, top, directory, cache, **options):
        assert f"module \\{top}\n" in rtlil and "module \\board_shell\n" in rtlil
        assert all(part in rtlil for part in ("\\EHXPLLL ", "\\TRELLIS_IO ", "\\ODDRX1F "))
        cells = chains(12, 3)
        for cell in cells.values():
            cell["attributes"] = {}
        (directory / "design.json").write_text(json.dumps({"modules": {top: {"cells": cells}}}))
        count = {"LUT4": 8, "CCU2C": 1, "TRELLIS_FF": 5, "DP16KD": 2}
        flat = {"modules": {top: {"num_cells_by_type": count}}}
        (directory / "cells.json").write_text(json.dumps(flat))
        units = {
            top: {"board_shell": 1, "LUT4": 1},
            "board_shell": {"board_shell.accelerator": 1, "board_shell.bridge": 1},
            "board_shell.bridge": {"LUT4": 3},
            "board_shell.accelerator": {"board_shell.accelerator.core": 1},
            "board_shell.accelerator.core": {"board_shell.accelerator.core.load": 1},
            "board_shell.accelerator.core.load": {"LUT4": 4, "TRELLIS_FF": 5},
        }
        content = {name: {"num_cells_by_type": cells} for name, cells in units.items()}
        (directory / "units.json").write_text(json.dumps({"modules": content}))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hw.boards.shell.Accelerator", Traffic)  # a small circuit in its place
    monkeypatch.setattr("hw.boards.soc_netlist.map_netlist", mapped)
    monkeypatch.setattr(bitstream, "PACK", script("ecppack", PACK))
    log = tmp_path / "runs"
    log.write_text("")
    return script("nextpnr", NEXTPNR.format(log=log, slow=0.3)), log


def make(folder, nextpnr, seeds, **options):
    config, board = AcceleratorConfig.load("tiny"), BOARDS["ulx3s_85f"]
    return make_bitstream(config, board, folder, seeds=seeds, nextpnr=nextpnr, **options)


def test_the_first_seed_that_meets_the_clock_wins_and_is_kept(tools, tmp_path):
    nextpnr, log = tools
    result = make(tmp_path / "a", nextpnr, [1, 2, 3])
    assert result.seed == 2 and result.fmax_mhz["2"] == pytest.approx(63)
    assert (tmp_path / "a" / BIT).read_text() == "config of 2\n"
    assert result.used == Resources(lut=10, ff=5, bram=2, dsp=0)
    assert result.units == {"load": Resources(4, 5, 0, 0), "bridge": Resources(3, 0, 0, 0)}
    assert result.critical == [("load", 2.0), ("converter", 2.0)]
    assert "62.5 MHz met by seed 2 (" in result.summary()
    assert (tmp_path / "a" / IMAGE).read_bytes().startswith(b"\x89PNG")
    board = BoardFile.load(tmp_path / "a" / BOARD_FILE)
    # Clock enable takes three writes, six commands four each; then the controller takes over.
    assert (board.clock_hz, board.word_bits) == (62_500_000, 32)
    assert len(board.start) == 3 + 6 * 4 + 1 and board.start[-1][1:] == (1, 0)
    runs = log.read_text()
    again = make(tmp_path / "b", nextpnr, [1, 2, 3])
    assert (again.bit_sha256, again.seed) == (result.bit_sha256, 2)
    assert (tmp_path / "b" / BIT).read_bytes() == (tmp_path / "a" / BIT).read_bytes()
    assert log.read_text() == runs + "run\n"  # it was asked for its version


def test_every_seed_is_routed_for_the_median(tools, tmp_path):
    nextpnr, _ = tools
    result = make(tmp_path / "a", nextpnr, [1, 2, 3], every=True)
    assert result.seed == 2 and sorted(result.fmax_mhz) == ["1", "2", "3"]
    assert result.fmax_mhz["1"] == pytest.approx(50) and "; median 50.0)" in result.summary()


def test_tiles_belong_to_the_units_of_their_cells(tools, tmp_path):
    nextpnr, _ = tools
    words = [nextpnr, "--seed", "2", "--textcfg", tmp_path / "c", "--report", tmp_path / "r"]
    (tmp_path / "l").write_text('LOCATE COMP "sdram_dq[15]" SITE "J17"')
    words += ["--lpf", tmp_path / "l", "--write", tmp_path / "w", "--no-route"]
    subprocess.run(list(map(str, words)), check=True)
    tiles = tiles_of(placed_cells(tmp_path / "w"), unit_of)
    assert tiles == {(3, 4): {"load": 1}, (9, 4): {"bridge": 1}}
    with pytest.raises(ValueError, match="no cells"):
        draw({}, tmp_path / "none.png")


def test_a_missed_clock_is_an_error(tools, tmp_path, capsys):
    nextpnr, _ = tools
    with pytest.raises(ClockError, match=r"no seed reaches 62.5 MHz \(seed 1: 50.0, seed 3"):
        make(tmp_path / "a", nextpnr, [1, 3])
    assert not (tmp_path / "a" / BIT).exists()
    words = ["bitstream", "--config", "tiny", "--seeds", "1", "--nextpnr", nextpnr]
    assert main([*words, "-o", str(tmp_path / "b")]) == 1
    assert "error: no seed reaches 62.5 MHz" in capsys.readouterr().err
    assert main([*words, "-o", str(tmp_path / "b"), "--frequency", "13"]) == 2
    assert "13 MHz gives no 3,000,000 baud" in capsys.readouterr().err


def test_a_path_between_the_clocks_that_is_too_long_is_an_error(tools, tmp_path):
    """From the core's clock to the SDRAM's it may take 8 ns; nextpnr does not judge it."""
    with pytest.raises(ClockError, match=r"no seed reaches 62.5 MHz \(seed 5: 55.6\)"):
        make(tmp_path / "out", tools[0], [5])


def test_a_tool_that_fails_is_named(tools, tmp_path):
    nextpnr, _ = tools
    with pytest.raises(SynthesisError, match=r"nextpnr failed \(7\)"):
        make(tmp_path / "a", nextpnr, [7])


def test_cells_have_units():
    assert unit_of("storage_LUT4_1") == "soc"
    assert unit_of("board_shell.bridge.receiver.timer_FF") == "bridge"
    assert unit_of("board_shell.accelerator.registers.counter_FF") == "registers"
    assert unit_of("board_shell.accelerator.core.drain.lane0.x") == "drain"
    assert unit_of("board_shell.irq_FF") == "board_shell"
    assert critical_path({"critical_paths": []}) == []
