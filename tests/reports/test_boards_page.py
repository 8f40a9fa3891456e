"""docs/boards.md: made from what was measured; the clock is the board's or a routed bitstream's."""

import json

import pytest

from scripts import boards


def report(path, **changes):
    content = {"board": "ulx3s_85f", "config": "ecp5_85k", "clock_mhz": 62.5}
    content |= {"fmax_mhz": {"1": 50.0, "2": 64.0, "3": 60.0}} | changes
    path.write_text(json.dumps(content))
    return path


def test_the_page_is_that_of_the_figures():
    figures = json.loads(boards.FIGURES.read_text())
    assert set(figures) <= set(boards.NETWORKS)
    assert boards.PAGE.read_text() == boards.page(figures, boards.clock_of(None))


def test_rates_and_energy_follow_from_cycles_and_clock():
    found = {"frames": 16, "bytes": 3 << 20, "cycles": 20_000_000, "joules": 0.16, "tensors": 5}
    (row,) = boards.rows({"fsb_c3d": found}, boards.Clock(50e6, "tried"))
    # 16 frames in 0.4 s; 160 mJ and 0.233 W for 0.4 s, over 16 frames.
    assert row == "| FSB-C3D | 16 | 3.0 MiB | 20,000,000 | 40.00 | 15.8 |"
    large = {"frames": 16, "bytes": 33 << 20}
    assert boards.rows({"c3d": large}, boards.Clock(50e6, "")) == [
        "| C3D | 16 | 33.0 MiB | does not fit | | |"
    ]


def test_the_clock_of_a_routed_bitstream(tmp_path):
    clock = boards.clock_of(report(tmp_path / "a.json"))
    assert clock.hertz == 60e6
    assert clock.source == "routed at 60.0 MHz, median of 3 seeds: decision 0020"
    # More than was asked for is not what the board's clock gives.
    fast = report(tmp_path / "b.json", fmax_mhz={"1": 70.0})
    text = "the board's; routed at 70.0 MHz, seed 1: decision 0020"
    assert boards.clock_of(fast) == boards.Clock(62.5e6, text)
    with pytest.raises(SystemExit, match="about tiny on ulx3s_85f"):
        boards.clock_of(report(tmp_path / "c.json", config="tiny"))
