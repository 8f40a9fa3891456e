"""Expressions of rules: what they mean on integers, as text, and what rules may look at."""

from __future__ import annotations

import pytest

from hw.arch.codes import ErrorCode
from hw.arch.instructions.drain import RULES as DRAIN_RULES
from hw.arch.isa import CLASSES, RULES, Array, ArrayMode, Drain, Elementwise, Load, Space
from hw.arch.rule_text import described
from hw.arch.rules import (
    Fields,
    Rule,
    Truth,
    lacks,
    needs,
    nonzero,
    parameter,
    predicate,
    specialised,
    zero,
)
from hw.arch.winograd_matrices import TRANSFORMS
from tests.machines import plain

TINY = plain("tiny")
ARRAY, LOAD = Fields(Array), Fields(Load)


def holds(condition, instruction, config=TINY):
    return predicate(specialised(condition, config.features, config))(instruction)


@pytest.mark.parametrize(
    ("condition", "fields", "expected"),
    [
        (ARRAY.mode == ArrayMode.HFA, {"mode": 2}, True),
        (ARRAY.mode != ArrayMode.HFA, {"mode": 2}, False),
        (ARRAY.starts[0] < 0, {"starts": (-1, 0, 0)}, True),
        (ARRAY.starts[0] >= -1, {"starts": (-2, 0, 0)}, False),
        (ARRAY.counts[1] * 4 + ARRAY.line > 9, {"counts": (1, 2, *(1,) * 6), "line": 1}, False),
        (ARRAY.counts[1] * 4 + ARRAY.line > 9, {"counts": (1, 2, *(1,) * 6), "line": 2}, True),
        ((ARRAY.line & 6) != 0, {"line": 9}, False),
        ((ARRAY.line & 6) != 0, {"line": 10}, True),
        (zero(ARRAY.counts), {"counts": (1,) * 7 + (0,)}, True),
        (zero(ARRAY.counts), {}, False),
        (nonzero(ARRAY.keep, ARRAY.starts), {"starts": (0, 0, 5)}, True),
        (~(ARRAY.keep == 1) & (ARRAY.line == 0), {}, True),
        (ARRAY.line >= parameter("memory.line_pixels"), {"line": 1024}, True),
        (ARRAY.line >= parameter("memory.line_pixels"), {"line": 1023}, False),
        (lacks("fold") & (ARRAY.line == 0), {}, True),
        (lacks("hfa") | (ARRAY.line == 3), {"line": 3}, True),
        (lacks("hfa"), {}, False),
    ],
)
def test_conditions_on_integers(condition, fields, expected):
    assert holds(condition, Array(**fields)) is expected


def test_what_the_configuration_decides_is_left_out():
    def left(condition):
        return specialised(condition, TINY.features, TINY)

    assert isinstance(left(lacks("hfa") & (ARRAY.line == 3)), Truth)
    assert not left(lacks("hfa") & (ARRAY.line == 3)).value
    assert left(lacks("fold") | (ARRAY.line == 3)).value
    assert left(parameter("array.rows") > 16).value is False
    assert described(left(lacks("fold") & (ARRAY.line == 3))) == "`line` = 3"
    with pytest.raises(TypeError, match="feature 'fold' is not decided"):
        predicate(lacks("fold"))
    with pytest.raises(TypeError, match=r"parameter array\.rows is not decided"):
        predicate(parameter("array.rows") > 1)


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="no feature 'wings'; there are depthwise"):
        lacks("wings")
    with pytest.raises(AttributeError, match="Array has no field 'colour'"):
        _ = ARRAY.colour
    with pytest.raises(TypeError, match="no truth value"):
        bool(ARRAY.mode == 1)
    with pytest.raises(TypeError, match="'x' is no number"):
        _ = ARRAY.mode == "x"
    with pytest.raises(AttributeError):
        holds(parameter("memory.colour") > 1, Array())


def test_text():
    both = (ARRAY.mode == ArrayMode.HFA) & (zero(ARRAY.counts) | lacks("hfa"))
    assert described(both) == "`mode` = HFA and (one of `counts` = 0 or without `hfa`)"
    some = zero(ARRAY.counts[:2])
    assert described(some) == "`counts[0]` = 0 or `counts[1]` = 0"
    number = ARRAY.line + ARRAY.counts[0] * parameter("array.rows") > 3
    assert described(number) == "`line` + (`counts[0]` · array.rows) > 3"
    assert described(~lacks("hfa") & (ARRAY.keep == 0)) == "with `hfa` and `keep` = 0"
    assert described(~both & (ARRAY.keep == 0)).startswith("not (`mode` = HFA and")


def test_rules_look_at_no_field_to_which_a_register_is_added():
    for kind, rules in RULES.items():
        names = {field.name for field in kind.layout()}
        moved = {name for name in names if f"{name}_register" in names}
        for rule in rules:
            assert not moved & set(rule.fields), (kind.__name__, rule.text)
            assert set(rule.fields) <= names and rule.code != ErrorCode.NONE
            # Otherwise a feature mask would depend on the machine (rules.needs).
            assert not (rule.features and rule.parameters), rule.text


def test_every_class_has_rules_or_none():
    assert set(RULES) == set(CLASSES.values())


def test_pool_windows_divide_the_results_of_a_tile():
    """The rule of DRAIN is written with powers of two; here with divisors."""
    pooling = [rule for rule in DRAIN_RULES if "pool window" in rule.text]
    for t, temporal in enumerate(TRANSFORMS):
        for s, spatial in enumerate(TRANSFORMS):
            for wx, wy, wt in [(w, 1, 1) for w in range(1, 8)] + [(1, 2, 4), (2, 4, 2), (1, 1, 3)]:
                divides = not (spatial.outputs % wx or spatial.outputs % wy)
                divides = divides and not temporal.outputs % wt
                instruction = Drain(transform_t=t, transform_s=s, window=(wx, wy, wt))
                found = any(holds(rule.condition, instruction) for rule in pooling)
                assert found == (bool(t or s) and not divides), instruction


def test_features_that_an_instruction_needs():
    def needed(instruction):
        return {f for f, needs_it in needs(RULES[type(instruction)]) if needs_it(instruction)}

    assert needed(Load()) == set()
    assert needed(Load(space=Space.TABLE)) == {"vector"}
    assert needed(Elementwise()) == {"vector"}
    assert needed(Elementwise(spread=1)) == {"vector", "fold"}
    assert needed(Array(mode=ArrayMode.HFA, transform_s=1)) == {"hfa"}
    assert needed(Array(mode=ArrayMode.HFA, transform_s=1, transform_t=1)) == {"hfa", "hfa_nested"}
    tiles = Array(mode=ArrayMode.HFA_DEPTHWISE, transform_s=1)
    assert needed(tiles) == {"hfa", "depthwise", "hfa_depthwise"}
    assert needed(Array(weight_zero_point=3)) == {"attention"}
    rule = Rule(ErrorCode.FIELD, lacks("hfa") & (LOAD.beats == 3), "none")
    assert needs([rule]) == (), "only UNSUPPORTED says what is needed"
