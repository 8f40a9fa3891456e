"""LiteEval: encoders with their classifiers, MAC and once the elements of batch norms.

SlowFast is the exception: its MAC alone, at a crop of 256. Table 2's totals are 129 steps at
the printed 0.08 G, the mean number of fine steps at the encoder's cost, and the controller of
the public code; Table 4's total (Kinetics, 32 steps) leaves the controller out.
"""

from dataclasses import replace

from models import liteeval as net
from models.backbones.dpn import DPN107
from models.backbones.mobilenetv2 import MobileNetV2Config
from models.cells import CELLS
from models.count import Counts, count
from models.figures.rows import Row, row
from models.slowfast import SlowFastConfig

ENCODER = "work: MAC with classifier, norm elements"
IMAGENET = 1000  # classes of the image networks that the paper counts
STEPS = 129
COARSE_PRINTED = 0.08e9


def _encoder(config: net.LiteEvalConfig, which: str) -> Counts:
    """Counts of an encoder, whatever stands behind it."""
    return count(replace(net.FCVID, coarse=config.coarse, fine=config.fine, part=which))


def encoder_cost(config: net.LiteEvalConfig, which: str) -> int:
    """Work of an encoder as the paper counts it."""
    if which == "fine" and isinstance(config.fine, SlowFastConfig):
        return count(config.fine).macs()
    counts = _encoder(config, which)
    features = config.coarse.features if which == "coarse" else config.fine.features
    return counts.macs() + counts.norm_elements + features * IMAGENET


def controller(config: net.LiteEvalConfig, fine: bool) -> int:
    """MAC of a step without its encoders."""
    # Encoders of the same features and next to no layers: theirs are not counted here.
    coarse, close = (
        MobileNetV2Config(settings=(), features=encoder.features)
        for encoder in (config.coarse, config.fine)
    )
    bare = replace(config, coarse=coarse, fine=close)
    counts = [
        count(replace(bare, part=part)) for part in ("look", "read" if fine else "skip", "answer")
    ]
    return sum(each.macs(lambda layer: "backbone" not in layer.name) for each in counts)


def offline(config: net.LiteEvalConfig, fine_steps: float) -> float:
    """A video's work as Table 2 has it; fine_steps is a mean over videos."""
    public = replace(config, embed=net.CODE_EMBED)
    skipped, read = controller(public, False), controller(public, True)
    total = STEPS * COARSE_PRINTED + fine_steps * encoder_cost(config, "fine")
    return total + STEPS * skipped + fine_steps * (read - skipped)


def online(config: net.LiteEvalConfig, fine_steps: float, work: float) -> float:
    """Steps of a video until its prediction with a budget, that a work in Table 2 implies."""
    public = replace(config, embed=net.CODE_EMBED)
    skipped, read = controller(public, False), controller(public, True)
    rest = work - fine_steps * (encoder_cost(config, "fine") + read - skipped)
    return rest / (COARSE_PRINTED + skipped)


def _encoder_rows() -> list[Row]:
    found = []
    cases = (
        ("MobileNetV2 112", net.FCVID, "coarse", 0.08),
        ("ResNet-101", net.FCVID, "fine", 7.82),
        ("DPN-107", replace(net.FCVID, fine=DPN107), "fine", 18.34),
        ("SlowFast-8x8", replace(net.FCVID, fine=net.SLOWFAST_8X8), "fine", 65.71),
    )
    for name, config, which, paper in cases:
        label = f"LiteEval {name}"
        found.append(row(label, ENCODER, "GMAC", paper, encoder_cost(config, which)))
        true = _encoder(config, which).macs()
        found.append(row(label, "true MAC", "GMAC", None, true))
    return found


def rows() -> list[Row]:
    """Encoders, controllers, and Tables 2 and 4."""
    found = _encoder_rows()
    datasets = {"FCVID": net.FCVID, "ActivityNet": net.ACTIVITYNET, "Kinetics": net.KINETICS}
    variants = [(name, None) for name in datasets] + [("FCVID", net.CODE_EMBED)]
    for dataset, embed in variants:
        for cell in CELLS:
            config = replace(datasets[dataset], cell=cell, embed=embed)
            label = f"LiteEval {dataset}, {cell.upper()}{', public code' if embed else ''}"
            for fine, name in ((False, "skipped"), (True, "fine")):
                macs = controller(config, fine)
                found.append(row(label, f"controller, {name} step", "MMAC", None, macs))
    encoders: dict[str, net.Fine] = {"DPN-107": DPN107, "SlowFast-8x8": net.SLOWFAST_8X8}
    table2 = (
        ("FCVID", "DPN-107", 8.00, 157.90),
        ("ActivityNet", "DPN-107", 9.96, 193.82),
        ("FCVID", "SlowFast-8x8", 6.39, 430.98),
        ("ActivityNet", "SlowFast-8x8", 8.15, 546.76),
    )
    for dataset, encoder, steps, paper in table2:
        config = replace(datasets[dataset], fine=encoders[encoder])
        label, quantity = f"LiteEval {dataset}, {encoder}", f"a video, {steps:.2f} fine steps"
        found.append(row(label, quantity, "GMAC", paper, offline(config, steps)))
    budgets = (
        ("FCVID", 2.97, 57.78),
        ("FCVID", 4.64, 90.62),
        ("FCVID", 6.75, 131.56),
        ("ActivityNet", 2.99, 55.96),
        ("ActivityNet", 4.91, 92.12),
        ("ActivityNet", 8.10, 153.39),
    )
    for dataset, steps, work in budgets:
        config = replace(datasets[dataset], fine=DPN107)
        label = f"LiteEval {dataset}, DPN-107, online"
        quantity = f"steps, {steps:.2f} of them fine, for {work:.2f} GMAC"
        found.append(Row(label, quantity, "steps", None, online(config, steps, work * 1e9), None))
    slow = encoder_cost(replace(net.KINETICS, fine=net.SLOWFAST_8X8), "fine")
    total = 32 * COARSE_PRINTED + 4.16 * slow
    label = "LiteEval Kinetics, SlowFast-8x8"
    found.append(row(label, "a video, 4.16 fine steps of 32", "GMAC", 275.91, total))
    return found
