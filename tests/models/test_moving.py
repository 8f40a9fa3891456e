"""Moves, views, pools and maxima, before, between and behind operators."""

import numpy as np
import pytest

from models.quantgraph import QuantizedGraph, UnsupportedGraph
from models.reference import ModelsError, Reference
from tests.models.net import S8, U8, Net, agree, by_onnx_runtime
from tests.models.qdq import Q

SHAPE = (1, 6, 4, 5)
WIDE = Q(0.11, 7, np.int8)


def _gather(net, x, index, axis):
    return net.op("Gather", [x, net.constant(np.asarray(index, np.int64))], axis=axis)


MOVES = {
    "Identity": lambda n, x: n.op("Identity", [x]),
    "Dropout": lambda n, x: n.op("Dropout", [x]),
    "Flatten": lambda n, x: n.op("Flatten", [x]),
    "Flatten, axis -2": lambda n, x: n.op("Flatten", [x], axis=-2),
    "Flatten, axis 0": lambda n, x: n.op("Flatten", [x], axis=0),
    "Reshape, 0 and -1": lambda n, x: n.op("Reshape", [x, n.ints([0, 3, -1])]),
    "Transpose": lambda n, x: n.op("Transpose", [x], perm=[0, 2, 3, 1]),
    "Transpose, reversed": lambda n, x: n.op("Transpose", [x]),
    "Slice, negative": lambda n, x: n.op("Slice", [x, n.ints([-3]), n.ints([-1]), n.ints([-2])]),
    "Slice, two axes": lambda n, x: n.op(
        "Slice", [x, n.ints([1, 1]), n.ints([5, 9]), n.ints([1, 3]), n.ints([2, 1])]
    ),
    "Slice, backwards": lambda n, x: n.op(
        "Slice", [x, n.ints([-1]), n.ints([-(2**63)]), n.ints([1]), n.ints([-1])]
    ),
    "Slice, backwards in part": lambda n, x: n.op(
        "Slice", [x, n.ints([4]), n.ints([1]), n.ints([1]), n.ints([-2])]
    ),
    "Split": lambda n, x: n.op("Split", [x, n.ints([2, 4])], 2, axis=1)[1],
    "Split, equal parts": lambda n, x: n.op("Split", [x], 3, axis=1)[2],
    "Gather, scalar": lambda n, x: _gather(n, x, 1, 2),
    "Gather, negative": lambda n, x: _gather(n, x, -1, -1),
    "Gather, one": lambda n, x: _gather(n, x, [3], 1),
    "Gather, nested": lambda n, x: _gather(n, x, [[1, -1], [0, 2]], 3),
    "Expand": lambda n, x: n.op("Expand", [x, n.ints([2, 6, 4, 5])]),
    "Expand, rank": lambda n, x: n.op("Expand", [x, n.ints([3, 1, 6, 1, 1])]),
    "Concat": lambda n, x: n.op("Concat", [x, n.op("Relu", [x]), x], axis=-1),
    "Pad": lambda n, x: n.op("Pad", [x, n.ints([0, 0, 1, 2, 0, 0, 0, 1])]),
    "Pad with a value": lambda n, x: n.op(
        "Pad", [x, n.ints([0, 0, 1, 2, 0, 0, 0, 1]), n.floats(1.234)]
    ),
    "Pad, reflect": lambda n, x: n.op("Pad", [x, n.ints([0, 0, 1, 2, 0, 0, 0, 1])], mode="reflect"),
    "Pad, edge": lambda n, x: n.op("Pad", [x, n.ints([0, 0, 1, 2, 0, 0, 0, 1])], mode="edge"),
    "Pad, crop": lambda n, x: n.op("Pad", [x, n.ints([0, 0, -1, 0, 0, 0, 1, -2])]),
    "GlobalMaxPool": lambda n, x: n.op("GlobalMaxPool", [x]),
    "MaxPool": lambda n, x: n.op("MaxPool", [x], kernel_shape=[2, 3], strides=[1, 2]),
    "MaxPool, dilated": lambda n, x: n.op("MaxPool", [x], kernel_shape=[2, 2], dilations=[2, 3]),
    "Squeeze, Unsqueeze": lambda n, x: n.op(
        "Squeeze", [n.op("Unsqueeze", [x, n.ints([-1, 2])]), n.ints([0, -1])]
    ),
    "Squeeze, all": lambda n, x: n.op("Squeeze", [n.op("Unsqueeze", [x, n.ints([2])])]),
}


