"""The oracle against ONNX Runtime (ENABLE_ALL), one operator at a time, on the same inputs."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from models import integer, means
from models.quantgraph import UnsupportedGraph
from models.reference import Reference
from tests.marks import large
from tests.models.qdq import Builder, Q, both, conv_model, difference, random_codes

# name: input shape, weight shape, attributes
CONVS = {
    "3d dense": ((1, 5, 4, 9, 7), (6, 5, 3, 3, 3), {"pads": [1] * 6}),
    "3d temporal": ((1, 8, 6, 5, 5), (7, 8, 3, 1, 1), {"pads": [1, 0, 0, 1, 0, 0]}),
    "3d depthwise": ((1, 9, 3, 8, 8), (9, 1, 1, 3, 3), {"pads": [0, 1, 1] * 2, "group": 9}),
    "3d depthwise stride 2": (
        (1, 8, 4, 9, 9),
        (8, 1, 3, 3, 3),
        {"pads": [1] * 6, "group": 8, "strides": [2, 2, 2]},
    ),
    "3d pointwise": ((1, 33, 2, 4, 4), (17, 33, 1, 1, 1), {}),
    "3d stem": ((1, 3, 4, 15, 15), (16, 3, 3, 7, 7), {"pads": [1, 3, 3] * 2, "strides": [1, 2, 2]}),
    "2d dense": ((1, 20, 11, 13), (24, 20, 3, 3), {"pads": [1] * 4}),
    "2d stride 2": ((1, 16, 14, 14), (32, 16, 3, 3), {"pads": [1] * 4, "strides": [2, 2]}),
    "2d depthwise": ((1, 32, 10, 10), (32, 1, 3, 3), {"pads": [1] * 4, "group": 32}),
    "2d grouped": ((1, 32, 7, 7), (64, 8, 3, 3), {"pads": [1] * 4, "group": 4}),
    "2d uneven padding": ((1, 4, 8, 8), (4, 4, 3, 3), {"pads": [0, 1, 1, 0]}),
    "1d dilated": ((1, 24, 12), (16, 24, 3), {"pads": [3, 3], "dilations": [3]}),
}


def _conv(case: str, seed: int, scale_y: float | None = None, relu: bool = False):
    """Model and feed of a convolution whose outputs fill about the whole range."""
    rng = np.random.default_rng(seed)
    x_shape, w_shape, attributes = CONVS[case]
    weights = rng.integers(-127, 128, w_shape)
    scales = rng.uniform(0.5, 2, w_shape[0]) * 0.003
    terms = np.prod(w_shape[1:])
    if scale_y is None:
        scale_y = float(np.sqrt(terms) * 75 * 73 * 0.02 * scales.mean() / 45)
    bias = rng.integers(-3000, 3000, w_shape[0])
    model = conv_model(
        x_shape,
        weights,
        Q(0.02, int(rng.integers(90, 160))),
        Q(scales.tolist(), 0, np.int8),
        Q(scale_y, 0 if relu else int(rng.integers(90, 160))),
        bias,
        relu,
        **attributes,
    )
    return model, {"x": random_codes(rng, x_shape)}


@pytest.mark.parametrize("seed", [0, *map(large, (1, 2))])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("case", CONVS)
def test_convolution_equals_onnx_runtime(case, relu, seed):
    ours, theirs = both(*_conv(case, seed, relu=relu))
    assert len(np.unique(ours)) > 30, "the case leaves the range unused"
    assert difference(ours, theirs) == (0, 0)


@pytest.mark.parametrize("case", ["3d dense", "2d grouped", "3d depthwise"])
def test_twin_one_flipped_weight_is_seen(case, monkeypatch):
    model, feeds = _conv(case, 0)
    real = integer.conv

    def corrupt(x, weight, *rest):
        weight = weight.clone()
        weight.view(-1)[0] += 1
        return real(x, weight, *rest)

    monkeypatch.setattr(integer, "conv", corrupt)
    assert difference(*both(model, feeds))[0] > 0


def test_saturation_at_both_ends_equals_onnx_runtime():
    ours, theirs = both(*_conv("2d dense", 5, scale_y=0.01))
    assert (ours == 0).mean() > 0.2 and (ours == 255).mean() > 0.2
    assert difference(ours, theirs) == (0, 0)


def _ties(seed: int):
    """A 1×1 convolution with power-of-two scales: s = 2^-3, one result in eight is a tie."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-3, 4, (8, 4, 1, 1))
    model = conv_model((1, 4, 16, 16), weights, Q(0.5, 128), Q([0.25] * 8, 0, np.int8), Q(1.0, 100))
    return model, {"x": random_codes(rng, (1, 4, 16, 16))}


