"""VTN: MAC of convolutions, linear layers and products, encoder on ONE frame + whole decoder."""

from dataclasses import replace

from models import vtn
from models.count import Layer, count
from models.figures.rows import Row, row
from models.resnet3d import DEPTHS, ResNet3dConfig
from models.vtn_baselines import CLASSES, Lstms, TwoStream

WORK = "work: one frame's encoder and the decoder"


def work(config: vtn.VtnConfig) -> int:
    """MAC of the encoder on one frame and of the decoder, of both streams."""
    if config.modality == "two_stream":
        return sum(work(replace(config, modality=name)) for name in ("rgb", "difference"))

    def encodes(layer: Layer) -> bool:
        return layer.name.startswith("encoder")

    counts = count(config)
    frames = config.tokens
    return counts.macs(encodes) // frames + counts.macs(lambda layer: not encodes(layer))


def rows() -> list[Row]:
    """Table 1 of the paper, and what it leaves out."""
    mini = replace(vtn.RESNET34, reduce=True, classes=CLASSES)
    two, stacked = (
        replace(vtn.RESNET34, modality=modality) for modality in ("two_stream", "stacked")
    )
    true = count(vtn.RESNET34).macs()
    found = [
        row("VTN ResNet-34, 200 classes, reduced", "parameters", "M", 29.0, count(mini).parameters),
        row("VTN ResNet-34", "parameters", "M", None, count(vtn.RESNET34).parameters),
        row("VTN ResNet-34", WORK, "GMAC", 3.77, work(vtn.RESNET34)),
        row("VTN ResNet-34", "true MAC, 16 frames", "GMAC", None, true),
        row("VTN ResNet-34, stacked", WORK, "GMAC", 3.88, work(stacked)),
        row("VTN ResNet-34, two-stream", WORK, "GMAC", 7.51, work(two)),
    ]
    for name, config, paper in (
        ("ResNet-50", vtn.RESNET50, 4.25),
        ("MobileNetV2", vtn.MOBILENETV2, 0.4),
        ("SE-ResNeXt-101", vtn.SERESNEXT101, None),
    ):
        found.append(row(f"VTN {name}", "parameters", "M", None, count(config).parameters))
        found.append(row(f"VTN {name}", WORK, "GMAC", paper, work(config)))
    baselines = (
        ("3D-ResNet-34", ResNet3dConfig(*DEPTHS[34], side=224, classes=CLASSES), 63.5, 50.2),
        ("two-stream, optical flow", TwoStream(32), 42.8, 8.5),
        ("two-stream, RGB difference", TwoStream(48), 42.9, 9.1),
        ("three LSTMs", Lstms(), 27.6, 3.7),
    )
    for name, baseline, parameters, macs in baselines:
        counts = count(baseline)
        found.append(row(f"{name} (VTN)", "parameters", "M", parameters, counts.parameters))
        found.append(row(f"{name} (VTN)", "work", "GMAC", macs, counts.macs()))
    return found
