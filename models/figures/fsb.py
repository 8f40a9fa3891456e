"""C3D, FSB-C3D, SlowFast, FastTRG: "Temporal Residual, Fully Separable Block, …", Tables 1 and 3.

The paper counts multiplications as weights × output positions on maps whose sides are 112, 64,
32, 16, 8 in place of 112, 56, 28, 14, 7, and divides by whole Winograd ratios without tile
rounding.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

from models import fsb, slowfast
from models.count import Layer, count, layers
from models.figures.rows import Row, row

Kernel = tuple[int, ...]

# Sides that the paper puts in place of the real ones.
PAPER_SIDE = {56: 64, 28: 32, 14: 16, 7: 8}
# Multiplications saved by F(6,3) on 3×1×1, F(4×4,3×3) on 1×3×3, F(4×4×4,3×3×3) on 3×3×3:
# m·r / (m + r - 1) per axis.
HFA_RATIO: dict[Kernel, float] = {(3, 1, 1): 6 * 3 / 8, (1, 3, 3): (4 * 3 / 6) ** 2}
WINOGRAD_3D: dict[Kernel, float] = {(3, 3, 3): (4 * 3 / 6) ** 3}


def paper_multiplications(layer: Layer, ratio: Mapping[Kernel, float]) -> float:
    """Multiplications of a layer as the paper counts them."""
    sides = [PAPER_SIDE.get(side, side) for side in layer.shape[3:]]
    return layer.weights * prod([*layer.shape[2:3], *sides]) / ratio.get(layer.kernel, 1.0)


def _stage_multiplications(config: slowfast.SlowFastConfig, hfa: bool) -> float:
    """SlowFast as the paper's Table 1 fits it.

    Residual blocks only, without stems, laterals and projections, and every convolution of a
    stage at the side that the stage puts out: the first block's temporal convolution too,
    although it runs before the stride. The fast path's 3×1×1 stays direct under hFA.
    """
    side = {"0": 64, "1": 32, "2": 16, "3": 8}
    total = 0.0
    for layer in layers(config):
        path, *rest = layer.name.split(".")
        if path not in ("slow", "fast") or "projection" in rest:
            continue
        ratio = HFA_RATIO.get(layer.kernel, 1.0) if hfa else 1.0
        if path == "fast" and layer.kernel == (3, 1, 1):
            ratio = 1.0
        total += layer.weights * layer.shape[2] * side[rest[0]] ** 2 / ratio
    return total


def _c3d_rows() -> list[Row]:
    """C3D and FSB-C3D (Table 1)."""
    rows: list[Row] = []

    def add(config: fsb.C3dConfig, network: str, figures: dict[str, float | None]) -> None:
        long = layers(replace(config, frames=64))
        counts: dict[str, tuple[str, Callable[[], float]]] = {
            "parameters": ("M", lambda: count(config).parameters),
            "parameters of the convolutions": (
                "M",
                lambda: sum(layer.parameters for layer in long if layer.kernel),
            ),
            "multiplications, direct, 64 frames": (
                "Gmul",
                lambda: sum(paper_multiplications(layer, {}) for layer in long),
            ),
            "multiplications, 3D Winograd, 64 frames": (
                "Gmul",
                lambda: sum(paper_multiplications(layer, WINOGRAD_3D) for layer in long),
            ),
            "multiplications, hFA, 64 frames": (
                "Gmul",
                lambda: sum(paper_multiplications(layer, HFA_RATIO) for layer in long),
            ),
            "true MAC, 64 frames": ("GMAC", lambda: sum(layer.macs() for layer in long)),
            "true MAC, 16 frames": ("GMAC", lambda: count(config).macs()),
        }
        for quantity, paper in figures.items():
            unit, counter = counts[quantity]
            rows.append(row(network, quantity, unit, paper, counter()))

    direct, winograd, hfa, true64, true16 = (
        "multiplications, direct, 64 frames",
        "multiplications, 3D Winograd, 64 frames",
        "multiplications, hFA, 64 frames",
        "true MAC, 64 frames",
        "true MAC, 16 frames",
    )
    add(
        fsb.C3D,
        "C3D",
        {"parameters": 27.7, direct: 199.9, winograd: 25.0, true64: None, true16: None},
    )
    separable: dict[str, float | None] = {
        "parameters of the convolutions": 3.7,
        "parameters": None,
        direct: 27.6,
        hfa: 18.1,
        true64: None,
        true16: None,
    }
    add(fsb.FSB_C3D, "FSB-C3D (printed groups)", separable)
    # Table 1's multiplications belong to the printed groups; the rates share only its 3.7 M.
    add(fsb.FSB_C3D_R, "FSB-C3D (printed rates)", separable | {direct: None, hfa: None})
    return rows


def _slowfast_rows() -> list[Row]:
    """SlowFast and FastTRG as Tables 1 and 3 have them, then both builds of the whole family."""
    rows = []
    cases = {
        "SlowFast (E2)": (slowfast.E2, 22.46, {"direct": 145.5}),
        "FastTRG (E2)": (slowfast.E2_FASTTRG, 9.9, {"direct": 68.7, "hFA": 40.7}),
    }
    for name, (config, paper, figures) in cases.items():
        bare = replace(config, projections=False)
        rows.append(row(name, "parameters", "M", paper, count(config).parameters))
        rows.append(row(name, "parameters, no projections", "M", paper, count(bare).parameters))
        for kind, figure in figures.items():
            total = _stage_multiplications(config, kind == "hFA")
            rows.append(row(name, f"multiplications, {kind}, 64 frames", "Gmul", figure, total))
    variants: dict[str, dict[str, Any]] = {
        "SlowFast": {},
        "SlowDepth": {"slow_spatial": "depth"},
        "SlowFSB": {"slow_spatial": "fsb"},
        "FastTRG": {"slow_spatial": "fsb", "trg": True},
        "FastDepth": {"fast_spatial": "fsb"},
        "Fast3D": {"fast_spatial": "3d"},
    }
    for build, base in (("E2", slowfast.E2), ("R4", slowfast.R4)):
        for variant, fields in variants.items():
            name, config = f"{variant} ({build})", replace(base, **fields)
            if name not in cases:
                rows.append(row(name, "parameters", "M", None, count(config).parameters))
            rows.append(row(name, "true MAC, 64 frames", "GMAC", None, count(config).macs()))
    return rows


def rows() -> list[Row]:
    """All of the paper."""
    return [*_c3d_rows(), *_slowfast_rows()]
