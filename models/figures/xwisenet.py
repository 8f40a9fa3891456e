"""XwiseNet and 3D-ResNets: MAC, twice the elements of batch norms, and an artefact.

Each depthwise convolution is charged C_in × (output elements) once more: all twelve figures of
Table II carry it, and XwiseNet's own except the one without blocks.
"""

from dataclasses import replace
from math import prod

from models import resnet3d, xwisenet
from models.count import Counts, count
from models.figures.rows import Row, row

WORK = "work: MAC, 2 × norm elements, depthwise artefact"
WITHOUT = "work: MAC and 2 × norm elements"


def artefact(counts: Counts) -> int:
    """What is charged to depthwise convolutions beside their MAC."""
    return sum(layer.groups * prod(layer.shape) for layer in counts.layers if layer.depthwise)


def plain(counts: Counts) -> int:
    """Work without the artefact."""
    return counts.macs() + 2 * counts.norm_elements


def work(counts: Counts) -> int:
    """Work as the paper counts it."""
    return plain(counts) + artefact(counts)


def rows() -> list[Row]:
    """Table II, and the context blocks."""
    base = xwisenet.XWISENET
    found: list[Row] = []
    for name, config, parameters, macs in (
        ("XwiseNet", base, 3.51, 1.80),
        ("XwiseNet, GC", replace(base, context="gc"), 3.50, None),
        ("XwiseNet, SE", replace(base, context="se"), 3.20, None),
        ("XwiseNet, SS in the branch", replace(base, position="branch"), 3.05, None),
    ):
        counts = count(config)
        found.append(row(name, "parameters", "M", parameters, counts.parameters))
        found.append(row(name, WORK, "GMAC", macs, work(counts)))
    bare = count(replace(base, context="none"))
    large = count(replace(base, side=224, classes=6))
    found += [
        row("XwiseNet", "true MAC", "GMAC", None, count(base).macs()),
        row("XwiseNet, no SS", "parameters", "M", 2.90, bare.parameters),
        row("XwiseNet, no SS", WITHOUT, "GMAC", 1.22, plain(bare)),
        row("XwiseNet, no SS", WORK, "GMAC", None, work(bare)),
        row("XwiseNet, no SS", "true MAC", "GMAC", None, bare.macs()),
        row("XwiseNet, 224×224, 6 classes", WORK, "GMAC", 7.11, work(large)),
        row("XwiseNet, 224×224, 6 classes", "true MAC", "GMAC", None, large.macs()),
    ]
    paper = {
        "traditional": ((33.21, 8.32), (63.52, 12.71), (46.22, 10.10)),
        "st": ((14.13, 5.55), (27.62, 7.51), (27.36, 7.62)),
        "dw": ((1.58, 3.75), (2.82, 4.12), (13.64, 5.66)),
        "x": ((1.53, 3.91), (2.72, 4.43), (13.59, 5.85)),
    }
    for kind, figures in paper.items():
        for (depth, shape), (parameters, macs) in zip(
            resnet3d.DEPTHS.items(), figures, strict=True
        ):
            counts = count(resnet3d.ResNet3dConfig(*shape, kind))
            name = f"3D-ResNet-{depth}, {kind}"
            found.append(row(name, "parameters", "M", parameters, counts.parameters))
            found.append(row(name, WORK, "GMAC", macs, work(counts)))
    return found
