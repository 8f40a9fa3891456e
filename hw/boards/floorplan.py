"""Places of block RAMs and multipliers on an ECP5-85F, ahead of place and route.

nextpnr's placers put these two kinds, which exist in a few rows of the device only, near where
their wires want them and do not look back; for the accelerator that costs 30 % more wire
(docs/decisions/0007). Here a quadratic placement of the whole netlist spreads step by step, and in
every step blocks are assigned to sites at the least total distance (lookahead legalisation, Kim,
Lee and Markov, "SimPL", ICCAD 2010). Only the blocks' sites are kept; nextpnr places the logic
around them. Starts differ in wire length, and nextpnr's placements follow: the best of several is
taken.
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from hw.boards.ecp5 import BLOCK_SITES, LOGIC_AREA

__all__ = ["floorplan"]

CELL_AREA = {"LUT4": 1.0, "TRELLIS_FF": 0.9, "CCU2C": 2.0, "TRELLIS_DPR16X4": 6.0}
"""Room that a cell takes, in LUTs; wide multiplexers lie where their tables are."""
CLIQUE_PINS = 4
"""Nets of more pins get a point of their own, a star, instead of a spring between every two."""
MOST_PINS = 400
"""Nets beyond it (clocks, resets) say nothing about places."""
STARTS = 8
SPECTRAL_STEPS = 12
STEPS = 40
LEAF = 24
"""Cells that are spread evenly instead of halved again."""
ANCHOR, GROWTH, STRONGEST = 0.002, 1.17, 0.6
"""Pull towards the spread places: in the first step, its growth, its limit."""
BLOCK_PULL = 0.6
"""Of blocks, per unit of their wires' pull; grows by an eighth of itself in every step."""
MOST_ITERATIONS = 300
DISTANCE_POWER = 1.5
"""Of the distance to a site: a few long moves cost more than many short ones."""


@dataclasses.dataclass(slots=True)
class _Design:
    """Springs between points: cells first, then one per large net.

    Cells of net k are `members[first[k] : first[k + 1]]`.
    """

    types: np.ndarray
    members: np.ndarray
    first: np.ndarray
    area: np.ndarray
    laplacian: Any
    pull: np.ndarray

    @property
    def points(self) -> int:
        return len(self.pull)


def _read(cells: dict[str, Any]) -> _Design:
    types = np.array([cell["type"] for cell in cells.values()])
    pins: dict[int, set[int]] = defaultdict(set)
    for index, cell in enumerate(cells.values()):
        for bits in cell["connections"].values():
            for bit in bits:
                if isinstance(bit, int):
                    pins[bit].add(index)
    rows: list[int] = []
    columns: list[int] = []
    weights: list[float] = []
    point = len(types)
    nets = [sorted(net) for net in pins.values() if 2 <= len(net) <= MOST_PINS]
    for members in nets:
        count = len(members)
        if count <= CLIQUE_PINS:
            for place, first in enumerate(members):
                for second in members[place + 1 :]:
                    rows.append(first)
                    columns.append(second)
                    weights.append(1 / (count - 1))
            continue
        rows += [point] * count
        columns += members
        weights += [count / (count - 1) / max(1.0, count / 8) ** 0.5] * count
        point += 1
    springs = sparse.coo_matrix((weights, (rows, columns)), shape=(point, point)).tocsr()
    springs = springs + springs.T
    pull = np.asarray(springs.sum(axis=1)).ravel()
    area = np.zeros(len(types))
    for kind, room in CELL_AREA.items():
        area[types == kind] = room
    return _Design(
        types=types,
        members=np.concatenate(nets),
        first=np.cumsum([0, *map(len, nets[:-1])]),
        area=area,
        laplacian=sparse.diags(pull) - springs,
        pull=pull,
    )


def _wire_length(design: _Design, places: np.ndarray) -> float:
    """Sum of half the perimeters of the boxes around the nets, in tiles."""
    ends = places[design.members]
    boxes = np.maximum.reduceat(ends, design.first) - np.minimum.reduceat(ends, design.first)
    return float(boxes.sum())


def _settle(
    design: _Design, anchored: np.ndarray, anchor: np.ndarray, start: np.ndarray, tolerance: float
) -> np.ndarray:
    """Places of least tension [points, 2] with a spring of weight `anchored` to each `anchor`."""
    system = design.laplacian + sparse.diags(anchored)
    return np.stack(
        [
            _solve(system, anchored * goal, guess, tolerance)
            for goal, guess in zip(anchor.T, start.T, strict=True)
        ],
        axis=1,
    )


