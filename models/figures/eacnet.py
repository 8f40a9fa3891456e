"""EAC-Net: MAC and four times the elements of batch norms (an old rule of a FLOP counter)."""

from dataclasses import replace

from models import eacnet
from models.count import count
from models.figures.rows import Row, row

WORK = "work: MAC and 4 × norm elements"


def work(config: eacnet.EacNetConfig) -> int:
    """Work as the paper counts it."""
    return count(config).macs() + 4 * count(config).norm_elements


def _placed(places: str) -> eacnet.EacNetConfig:
    """C2D with MGTE at some stages, `4+5` and the like."""
    widths = dict(zip("345", (64, 128, 256), strict=True))
    return replace(eacnet.C2D, mgte=tuple((place, widths[place]) for place in places.split("+")))


def rows() -> list[Row]:
    """Tables 1 to 7: whole networks with their true work, then the ablation."""
    whole = (
        ("EAC-Net R50", eacnet.R50, 131.1),
        ("EAC-Net R101", eacnet.R101, 209),
        ("EAC-Net R152", eacnet.R152, 305),
        ("EAC-Net R50, 48 frames", replace(eacnet.R50, frames=48), 196),
        ("EAC-Net BN-Inception (placed by guess)", eacnet.BNINCEPTION, 61),
    )
    ablation = (
        ("C2D R50", eacnet.C2D, 172.7),
        ("C2D + pool branch", replace(_placed("4+5"), excite=False), 128.2),
        *(
            (f"C2D + MGTE {places}", _placed(places), paper)
            for places, paper in (
                ("3", 112.9),
                ("4", 134.5),
                ("5", 165.3),
                ("4+5", 130.8),
                ("3+4+5", 91.9),
            )
        ),
        ("C2D + ATE", replace(eacnet.C2D, ate=1024), 173.6),
    )
    found = [row("EAC-Net R50", "parameters", "M", None, count(eacnet.R50).parameters)]
    for name, config, paper in whole:
        found.append(row(name, WORK, "GMAC", paper, work(config)))
        found.append(row(name, "true MAC", "GMAC", None, count(config).macs()))
    found += [row(name, WORK, "GMAC", paper, work(config)) for name, config, paper in ablation]
    return found
