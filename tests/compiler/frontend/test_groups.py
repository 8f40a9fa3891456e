"""Softmax and norms, also written out: against ONNX Runtime, the oracle, and the file's float."""

import numpy as np
import pytest

from compiler.ir import Normalize, Rearrange, Softmax, UnaryTable
from tests.compiler.frontend.agreement import agreed, written
from tests.compiler.frontend.single import (
    MICROSOFT,
    codes,
    findings,
    imported,
    qoperator_model,
    steps,
    theirs,
)
from tests.models.qdq import Builder, Q

U, S = np.uint8, np.int8
X, SHARE, OUT = Q(0.0473, 131), Q(1 / 256, 0), Q(0.0311, 127)
EPSILON = np.float32(1e-5)


def softmax(shape, opset=17, x=X, y=SHARE, factor=None, **attributes):
    builder = Builder()
    operand = builder.dequantize("x", x, shape=shape)
    if factor is not None:
        operand = builder.op(factor[0], [operand, builder.constant("c", factor[1])], "scaled")
    builder.op("Softmax", [operand], **attributes)
    return builder.model(y, opset=opset)


def fed(shape, dtype=U, seed=4):
    return {"x": codes(np.random.default_rng(seed), shape, dtype)}


def figures(model, feeds, form):
    """Steps and shares that the proof allows hold; returns what it counted."""
    agreed(model, feeds)
    found = written(model, feeds)[form]
    assert found.steps <= 1
    return found


