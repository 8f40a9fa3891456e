"""Same class on the accelerator and in ONNX Runtime: what is counted, and what fails."""

from __future__ import annotations

import json

import numpy as np
import pytest

from compiler.output import write_config
from proof import top1
from proof.families import StepError
from proof.top1 import Clip, lines, main, summary
from tests.machines import folding

SCALE = 0.25


def logits(*codes):
    return np.float32(SCALE) * np.array([codes], np.float32)


def test_a_clip():
    assert Clip.of(logits(3, 9, 7), logits(3, 8, 7), SCALE) == Clip(1, 1, 2, 1, 1)
    assert Clip.of(logits(9, 9, 7), logits(9, 8, 7), SCALE) == Clip(0, 0, 0, 1, 1)
    assert Clip.of(logits(-3, 9, 7), logits(-3, 7, 9), SCALE) == Clip(1, 2, 2, 2, 2)


def test_figures_over_clips():
    clips = [Clip(4, 4, 0, 1, 1), Clip(5, 5, 2, 2, 0), Clip(5, 6, 4, 3, 1)]
    figures = summary(clips)
    assert figures["margins"] == [0, 1, 2, 3, 4]
    assert (figures["clips"], figures["equal"], figures["classes"]) == (3, 2, 3)
    assert (figures["ties"], figures["logits_differ"], figures["steps"]) == (1, 2, 1)
    text = "\n".join(lines(figures, [(2, clips[2])]))
    assert "top-1 equal on 2 of 3 clips; 3 classes occur" in text
    assert "least 0, quartiles 1, 2, 3, most 4; 1 ties" in text
    assert "clip 2: class 5 by 4 steps, ONNX Runtime 6 by 3" in text


@pytest.fixture
def measured(monkeypatch):
    """Makes the command see some clips, without a network."""

    def see(*clips):
        monkeypatch.setattr(top1, "prepared", lambda *words: (None, None))
        monkeypatch.setattr(top1, "compared", lambda *words: iter(clips))

    return see


@pytest.mark.parametrize(
    ("clips", "code"),
    [
        ([Clip(n, n, 5, 5, 0) for n in range(20)], 0),
        ([Clip(n, n, 5, 5, 0) for n in range(19)], 1),
        ([*(Clip(n, n, 5, 5, 0) for n in range(20)), Clip(3, 4, 1, 1, 1)], 1),
    ],
)
def test_too_few_classes_or_another_one_fail(clips, code, measured, capsys):
    measured(*clips)
    assert main(["--size", "tiny"]) == code
    assert f"{20 - (len(clips) < 20)} classes occur" in capsys.readouterr().out


def test_a_network_that_cannot_be_built_is_an_error(monkeypatch, capsys):
    def refuse(*words):
        raise StepError("no network 'nonesuch'")

    monkeypatch.setattr(top1, "prepared", refuse)
    assert main(["--network", "nonesuch"]) == 2
    assert "error: no network 'nonesuch'" in capsys.readouterr().err


@pytest.mark.large
def test_the_decoder_at_tiny(tmp_path, monkeypatch, capsys):
    """Eleven classes only; the twin takes another file for ONNX Runtime."""
    monkeypatch.setattr(top1, "FOLDER", tmp_path)
    config = tmp_path / "attention.yaml"
    write_config(folding("tiny_direct", weight_bits=9), config)
    words = ["--size", "tiny", "--config", str(config), "--clips", "6", "--classes", "2"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["equal"] == found["clips"] == 6 and found["steps"] <= 2
    prepare = top1.prepared

    def exchanged(*given):
        _, build = prepare(*given)
        other = tmp_path / "other.onnx"
        top1.command("models", "export", "vtn_decoder", "--size", "tiny", "--seed", "5",
                     "-o", str(other))  # fmt: skip
        return other, build

    monkeypatch.setattr(top1, "prepared", exchanged)
    assert main([*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["equal"] < 6
