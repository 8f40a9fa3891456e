"""How wide may a network be: python -m examples.sweep_width.

Builds the network of own_network.py at several widths and prints cycles, energy and the distance
to float of each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from examples.own_network import SHAPE, network, quantized
from models.data import synthetic_clip
from shell import leave
from toolkit import build, run


def sweep(widths: list[int], config: str, folder: Path) -> list[tuple[int, int, float, float]]:
    """Width, cycles, millijoules and SQNR in decibels of each."""
    rows = []
    for width in widths:
        place = folder / f"width_{width}"
        place.mkdir(parents=True, exist_ok=True)
        np.savez(place / "clip.npz", clip=synthetic_clip(100, *SHAPE[2:]))
        made = build(
            quantized(network(width), place), config, place / "build", record=place / "clip.npz"
        )
        ran = run(Path(made.output), "cycle", float_model=place / "float.onnx")
        cycles, joules = ran.result.cycles, ran.result.energy_j
        assert cycles is not None and joules is not None  # of every run on the cycle model
        rows.append((width, cycles, 1e3 * joules, ran.distances[0].sqnr_db or float("inf")))
    return rows


def main(words: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m examples.sweep_width", description=__doc__)
    parser.add_argument("widths", type=int, nargs="*", default=[8, 12, 16, 24, 32])
    parser.add_argument("--config", default="base")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/sweep"))
    args = parser.parse_args(words)
    print(f"{'width':>5}  {'cycles':>12}  {'mJ':>8}  {'SQNR dB':>7}")
    for width, cycles, joules, sqnr in sweep(args.widths, args.config, args.output):
        print(f"{width:5}  {cycles:12,}  {joules:8.3f}  {sqnr:7.1f}")


if __name__ == "__main__":
    leave(main)