def _solve(system: Any, goal: np.ndarray, start: np.ndarray, tolerance: float) -> np.ndarray:
    """Conjugate gradients, scaled by the diagonal, until the residue is `tolerance` of the goal.

    Sums are NumPy's own. Those of BLAS, which SciPy's `cg` takes, are split among threads: how many
    there are changes the last bit, and with it the bitstream, and on shared processors they spend
    most of the time on waiting for each other.
    """
    scale = 1 / np.maximum(system.diagonal(), 1e-9)
    places = start.copy()
    residue = goal - system @ places
    least = tolerance**2 * (goal * goal).sum()
    direction = np.zeros_like(places)
    before = 1.0
    for _ in range(MOST_ITERATIONS):
        if (residue * residue).sum() <= least:
            break
        scaled = scale * residue
        now = (residue * scaled).sum()
        direction = scaled + now / before * direction
        pulled = system @ direction
        step = now / (direction * pulled).sum()
        places += step * direction
        residue -= step * pulled
        before = now
    return places


def _spectrum(design: _Design, generator: np.random.Generator) -> np.ndarray:
    """The two slowest modes of the netlist: inverse iteration on its Laplacian."""
    weak = np.full(design.points, 1e-3)
    modes = generator.standard_normal((design.points, 2))
    for _ in range(SPECTRAL_STEPS):
        modes = _settle(design, weak, modes, modes, 1e-3)
        modes = (modes - modes.mean(axis=0)) / modes.std(axis=0)
        modes[:, 1] -= (modes[:, 0] * modes[:, 1]).mean() * modes[:, 0]
        modes[:, 1] /= modes[:, 1].std()
    return modes


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")


def _spread(places: np.ndarray, area: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Even density: halve the region and its cells again and again, in the order they lie in."""
    result = places.copy()
    pending = [(cells, LOGIC_AREA)]
    while pending:
        inside, (left, bottom, right, top) = pending.pop()
        if len(inside) <= LEAF:
            for axis, (low, high) in enumerate(((left, right), (bottom, top))):
                share = (_ranks(places[inside, axis]) + 0.5) / len(inside)
                result[inside, axis] = low + (high - low) * share
            continue
        axis = int(top - bottom > right - left)
        ordered = inside[np.argsort(places[inside, axis], kind="stable")]
        filled = np.cumsum(area[ordered])
        half = int(np.searchsorted(filled, filled[-1] / 2))
        if axis:
            middle = (bottom + top) / 2
            parts = ((left, bottom, right, middle), (left, middle, right, top))
        else:
            middle = (left + right) / 2
            parts = ((left, bottom, middle, top), (middle, bottom, right, top))
        pending += [(ordered[:half], parts[0]), (ordered[half:], parts[1])]
    return result


def _plan(design: _Design, seed: tuple[int, int]) -> tuple[float, dict[int, str]]:
    """Wire length of the solved places, and the site of every block, from one start."""
    blocks = {kind: np.flatnonzero(design.types == kind) for kind in BLOCK_SITES}
    logic = np.flatnonzero(design.area > 0)
    left, bottom, right, top = LOGIC_AREA
    modes = _spectrum(design, np.random.default_rng(seed))
    share = np.stack([_ranks(mode) for mode in modes.T], axis=1)
    places = (left, bottom) + share / design.points * (right - left, top - bottom)
    goals = places
    chosen: dict[int, str] = {}
    for step in range(STEPS):
        anchor = min(ANCHOR * GROWTH**step, STRONGEST)
        anchored = np.full(design.points, 1e-6)
        anchored[logic] += anchor
        for members in blocks.values():
            anchored[members] += anchor * design.pull[members] * BLOCK_PULL * (1 + step / 8)
        places = _settle(design, anchored, goals, places, 1e-4)
        goals = _spread(places, design.area, logic)
        for kind, members in blocks.items():
            sites = BLOCK_SITES[kind]
            at = np.array([(site.x, site.y) for site in sites], float)
            distance = np.abs(places[members][:, None] - at[None]).sum(axis=2)
            for row, column in zip(*linear_sum_assignment(distance**DISTANCE_POWER), strict=True):
                goals[members[row]] = at[column]
                chosen[int(members[row])] = sites[column].name
    return _wire_length(design, places), chosen


def floorplan(cells: dict[str, Any], seed: int = 1) -> dict[str, str]:
    """Choose a site for every block RAM and multiplier.

    Parameters
    ----------
    cells: of the flat module of a netlist in Yosys' JSON format.
    seed: of the starts, the best of which is taken.

    Returns
    -------
    Name of the site (nextpnr's bel) by cell name.

    Raises
    ------
    ValueError
        If there are more blocks than sites.
    """
    design = _read(cells)
    for kind, sites in BLOCK_SITES.items():
        count = int((design.types == kind).sum())
        if count > len(sites):
            raise ValueError(f"{count} cells {kind}, {len(sites)} sites")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        plans = pool.map(partial(_plan, design), [(seed, start) for start in range(STARTS)])
        _, chosen = min(plans, key=lambda plan: plan[0])
    names = list(cells)
    return {names[index]: name for index, name in chosen.items()}
