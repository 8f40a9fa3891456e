"""Table 1: counts against a convolution that is walked by hand, and the runs' own counters."""

import dataclasses
import json
import subprocess
import sys

import pytest

from models import whole_tiles
from models.table import Layer
from reports import table1


def _by_hand(layer: Layer, outputs: tuple[int, ...], taps: tuple[int, ...]) -> int:
    """Lay tiles one by one until the map is covered; a point of a tile is one product."""
    tiles = 1
    for size, step in zip(layer.shape[2:], outputs, strict=True):
        covered = along = 0
        while covered < size:
            covered, along = covered + step, along + 1
        tiles *= along
    points = 1
    for step, tap in zip(outputs, taps, strict=True):
        points *= step + tap - 1
    inputs_times_outputs = layer.weights
    for side in layer.kernel:
        inputs_times_outputs //= side
    return tiles * points * inputs_times_outputs


def _layer(kernel: tuple[int, ...], shape: tuple[int, ...], stride: tuple[int, ...]) -> Layer:
    weights = 16 * 8
    for side in kernel:
        weights *= side
    return Layer("conv", weights, weights + 16, kernel, (1, 16, *shape), stride)


@pytest.mark.parametrize(
    ("kernel", "shape", "outputs"),
    [
        ((3, 1, 1), (5, 7, 7), (4, 1, 1)),
        ((1, 3, 3), (2, 7, 14), (1, 4, 4)),
        ((3, 3, 3), (3, 9, 6), (2, 4, 4)),
    ],
)
def test_whole_tiles_are_counted_one_by_one(kernel, shape, outputs):
    layer = _layer(kernel, shape, (1, 1, 1))
    found = whole_tiles.multiplications(layer, whole_tiles.EXACT)
    assert found == _by_hand(layer, outputs, kernel)
    assert found < layer.macs()


def test_a_strided_layer_stays_direct():
    layer = _layer((1, 3, 3), (2, 8, 8), (1, 2, 2))
    assert whole_tiles.multiplications(layer, whole_tiles.EXACT) == layer.macs()


def test_a_transform_that_saves_nothing_is_not_used():
    layer = _layer((3, 1, 1), (1, 4, 4), (1, 1, 1))
    # One frame needs one tile of six points, where three products do.
    assert whole_tiles.EXACT[3, 1, 1].multiplications(layer) == 2 * layer.macs()
    assert whole_tiles.multiplications(layer, whole_tiles.EXACT) == layer.macs()


def test_convention_is_near_the_paper():
    rows = {(row[0].text, row[1].text): row for row in table1.convention().rows}
    assert len(rows) == 7
    for (network, quantity), row in rows.items():
        paper, here = row[2].value, row[3].value
        # networks.md: only FSB-only C3D is off by more than 0.2 %.
        limit = 0.01 if "FSB" in network and "direct" in quantity else 0.0025
        assert abs(here - paper) < limit * paper, (network, quantity)


def test_performed_products_follow_the_counter(result):
    counters = {**result.counters, "array_products": 1234}
    (row,) = table1.performed([dataclasses.replace(result, counters=counters)]).rows
    assert row[3].value == 1234 * result.multipliers
    counters["array_products"] += 1
    (other,) = table1.performed([dataclasses.replace(result, counters=counters)]).rows
    assert other[3].value != row[3].value


def test_command(result, tmp_path):
    run = dataclasses.replace(result, counters={**result.counters, "array_products": 1234})
    run.save(tmp_path / "run.json")
    command = [sys.executable, "-m", "reports", "table1", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (row,) = json.loads(done.stdout)["Performed by the accelerator"]
    assert row["multiplications"] == 1234 * result.multipliers


def test_a_run_without_the_counter_is_refused(result, tmp_path, capsys):
    counters = {name: 0 for name in result.counters if name != "array_products"}
    dataclasses.replace(result, counters=counters).save(tmp_path / "run.json")
    assert table1.main([str(tmp_path)]) == 2
    assert "array products" in capsys.readouterr().err
