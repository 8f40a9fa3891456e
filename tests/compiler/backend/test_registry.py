"""The registry of lowerings: every class of operators has one, in a file of its own."""

from __future__ import annotations

import dataclasses
import sys
import typing

import pytest

from compiler import ops
from compiler.lower import lowering
from compiler.lower.base import Lowering

CLASSES = typing.get_args(ops.AnyOperation)


def blank(kind):
    """An operator without attributes: the registry looks at its class only."""
    return object.__new__(kind)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_operator_has_a_lowering_of_its_own(kind):
    found = lowering(blank(kind))
    assert isinstance(found, Lowering)
    assert found.operation is kind


def test_a_lowering_is_a_file():
    modules = [type(lowering(blank(kind))).__module__ for kind in CLASSES]
    assert len(set(modules)) == len(CLASSES)
    for module in modules:
        kinds = [k for k in vars(sys.modules[module]).values() if isinstance(k, Lowering)]
        assert len(kinds) == 1, module


def test_all_operators_are_in_the_union():
    """What the package exports beside the union is no operator of the graph."""
    exported = [getattr(ops, name) for name in ops.__all__]
    kinds = {e for e in exported if isinstance(e, type) and issubclass(e, ops.Operation)}
    assert kinds - {ops.Operation} == set(CLASSES)


def test_an_operator_without_a_lowering_is_an_error():
    @dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
    class Unknown(ops.Operation):
        def infer(self, inputs):
            return inputs[0].shape

        def evaluate(self, operands, inputs, output):
            return operands[0]

    with pytest.raises(AssertionError):
        lowering(Unknown(name="u", inputs=("x",), output="y"))