@pytest.mark.parametrize("scale", ["same", "other"])
@pytest.mark.parametrize("move", MOVES)
def test_moves_with_their_own_quantizer(move, scale):
    net = Net()
    net.end(MOVES[move](net, net.start(SHAPE)), S8 if scale == "same" else WIDE)
    agree(net)


@pytest.mark.parametrize("move", [m for m in MOVES if m != "Pad with a value"])
def test_moves_before_a_table(move):
    net = Net()
    net.end(net.op("Sigmoid", [MOVES[move](net, net.start(SHAPE))]), Q(1 / 256))
    agree(net)


@pytest.mark.parametrize("move", [m for m in MOVES if m not in ("Concat", "Pad with a value")])
def test_moves_behind_a_convolution_and_relu(move):
    net = Net()
    y = net.op("Conv", [net.start((1, 3, 4, 5), U8), net.weight((6, 3, 1, 1))])
    net.end(MOVES[move](net, net.op("Relu", [y])), Q(0.4))
    agree(net, limit=1, share=0.02)


@pytest.mark.parametrize("move", [m for m in MOVES if m != "Concat"])
def test_moves_behind_a_function(move):
    net = Net()
    net.end(MOVES[move](net, net.op("Tanh", [net.start(SHAPE)])), Q(1 / 120, 0, np.int8))
    agree(net, spread=0.5)


FLOAT_ONLY = ("Concat", "Dropout", "GlobalMaxPool", "Pad with a value")  # in ONNX Runtime


@pytest.mark.parametrize("move", [m for m in MOVES if m not in FLOAT_ONLY])
def test_moves_of_integers_as_they_are(move):
    net = Net()
    net.output(net.dequantize(MOVES[move](net, net.quantize(net.input(SHAPE)))))
    agree(net)


@pytest.mark.parametrize("move", [m for m in MOVES if m != "Pad with a value"])
def test_moves_end_in_float_outputs(move):
    net = Net()
    x = net.start(SHAPE)
    moved = MOVES[move](net, x)
    net.output(moved)
    net.output(net.op("Identity", [moved]))
    agree(net)
    feeds = net.feeds()
    results = Reference(net.model()).run(feeds, keep=[moved], as_codes=True)
    floats = Reference(net.model()).run(feeds, keep=[moved])[moved]
    assert results[moved].dtype == np.int8 and floats.dtype == np.float32
    assert np.array_equal(results[moved] * np.float32(0.05), floats)


def test_opset_11_axes_are_attributes():
    net = Net(11)
    x = net.op("Squeeze", [net.op("Unsqueeze", [net.start(SHAPE)], axes=[2, 5])], axes=[0])
    net.end(net.op("ReduceMax", [x], axes=[-1, 0], keepdims=0))
    agree(net)


def test_split_by_number_of_outputs():
    net = Net(18)
    for part in net.op("Split", [net.start((1, 7, 3))], 3, axis=1, num_outputs=3):
        net.end(part)
    agree(net)