def test_ties_round_to_even():
    assert difference(*both(*_ties(0))) == (0, 0)


def test_twin_half_away_from_zero_is_seen(monkeypatch):
    def away(acc, scale, zero_point, low, high):
        real = acc.to(torch.float32) * scale
        rounded = torch.sign(real) * torch.floor(real.abs() + 0.5)
        return (rounded.clamp(low - zero_point, high - zero_point) + zero_point).to(torch.int16)

    monkeypatch.setattr(integer, "requantize", away)
    assert difference(*both(*_ties(0)))[0] > 0


def _large(seed: int):
    """Accumulators up to 1.2e8, beyond the 24 bits of a float32."""
    rng = np.random.default_rng(seed)
    channels, outputs, rows = 4096, 256, 64
    weights = rng.integers(100, 128, (outputs, channels))
    builder = Builder()
    scale = 2.0**-19
    x = builder.dequantize("x", Q(1.0, 0), shape=(rows, channels))
    w = builder.dequantize("w", Q([scale] * outputs, 0, np.int8), weights)
    b = builder.dequantize(
        "b", Q([scale] * outputs, 0, np.int32), rng.integers(-(2**22), 2**22, outputs)
    )
    builder.op("Gemm", [x, w, b], transB=1)
    brightness = np.linspace(4, 255, rows)[:, None]
    feeds = {"x": (rng.uniform(0.9, 1, (rows, channels)) * brightness).astype(np.uint8)}
    return builder.model(Q(1.0, 3)), feeds


def test_large_accumulators_equal_onnx_runtime():
    model, feeds = _large(0)
    ours, theirs = both(model, feeds)
    assert len(np.unique(ours)) > 200
    assert difference(ours, theirs) == (0, 0)


def test_requantize_rounds_the_accumulator_and_the_product():
    # 2^24 + 1 has 25 bits: to float32 it is 2^24, an exact tie at s = 2^-25 · odd.
    acc = torch.tensor([(1 << 24) + 1, (1 << 24) + 3, -(1 << 24) - 1])
    scale = torch.tensor([2.0**-25])
    assert integer.requantize(acc, scale, 0, -128, 127).tolist() == [0, 1, 0]
    exact = torch.round(acc.to(torch.float64) * scale.to(torch.float64)).tolist()
    assert exact == [1, 1, -1], "the exact product would round the other way"


@pytest.mark.parametrize("per_channel", [False, True])
def test_gemm_equals_onnx_runtime(per_channel):
    rng = np.random.default_rng(1)
    builder = Builder()
    scales = rng.uniform(0.002, 0.006, 10).tolist() if per_channel else 0.004
    x = builder.dequantize("x", Q(0.03, 77), shape=(4, 64))
    w = builder.dequantize("w", Q(scales, 0, np.int8), rng.integers(-127, 128, (10, 64)))
    bias_scale = (np.float32(0.03) * np.asarray(scales, np.float32)).tolist()
    b = builder.dequantize("b", Q(bias_scale, 0, np.int32), rng.integers(-900, 900, 10))
    builder.op("Gemm", [x, w, b], transB=1)
    ours, theirs = both(builder.model(Q(0.4, 120)), {"x": random_codes(rng, (4, 64))})
    assert difference(ours, theirs) == (0, 0)
    ours.flat[0] ^= 1
    assert difference(ours, theirs) == (1, 1)


@pytest.mark.parametrize("constant", [False, True])
def test_matmul_equals_onnx_runtime(constant):
    rng = np.random.default_rng(2)
    builder = Builder()
    a = builder.dequantize("a", Q(0.02, 131), shape=(2, 8, 16, 64))
    b_codes = random_codes(rng, (2, 8, 64, 16))
    b = builder.dequantize("b", Q(0.01, 120), b_codes if constant else None, shape=(2, 8, 64, 16))
    builder.op("MatMul", [a, b])
    feeds = {"a": random_codes(rng, (2, 8, 16, 64))}
    if not constant:
        feeds["b"] = b_codes
    ours, theirs = both(builder.model(Q(0.2, 128)), feeds)
    assert len(np.unique(ours)) > 100
    assert difference(ours, theirs) == (0, 0)


