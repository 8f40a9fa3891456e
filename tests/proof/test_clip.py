"""LiteEval's clip by one command, and what would make it fail."""

import dataclasses

import pytest

from hw.arch.isa import Branch, Condition
from proof import clip
from proof.steps import StepError
from sim.build import Build


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(clip, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.large
def test_a_clip_and_single_steps(folder, capsys):
    assert clip.main(["--steps", "12"]) == 0
    said = capsys.readouterr().out
    assert "12 steps, " in said and "all equal" in said and "cycles" not in said
    assert clip.main(["--single"]) == 0
    said = capsys.readouterr().out
    assert "a skipped step: " in said and "a fine step: " in said
    assert said.count("fences cost at most 0.") == 2 and "% of the memory's beats" in said


@pytest.mark.large
def test_a_clip_whose_steps_are_all_skipped_is_not_enough(folder, capsys, monkeypatch):
    """The gate taken out of the program: values differ, and the share of fine steps is wrong."""
    made = clip.made

    def gateless(network, size, variant):
        target = made(network, size, variant)
        program = Build.load(target).program
        code = list(program.instructions)
        for block in program.blocks:
            if block.condition:
                code[block.first] = Branch(condition=Condition.ALWAYS, target=block.following[1])
        dataclasses.replace(program, instructions=tuple(code)).save(target / "program.bin")
        return target

    monkeypatch.setattr(clip, "made", gateless)
    assert clip.main(["--steps", "12"]) == 1
    assert "wrong: " in capsys.readouterr().out


def test_a_step_has_one_arm():
    assert clip.fine(["start", "If/x: then", "after If/x"])
    assert not clip.fine(["start", "If/x: else"])
    with pytest.raises(StepError, match="took the arms"):
        clip.fine(["start"])
