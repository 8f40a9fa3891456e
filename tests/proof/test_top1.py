"""Same class on the accelerator and in ONNX Runtime: what is counted, and what fails."""

from __future__ import annotations

import json

import numpy as np
import pytest

from compiler.output import write_config
from proof import top1
from proof.steps import StepError
from proof.top1 import Clip, lines, main, summary
from tests.machines import folding

SCALE = 0.25


def logits(*codes):
    return np.float32(SCALE) * np.array([codes], np.float32)


def test_a_clip():
    assert Clip.of(logits(3, 9, 7), logits(3, 8, 7), SCALE) == Clip(1, 1, True, 2, 1, 1)
    assert Clip.of(logits(9, 9, 7), logits(8, 9, 7), SCALE) == Clip(0, 1, True, 0, 1, 1)
    assert Clip.of(logits(9, 9, 7), logits(7, 7, 9), SCALE) == Clip(0, 2, False, 0, 2, 2)
    assert Clip.of(logits(-3, 9, 7), logits(-3, 7, 9), SCALE) == Clip(1, 2, False, 2, 2, 2)


def clear(ours, theirs, margin=5):
    return Clip(ours, theirs, ours == theirs, margin, margin, int(ours != theirs))


TIE, STRANGE_TIE = Clip(0, 1, True, 0, 1, 1), Clip(0, 2, False, 0, 2, 2)


def test_figures_over_clips():
    clips = [clear(4, 4, 2), clear(5, 5, 4), clear(5, 6, 6)]
    figures = summary(clips, [TIE, STRANGE_TIE])
    assert figures["margins"] == [2, 3, 4, 5, 6]
    assert (figures["clips"], figures["equal"], figures["classes"]) == (3, 2, 3)
    assert (figures["ties"], figures["among"]) == (2, 1)
    assert (figures["logits_differ"], figures["steps"]) == (3, 2)
    text = "\n".join(lines(figures, clips[2:]))
    assert "top-1 equal on 2 of 3 clips; 3 classes occur" in text
    assert "least 2, quartiles 3, 4, 5, most 6" in text
    assert "2 more clips are ties; ONNX Runtime's class is among the first in 1 of them" in text
    assert "class 5 by 6 steps, ONNX Runtime 6 by 6" in text


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
        ([clear(n, n) for n in range(20)], 0),
        ([TIE, *(clear(n, n) for n in range(20))], 0),
        ([clear(n % 19, n % 19) for n in range(20)], 1),
        ([*(clear(n, n) for n in range(19)), clear(30, 19)], 1),
        ([STRANGE_TIE, *(clear(n, n) for n in range(20))], 1),
        ([TIE] * 21, 2),
    ],
)
def test_too_few_classes_another_one_or_ties_alone_fail(clips, code, measured, capsys):
    measured(*clips)
    assert main(["--size", "tiny", "--clips", "20"]) == code
    assert ("20 clips" in capsys.readouterr().out) == (code < 2)


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