@pytest.mark.parametrize("axis", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("opset", [11, 12, 13, 17, 22])
def test_softmax_over_any_axis(axis, opset):
    """Before opset 13 all axes from `axis` on are one."""
    shape = (2, 6, 3, 5)
    model = softmax(shape, opset, axis=axis)
    assert figures(model, fed(shape), "softmax").differ == 0
    (op,) = [op for op in imported(model).ops if isinstance(op, Softmax)]
    flat = {0: 180, 1: 90, 2: 15, 3: 5, -1: 5}
    count = flat[axis] if opset < 13 else shape[axis]
    assert op.elements(imported(model).type(op.inputs[0])) == count


def test_the_default_axis_changes_with_opset_13():
    shape = (2, 6, 3, 5)
    old, new = softmax(shape, 12), softmax(shape, 13)
    assert not np.array_equal(agreed(old, fed(shape)), agreed(new, fed(shape)))
    assert np.array_equal(agreed(old, fed(shape)), agreed(softmax(shape, 12, axis=1), fed(shape)))
    assert np.array_equal(agreed(new, fed(shape)), agreed(softmax(shape, 13, axis=3), fed(shape)))


@pytest.mark.parametrize("y", [SHARE, Q(1 / 255, 0), Q(1 / 256, -128, S), Q(0.0131, 17), Q(0.9, 3)])
@pytest.mark.parametrize("x", [X, Q(0.0473, -9, S), Q(0.5, 0)])
def test_softmax_at_any_scale(x, y):
    shape = (40, 49)
    assert figures(softmax(shape, x=x, y=y), fed(shape, x.dtype), "softmax").beyond == 0


def test_softmax_against_onnx_runtime():
    """Optimized, at scale 1/256, where it has a kernel of its own: 2e-5 of the elements."""
    shape = (2000, 49)
    model = softmax(shape)
    mine = agreed(model, fed(shape))
    count, most = steps(mine, theirs(model, fed(shape)))
    assert most <= 1 and count <= 8  # 2 expected
    assert steps(mine, theirs(model, fed(shape, seed=5)))[0] > 1000


def test_softmax_over_784_positions():
    """One channel: a map is a list of positions, and nothing moves."""
    builder = Builder()
    x = builder.dequantize("x", X, shape=(1, 1, 4, 28, 28))
    shape = builder.constant("shape", np.array([1, 4, 784], np.int64))
    builder.op("Softmax", [builder.op("Reshape", [x, shape], "flat")], axis=2)
    model, feeds = builder.model(SHARE), fed((1, 1, 4, 28, 28))
    assert figures(model, feeds, "softmax").differ == 0
    assert not any(isinstance(op, Rearrange) for op in imported(model).ops)


def test_softmax_of_single_elements_is_one():
    shape = (3, 4, 1)
    model = softmax(shape, y=Q(0.01, 5))
    assert (agreed(model, fed(shape)) == 105).all()
    assert [type(op) for op in imported(model).ops] == [UnaryTable]
    assert figures(model, fed(shape), "softmax").differ == 0


@pytest.mark.parametrize("factor", [("Mul", np.float32(0.2357)), ("Div", np.float32(8))])
def test_a_constant_factor_before_softmax(factor):
    shape = (30, 49)
    model = softmax(shape, x=Q(0.4, 131), factor=factor)
    assert figures(model, fed(shape), "softmax").beyond == 0
    plain = agreed(softmax(shape, x=Q(0.4, 131)), fed(shape))
    assert steps(plain, agreed(model, fed(shape)))[0] > 100


@pytest.mark.parametrize("axis", [1, 3])
@pytest.mark.parametrize("opset", [12, 13])
def test_qlinear_softmax(axis, opset):
    """com.microsoft's; `opset` says which Softmax it is."""
    inputs = ["x", "x_s", "x_z", "y_s", "y_z"]
    constants = {
        "x_s": np.float32(X.scale),
        "x_z": U(X.zero),
        "y_s": np.float32(SHARE.scale),
        "y_z": U(SHARE.zero),
    }
    shape = (2, 6, 3, 5)
    model = qoperator_model(
        "QLinearSoftmax", MICROSOFT, inputs, {"x": (shape, U)}, constants, axis=axis, opset=opset
    )
    mine = agreed(model, fed(shape))
    assert steps(mine, theirs(model, fed(shape)))[1] <= 1
    assert np.array_equal(mine, agreed(softmax(shape, opset, axis=axis), fed(shape)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y": Q(0.003, 0)}, "1/256 is the least"),
        ({"shape": (2, 2048)}, "2048 elements"),
        ({"factor": ("Mul", np.float32(-1))}, "comes in float from Mul"),
    ],
)
def test_softmaxes_that_are_refused(changes, words):
    ((_, op, reason),) = findings(softmax(**{"shape": (2, 8), **changes}))
    assert op == "Softmax" and words in reason


# LayerNormalization -----------------------------------------------------------------------


def coefficients(shape, seed=9):
    rng = np.random.default_rng(seed)
    return [rng.normal(mean, 0.3, shape).astype(np.float32) for mean in (1, 0)]


def layer_norm(shape, gamma, beta, x=X, y=OUT, **attributes):
    builder = Builder()
    operands = [builder.dequantize("x", x, shape=shape), builder.constant("g", gamma)]
    if beta is not None:
        operands.append(builder.constant("b", beta))
    builder.op("LayerNormalization", operands, **attributes)
    return builder.model(y)


NORMS = [
    ((1, 16, 36), -1),
    ((16, 512), 1),
    ((1, 11, 4, 1, 1), 1),
    ((1, 11, 4, 1, 1), -4),
    ((1, 6, 5, 7), 3),
    ((1, 6, 5, 7), 2),
    ((1, 1, 5, 7), 2),
    ((2, 3, 4), 0),
]


@pytest.mark.parametrize(("shape", "axis"), NORMS)
@pytest.mark.parametrize("x", [X, Q(0.0473, -9, S)], ids=["u8", "s8"])
def test_layer_norm(shape, axis, x):
    gamma, beta = coefficients(shape[axis:])
    model = layer_norm(shape, gamma, beta, x=x, axis=axis)
    feeds = fed(shape, x.dtype)
    found = figures(model, feeds, "norm")
    assert found.beyond == 0 and found.differ <= max(1, found.elements * 1e-3)
    other = agreed(layer_norm(shape, gamma[::-1].copy(), beta, x=x, axis=axis), feeds)
    assert steps(other, agreed(model, feeds))[0] > 1
    (op,) = [op for op in imported(model).ops if isinstance(op, Normalize)]
    assert 0 in op.axes or imported(model).type(op.inputs[0]).shape[0] == 1


def test_layer_norm_without_bias_and_with_its_own_epsilon():
    gamma, _ = coefficients((36,))
    shape = (20, 36)
    feeds = {"x": np.clip(fed(shape)["x"], 128, 133)}  # a small variance: ε counts
    wide = layer_norm(shape, gamma, None, epsilon=0.01)
    assert figures(wide, feeds, "norm").beyond == 0
    assert steps(agreed(wide, feeds), agreed(layer_norm(shape, gamma, None), feeds))[0] > 100


def test_quantized_coefficients():
    """As ONNX Runtime's quantizer leaves them: scale in int8, bias in int32."""
    rng = np.random.default_rng(7)
    builder = Builder()
    x = builder.dequantize("x", X, shape=(12, 36))
    g = builder.dequantize("g", Q(0.011, 0, S), codes(rng, (36,), S))
    b = builder.dequantize("b", Q(0.00052, 0, np.int32), rng.integers(-2000, 2000, 36))
    builder.op("LayerNormalization", [x, g, b])
    assert figures(builder.model(OUT), fed((12, 36)), "norm").beyond == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: layer_norm((2, 1025), *coefficients(1025)), "1025 elements"),
        (lambda: layer_norm((2, 8), *coefficients(8), epsilon=0.0), "one must be positive"),
        (lambda: layer_norm((2, 8), coefficients(8)[0], None, y=Q(1e-4, 3)), "less than 4096"),
        (lambda: layer_norm((2, 8), coefficients(8)[0] + np.inf, None), "not finite"),
    ],
)
def test_layer_norms_that_are_refused(make, words):
    ((_, op, reason),) = findings(make())
    assert op == "LayerNormalization" and words in reason


