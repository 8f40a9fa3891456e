"""Advice comes from the run's figures: what it names, and how much it could gain at most."""

from __future__ import annotations

import dataclasses

import pytest

from reports.advice import LEAST, advice, lines


def with_layer(report, **changes):
    """A run whose first layer is changed, the others of no interest."""
    quiet = [dataclasses.replace(x, bound="array", filled=1.0) for x in report.layers]
    quiet[0] = dataclasses.replace(quiet[0], cycles=10_000, **changes)
    return dataclasses.replace(report, layers=tuple(quiet))


BUSY = {"array": 0.9, "drain": 0.1, "vector": 0.2, "memory": 0.3}


@pytest.mark.parametrize(
    ("changes", "words", "cycles"),
    [
        ({"bound": "array", "filled": 0.25, "busy": BUSY}, "multipliers are idle", 6750),
        ({"bound": "memory", "busy": {**BUSY, "memory": 0.95}}, "memory port (95 % busy)", 500),
        ({"bound": "vector", "busy": {**BUSY, "vector": 0.99}}, "on the vector unit", 9900),
        ({"bound": "latency", "busy": {**BUSY, "array": 0.4}}, "no unit is busy for long", 6000),
    ],
)
def test_each_bound_has_its_words_and_its_gain(report, changes, words, cycles):
    (found,) = advice(with_layer(report, **changes))
    assert words in found.words and found.cycles == cycles
    assert lines(with_layer(report, **changes))[0].startswith(f"{report.layers[0].label}: up to ")


def test_nothing_is_said_of_a_full_array_or_of_little(report):
    assert advice(with_layer(report, bound="array", filled=0.9, busy=BUSY)) == ()
    few = dataclasses.replace(report, cycles=10**7)
    changed = with_layer(few, bound="array", filled=0.1, busy=BUSY)
    assert changed.layers[0].cycles < LEAST * few.cycles and advice(changed) == ()


@pytest.mark.parametrize(
    ("op", "words"),
    [
        ("max_pool", "where it tiles"),
        ("Sigmoid", "free as a ReLU or a clip"),
        ("multiply(x, Sigmoid(x))", "free as a ReLU or a clip"),
        ("norm", "lanes.vector"),
        ("add", "lanes.vector"),
    ],
)
def test_what_is_cheaper_than_the_vector_unit(report, op, words):
    (found,) = advice(with_layer(report, bound="vector", busy={**BUSY, "vector": 0.99}, op=op))
    assert words in found.words


def test_groups_are_no_matter_of_lanes(report):
    (found,) = advice(with_layer(report, bound="array", filled=0.1, busy=BUSY, op="conv_grouped"))
    assert "Larger groups fill it" in found.words and "space to depth" not in found.words
