"""Concats of channels whose operands share a scale, so that codes move as they are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.ranges import concat_ties, disjoint


def graph(axis: int = 1) -> onnx.GraphProto:
    """z = concat(a slice of x, y); w = concat(z, v)."""
    nodes = [
        helper.make_node("Relu", ["in"], ["x"]),
        helper.make_node("Relu", ["in"], ["y"]),
        helper.make_node("Relu", ["in"], ["v"]),
        helper.make_node("Slice", ["x", "from", "to"], ["s"]),
        helper.make_node("Transpose", ["s"], ["t"]),
        helper.make_node("Concat", ["t", "y"], ["z"], axis=axis),
        helper.make_node("Concat", ["z", "v"], ["w"], axis=axis),
    ]
    shape = helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 4, 2, 2])
    ends = [numpy_helper.from_array(np.array([n]), name) for n, name in ((0, "from"), (2, "to"))]
    return helper.make_graph(nodes, "net", [shape], [], ends)


RANGES = {"x": (0.0, 1.0), "y": (-1.0, 1.0), "z": (-1.0, 1.0), "v": (0.0, 4.0), "w": (-1.0, 4.0)}


def test_operands_share_a_scale_where_none_loses_two_bits():
    assert concat_ties(graph(), RANGES) == [("x", "y", "z"), ("v", "w", "z")]
    assert disjoint(concat_ties(graph(), RANGES)) == [("v", "w", "x", "y", "z")]
    assert disjoint([("a", "b"), ("c", "d"), ("e", "f"), ("d", "a")]) == [
        ("e", "f"),
        ("a", "b", "c", "d"),
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"v": (0.0, 9.0), "w": (-1.0, 9.0)}, [("x", "y", "z")]),
        ({"x": (0.0, 0.2)}, [("v", "w", "z")]),
    ],
)
def test_what_would_lose_more_keeps_its_scale(changes, expected):
    assert concat_ties(graph(), {**RANGES, **changes}) == expected


def test_other_axes_and_given_scales_are_left_alone():
    assert concat_ties(graph(axis=2), RANGES) == []
    free = {name: each for name, each in RANGES.items() if name != "y"}
    assert concat_ties(graph(), free) == [("v", "w", "z")]
