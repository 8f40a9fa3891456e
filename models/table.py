"""Parameters and work of the networks beside the paper's figures.

Counts come from walking the PyTorch modules on the meta device (shapes, no data). Only the
paper's own figures are constants here. The paper counts multiplications as weights × output
positions on maps whose sides are 112, 64, 32, 16, 8 in place of 112, 56, 28, 14, 7, and divides
by whole Winograd ratios without tile rounding (networks.md section 0, found by fitting).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import torch
from torch import nn

from models import fsb, slowfast

# Sides that the paper puts in place of the real ones.
PAPER_SIDE = {56: 64, 28: 32, 14: 16, 7: 8}
# Multiplications saved by F(6,3) on 3×1×1, F(4×4,3×3) on 1×3×3, F(4×4×4,3×3×3) on 3×3×3:
# m·r / (m + r - 1) per axis.
HFA_RATIO = {(3, 1, 1): 6 * 3 / 8, (1, 3, 3): (4 * 3 / 6) ** 2}
WINOGRAD_3D = {(3, 3, 3): (4 * 3 / 6) ** 3}


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer as it runs.

    Attributes
    ----------
    name : str
        Of the module.
    weights, parameters : int
        Without and with bias.
    kernel : tuple of int
        Empty for linear layers.
    shape : tuple of int
        Of the output.
    stride : tuple of int
        Empty for linear layers.
    """

    name: str
    weights: int
    parameters: int
    kernel: tuple[int, ...]
    shape: tuple[int, ...]
    stride: tuple[int, ...] = ()

    def macs(self) -> int:
        """Multiply-accumulates, zero padding counted."""
        return self.weights * prod(self.shape[2:])

    def paper_multiplications(self, ratio: dict[tuple[int, ...], float]) -> float:
        """Multiplications as the paper counts them."""
        sides = [PAPER_SIDE.get(side, side) for side in self.shape[3:]]
        return self.weights * prod([*self.shape[2:3], *sides]) / ratio.get(self.kernel, 1.0)


def build(config: fsb.C3dConfig | slowfast.SlowFastConfig) -> nn.Module:
    """Build a network without storage."""
    with torch.device("meta"):
        if isinstance(config, fsb.C3dConfig):
            return fsb.C3dNetwork(config)
        return slowfast.SlowFast(config)


def layers(config: fsb.C3dConfig | slowfast.SlowFastConfig) -> list[Layer]:
    """List a network's convolutions and linear layers in execution order."""
    network, found = build(config), []

    def hook(name: str):
        def record(module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            parameters = sum(p.numel() for p in module.parameters())
            kernel = tuple(getattr(module, "kernel_size", ()))
            weights = module.weight.numel()
            stride = tuple(getattr(module, "stride", ()))
            found.append(Layer(name, weights, parameters, kernel, tuple(output.shape), stride))

        return record

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            module.register_forward_hook(hook(name))
    network(torch.zeros(config.input_shape, device="meta"))
    return found


def parameters(config: fsb.C3dConfig | slowfast.SlowFastConfig) -> int:
    """Count all parameters, batch norm included."""
    return sum(p.numel() for p in build(config).parameters())


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


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes
    ----------
    network, quantity, unit : str
    paper : float, optional
        The paper's figure, where it prints one.
    ours : float
    relative_difference : float, optional
        (ours - paper) / paper.
    """

    network: str
    quantity: str
    unit: str
    paper: float | None
    ours: float
    relative_difference: float | None


def _row(network: str, quantity: str, unit: str, paper: float | None, count: float) -> Row:
    ours = count / {"M": 1e6, "G": 1e9}[unit[0]]
    difference = None if paper is None else (ours - paper) / paper
    return Row(network, quantity, unit, paper, ours, difference)


def _c3d_rows() -> list[Row]:
    """C3D and FSB-C3D (paper: Table 1)."""
    rows: list[Row] = []

    def add(config: fsb.C3dConfig, network: str, figures: dict[str, float | None]) -> None:
        long = layers(replace(config, frames=64))
        counts: dict[str, tuple[str, Callable[[], float]]] = {
            "parameters": ("M", lambda: parameters(config)),
            "parameters of the convolutions": (
                "M",
                lambda: sum(layer.parameters for layer in long if layer.kernel),
            ),
            "multiplications, direct, 64 frames": (
                "Gmul",
                lambda: sum(layer.paper_multiplications({}) for layer in long),
            ),
            "multiplications, 3D Winograd, 64 frames": (
                "Gmul",
                lambda: sum(layer.paper_multiplications(WINOGRAD_3D) for layer in long),
            ),
            "multiplications, hFA, 64 frames": (
                "Gmul",
                lambda: sum(layer.paper_multiplications(HFA_RATIO) for layer in long),
            ),
            "true MAC, 64 frames": ("GMAC", lambda: sum(layer.macs() for layer in long)),
            "true MAC, 16 frames": (
                "GMAC",
                lambda: sum(layer.macs() for layer in layers(config)),
            ),
        }
        for quantity, paper in figures.items():
            unit, count = counts[quantity]
            rows.append(_row(network, quantity, unit, paper, count()))

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
    """SlowFast and FastTRG (paper: Tables 1 and 3)."""
    rows = []
    cases = {
        "SlowFast (E2)": (slowfast.E2, 22.46, {"direct": 145.5}),
        "FastTRG (E2)": (slowfast.E2_FASTTRG, 9.9, {"direct": 68.7, "hFA": 40.7}),
    }
    for name, (config, paper, figures) in cases.items():
        bare = replace(config, projections=False)
        rows.append(_row(name, "parameters", "M", paper, parameters(config)))
        rows.append(_row(name, "parameters, no projections", "M", paper, parameters(bare)))
        for kind, figure in figures.items():
            count = _stage_multiplications(config, kind == "hFA")
            rows.append(_row(name, f"multiplications, {kind}, 64 frames", "Gmul", figure, count))
    for name, config in {
        "SlowFast (E2)": slowfast.E2,
        "FastTRG (E2)": slowfast.E2_FASTTRG,
        "SlowFast (R4)": slowfast.R4,
        "FastTRG (R4)": slowfast.R4_FASTTRG,
    }.items():
        if name.endswith("(R4)"):
            rows.append(_row(name, "parameters", "M", None, parameters(config)))
        work = sum(layer.macs() for layer in layers(config))
        rows.append(_row(name, "true MAC, 64 frames", "GMAC", None, work))
    return rows


def figures() -> list[dict[str, Any]]:
    """Rows of network, quantity, unit, paper, ours, relative_difference."""
    return [asdict(row) for row in [*_c3d_rows(), *_slowfast_rows()]]


def render(rows: list[dict[str, Any]]) -> str:
    """Make a text table of `figures`."""
    lines = [
        f"{'network':26} {'quantity':40} {'paper':>8} {'ours':>9} {'unit':5} {'difference':>10}"
    ]
    for row in rows:
        paper = "–" if row["paper"] is None else f"{row['paper']:g}"
        off = row["relative_difference"]
        difference = "–" if off is None else f"{off:+.2%}"
        lines.append(
            f"{row['network']:26} {row['quantity']:40} {paper:>8} {row['ours']:9.3f} "
            f"{row['unit']:5} {difference:>10}"
        )
    return "\n".join(lines)
