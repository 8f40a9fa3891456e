"""Sites of blocks: legal, deterministic, and near what they are wired to."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import spsolve

from hw.boards.ecp5 import BLOCK_SITES
from hw.boards.floorplan import _read, _settle, floorplan


def chains(length: int, count: int) -> dict:
    """Rings of tables, each with a block RAM and a multiplier in it, joined by one wire."""
    cells, bit = {}, 10
    for ring in range(count):
        kinds = ["LUT4"] * length
        kinds[0], kinds[length // 2] = "DP16KD", "MULT18X18D"
        first = bit
        for k, kind in enumerate(kinds):
            after = first if k == length - 1 else bit + 1
            cells[f"r{ring}_{k}"] = {"type": kind, "connections": {"I": [bit], "O": [after, "0"]}}
            bit += 1
        cells[f"r{ring}_1"]["connections"]["J"] = [5]
    return cells


@pytest.fixture(scope="module")
def planned() -> dict[str, str]:
    return floorplan(chains(60, 40))


def test_every_block_has_a_site_of_its_own(planned):
    cells = chains(60, 40)
    blocks = {name: cell["type"] for name, cell in cells.items() if cell["type"] in BLOCK_SITES}
    assert planned.keys() == blocks.keys()
    assert len(set(planned.values())) == len(planned)
    for name, site in planned.items():
        assert site in {s.name for s in BLOCK_SITES[blocks[name]]}


def test_it_is_the_same_every_time(planned):
    assert floorplan(chains(60, 40)) == planned


def test_blocks_of_a_ring_lie_together(planned):
    """Nearer than blocks of different rings."""
    at = {s.name: (s.x, s.y) for sites in BLOCK_SITES.values() for s in sites}
    memories = np.array([at[planned[f"r{ring}_0"]] for ring in range(40)])
    multipliers = np.array([at[planned[f"r{ring}_30"]] for ring in range(40)])
    distance = np.abs(memories[:, None] - multipliers[None]).sum(axis=2)
    own = np.diag(distance).mean()
    others = distance[~np.eye(40, dtype=bool)].mean()
    assert own < 0.75 * others


def test_too_many_blocks_are_refused():
    cells = {
        f"m{k}": {"type": "MULT18X18D", "connections": {"A": [k], "P": [k + 1]}} for k in range(157)
    }
    with pytest.raises(ValueError, match="157 cells MULT18X18D, 156 sites"):
        floorplan(cells)


def test_points_settle_where_their_springs_balance():
    """As a direct solution of the same equations says; and that of other springs is another one."""
    design = _read(chains(12, 5))
    draw = np.random.default_rng(3)
    anchored, anchor = draw.uniform(0.01, 0.5, design.points), draw.normal(size=(design.points, 2))
    settled = _settle(design, anchored, anchor, np.zeros_like(anchor), 1e-10)

    def direct(weights: np.ndarray) -> np.ndarray:
        system = (design.laplacian + sparse.diags(weights)).tocsc()
        return np.stack([spsolve(system, weights * goal) for goal in anchor.T], axis=1)

    assert np.abs(settled - direct(anchored)).max() < 1e-7
    weaker = anchored.copy()
    weaker[7] *= 0.9
    assert np.abs(settled - direct(weaker)).max() > 1e-4
