"""A network of one's own, from PyTorch to a class on the circuit: python -m examples.own_network.

`quantized` is all that the toolkit asks of a network; the rest is its three functions.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from models.data import synthetic_clip
from models.preprocessing import Preprocessing, beside
from shell import leave
from toolkit import build, report, run

SHAPE = (1, 3, 8, 32, 32)
"""Batch, colours, frames, height, width."""


def network(width: int = 16) -> nn.Module:
    """Three 3-D blocks and a classifier; put yours here."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inner, outer in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv3d(inner, outer, 3, padding=1), nn.BatchNorm3d(outer), nn.ReLU()]
        layers += [nn.MaxPool3d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4 * width, 10))


class Clips(quantization.CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
    """Clips that are like those to come; put some of yours here."""

    def __init__(self) -> None:
        self.clips = (synthetic_clip(seed, *SHAPE[2:]) for seed in range(16))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next clip, None after the last."""
        clip = next(self.clips, None)
        return None if clip is None else {"clip": clip}


def quantized(net: nn.Module, folder: Path, dynamo: bool = True) -> Path:
    """Write float.onnx and int8.onnx, and how pixels become numbers."""
    names = {"input_names": ["clip"], "output_names": ["logits"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its exporters
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        example = (torch.zeros(SHAPE),)
        torch.onnx.export(
            net.eval(), example, str(folder / "float.onnx"), dynamo=dynamo, verbose=False, **names
        )
    quant_pre_process(str(folder / "float.onnx"), str(folder / "prepared.onnx"))
    quantization.quantize_static(
        str(folder / "prepared.onnx"),
        str(folder / "int8.onnx"),
        Clips(),
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    Preprocessing(mean=(0.45,), std=(0.225,)).save(beside(folder / "int8.onnx"))
    return folder / "int8.onnx"


def main(words: list[str] | None = None) -> None:
    """Everything, for a video or a clip of noise."""
    parser = argparse.ArgumentParser(prog="python -m examples.own_network", description=__doc__)
    parser.add_argument("--exporter", choices=("dynamo", "torchscript"), default="dynamo")
    parser.add_argument("--config", default="base")
    parser.add_argument("--on", choices=("functional", "cycle", "rtl"), default="cycle")
    parser.add_argument("--input", type=Path, help="a video, a folder of images, .npz or .npy")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/own"))
    args = parser.parse_args(words)
    args.output.mkdir(parents=True, exist_ok=True)
    onnx = quantized(network(), args.output, args.exporter == "dynamo")
    clip = args.output / "clip.npz"
    np.savez(clip, clip=synthetic_clip(100, *SHAPE[2:]))
    made = build(onnx, args.config, args.output / "build", record=clip)
    ran = run(
        Path(made.output),
        args.on,
        args.input,
        check=True,
        float_model=args.output / "float.onnx",
        progress=sys.stderr.isatty(),
    )
    for line in (*ran.answers[0].lines(), *ran.distances):
        print(line)
    if ran.result.cycles is not None:
        print(f"{ran.result.cycles:,} cycles; {report(ran.files[0]).page}")


if __name__ == "__main__":
    leave(main)