# Norms written out ------------------------------------------------------------------------


class Writer:
    """Writes a norm as float operators over the last axis, in one of the ways of exporters."""

    def __init__(self, shape, x=X):
        self.builder, self.shape = Builder(), shape
        self.x = self.builder.dequantize("x", x, shape=shape)
        self.count = 0

    def op(self, kind, *inputs, **attributes):
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        self.count += 1
        return self.builder.op(kind, names, f"t{self.count}", **attributes)

    def constant(self, value):
        self.count += 1
        return self.builder.constant(f"c{self.count}", np.asarray(value, np.float32))

    def mean(self, of, op="ReduceMean", axes=(-1,), **attributes):
        return (
            self.op(op, of, axes=list(axes), **attributes) if op == "ReduceMean" else self.sum(of)
        )

    def sum(self, of):
        axes = self.builder.constant(f"axes{self.count}", np.array([-1], np.int64))
        return self.op("ReduceSum", of, axes)

    def centred(self):
        return self.op("Sub", self.x, self.mean(self.x))

    def model(self, result, y=OUT, opset=17):
        return self.builder.model(y, result, opset)


SHAPE = (24, 36)
G, BETA = coefficients((36,))


def by_pow(w):
    """torch.nn.LayerNorm below opset 17."""
    c = w.centred()
    v = w.op("Add", w.mean(w.op("Pow", c, 2.0)), EPSILON)
    return w.op("Add", w.op("Mul", w.op("Div", c, w.op("Sqrt", v)), G), BETA)


def by_std(w):
    """The first Transformer code, and VTN: unbiased, ε behind the root."""
    c = w.centred()
    v = w.op("Mul", w.mean(w.op("Mul", c, c)), 36 / 35)
    quotient = w.op("Div", c, w.op("Add", w.op("Sqrt", v), 1e-3))
    return w.op("Add", w.op("Mul", G, quotient), BETA)


def by_torch_std(w):
    """x.std() as torch writes it: the mean twice, the sum over n − 1; γ before the quotient."""
    c, again = w.centred(), w.centred()
    v = w.op("Div", w.sum(w.op("Mul", again, again)), 35.0)
    deviation = w.op("Add", 1e-3, w.op("Sqrt", v))
    return w.op("Add", BETA, w.op("Div", w.op("Mul", G, c), deviation))


def by_rsqrt(w):
    """Reciprocal of the root, times γ, then the elements."""
    c = w.centred()
    v = w.op("Add", EPSILON, w.mean(w.op("Pow", c, 2.0)))
    inverse = w.op("Mul", w.op("Reciprocal", w.op("Sqrt", v)), 1.7)
    return w.op("Sub", w.op("Mul", inverse, c), BETA)


def by_power(w):
    """v^-0.5, and 1/ as a Div; a scalar γ divided away."""
    c = w.centred()
    v = w.op("Add", w.mean(w.op("Pow", c, 2.0)), EPSILON)
    return w.op("Div", w.op("Mul", c, w.op("Pow", v, -0.5)), 0.7)


def by_one_over(w):
    c = w.centred()
    root = w.op("Pow", w.op("Add", w.mean(w.op("Pow", c, 2.0)), EPSILON), 0.5)
    return w.op("Mul", w.op("Div", 1.0, w.op("Mul", root, 1.25)), c)


WAYS = [by_pow, by_std, by_torch_std, by_rsqrt, by_power, by_one_over]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("opset", [13, 17])
def test_norms_written_out(way, opset):
    writer = Writer(SHAPE)
    model = writer.model(way(writer), opset=opset)
    feeds = fed(SHAPE)
    assert [type(op) for op in imported(model).ops] == [Normalize]
    found = figures(model, feeds, "norm")
    assert found.beyond == 0 and found.differ <= 2


def test_axes_as_an_input():
    writer = Writer(SHAPE)
    axes = writer.builder.constant("axes", np.array([1], np.int64))
    c = writer.op("Sub", writer.x, writer.op("ReduceMean", writer.x, axes))
    v = writer.op("Add", writer.op("ReduceMean", writer.op("Mul", c, c), axes), EPSILON)
    model = writer.model(writer.op("Div", c, writer.op("Sqrt", v)), opset=18)
    assert [type(op) for op in imported(model).ops] == [Normalize]
    assert figures(model, fed(SHAPE), "norm").beyond == 0


