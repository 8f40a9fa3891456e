"""How files write networks: order, constants, weights, biases, quantizers, inputs, names."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler import interpreter
from compiler.onnx_import import import_model
from models.quantgraph import QuantizedGraph, UnsupportedGraph
from models.reference import ModelsError, Reference
from tests.models.net import S8, Net, agree, by_onnx_runtime, differ
from tests.models.qdq import Q


def _conv_net(net: Net, weight: str, **attributes) -> Net:
    y = net.op("Conv", [net.start((1, 4, 6, 6)), weight], **attributes)
    net.end(y, Q(0.5, 3, np.int8))
    return net


# Order and constants ----------------------------------------------------------------------


def test_nodes_in_any_order():
    net = Net()
    _conv_net(net, net.weight((5, 4, 3, 3)))
    agree(net)
    net.nodes.reverse()
    agree(net)


def test_a_tensor_that_depends_on_itself_is_named():
    net = Net()
    x = net.start((1, 4))
    net.op("Add", [x, "loop"], output="sum")
    net.op("Relu", ["sum"], output="loop")
    net.end("sum")
    with pytest.raises(UnsupportedGraph, match="depends on itself"):
        QuantizedGraph(net.model())


def test_a_tensor_made_twice_or_by_nothing_is_named():
    net = Net()
    net.end(net.op("Relu", ["nowhere"]))
    with pytest.raises(UnsupportedGraph, match="reads nowhere, which nothing makes"):
        QuantizedGraph(net.model())
    net = Net()
    net.end(net.op("Relu", [net.start((4,))], output="twice"))
    net.op("Relu", ["x"], output="twice")
    with pytest.raises(UnsupportedGraph, match="makes twice a second time"):
        QuantizedGraph(net.model())


SPARSE = helper.make_sparse_tensor(
    numpy_helper.from_array(np.array([2.5], np.float32), "values"),
    numpy_helper.from_array(np.array([0], np.int64), "indices"),
    [1],
)
CONSTANTS = {
    "value": {"value": numpy_helper.from_array(np.float32(2.5))},
    "value_float": {"value_float": 2.5},
    "value_floats": {"value_floats": [2.5]},
    "sparse_value": {"sparse_value": SPARSE},
}


@pytest.mark.parametrize("form", CONSTANTS)
def test_constants_in_every_form(form):
    net = Net()
    factor = net.op("Constant", [], **CONSTANTS[form])
    net.end(net.op("Mul", [net.start((1, 5, 5)), factor]), Q(0.11, 0, np.int8))
    agree(net)


@pytest.mark.parametrize("form", ["value_int", "value_ints"])
def test_integer_constants_in_every_form(form):
    net = Net()
    index = net.op("Constant", [], **{form: 2 if form == "value_int" else [2, 0]})
    net.end(net.op("Gather", [net.start((1, 5, 4)), index], axis=1))
    agree(net)


def test_a_constant_that_is_a_string_is_refused():
    net = Net()
    net.end(net.op("Mul", [net.start((4,)), net.op("Constant", [], value_string="2")]))
    with pytest.raises(UnsupportedGraph, match="constant given as value_string"):
        QuantizedGraph(net.model())


def test_shapes_computed_in_the_graph():
    net = Net()
    x = net.start((1, 6, 4, 5))
    batch = net.op("Gather", [net.op("Shape", [x]), net.ints([0])])
    rest = net.op("Mul", [net.op("Constant", [], value_ints=[3]), net.ints([2])])
    shape = net.op("Concat", [batch, rest, net.ints([-1])], axis=0)
    net.end(net.op("Reshape", [x, shape]))
    agree(net)


def test_a_free_batch_axis_takes_the_shape_of_the_input():
    net = Net()
    net.end(net.op("Gemm", [net.start((None, 8)), net.weight((6, 8))], transB=1), Q(0.4))
    model = net.model()
    feeds = {"x": np.random.default_rng(1).normal(0, 3, (3, 8)).astype(np.float32)}
    (ours,) = Reference(model).run(feeds, keep=[net.outputs[0].name]).values()
    for theirs in by_onnx_runtime(model, feeds).values():
        assert np.abs(ours - theirs[0]).max() < 0.41 and (ours != theirs[0]).mean() < 0.1


# Weights and biases -----------------------------------------------------------------------


def _quantized_in_the_graph(net):
    values = net.floats(net.rng.normal(0, 1, (5, 4, 3, 3)))
    return net.through(values, Q(0.02, 0, np.int8))


def _clipped(net):
    codes = net.constant(net.rng.integers(-128, 128, (5, 4, 3, 3)).astype(np.int8))
    bounds = [net.constant(np.int8(-127)), net.constant(np.int8(127))]
    return net.dequantize(net.op("Clip", [codes, *bounds]), Q(0.02, 0, np.int8))


def _by_output_dtype(net):
    values = net.floats(net.rng.normal(0, 1, (5, 4, 3, 3)))
    scale = net.floats(0.02)
    codes = net.op("QuantizeLinear", [values, scale], output_dtype=TensorProto.INT8)
    return net.op("DequantizeLinear", [codes, scale])


WEIGHTS = {
    "per channel": lambda net: net.weight((5, 4, 3, 3)),
    "per tensor": lambda net: net.weight((5, 4, 3, 3), q=Q(0.02, 0, np.int8)),
    "with a zero point": lambda net: net.weight((5, 4, 3, 3), q=Q(0.02, 117, np.uint8)),
    "quantized in the graph": _quantized_in_the_graph,
    "clipped before the scale": _clipped,
    "transposed behind the scale": lambda net: net.op(
        "Transpose", [net.weight((3, 3, 4, 5), axis=3)], perm=[3, 2, 0, 1]
    ),
    "reshaped behind the scale": lambda net: net.op(
        "Reshape", [net.weight((5, 36)), net.ints([5, 4, 3, 3])]
    ),
    "negative axis": lambda net: net.op(
        "Transpose",
        [
            net.dequantize(
                net.constant(net.rng.integers(-9, 9, (4, 3, 3, 5)).astype(np.int8)),
                Q([0.1, 0.2, 0.3, 0.1, 0.2], 0, np.int8),
                axis=-1,
            )
        ],
        perm=[3, 0, 1, 2],
    ),
    "type by output_dtype": _by_output_dtype,
}


@pytest.mark.parametrize("form", WEIGHTS)
def test_weights_in_every_form(form):
    net = Net(21 if form == "type by output_dtype" else 17)
    agree(_conv_net(net, WEIGHTS[form](net)), limit=1, share=0.02)


def test_weights_without_a_scale_are_refused():
    net = Net()
    with pytest.raises(UnsupportedGraph, match=r"\(Conv\): constant t\d+ is float: quantize it"):
        QuantizedGraph(_conv_net(net, net.floats(np.ones((5, 4, 3, 3)))).model())


def test_a_move_that_mixes_the_channels_of_weights_is_refused():
    net = Net()
    weight = net.op("Reshape", [net.weight((4, 6), axis=1), net.ints([3, 8])])
    net.end(net.op("Gemm", [net.start((1, 8)), weight], transB=1))
    with pytest.raises(UnsupportedGraph, match="mixes the channels"):
        QuantizedGraph(net.model())


def _bias(net: Net, form: str) -> str:
    values = net.rng.normal(0, 2, 5)
    match form:
        case "float":
            return net.floats(values)
        case "int32 at the accumulator's scale":
            q = Q(float(np.float32(0.05) * np.float32(0.02)), 0, np.int32)
        case "int32 at a scale of its own":
            q = Q(0.013, 0, np.int32)
        case "int8":
            q = Q(2.0**-4, 0, np.int8)
    codes = np.clip(np.rint(values / q.scale), -128 if q.dtype == np.int8 else -(2**31), 127)
    if q.dtype == np.int32:
        codes = np.rint(values / q.scale)
    return net.dequantize(net.constant(codes.astype(q.dtype)), q)


BIASES = ["float", "int32 at the accumulator's scale", "int32 at a scale of its own", "int8"]


@pytest.mark.parametrize("form", BIASES)
def test_biases_in_every_form(form):
    net = Net()
    weight = net.weight((5, 4, 3, 3), q=Q(0.02, 0, np.int8))
    x = net.start((1, 4, 6, 6))
    net.end(net.op("Conv", [x, weight, _bias(net, form)]), Q(0.51, 3, np.int8))
    model, feeds = net.model(), net.feeds()
    # ENABLE_ALL takes an int32 bias for one at the accumulator's scale, whatever its own is.
    theirs = by_onnx_runtime(model, feeds)["ORT_DISABLE_ALL"][0]
    (ours,) = Reference(model).run(feeds, keep=[net.outputs[0].name]).values()
    steps = np.abs(ours - theirs) / 0.51
    assert steps.max() < 1.01 and (steps > 0.01).mean() < 0.03
    plain = Net()
    weight = plain.weight((5, 4, 3, 3), q=Q(0.02, 0, np.int8))
    plain.end(plain.op("Conv", [plain.start((1, 4, 6, 6)), weight]), Q(0.51, 3, np.int8))
    (bare,) = Reference(plain.model()).run(feeds, keep=[plain.outputs[0].name]).values()
    assert (np.abs(bare - theirs) / 0.51).max() > 1.5, "the bias is too small to be seen"


def test_a_bias_beyond_int32_is_refused():
    net = Net()
    weight = net.weight((2, 4), q=Q(1e-6, 0, np.int8))
    x = net.start((1, 4), Q(1e-6, 0, np.int8))
    net.end(net.op("Gemm", [x, weight, net.floats([1.0, 2.0])], transB=1))
    with pytest.raises(UnsupportedGraph, match="leaves int32"):
        QuantizedGraph(net.model())


# Quantizers -------------------------------------------------------------------------------


def test_type_by_output_dtype_and_no_zero_point():
    net = Net(21)
    x, scale = net.input((1, 4, 6, 6)), net.floats(0.05)
    codes = net.op("QuantizeLinear", [x, scale], output_dtype=TensorProto.INT8)
    weight = net.weight((5, 4, 3, 3))
    y = net.op("Conv", [net.op("DequantizeLinear", [codes, scale]), weight])
    wide = net.floats(0.5)
    codes = net.op("QuantizeLinear", [y, wide], output_dtype=TensorProto.INT8)
    net.output(net.op("DequantizeLinear", [codes, wide]))
    agree(net, limit=1, share=0.02)


def test_no_zero_point_and_no_type_is_uint8():
    net = Net(13)
    x, scale = net.input((1, 40)), net.floats(0.05)
    codes = net.op("QuantizeLinear", [x, scale])
    net.output(net.op("DequantizeLinear", [codes, scale]))
    net.output(codes, np.uint8)
    agree(net)


@pytest.mark.parametrize(
    ("reason", "zero", "attributes"),
    [
        ("output_dtype 5 is not 8-bit", None, {"output_dtype": TensorProto.INT16}),
        ("is not 8-bit", np.int16(0), {}),
        ("scales per block", None, {"block_size": 2}),
    ],
)
def test_quantizers_that_are_not_8_bit_are_refused(reason, zero, attributes):
    net = Net(21)
    given = [net.input((1, 4)), net.floats(0.05)]
    given += [] if zero is None else [net.constant(zero)]
    net.output(net.op("QuantizeLinear", given, **attributes), np.uint8)
    with pytest.raises(UnsupportedGraph, match=reason):
        QuantizedGraph(net.model())


def test_a_scale_that_is_no_positive_number_is_refused():
    for scale in (0.0, -0.5, np.nan):
        net = Net()
        net.end(net.input((1, 4)), Q(scale))
        with pytest.raises(UnsupportedGraph, match="must be positive and finite"):
            QuantizedGraph(net.model())


def test_no_number_becomes_the_least_code():
    net = Net()
    net.end(net.op("Sqrt", [net.start((1, 200))]), Q(0.02, 7, np.int8))
    agree(net)


# Inputs, outputs, names -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("zero", [None, 3])
def test_integer_inputs(dtype, zero):
    net = Net()
    x = net.input((1, 4, 6, 6), dtype=dtype)
    if zero is None:
        real = net.op("DequantizeLinear", [x, net.floats(0.05)])
    else:
        real = net.dequantize(x, Q(0.05, zero, dtype))
    net.end(net.op("Conv", [real, net.weight((5, 4, 3, 3))]), Q(2.0, 0, np.int8))
    agree(net, limit=1, share=0.02)


def test_channels_last_integer_input():
    net = Net()
    x = net.op("Transpose", [net.input((1, 6, 6, 4), dtype=np.int8)], perm=[0, 3, 1, 2])
    net.end(net.op("Conv", [net.dequantize(x), net.weight((5, 4, 3, 3))]), Q(2.0, 0, np.int8))
    agree(net, limit=1, share=0.02)


def test_an_input_quantized_once_per_reader():
    net = Net()
    x = net.input((1, 4, 6, 6))
    fine, coarse, again = (net.through(x, q) for q in (S8, Q(0.1, 3, np.int8), S8))
    net.end(net.op("Conv", [fine, net.weight((5, 4, 1, 1))]), Q(0.5, 0, np.int8))
    net.end(net.op("Conv", [coarse, net.weight((5, 4, 1, 1))]), Q(0.5, 0, np.int8))
    net.end(net.op("Relu", [again]), S8)
    agree(net, limit=1, share=0.02)


def test_an_input_quantized_alike_for_two_readers_meets_itself():
    """Both are one tensor, as they are for the compiler: x + x is a function of it, by table."""
    net = Net()
    q = Q(np.float32(0.009411764331161976), 128, np.uint8)
    x = net.input((1, 256), "x")
    net.end(
        net.op("Add", [net.through(x, q), net.through(x, q)]), Q(0.01842302829027176, 128, np.uint8)
    )
    model = net.model()
    codes = np.arange(256, dtype=np.float32)[None]
    feeds = {"x": (codes - 128) * np.float32(q.scale)}
    made = Reference(model).run(feeds)
    as_written = by_onnx_runtime(model, feeds)["ORT_DISABLE_ALL"][0]
    found = made[model.graph.output[0].name]
    assert np.array_equal(found, as_written)
    graph = import_model(model, "net").graph
    values = interpreter.run(graph, feeds)
    assert all(
        np.array_equal(values[n].reshape(-1), made[n].reshape(-1)) for n in values if n in made
    )


def test_an_input_that_nothing_reads_need_not_be_given():
    net = Net()
    net.end(net.op("Relu", [net.start((1, 4))]))
    net.input((2, 2), "unread")
    model, feeds = net.model(), net.feeds()
    reference = Reference(model)
    results = reference.run(feeds)
    del feeds["unread"]
    assert np.array_equal(reference.run(feeds)[net.outputs[0].name], results[net.outputs[0].name])
    with pytest.raises(ModelsError, match="inputs must be"):
        reference.run({"unread": np.zeros((2, 2), np.float32)})


def test_inputs_are_bound_by_name():
    net = Net()
    a, b = net.input((1, 8), "a"), net.input((1, 8), "b")
    right, left = net.through(b, Q(0.05, 0, np.int8)), net.through(a, Q(0.03, 10, np.int8))
    net.end(net.op("Sub", [left, right]), Q(0.1, 0, np.int8))
    feeds = net.feeds()
    agree(net, dict(reversed(feeds.items())), limit=1)
    swapped = Reference(net.model()).run({"a": feeds["b"], "b": feeds["a"]})
    assert not np.array_equal(
        swapped[net.outputs[0].name], Reference(net.model()).run(feeds)[net.outputs[0].name]
    )


@pytest.mark.parametrize("name", ["input:0", "output:x", "/model/in put", "x\n"])
def test_names_are_whatever_they_are(name):
    net = Net()
    net.end(net.op("Relu", [net.start((1, 9), name=name)]))
    agree(net)


def test_an_optional_input_with_a_default_is_a_constant():
    net = Net()
    net.constant(np.float32(0.05), "scale")
    net.inputs.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, []))
    codes = net.op("QuantizeLinear", [net.input((1, 7)), "scale"])
    net.output(codes, np.uint8)
    model = net.model()
    assert QuantizedGraph(model).inputs == ["x"]
    feeds = {"x": np.linspace(0, 9, 7, dtype=np.float32)[None]}
    theirs = by_onnx_runtime(model, feeds)["ORT_DISABLE_ALL"][0]
    assert np.array_equal(Reference(model).run(feeds)[codes], theirs)


def test_feeds_have_the_types_of_the_file():
    net = Net()
    net.end(net.dequantize(net.input((1, 4), dtype=np.int8)))
    with pytest.raises(ModelsError, match="input x must be int8, not float32"):
        Reference(net.model()).run({"x": np.zeros((1, 4), np.float32)})


# Twins ------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["zero point", "weight", "pads"])
def test_twins_are_seen(which, monkeypatch):
    net = Net()
    _conv_net(net, net.weight((5, 4, 3, 3)), pads=[1, 1, 0, 1])
    agree(net, limit=1, share=0.02)
    feeds, true = net.feeds(), net.model()
    wrong = onnx.ModelProto.FromString(true.SerializeToString())
    if which == "pads":
        next(n for n in wrong.graph.node if n.op_type == "Conv").attribute[0].ints[2] = 1
        next(n for n in wrong.graph.node if n.op_type == "Conv").attribute[0].ints[0] = 0
    else:
        kind, step = (np.int8, 1) if which == "zero point" else (np.int8, 9)
        size = 1 if which == "zero point" else 5 * 4 * 9
        tensor = next(
            t
            for t in wrong.graph.initializer
            if t.data_type == TensorProto.INT8 and np.prod(t.dims, initial=1) == size
        )
        codes = numpy_helper.to_array(tensor).copy()
        codes.reshape(-1)[0] = kind(int(codes.reshape(-1)[0]) + step if codes.size == 1 else 3)
        tensor.CopyFrom(numpy_helper.from_array(codes, tensor.name))
    monkeypatch.setattr(net, "model", lambda: wrong)
    theirs = by_onnx_runtime(true, feeds)
    monkeypatch.setattr("tests.models.net.by_onnx_runtime", lambda model, feeds: theirs)
    differ(net, feeds)
