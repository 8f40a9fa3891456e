"""Moves, views and tables against ONNX Runtime."""

import dataclasses

import numpy as np
import pytest
from onnx import helper

from compiler import interpreter
from compiler.ir import Slice, UnaryTable
from tests.compiler.frontend.single import (
    MICROSOFT,
    codes,
    findings,
    imported,
    ours,
    outputs,
    qoperator_model,
    steps,
    theirs,
)
from tests.compiler.frontend.test_windows import X, one
from tests.models.qdq import Builder, Q

CLIP = (1, 6, 4, 5, 5)


def index(*values):
    return np.array(values, np.int64)


MOVES = {
    # name: operator, shape, constants, attributes, kinds of operators expected
    "slice time": ("Slice", CLIP, [index(1), index(2**62), index(2)], {}, [Slice]),
    "slice pairs": ("Slice", CLIP, [index(0), index(4), index(2), index(2)], {}, [Slice]),
    "slice two axes": ("Slice", CLIP, [index(0, 1), index(-1, 4), index(2, 4)], {}, [Slice, Slice]),
    "slice channels": ("Slice", CLIP, [index(-4), index(-1), index(1)], {}, [Slice]),
    "slice nothing off": ("Slice", CLIP, [index(0), index(99), index(3)], {}, []),
    "flatten": ("Flatten", CLIP, [], {}, []),
    "flatten vector": ("Flatten", (1, 6, 1, 1, 1), [], {}, []),
    "reshape": ("Reshape", CLIP, [index(0, -1, 5, 5)], {}, []),
    "squeeze": ("Squeeze", (1, 6, 1, 5, 5), [index(2)], {}, []),
    "unsqueeze": ("Unsqueeze", (1, 6, 5, 5), [index(2)], {}, []),
    "transpose": ("Transpose", CLIP, [], {"perm": [0, 2, 1, 3, 4]}, []),
    "transpose of ones": ("Transpose", (1, 6, 1, 5, 5), [], {"perm": [0, 1, 3, 2, 4]}, []),
    "identity": ("Identity", CLIP, [], {}, []),
    "gather one frame": ("Gather", CLIP, [np.int64(-1)], {"axis": 2}, [Slice]),
}


@pytest.mark.parametrize("case", MOVES)
def test_move(case):
    op, shape, constants, attributes, kinds = MOVES[case]
    model = one(op, shape, X, constants=constants, **attributes)
    assert [type(o) for o in imported(model).ops] == kinds
    feeds = {"x": codes(np.random.default_rng(0), shape)}
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def test_twin_a_slice_one_frame_late_is_seen():
    model = one("Slice", CLIP, X, constants=[index(0), index(3), index(2)])
    graph = imported(model)
    (op,) = graph.ops
    feeds = {"x": codes(np.random.default_rng(0), CLIP)}
    broken = graph.replaced([dataclasses.replace(op, start=1, stop=4)])
    assert steps(outputs(broken, feeds)[0], theirs(model, feeds))[0] > 0


@pytest.mark.parametrize("part", [0, 1])
def test_split(part):
    builder = Builder()
    x = builder.dequantize("x", X, shape=CLIP)
    sizes = builder.constant("sizes", index(2, 4))
    outputs = ["p0", "p1"]
    builder.nodes.append(helper.make_node("Split", [x, sizes], outputs, "split", axis=1))
    model = builder.model(X, outputs[part])
    feeds = {"x": codes(np.random.default_rng(0), CLIP)}
    assert ours(model, feeds).shape[1] == (2, 4)[part]
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def test_move_to_another_scale_goes_through_a_table():
    model = one("Slice", CLIP, Q(0.08, 50), constants=[index(1), index(3), index(2)])
    assert [type(o) for o in imported(model).ops] == [Slice, UnaryTable]
    feeds = {"x": codes(np.random.default_rng(0), CLIP)}
    assert steps(ours(model, feeds), theirs(model, feeds, optimize=False)) == (0, 0)


def test_backward_slice_is_refused():
    arrays = [index(3), index(0), index(2), index(-1)]
    assert "forward" in findings(one("Slice", CLIP, X, constants=arrays))[0][2]


# Tables -----------------------------------------------------------------------------------

ALL = (1, 1, 16, 16)
UNARY = {
    "Abs": {},
    "Elu": {"alpha": 0.7},
    "Exp": {},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "HardSwish": {},
    "LeakyRelu": {"alpha": 0.1},
    "Neg": {},
    "Relu": {},
    "Sigmoid": {},
    "Softplus": {},
    "Tanh": {},
}
RANGE = {"Sigmoid": Q(1 / 256, 0), "Exp": Q(3.0, 0), "HardSigmoid": Q(1 / 256, 0)}


def every_code(dtype=np.uint8):
    return {"x": np.arange(256).astype(np.uint8).view(dtype).reshape(ALL)}


@pytest.mark.parametrize("op", UNARY)
def test_table_equals_the_float_operator(op):
    """All 256 codes, against ORT's float operator between DequantizeLinear and QuantizeLinear."""
    q_y = RANGE.get(op, Q(0.043, 100))
    model = one(op, ALL, q_y, Q(0.04, 110), **UNARY[op])
    (table,) = imported(model).ops
    assert isinstance(table, UnaryTable) and table.function == op
    count, most = steps(ours(model, every_code()), theirs(model, every_code(), optimize=False))
    # ORT's own exp, tanh and sigmoid are approximations: a rounding tie may fall otherwise.
    assert most <= 1 and count <= (1 if op in ("Sigmoid", "Tanh", "Exp", "Softplus", "Elu") else 0)


