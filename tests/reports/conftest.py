"""A made-up run, small enough to be checked by hand and irregular enough to be caught."""

import dataclasses
import random

import pytest

from reports.collect import summarize
from reports.drawing.marks import Text
from reports.drawing.room import covered, meet, within
from reports.report import Report
from sim.result import Instructions, LayerResult, RunResult

OPERATORS = ("conv_dense", "conv_depthwise", "conv_pointwise", "maxpool", "residual_gradient")
DURATIONS = {"LOAD": 600, "ARRAY": 900, "DRAIN": 300, "STORE": 250}
POOL = {"LOAD": 400, "VECTOR": 700, "STORE": 250}
REFERENCE = {
    "technology": "made-up cells",
    "uncertainty": "a factor of two",
    "numbers": {"multiply_pj": {"value": 0.2, "source": "a paper & its table"}},
}


@dataclasses.dataclass
class Row:
    """One executed instruction: unit, layer, pc, issue, end."""

    unit: str
    layer: int
    pc: int
    issue: int
    end: int


def _rows(dice: random.Random, layer: int, tiles: int, begin: int, pc: int) -> list[Row]:
    """Tiles of one layer: units in order, each behind the one that feeds it."""
    rows = []
    units = POOL if OPERATORS[layer % 5] in ("maxpool", "residual_gradient") else DURATIONS
    free = dict.fromkeys(units, begin)
    for _ in range(tiles):
        ready = begin
        for unit, length in units.items():
            issue = max(free[unit], ready)
            end = issue + int(length * dice.uniform(0.6, 1.3))
            rows.append(Row(unit, layer, pc + len(rows), issue, end))
            # The array accepts the next instruction while this one drains.
            free[unit] = end - 20 if unit == "ARRAY" else end + 1
            ready = end + 1
    return rows


def _tiling(cycles: int) -> dict:
    choice = {"load": [14, 7, 2], "accumulator": [14, 7, 1], "order": "tile, group"}
    choice |= {"weight_slots": 2, "array": cycles - 9, "port": cycles - 5, "drain": 1}
    others = [{**choice, "estimate": cycles + extra} for extra in (90, 30)]
    return {**choice, "estimate": cycles + 3, "alternatives": others}


def _layer(dice: random.Random, index: int, begin: int, reached: int, end: int) -> LayerResult:
    op = OPERATORS[index % 5]
    cycles = end - reached
    vectors = int(cycles * dice.uniform(0.3, 0.9)) if "conv" in op else 0
    macs = vectors * dice.randint(100, 256)
    return LayerResult(
        name=f"block{index}/<{op[:4]}>",
        op=op,
        instructions=30,
        first_cycle=begin,
        last_cycle=end,
        cycles=cycles,
        macs=macs,
        array_vectors=vectors,
        utilization=vectors / cycles,
        roofline_cycles=int(cycles * dice.uniform(0.4, 0.95)),
        read_bytes=16 * dice.randint(10**2, 10**4),
        write_bytes=16 * dice.randint(10**2, 10**4),
        saturation=None,
        energy={"dram": dice.uniform(1e-4, 1e-3), "array": macs * 1e-12},
        tiling=_tiling(cycles) if macs else {},
    )


def _counters(dice: random.Random, cycles: int) -> dict[str, int]:
    found = {"cycles": cycles}
    for unit in (*DURATIONS, "VECTOR"):
        busy = int(cycles * dice.uniform(0.4, 0.6))
        found[f"{unit.lower()}_busy"] = busy
        found[f"{unit.lower()}_wait"] = int(cycles * dice.uniform(0.1, 0.3))
        memory = unit in ("LOAD", "STORE")
        found[f"{unit.lower()}_memory"] = int(busy * dice.uniform(0.1, 0.5)) if memory else 0
    return found


def make_result(layers: int = 9, tiles: int = 6, seed: int = 1) -> RunResult:
    dice = random.Random(seed)
    rows: list[Row] = []
    found = []
    reached = 0
    for index in range(layers):
        begin = max(reached - 150, 0)
        new = _rows(dice, index, tiles, begin, len(rows))
        end = max(row.end for row in new)
        found.append(_layer(dice, index, begin, reached, end))
        rows += new
        reached = end
    cycles = reached + 17
    dram = sum(x.read_bytes + x.write_bytes for x in found)
    macs = sum(x.macs for x in found)
    energy = {k: sum(x.energy[k] for x in found) for k in ("dram", "array")}
    return RunResult(
        network="made_up",
        config="base",
        fingerprint="0123456789abcdef",
        backend="cycle",
        checked=True,
        equal=True,
        tensors_compared=7,
        first_difference=None,
        cycles=cycles,
        macs=macs,
        multipliers=256,
        mac_per_multiplier_cycle=macs / (256 * cycles),
        roofline_cycles=sum(x.roofline_cycles for x in found),
        dram_bytes=dram,
        fetch_bytes=64 * len(rows),
        energy_j=sum(energy.values()),
        energy_table="made_up_cells",
        energy=energy,
        wall_s=3.5,
        sim_khz=cycles / 3500,
        halt_code=0,
        counters=_counters(dice, cycles),
        actions={"fetch": 4 * len(rows), "dram_read": dram // 16, "cycle": cycles},
        layers=tuple(found),
        instructions=Instructions(
            unit=tuple(r.unit for r in rows),
            layer=tuple(r.layer for r in rows),
            pc=tuple(r.pc for r in rows),
            issue=tuple(r.issue for r in rows),
            start=tuple(r.issue for r in rows),
            end=tuple(r.end for r in rows),
        ),
        energy_reference=REFERENCE,
    )


def clashes(picture):
    """Level words that meet others, and words that reach out of the picture."""
    texts = [shape for shape in picture.shapes() if isinstance(shape, Text)]
    level = [(x.words, covered(x)) for x in texts if not x.turn]
    found = [
        f"{words} / {other}"
        for i, (words, box) in enumerate(level)
        for other, beside in level[:i]
        if meet(box, beside)
    ]
    page = (0, 0, picture.width, picture.height)
    return found + [x.words for x in texts if not within(covered(x), page)]


@pytest.fixture(scope="session")
def result() -> RunResult:
    return make_result()


@pytest.fixture(scope="session")
def report(result) -> Report:
    return summarize(result)


@pytest.fixture(scope="session")
def make():
    """Make another run: a result, or the report of it."""

    def made(as_result: bool = False, **arguments):
        result = make_result(**arguments)
        return result if as_result else summarize(result)

    return made