def _pair_model(kind: str, qa: Q, qb: Q, qy: Q):
    builder = Builder()
    a = builder.dequantize("a", qa, shape=(256, 256))
    b = builder.dequantize("b", qb, shape=(256, 256))
    builder.op(kind, [a, b])
    return builder.model(qy)


def _all_pairs(dtype=np.uint8) -> dict[str, np.ndarray]:
    info = np.iinfo(dtype)
    a, b = np.meshgrid(*[np.arange(info.min, info.max + 1)] * 2, indexing="ij")
    return {"a": a.astype(dtype), "b": b.astype(dtype)}


def _random_q(rng, dtype=np.uint8) -> Q:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return Q(float(np.float32(np.exp(rng.uniform(-6, 0)))), int(rng.integers(low, high)), dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("kind", ["Add", "Mul"])
def test_add_and_mul_equal_onnx_runtime_on_all_pairs(kind, dtype):
    rng = np.random.default_rng(3)
    for _ in range(10):
        qa, qb, qy = (_random_q(rng, dtype) for _ in range(3))
        if kind == "Mul":
            qy = Q(qa.scale * qb.scale * 90, qy.zero, dtype)
        ours, theirs = both(_pair_model(kind, qa, qb, qy), _all_pairs(dtype))
        assert difference(ours, theirs) == (0, 0)


@pytest.mark.parametrize("kind", ["Add", "Mul"])
def test_add_and_mul_equal_onnx_runtime_on_ties(kind):
    qa, qb, qy = Q(0.25, 3), Q(0.5, 250), Q(1.0 if kind == "Add" else 8.0, 101)
    ours, theirs = both(_pair_model(kind, qa, qb, qy), _all_pairs())
    assert difference(ours, theirs) == (0, 0)


def test_twin_wrong_zero_point_is_seen():
    rng = np.random.default_rng(4)
    qa, qb, qy = (_random_q(rng) for _ in range(3))
    ours, _ = both(_pair_model("Add", qa, qb, qy), _all_pairs())
    off = Q(qa.scale, (qa.zero + 1) % 256)
    _, theirs = both(_pair_model("Add", off, qb, qy), _all_pairs())
    assert difference(ours, theirs)[0] > 0


def test_sub_differs_by_one_step_and_seldom():
    # Float in ONNX Runtime: a few of 10^6 differ (docs/numerics.md).
    rng = np.random.default_rng(5)
    elements = differing = 0
    for _ in range(40):
        qa, qb, qy = (_random_q(rng) for _ in range(3))
        ours, theirs = both(_pair_model("Sub", qa, qb, qy), _all_pairs())
        count, greatest = difference(ours, theirs)
        assert greatest <= 1
        elements, differing = elements + ours.size, differing + count
    print(f"Sub: {differing} of {elements} differ, {differing / elements:.1e}")
    assert differing / elements < 2e-5


@pytest.mark.parametrize(("kind", "bound"), [("random", 1e-4), ("same scale", 0.05)])
def test_reduce_mean_differs_by_one_step_and_seldom(kind, bound):
    rng = np.random.default_rng(6)
    elements = differing = 0
    for n in (2, 3, 4, 8, 15, 16):
        q = _random_q(rng)
        builder = Builder()
        x = builder.dequantize("x", q, shape=(1, 8, n, 20, 20))
        builder.op("ReduceMean", [x], axes=[2], keepdims=1)
        target = q if kind == "same scale" else Q(q.scale * 0.713, q.zero)
        feeds = {"x": random_codes(rng, (1, 8, n, 20, 20))}
        ours, theirs = both(builder.model(target), feeds)
        count, greatest = difference(ours, theirs)
        assert greatest <= 1
        elements, differing = elements + ours.size, differing + count
    print(f"ReduceMean, {kind}: {differing} of {elements} differ, {differing / elements:.1e}")
    assert differing / elements <= bound


def test_reduce_mean_twin_without_the_count_is_seen(monkeypatch):
    monkeypatch.setattr(means, "average", lambda total, count, x, target: total)
    with pytest.raises(AssertionError):
        test_reduce_mean_differs_by_one_step_and_seldom("random", 1e-4)


def test_global_average_pool_equals_onnx_runtime():
    rng = np.random.default_rng(7)
    for shape in ((1, 64, 7, 7), (1, 40, 2, 4, 4), (1, 16, 112, 112)):
        builder = Builder()
        builder.op("GlobalAveragePool", [builder.dequantize("x", Q(0.02, 30), shape=shape)])
        ours, theirs = both(builder.model(Q(0.0031, 128)), {"x": random_codes(rng, shape)})
        assert difference(ours, theirs) == (0, 0)


@pytest.mark.parametrize("include", [0, 1])
def test_average_pool_differs_by_one_step_and_seldom(include):
    rng = np.random.default_rng(8)
    builder = Builder()
    x = builder.dequantize("x", Q(0.02, 30), shape=(1, 16, 15, 15))
    builder.op(
        "AveragePool",
        [x],
        kernel_shape=[3, 3],
        pads=[1] * 4,
        strides=[2, 2],
        count_include_pad=include,
    )
    ours, theirs = both(builder.model(Q(0.017, 40)), {"x": random_codes(rng, (1, 16, 15, 15))})
    count, greatest = difference(ours, theirs)
    assert greatest <= 1 and count / ours.size < 0.01


def average_pool_at_ties(zero):
    """Means of four at equal scales: a quarter are ties, which an odd zero point turns."""
    builder = Builder()
    x = builder.dequantize("x", Q(0.05, zero), shape=(1, 16, 32, 32))
    builder.op("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
    feeds = {"x": random_codes(np.random.default_rng(zero), (1, 16, 32, 32))}
    count, greatest = difference(*both(builder.model(Q(0.05, zero)), feeds))
    assert greatest <= 1
    return count / 4096


@pytest.mark.parametrize(("zero", "most"), [(131, 0.005), (128, 0.005), (255, 0.03)])
def test_average_pool_at_ties_is_onnx_runtime_s(zero, most):
    assert average_pool_at_ties(zero) <= most


def test_twin_a_zero_point_behind_the_rounding_is_seen(monkeypatch):
    """The rule of means; `target.zero` is then added to what was rounded."""
    monkeypatch.setattr(
        means, "pooled", lambda total, scale, to: (total * scale).round_() + to.zero
    )
    assert average_pool_at_ties(131) > 0.2


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((1, 5, 2, 7, 7), {"kernel_shape": [2] * 3, "strides": [2] * 3, "pads": [0, 1, 1] * 2}),
        ((1, 5, 4, 8, 8), {"kernel_shape": [1, 2, 2], "strides": [1, 2, 2]}),
        ((1, 5, 4, 8, 8), {"kernel_shape": [3] * 3, "strides": [2] * 3, "pads": [1] * 6}),
        ((1, 6, 15, 15), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ],
)
def test_max_pool_equals_onnx_runtime(shape, attributes, dtype):
    rng = np.random.default_rng(9)
    builder = Builder()
    q = Q(0.02, 30, dtype)
    builder.op("MaxPool", [builder.dequantize("x", q, shape=shape)], **attributes)
    # Codes below the zero point: padding with the zero point would win and be seen.
    low = np.iinfo(dtype).min
    feeds = {"x": rng.integers(low, low + 20, shape).astype(dtype)}
    ours, theirs = both(builder.model(q), feeds)
    assert difference(ours, theirs) == (0, 0)


MOVES = {
    "Slice": [[0, 1], [2, 9], [1, 2], [1, 2]],
    "Transpose": [],
    "Reshape": [[3, -1]],
    "Unsqueeze": [[1, 3]],
    "Gather": [[2, 0]],
    "Expand": [[4, 3, 5, 7]],
}


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("kind", MOVES)
def test_moves_equal_onnx_runtime(kind, rescale):
    rng = np.random.default_rng(10)
    builder = Builder()
    x = builder.dequantize("x", Q(0.02, 30), shape=(1, 3, 5, 7))
    extra = [
        builder.constant(f"c{i}", np.array(value, np.int64)) for i, value in enumerate(MOVES[kind])
    ]
    attributes = {"Transpose": {"perm": [0, 2, 3, 1]}, "Gather": {"axis": 1}}.get(kind, {})
    builder.op(kind, [x, *extra], **attributes)
    target = Q(0.031, 55) if rescale else Q(0.02, 30)
    ours, theirs = both(builder.model(target), {"x": random_codes(rng, (1, 3, 5, 7))})
    assert ours.shape == theirs.shape
    assert difference(ours, theirs) == (0, 0)
    ours.flat[-1] ^= 1
    assert difference(ours, theirs)[0] == 1


def test_concat_with_differing_scales_equals_onnx_runtime():
    rng = np.random.default_rng(11)
    builder = Builder()
    parts = [
        builder.dequantize(f"x{i}", q, shape=(1, 4, i + 1, 3))
        for i, q in enumerate([Q(0.02, 30), Q(0.05, 128), Q(0.011, 0)])
    ]
    builder.op("Concat", parts, axis=2)
    feeds = {f"x{i}": random_codes(rng, (1, 4, i + 1, 3)) for i in range(3)}
    ours, theirs = both(builder.model(Q(0.05, 128)), feeds)
    assert difference(ours, theirs) == (0, 0)


UNARIES = {
    "Relu": {},
    "Sigmoid": {},
    "Tanh": {},
    "Abs": {},
    "LeakyRelu": {"alpha": 0.1},
    "HardSwish": {},
}


@pytest.mark.parametrize("kind", UNARIES)
def test_unary_tables_equal_onnx_runtime(kind):
    builder = Builder()
    x = builder.dequantize("x", Q(0.04, 120), shape=(256,))
    builder.op(kind, [x], **UNARIES[kind])
    target = Q(1 / 256, 0) if kind == "Sigmoid" else Q(0.0391, 100)
    codes = np.arange(256, dtype=np.uint8)
    ours, theirs = both(builder.model(target), {"x": codes})
    assert difference(ours, theirs) == (0, 0)


def test_clip_after_a_convolution_clamps_codes():
    builder = Builder()
    rng = np.random.default_rng(12)
    x = builder.dequantize("x", Q(0.02, 128), shape=(1, 8, 9, 9))
    w = builder.dequantize("w", Q([0.01] * 8, 0, np.int8), rng.integers(-127, 128, (8, 8, 3, 3)))
    builder.op("Conv", [x, w], "conv_f", pads=[1] * 4)
    low = builder.constant("low", np.float32(0))
    high = builder.constant("high", np.float32(6))
    builder.op("Clip", ["conv_f", low, high])
    feeds = {"x": random_codes(rng, (1, 8, 9, 9))}
    ours, theirs = both(builder.model(Q(0.05, 10)), feeds)
    assert ours.min() == 10 and ours.max() == 130, "Clip(0, 6) at scale 0.05, zero point 10"
    count, greatest = difference(ours, theirs)  # ONNX Runtime computes this one in float
    assert greatest <= 1 and count / ours.size < 1e-2


def _refused(builder: Builder, **model) -> UnsupportedGraph:
    with pytest.raises(UnsupportedGraph) as caught:
        Reference(builder.model(Q(0.1, 0), **model))
    return caught.value


def test_unsupported_operator_is_named():
    builder = Builder()
    x = builder.dequantize("x", Q(0.02, 30), shape=(4, 4))
    builder.op("CumSum", [x, builder.constant("axis", np.array(0))])
    error = _refused(builder)
    assert (error.node, error.op) == ("cumsum", "CumSum")
    assert "no integer definition" in error.reason


def test_float_island_is_named():
    builder = Builder()
    x = builder.dequantize("x", Q(0.02, 30), shape=(4, 4))
    builder.op("MatMul", [x, x], "inner_f")
    builder.op("Add", ["inner_f", x])
    error = _refused(builder)
    assert error.op == "Add" and "comes in float from MatMul" in error.reason


def test_float_graph_input_is_named():
    builder = Builder()
    builder.inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4]))
    builder.op("MatMul", ["x", builder.dequantize("w", Q(0.1), np.ones((4, 4)))])
    z = builder.dequantize("z", Q(0.1), shape=(4, 4))
    builder.op("Add", ["y_f", z], "sum_f")
    with pytest.raises(UnsupportedGraph, match=r"node add \(Add\): input y_f is a float"):
        Reference(builder.model(Q(0.1, 0), "sum_f"))
