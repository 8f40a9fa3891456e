"""The campaign over networks with If and Loop: what it counts, and what makes it fail."""

from collections import Counter

from compiler.flow import blocks
from fuzz import arms
from fuzz.arms import Tried, describe, main
from fuzz.structured import FORMS


def tried(**changes):
    return Tried(0, Counter(dict.fromkeys(FORMS, 1)), **{"tensors": 5, "twin": True} | changes)


def test_what_a_campaign_needs():
    assert describe([tried(), tried(times=3)], 1)[1]
    assert not describe([tried()], 1)[1], "nothing ran on RTL"
    assert not describe([tried(), tried(wrong="y differs")], 0)[1]
    assert not describe([tried(), tried(twin=False)], 0)[1]
    assert not describe([tried(twin=None)], 0)[1], "no twin"
    few = tried()
    few.holds["nested Loop"] = 0
    assert not describe([few], 0)[1]


def test_networks_and_their_twins(capsys):
    assert main(["-n", "12"]) in (0, 1)  # a form may be absent from so few
    said = capsys.readouterr().out
    assert "12 of 12 equal in functional" in said and "wrong" not in said
    assert " twins without the join's wait noticed" in said


def test_arms_that_change_places_are_noticed(monkeypatch):
    linked = blocks.linked
    monkeypatch.setattr(
        blocks, "linked", lambda code, found: linked(code, {True: found[False], False: found[True]})
    )
    assert arms.tried(0, "tiny", 0).wrong
