"""Parameters and work of the networks beside the papers' figures.

Counts come from walking the PyTorch modules on the meta device (count.py); the papers' figures
and ways of counting stand in figures/, one file a paper.
"""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from models.count import Layer, layers
from models.figures import eacnet, fsb, liteeval, vtn, xwisenet

__all__ = ["PAPERS", "Layer", "figures", "layers", "render"]


PAPERS = {"fsb": fsb, "vtn": vtn, "eacnet": eacnet, "liteeval": liteeval, "xwisenet": xwisenet}


def figures(papers: Iterable[str] = tuple(PAPERS)) -> list[dict[str, Any]]:
    """Rows of network, quantity, unit, paper, ours, relative_difference."""
    return [asdict(row) for paper in papers for row in PAPERS[paper].rows()]


def render(rows: list[dict[str, Any]]) -> str:
    """Make a text table of `figures`."""
    lines = [
        f"{'network':38} {'quantity':48} {'paper':>8} {'ours':>9} {'unit':5} {'difference':>10}"
    ]
    for row in rows:
        paper = "–" if row["paper"] is None else f"{row['paper']:g}"
        off = row["relative_difference"]
        difference = "–" if off is None else f"{off:+.2%}"
        lines.append(
            f"{row['network']:38} {row['quantity']:48} {paper:>8} {row['ours']:9.3f} "
            f"{row['unit']:5} {difference:>10}"
        )
    return "\n".join(lines)