@pytest.mark.parametrize("kind", ["ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("axes", [[2], [-1, 1], [0], None])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_maxima_over_axes(kind, axes, keepdims):
    net = Net(18)
    listed = [] if axes is None else [net.ints(axes)]
    y = net.op(kind, [net.start(SHAPE), *listed], keepdims=keepdims)
    net.end(net.op("Unsqueeze", [y, net.ints([0])]) if axes is None else y, S8)
    agree(net)


def test_empty_axes_that_do_nothing():
    for kind in ("ReduceMax", "ReduceMean"):
        net = Net(18)
        y = net.op(kind, [net.start(SHAPE), net.ints([])], noop_with_empty_axes=1)
        net.end(y, WIDE)
        agree(net, limit=1, share=0.05)


POOLS = {
    "valid": {"auto_pad": "VALID", "pads": [1, 1, 1, 1]},
    "same upper": {"auto_pad": "SAME_UPPER"},
    "same lower": {"auto_pad": "SAME_LOWER"},
    "same, stride": {"auto_pad": "SAME_UPPER", "strides": [3, 2]},
    "same lower, stride": {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
    "same, dilated": {"auto_pad": "SAME_UPPER", "dilations": [2, 3]},
    "same, small kernel": {"auto_pad": "SAME_UPPER", "strides": [2, 2], "kernel_shape": [2, 2]},
    "ceil": {"ceil_mode": 1, "strides": [2, 2]},
    "ceil, pads": {"ceil_mode": 1, "strides": [3, 2], "pads": [1, 1, 1, 2]},
    "ceil, a window in the padding": {
        "ceil_mode": 1,
        "strides": [2, 2],
        "kernel_shape": [2, 2],
        "pads": [0, 0, 1, 1],
    },
    "ceil, long stride": {"ceil_mode": 1, "strides": [5, 4], "pads": [1, 2, 2, 1]},
    "uneven pads": {"pads": [0, 2, 1, 0]},
    "dilated": {"dilations": [2, 3], "pads": [2, 1, 1, 2]},
}


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool", "AveragePool, pads counted"])
@pytest.mark.parametrize("form", POOLS)
@pytest.mark.parametrize("size", [(9, 10), (8, 13)])
def test_windows_of_pools(kind, form, size):
    net = Net(19)
    attributes = {"kernel_shape": [3, 3]} | POOLS[form]
    if "counted" in kind:
        attributes["count_include_pad"] = 1
    op = kind.split(",")[0]
    net.end(net.op(op, [net.start((1, 3, *size))], **attributes), Q(0.0513, 3, np.int8))
    agree(net, limit=1 if op == "AveragePool" else 0, share=0.03)


CONVS = {
    "valid": {"auto_pad": "VALID"},
    "same upper": {"auto_pad": "SAME_UPPER"},
    "same lower": {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    "same, stride 2": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
}


@pytest.mark.parametrize("form", CONVS)
@pytest.mark.parametrize("kernel", [(3, 3), (2, 4), (1, 1)])
def test_windows_of_convolutions(form, kernel):
    net = Net()
    x = net.start((1, 4, 9, 11), U8)
    net.end(net.op("Conv", [x, net.weight((5, 4, *kernel))], **CONVS[form]), Q(0.7, 100))
    agree(net, limit=1, share=0.02)


@pytest.mark.parametrize(
    ("op", "attributes", "reason"),
    [
        ("Conv", {"dilations": [2, 2]}, "of a dilated convolution"),
        ("Conv", {"strides": [8, 8]}, "crops"),
        ("MaxPool", {"kernel_shape": [1, 1], "strides": [2, 2]}, "crops"),
        ("Conv", {"auto_pad": "MIDDLE"}, "auto_pad MIDDLE is unknown"),
        ("MaxPool", {"auto_pad": "NOTSET", "kernel_shape": [2, 2], "pads": [-1, 0, 0, 0]}, "pads"),
        ("MaxPool", {"auto_pad": "VALID", "kernel_shape": [9, 2]}, "does not fit a map"),
    ],
)
def test_windows_that_nobody_agrees_on_are_refused(op, attributes, reason):
    net = Net()
    given = [net.start((1, 4, 8, 8))] + ([net.weight((4, 4, 3, 3))] if op == "Conv" else [])
    net.end(net.op(op, given, **({"auto_pad": "SAME_UPPER"} | attributes)))
    with pytest.raises(UnsupportedGraph, match=reason):
        QuantizedGraph(net.model())


def test_a_maximum_that_also_says_where_is_refused():
    net = Net()
    _, index = net.op("MaxPool", [net.start(SHAPE)], 2, kernel_shape=[2, 2])
    net.outputs.append(net.inputs[0].__class__(name=index))
    with pytest.raises(UnsupportedGraph, match="indices of a maximum"):
        QuantizedGraph(net.model())


def test_two_readers_of_one_float_have_a_quantization_each():
    net = Net()
    y = net.op("Relu", [net.op("Conv", [net.start(SHAPE), net.weight((4, 6, 3, 3))])])
    pooled = net.op("MaxPool", [y], kernel_shape=[2, 2])
    net.end(y, Q(0.3, 0, np.int8))
    net.end(y, Q(0.7, 20))
    net.end(pooled, Q(0.41, 3))
    agree(net, limit=1, share=0.02)


def test_a_pool_without_its_own_quantizer_and_two_readers():
    net = Net()
    pooled = net.op("MaxPool", [net.start(SHAPE)], kernel_shape=[2, 2])
    net.end(net.op("Conv", [pooled, net.weight((4, 6, 1, 1))]), WIDE)
    net.output(net.op("Clip", [pooled, net.floats(-1.03), net.floats(2.0)]))
    net.end(net.op("Conv", [pooled, net.weight((4, 6, 2, 2))]), WIDE)
    agree(net, limit=1, share=0.02)


def test_what_may_be_kept():
    net = Net()
    codes = net.quantize(net.input(SHAPE))
    x = net.dequantize(codes)
    half = net.op("Slice", [x, net.ints([0]), net.ints([3]), net.ints([1])])
    weight = net.weight((4, 3, 1, 1))
    y = net.op("Conv", [half, weight])
    net.end(y, WIDE)
    reference, feeds = Reference(net.model()), net.feeds()
    kept = reference.run(feeds, keep=[codes, x, half, weight])
    assert np.array_equal(kept[codes], kept[x]) and kept[codes].dtype == np.int8
    assert np.array_equal(kept[half], kept[codes][:, :3])
    assert kept[weight].shape == (4, 3, 1, 1) and kept[weight].dtype == np.int8
    for name in (y, "nothing"):
        with pytest.raises(ModelsError, match=f"no tensor {name} in the graph"):
            reference.run(feeds, keep=[name])


def test_parts_of_other_scales_are_joined_at_the_scale_of_the_result():
    net = Net()
    x = net.input(SHAPE)
    net.end(net.op("Concat", [net.through(x, S8), net.through(x, U8)], axis=1), WIDE)
    agree(net)


def test_concat_with_a_float_is_refused():
    net = Net()
    x = net.start(SHAPE)
    net.end(net.op("Concat", [x, net.op("Tanh", [x])], axis=1))
    with pytest.raises(UnsupportedGraph, match=r"Concat\): input t\d+ comes in float from Tanh"):
        QuantizedGraph(net.model())


def test_moved_values_are_those_that_onnx_runtime_moves():
    net = Net()
    net.output(net.op("Transpose", [net.start(SHAPE)], perm=[0, 3, 1, 2]))
    model, feeds = net.model(), net.feeds()
    (ours,) = Reference(model).run(feeds, keep=[net.outputs[0].name]).values()
    theirs = by_onnx_runtime(model, feeds)["ORT_DISABLE_ALL"][0]
    assert np.array_equal(ours, theirs) and not np.array_equal(
        ours.reshape(-1)[::-1], theirs.reshape(-1)
    )


def test_nothing_is_left_of_gelu_far_below_zero():
    """Floor makes a step of the least that is left: ONNX Runtime's float32 leaves nothing."""
    net = Net(20)
    codes = Q(np.float32(0.04351864010095596), 138, np.uint8)
    gelu = net.op("Gelu", [net.start((1, 256), codes)])
    net.end(net.op("Floor", [gelu]), Q(np.float32(0.02), 60, np.uint8))
    model = net.model()
    feeds = {"x": (np.arange(256, dtype=np.float32)[None] - codes.zero) * np.float32(codes.scale)}
    made = Reference(model).run(feeds)[model.graph.output[0].name]
    assert np.array_equal(made, by_onnx_runtime(model, feeds)["ORT_DISABLE_ALL"][0])