def test_requantize_between_types():
    builder = Builder()
    x = builder.dequantize("x", Q(0.05, 100), shape=ALL)
    model = builder.model(Q(0.03, -9, np.int8), x)
    result = ours(model, every_code())
    assert result.dtype == np.int8
    assert steps(result, theirs(model, every_code(), optimize=False)) == (0, 0)


def test_functions_in_a_chain_and_scalars_make_one_table():
    builder = Builder()
    x = builder.dequantize("x", Q(0.05, 100), shape=ALL)
    scaled = builder.op("Mul", [builder.constant("half", np.float32(0.5)), x], "a")
    moved = builder.op("Add", [scaled, builder.constant("three", np.float32(3))], "b")
    clipped = builder.op(
        "Clip",
        [moved, builder.constant("lo", np.float32(0)), builder.constant("hi", np.float32(6))],
    )
    model = builder.model(Q(6 / 255, 0), clipped)
    assert [type(o) for o in imported(model).ops] == [UnaryTable]
    assert steps(ours(model, every_code()), theirs(model, every_code(), optimize=False)) == (0, 0)


def test_twin_a_wrong_table_entry_is_seen():
    model = one("HardSwish", ALL, Q(0.043, 100), Q(0.04, 110))
    graph = imported(model)
    (op,) = graph.ops
    table = bytearray(op.table)
    table[17] ^= 1
    broken = graph.replaced([dataclasses.replace(op, table=bytes(table))])
    result = interpreter.run(broken, every_code())["y"]
    assert steps(result, theirs(model, every_code(), optimize=False)) == (1, 1)


@pytest.mark.parametrize("op", ["QLinearSigmoid", "QLinearLeakyRelu"])
def test_qlinear_tables(op):
    constants = {
        "xs": np.float32(0.04),
        "xz": np.uint8(110),
        "ys": np.float32(1 / 256 if op == "QLinearSigmoid" else 0.03),
        "yz": np.uint8(0 if op == "QLinearSigmoid" else 60),
    }
    names = ["x", "xs", "xz", "ys", "yz"]
    attributes = {"alpha": 0.1} if op == "QLinearLeakyRelu" else {}
    model = qoperator_model(op, MICROSOFT, names, {"x": (ALL, np.uint8)}, constants, **attributes)
    count, most = steps(ours(model, every_code()), theirs(model, every_code()))
    assert most <= 1 and count <= 1


def test_clip_of_bare_integers_narrows_the_codes():
    """Brevitas writes QuantizeLinear, Clip(-127, 127), DequantizeLinear."""
    builder = Builder()
    q = Q(0.05, 0, np.int8)
    x = builder.dequantize("x", q, shape=ALL)
    builder.nodes.append(helper.make_node("QuantizeLinear", [x, "x_s", "x_z"], ["q"], "q"))
    bounds = [builder.constant("lo", np.int8(-127)), builder.constant("hi", np.int8(127))]
    builder.nodes.append(helper.make_node("Clip", ["q", *bounds], ["c"], "narrow"))
    builder.nodes.append(helper.make_node("DequantizeLinear", ["c", "x_s", "x_z"], ["d"], "d"))
    builder.op("Relu", ["d"])
    model = builder.model(Q(0.05, 0, np.int8))
    feeds = every_code(np.int8)
    assert steps(ours(model, feeds), theirs(model, feeds, optimize=False)) == (0, 0)
    assert -128 not in interpreter.run(imported(model), feeds)["c"]


def test_two_views_that_are_brought_into_one_form_are_two_tensors():
    """Their axes are told over different tensors, alike as they look."""
    builder, scale = Builder(), Q(0.02, 100)
    known = builder._scale("k", scale)

    def pair(name):
        builder.op("QuantizeLinear", [name, *known], f"{name}_q")
        return builder.op("DequantizeLinear", [f"{name}_q", *known], f"{name}_d")

    x = builder.dequantize("x", scale, shape=(1, 2, 6, 6))
    made = pair(builder.op("Sigmoid", [x], "made"))  # a value that the host does not write
    both = [made, builder.op("Transpose", [made], "turned", perm=[0, 2, 1, 3])]
    shape = builder.constant("shape", index(1, 12, 6))
    parts = []
    for number, each in enumerate(both):
        flat = builder.op("Reshape", [each, shape], f"flat{number}")
        weights = builder.dequantize(f"w{number}", Q(0.01, 0, np.int8), np.full((6, 3), 90))
        parts.append(pair(builder.op("MatMul", [flat, weights], f"m{number}")))
    builder.op("Sub", parts)
    model = builder.model(Q(0.001, 100))
    feeds = {"x": codes(np.random.default_rng(0), (1, 2, 6, 6))}
    mine = ours(model, feeds)
    assert steps(mine, theirs(model, feeds, optimize=False))[1] <= 1
    assert len(np.unique(mine)) > 2
