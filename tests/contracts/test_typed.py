"""Dataclasses from plain data: what is taken, and how everything else is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from hw.arch.typed import TypedError, build


class Span(NamedTuple):
    first: int
    last: int
    step: int = 1


@dataclasses.dataclass(frozen=True)
class Inner:
    scale: float
    spans: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        if self.scale == 0:
            raise ValueError("a scale of zero")


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    flag: bool
    pair: tuple[int, str]
    inner: Inner
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


PLAIN = {
    "name": "n",
    "flag": True,
    "pair": [3, "three"],
    "inner": {"scale": 2, "spans": [[0, 4], [4, 9, 5]]},
}


def test_values_have_the_declared_types():
    found = build(Outer, {**PLAIN, "notes": {"any": [1]}}, "")
    inner = Inner(2.0, (Span(0, 4), Span(4, 9, 5)))
    assert found == Outer("n", True, (3, "three"), inner, {"any": [1]})
    assert isinstance(found.inner.scale, float)
    assert build(Outer, dataclasses.asdict(found), "") == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "^x.name is 3, not text"),
        ({"name": "\ud800"}, r"^x.name is '\\ud800', which no text file can hold"),
        ({"flag": 1}, "^x.flag is 1, not true or false"),
        ({"flag": None}, "^x.flag is None"),
        ({"pair": [3]}, "^x.pair has 1 values, not 2"),
        ({"pair": {3: 4}}, "^x.pair is {3: 4}, not a list"),
        ({"pair": [True, "three"]}, r"^x.pair\[0\] is True, not an integer"),
        ({"inner": []}, r"^x.inner is \[\], not a mapping"),
        ({"inner": {"spans": []}}, "^x.inner lacks 'scale'"),
        ({"inner": {"scale": 0}}, "^x.inner: a scale of zero"),
        ({"inner": {"scale": "1"}}, "^x.inner.scale is '1', not a number"),
        ({"inner": {"scale": 10**400}}, "^x.inner.scale is inf; it must be finite"),
        ({"inner": {"scale": float("nan")}}, "^x.inner.scale is nan; it must be finite"),
        (
            {"inner": {"scale": 1, "spans": [[0]]}},
            r"^x.inner.spans\[0\] has 1 values, not first, la",
        ),
        ({"inner": {"scale": 1, "spans": [[0, 1, 2, 3]]}}, r"spans\[0\] has 4 values"),
        ({"inner": {"scale": 1, "spans": [[0, 1.5]]}}, r"spans\[0\]\[1\] is 1.5, not an integer"),
        ({"inner": {"scale": 1, "colour": "x" * 99}}, "^x.inner has no 'colour'; there are scale,"),
        ({"notes": 3}, "^x.notes is 3, not a mapping"),
        ({"notes": {3: 4}}, "^x.notes has the key 3, which is no name"),
    ],
)
def test_refusals_name_the_place(change, message):
    with pytest.raises(TypedError, match=message):
        build(Outer, {**PLAIN, **change}, "x")


def test_a_type_without_a_rule_is_a_mistake_of_ours():
    @dataclasses.dataclass
    class Odd:
        values: set[int]

    Odd.__annotations__ = {"values": set}
    with pytest.raises(TypeError, match="no rule for the type"):
        build(Odd, {"values": []}, "x")