def test_a_written_norm_is_the_operator():
    writer = Writer(SHAPE)
    named = layer_norm(SHAPE, G, BETA)
    assert np.array_equal(
        agreed(writer.model(by_pow(writer)), fed(SHAPE)), agreed(named, fed(SHAPE))
    )


def test_clamps_and_moves_behind_a_written_norm():
    writer = Writer(SHAPE)
    moved = writer.op("Transpose", writer.op("Relu", by_pow(writer)), perm=[1, 0])
    model = writer.model(moved)
    mine = agreed(model, fed(SHAPE))
    assert mine.shape == (36, 24) and mine.min() == OUT.zero
    assert figures(model, fed(SHAPE), "norm").beyond == 0


def test_a_norm_whose_gain_follows_a_quantization():
    """A pair before γ: a norm without γ, then a product with a constant."""
    writer = Writer(SHAPE)
    c = writer.centred()
    v = writer.op("Add", writer.mean(writer.op("Pow", c, 2.0)), EPSILON)
    scale = writer.builder._scale("n", OUT)
    writer.builder.op("QuantizeLinear", [writer.op("Div", c, writer.op("Sqrt", v)), *scale], "n_q")
    writer.builder.op("DequantizeLinear", ["n_q", *scale], "n_f")
    gain = writer.builder.dequantize(
        "gain", Q(0.01, 0, S), codes(np.random.default_rng(1), (36,), S)
    )
    model = writer.model(writer.op("Mul", "n_f", gain))
    agreed(model, fed(SHAPE))
    found = written(model, fed(SHAPE))
    assert found["norm"].beyond == 0 and found["Mul"].beyond == 0


def paired(writer, name):
    """A pair around an inner tensor."""
    scale = writer.builder._scale(f"{name}_p", Q(0.05, 128))
    writer.builder.op("QuantizeLinear", [name, *scale], f"{name}_q")
    return writer.builder.op("DequantizeLinear", [f"{name}_q", *scale], f"{name}_d")


def test_pairs_inside_are_refused_by_node():
    """8-bit deviations would be divided by: no operator here does."""
    writer = Writer(SHAPE)
    c = paired(writer, writer.centred())
    v = writer.op("Add", paired(writer, writer.mean(writer.op("Mul", c, c))), EPSILON)
    model = writer.model(writer.op("Div", c, paired(writer, writer.op("Sqrt", v))))
    reasons = {op: reason for _, op, reason in findings(model)}
    assert "divides one activation by another" in reasons["Div"]


def test_an_inner_value_that_is_quantized_is_refused():
    writer = Writer(SHAPE)
    c = writer.centred()
    v = writer.mean(writer.op("Mul", c, c))
    ((_, op, reason),) = findings(writer.model(v))
    assert op == "QuantizeLinear" and "of a norm in float" in reason


def of_other_axes(w):
    c = w.centred()
    v = w.op("Add", w.mean(w.op("Mul", c, c), axes=(0,)), EPSILON)
    return w.op("Div", c, w.op("Sqrt", v))


def by_other_power(w):
    c = w.centred()
    v = w.op("Add", w.mean(w.op("Pow", c, 4.0)), EPSILON)
    return w.op("Div", c, w.op("Sqrt", v))


def by_a_gain_per_group(w):
    c = w.centred()
    v = w.op("Add", w.mean(w.op("Mul", c, c)), EPSILON)
    gain = np.linspace(1, 2, 24).reshape(24, 1)
    return w.op("Mul", w.op("Div", c, w.op("Sqrt", v)), gain)


def by_the_root_of_a_root(w):
    c = w.centred()
    v = w.op("Add", w.mean(w.op("Mul", c, c)), EPSILON)
    return w.op("Div", c, w.op("Sqrt", w.op("Sqrt", v)))


def of_another_tensor(w):
    c = w.centred()
    v = w.op("Add", w.mean(w.op("Mul", c, c)), EPSILON)
    other = w.builder.dequantize("z", X, shape=SHAPE)
    return w.op("Div", other, w.op("Sqrt", v))


def upside_down(w):
    c = w.centred()
    v = w.op("Add", w.mean(w.op("Mul", c, c)), EPSILON)
    return w.op("Sub", 1.0, w.op("Div", c, w.op("Sqrt", v)))


NOT_NORMS = [of_other_axes, by_other_power, by_a_gain_per_group, by_the_root_of_a_root]


@pytest.mark.parametrize(
    "way", [*NOT_NORMS, of_another_tensor, upside_down], ids=lambda way: way.__name__
)
def test_what_only_looks_like_a_norm_is_refused(way):
    writer = Writer(SHAPE)
    assert findings(writer.model(way(writer)))
