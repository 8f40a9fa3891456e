"""A float factor and offset per channel: every code of every channel, against ONNX Runtime."""

import numpy as np
import pytest

from compiler.frontend import channelwise
from compiler.ir import Convolution
from tests.compiler.frontend.agreement import agreed, written
from tests.compiler.frontend.single import findings, imported, outputs
from tests.models.net import Net, by_onnx_runtime
from tests.models.qdq import Q

FACTORS = np.array([0.25, -0.7, 0.0, 1.0, 2.3, -1e-4, 1e-45, 0.013, -2.0, 0.5], np.float32)
OFFSETS = np.array([0.0, 1.3, -2.0, 1e-5, -0.7, 3.1, 0.4, -1e-3, 2.0, -4.0], np.float32)
C = FACTORS.size
SHAPE = (1, C, 16, 16)
SCALES = {
    "u8 to u8": (Q(0.0371, 131), Q(0.0533, 97)),
    "u8 to s8": (Q(0.0371, 3), Q(0.0419, -40, np.int8)),
    "s8 to s8, short decimals": (Q(0.05, 0, np.int8), Q(0.1, 0, np.int8)),
}


def per_channel(values: np.ndarray, rank: int = 4) -> np.ndarray:
    return values.reshape(-1, *(1,) * (rank - 2))


def normalization(net: Net, x: str) -> str:
    variance = np.linspace(0.3, 4, C).astype(np.float32)
    given = (FACTORS * np.sqrt(variance + 1e-3), OFFSETS, 0.3 * OFFSETS[::-1], variance)
    inputs = [x, *(net.floats(v) for v in given)]
    return net.op("BatchNormalization", inputs, epsilon=1e-3, momentum=0.8)


def operator(op: str, values: np.ndarray, constant_first: bool = False):
    def apply(net: Net, x: str) -> str:
        operands = [x, net.floats(per_channel(values))]
        return net.op(op, operands[::-1] if constant_first else operands)

    return apply


FORMS = {
    "Mul": operator("Mul", FACTORS),
    "constant times": operator("Mul", FACTORS, constant_first=True),
    "Div": operator("Div", np.where(np.abs(FACTORS) < 0.1, 3, FACTORS)),
    "Add": operator("Add", OFFSETS),
    "Sub": operator("Sub", OFFSETS),
    "constant less": operator("Sub", OFFSETS, constant_first=True),
    "BatchNormalization": normalization,
}


def network(form, source: Q, result: Q, clip: bool = False, shape=SHAPE) -> Net:
    net = Net()
    y = form(net, net.through(net.input(shape), source))
    net.end(net.op("Relu", [y]) if clip else y, result)
    return net


def every_code(source: Q, shape=SHAPE) -> dict[str, np.ndarray]:
    low = -128 if source.dtype == np.int8 else 0
    codes = np.resize(np.arange(low, low + 256), shape)
    return {"x": ((codes - source.zero) * np.float32(source.scale)).astype(np.float32)}


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_code_of_every_channel(form, scales, clip):
    source, result = SCALES[scales]
    model, feeds = network(FORMS[form], source, result, clip).model(), every_code(source)
    (op,) = imported(model).ops
    assert isinstance(op, Convolution) and op.groups == C
    ours = agreed(model, feeds)
    figures = written(model, feeds)
    assert figures["channelwise"].elements == ours.size
    for (theirs,) in by_onnx_runtime(model, feeds).values():
        apart = np.abs(theirs - ours) / np.float32(result.scale)
        assert apart.max() < 1.01
        most = 0.15 if "short" in scales else 0.01  # half of such sums are ties
        assert np.count_nonzero(apart) <= most * apart.size
    assert len(np.unique(ours)) > 50


def test_other_ranks_and_axes():
    """One dimension, volumes, features of tokens, channels last in the file."""
    source, result = SCALES["u8 to u8"]
    for shape, values in (
        ((1, C, 64), per_channel(FACTORS, 3)),
        ((1, C, 4, 8, 8), per_channel(FACTORS, 5)),
        ((1, C, 4, 8, 8), per_channel(FACTORS, 5)[None]),
        ((1, 40, C), FACTORS),
        ((1, C), FACTORS),
    ):
        net = Net()
        x = net.through(net.input(shape), source)
        net.end(net.op("Mul", [x, net.floats(values)]), result)
        agreed(net.model(), every_code(source, shape))
        written(net.model(), every_code(source, shape))


def test_twin_offsets_of_other_channels_are_seen(monkeypatch):
    model = network(FORMS["Add"], *SCALES["u8 to u8"]).model()
    right = outputs(imported(model), every_code(SCALES["u8 to u8"][0]))[0]
    line = channelwise._line
    monkeypatch.setattr(
        channelwise,
        "_line",
        lambda *a, **k: channelwise.Lines(line(*a, **k).factor, np.roll(line(*a, **k).offset, 1)),
    )
    wrong = outputs(imported(model), every_code(SCALES["u8 to u8"][0]))[0]
    assert not np.array_equal(right, wrong)
    with pytest.raises(AssertionError):
        agreed(model, every_code(SCALES["u8 to u8"][0]))


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (operator("Div", FACTORS, constant_first=True), "divides a constant"),
        (operator("Div", FACTORS), "divides a constant, or by 0"),
        (operator("Add", np.where(OFFSETS > 0, np.inf, OFFSETS)), "finite float32 is read"),
        (
            lambda net, x: net.op("Mul", [x, net.floats(net.rng.normal(size=SHAPE[1:]))]),
            "one value, or one for each channel",
        ),
        (
            lambda net, x: net.op("Add", [x, net.floats(1e3 * np.arange(C).reshape(C, 1, 1))]),
            "",
        ),
    ],
)
def test_what_is_refused(form, reason):
    model = network(form, *SCALES["u8 to u8"]).model()
    found = findings(model)
    if reason:
        (one,) = found
        assert reason in one[2]
    else:
        agreed(model, every_code(SCALES["u8 to u8"][0]))


def test_an_offset_that_the_unit_cannot_meet_is_refused():
    net = Net()
    x = net.through(net.input(SHAPE), Q(8.0, 128))
    net.end(net.op("Add", [x, net.floats(per_channel(OFFSETS))]), Q(0.01, 128))
    (found,) = findings(net.model())
    assert "does not fit beside its factor" in found[2]
