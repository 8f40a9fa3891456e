"""What a network said, and how far that is from a float model."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sim.answers import answers, check_labels, class_axis, read_labels
from sim.distance import distances
from sim.errors import InputError


def program(**shapes):
    ports = [
        SimpleNamespace(name=n, shape=s, dtype="float32", tensor=f"{n}_q")
        for n, s in shapes.items()
    ]
    return SimpleNamespace(
        outputs=ports, tensor=lambda name: SimpleNamespace(scale=0.5, zero_point=10)
    )


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((1, 10), 1),
        ((4, 10), 1),
        ((10,), 0),
        ((1, 10, 1, 1), 1),
        ((1, 1), 1),
        ((), None),
        ((1, 3, 4), None),
        ((2, 3, 4), None),
    ],
)
def test_classes(shape, axis):
    assert class_axis(shape) == axis


def test_the_largest_values_first_and_ties_are_told():
    value = np.array([[1, 5, 3, 5, 2, 3, 3]], np.float32)
    (found,) = answers(program(y=(1, 7)), {"y": value}, list("abcdefg"), top=3)
    assert [(e.index, e.value, e.label) for e in found.entries] == [
        ((1,), 5.0, "b"),
        ((3,), 5.0, "d"),
        ((2,), 3.0, "c"),
    ]
    assert found.tied == 2 and (found.low, found.high) == (1, 5)
    assert found.lines()[0] == "y (1×7; 1 … 5):" and "2 more equal" in found.lines()[-1]


def test_batches_maps_and_codes():
    batch = np.array([[1, 2], [4, 3]], np.float32)
    found = answers(program(y=(2, 2)), {"y": batch}, ["a", "b"], top=1)
    assert [(a.item, a.entries[0].label) for a in found] == [(0, "b"), (1, "a")]
    grid = np.zeros((1, 2, 3), np.float32)
    grid[0, 1, 2] = 7
    (found,) = answers(program(y=(1, 2, 3)), {"y": grid}, top=1)
    assert found.entries[0].index == (0, 1, 2) and found.entries[0].label == ""
    coded = program(y=(1, 3))
    coded.outputs[0].dtype = "uint8"
    (found,) = answers(coded, {"y": np.array([[10, 14, 9]], np.uint8)}, top=1)
    assert found.entries[0].value == 2.0, "reals of the codes"


def test_labels(tmp_path):
    lines = tmp_path / "a.txt"
    lines.write_text("cat\ndog\n")
    assert read_labels(lines) == ["cat", "dog"]
    for content in (
        ["cat", "dog"],
        {"1": "dog", "0": "cat"},
        {"0": ["n01", "cat"], "1": ["n02", "dog"]},
    ):
        path = tmp_path / "a.json"
        path.write_text(json.dumps(content))
        assert read_labels(path) == ["cat", "dog"]
    path.write_text(json.dumps({"0": "cat", "2": "dog"}))
    with pytest.raises(InputError, match="none of index 1"):
        read_labels(path)
    check_labels(program(y=(1, 2)), ["cat", "dog"])
    with pytest.raises(
        InputError, match=r"2 labels, and no output has as many classes: y \[1, 3\]"
    ):
        check_labels(program(y=(1, 3)), ["cat", "dog"])


def float_model(path, name="x", size=3):
    """y = 2 x."""
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, size)) for n in (name, "y")]
    node = helper.make_node("Add", [name, name], ["y"])
    graph = helper.make_graph([node], "double", info[:1], info[1:])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path


def test_distance_by_its_definition(tmp_path):
    x = np.array([[1, 2, 3]], np.float32)
    model = float_model(tmp_path / "f.onnx", "other_name")
    got = {"y": np.array([[2, 4, 5.5]], np.float32)}
    (found,) = distances(program(y=(1, 3)), {"x": x}, got, model)
    assert found.largest == 0.5 and found.rms == pytest.approx(0.5 / 3**0.5)
    assert found.sqnr_db == pytest.approx(10 * np.log10((4 + 16 + 36) / 0.25))
    assert found.agree == (1, 1) and "the same class" in str(found)
    got["y"] = np.array([[2, 4, 3]], np.float32)
    (found,) = distances(program(y=(1, 3)), {"x": x}, got, model)
    assert found.agree == (0, 1) and "ANOTHER class" in str(found)
    got["y"] = np.array([[2, 4, 6]], np.float32)
    (found,) = distances(program(y=(1, 3)), {"x": x}, got, model)
    assert found.largest == 0 and found.sqnr_db is None


def test_float_models_that_do_not_fit(tmp_path):
    x = np.ones((1, 3), np.float32)
    model = float_model(tmp_path / "f.onnx", size=4)
    with pytest.raises(InputError, match="does not run: "):
        distances(program(y=(1, 3)), {"x": x}, {"y": x}, model)
    model = float_model(tmp_path / "f.onnx")
    with pytest.raises(InputError, match=r"no output 'z' in common; there are 'y'"):
        distances(program(z=(1, 3), w=(1, 3)), {"x": x}, {"z": x, "w": x}, model)
    (tmp_path / "f.onnx").write_text("hello")
    with pytest.raises(InputError, match="does not run"):
        distances(program(y=(1, 3)), {"x": x}, {"y": x}, tmp_path / "f.onnx")
