"""Files as users write them, end to end: check, build, functional run with the oracle, and the
outputs that come out, against ONNX Runtime."""

import json
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compiler.__main__ import main as compiler_main
from hw.arch.arrays import read_arrays, write_arrays
from sim.__main__ import main as sim_main
from tests.models.net import S8, Net, by_onnx_runtime
from tests.models.qdq import Q

OTHER = Q(0.07, 3, np.int8)
MAP = (1, 4, 6, 6)


def conv(net: Net, x: str, cin: int, cout: int, kernel=(1, 1), **attributes) -> str:
    return net.op("Conv", [x, net.weight((cout, cin, *kernel))], **attributes)


def two_scales(net: Net) -> None:
    x = net.input(MAP)
    net.end(conv(net, net.through(x, S8), 4, 5), Q(0.3, 0, np.int8))
    net.end(conv(net, net.through(x, OTHER), 4, 3), Q(0.3, 0, np.int8))


def two_like_quantizers(net: Net) -> None:
    x = net.input(MAP)
    net.end(net.op("Add", [net.through(x, S8), net.through(x, S8)]), Q(0.1, 0, np.int8))


def scalar(net: Net) -> None:
    """An input of rank 0."""
    x = net.through(net.op("Sigmoid", [net.start((), S8)]), Q(1 / 127, 0, np.int8))
    net.end(net.op("Mul", [net.start(MAP, S8, "m"), x]), OTHER)


def unread_input(net: Net) -> None:
    net.input((2, 3), "nobody")
    net.end(conv(net, net.start(MAP), 4, 5), Q(0.3, 0, np.int8))


def pool_read_twice(net: Net) -> None:
    pool = net.op("MaxPool", [net.start(MAP)], kernel_shape=[2, 2], strides=[2, 2])
    net.end(conv(net, pool, 4, 5), Q(0.3, 0, np.int8))
    net.end(conv(net, pool, 4, 3), Q(0.2, 0, np.int8))


def move_read_twice(net: Net) -> None:
    moved = net.op("Slice", [net.start(MAP), net.ints([1]), net.ints([5]), net.ints([2])])
    net.end(conv(net, moved, 4, 5), Q(0.3, 0, np.int8))
    net.end(moved, OTHER)


def float_and_code_outputs(net: Net) -> None:
    codes = net.quantize(conv(net, net.start(MAP), 4, 5), Q(0.3, 0, np.int8), output="codes")
    net.output(codes, np.int8)
    reals = net.dequantize(codes, Q(0.3, 0, np.int8))
    net.output(net.op("Reshape", [reals, net.ints([1, 5, 36])]))
    net.output(reals)


def output_is_a_moved_input(net: Net) -> None:
    x = net.start(MAP)
    net.output(net.op("Transpose", [x], perm=[0, 2, 3, 1]))
    net.end(net.op("Relu", [x]), S8)


def nhwc(net: Net) -> None:
    x = net.op("Transpose", [net.start((1, 6, 5, 3))], perm=[0, 3, 1, 2])
    y = net.through(conv(net, x, 3, 7, (3, 3)), Q(0.3, 0, np.int8))
    net.output(net.op("Transpose", [y], perm=[0, 2, 3, 1]))


def out_of_order(net: Net) -> None:
    net.end(conv(net, net.start(MAP), 4, 5), Q(0.3, 0, np.int8))
    net.nodes.reverse()


def clip_on_codes(net: Net) -> None:
    codes = net.quantize(net.input(MAP), S8)
    narrow = net.op("Clip", [codes, net.constant(np.int8(-127)), net.constant(np.int8(100))])
    net.end(conv(net, net.dequantize(narrow, S8), 4, 5), Q(0.3, 0, np.int8))


def shift_by_pad(net: Net) -> None:
    """A temporal shift as torch writes it: Slice and Pad."""
    x = net.start((1, 8, 4, 3, 3))

    def part(first: int, last: int, axis: int, of: str) -> str:
        return net.op("Slice", [of, net.ints([first]), net.ints([last]), net.ints([axis])])

    ahead = part(1, 4, 2, part(0, 4, 1, x))
    ahead = net.op("Pad", [ahead, net.ints([0, 0, 0, 0, 0, 0, 0, 1, 0, 0])])
    net.end(net.op("Concat", [ahead, part(4, 8, 1, x)], axis=1), S8)


def silu(net: Net) -> None:
    x = net.start(MAP)
    net.end(net.op("Mul", [x, net.op("Sigmoid", [x])]), S8)


def square_plus_one(net: Net) -> None:
    x = net.start(MAP)
    net.end(net.op("Add", [net.op("Mul", [x, x]), net.floats(1)]), Q(0.5, -100, np.int8))


def image(net: Net) -> None:
    """An 8-bit image, cast and normalized by the host."""
    x = net.op("Cast", [net.input((1, 3, 6, 6), "image", np.uint8)], to=TensorProto.FLOAT)
    x = net.op(
        "Div", [net.op("Sub", [x, net.floats([[[[123]], [[117]], [[104]]]])]), net.floats(58)]
    )
    net.end(conv(net, net.through(x, Q(0.02, 0, np.int8)), 3, 5, (3, 3)), Q(0.1, 0, np.int8))


def integer_input_behind_a_view(net: Net) -> None:
    x = net.op("Reshape", [net.input((1, 144), "x", np.int8), net.ints(MAP)])
    net.end(conv(net, net.dequantize(x, S8), 4, 5), Q(0.3, 0, np.int8))


def frames_as_a_batch(net: Net) -> None:
    y = net.through(conv(net, net.start((3, 4, 6, 6)), 4, 6, (3, 3), pads=[1] * 4), S8)
    y = net.op("Flatten", [net.through(net.op("GlobalAveragePool", [y]), Q(0.0213, 0, np.int8))])
    net.end(net.op("Gemm", [y, net.weight((5, 6))], transB=1), S8)


def names_of_ours(net: Net) -> None:
    """Tensors called as the compiler would call its own."""
    x = net.through(net.input(MAP, "x#1"), S8)
    cut = net.op("Slice", [x, net.ints([1, 1]), net.ints([5, 5]), net.ints([2, 3])], output="x#1#1")
    net.end(net.op("Relu", [net.through(cut, S8)], output="x#1#2"), S8)


def same_shape_other_scale(net: Net) -> None:
    net.end(net.op("Reshape", [net.start(MAP), net.ints([1, 4, 36])]), OTHER)


def one_frame_for_all(net: Net) -> None:
    """A mean over time, repeated, beside the frames it is of (MGTE, ATE)."""
    x = net.start((1, 5, 3, 4, 4))
    mean = net.through(net.op("ReduceMean", [x], axes=[2], keepdims=1), Q(0.031, 0, np.int8))
    wide = net.op("Expand", [mean, net.ints((1, 5, 3, 4, 4))])
    net.end(net.op("Concat", [x, wide], axis=1), S8)


def last_of_a_sequence(net: Net) -> None:
    x = net.start((1, 5, 12))
    y = net.through(net.op("MatMul", [x, net.weight((12, 7), 1)]), Q(0.2, 0, np.int8))
    net.end(net.op("Gather", [y, net.constant(np.int64(-1))], axis=1), Q(0.2, 0, np.int8))


EXACT = {
    f.__name__: f
    for f in (
        *(two_scales, two_like_quantizers, unread_input, pool_read_twice, move_read_twice),
        *(float_and_code_outputs, output_is_a_moved_input, nhwc, out_of_order, clip_on_codes),
        *(shift_by_pad, image, integer_input_behind_a_view, frames_as_a_batch, names_of_ours),
        *(same_shape_other_scale, last_of_a_sequence, one_frame_for_all),
    )
}
NEAR = {f.__name__: f for f in (silu, square_plus_one, scalar)}
"""Functions: ONNX Runtime's are approximations, a tie may fall otherwise."""


def outputs_of(folder, net: Net, feeds) -> tuple[dict, list[str]]:
    """What the product makes of a network, compared with the oracle on the way."""
    model = net.model()
    onnx.save(model, str(folder / "net.onnx"))
    write_arrays(folder / "feeds.npz", feeds)
    target, results = folder / "build", folder / "outputs.npz"
    words = [str(folder / "net.onnx"), "--config", "tiny"]
    assert compiler_main(["check", *words]) == 0
    assert compiler_main(["build", *words, "-o", str(target)]) == 0
    run = ["run", str(target), "--check", "--input", str(folder / "feeds.npz")]
    assert sim_main([*run, "--outputs", str(results)]) == 0
    return read_arrays(results), [value.name for value in model.graph.output]


@pytest.mark.parametrize("case", {**EXACT, **NEAR})
def test_outputs_are_onnx_runtimes(case, tmp_path):
    form: Callable[[Net], None] = {**EXACT, **NEAR}[case]
    net = Net()
    form(net)
    feeds = net.feeds()
    results, names = outputs_of(tmp_path, net, feeds)
    everything = by_onnx_runtime(net.model(), feeds)
    for i, name in enumerate(names):
        wanted = [outputs[i] for outputs in everything.values()]
        ours, scale = results[name], results[f"{name}:scale"]
        assert all((ours.dtype, ours.shape) == (w.dtype, w.shape) for w in wanted)
        apart = min(np.abs(w.astype(float) - ours).max() for w in wanted)
        assert apart <= (1.01 * scale if case in NEAR else 0), (name, apart / scale)
        assert len(np.unique(ours)) > 3


def test_twin_a_swapped_binding_is_seen(tmp_path):
    """Two inputs of one shape: the outputs change with them."""
    net = Net()
    a, b = net.start(MAP, S8, "a"), net.start(MAP, OTHER, "b")
    net.end(net.op("Sub", [a, b]), Q(0.1, 0, np.int8))
    feeds = net.feeds()
    results, (name,) = outputs_of(tmp_path, net, feeds)
    swapped = dict(zip(feeds, reversed(feeds.values()), strict=True))
    write_arrays(tmp_path / "feeds.npz", swapped)
    run = ["run", str(tmp_path / "build"), "--input", str(tmp_path / "feeds.npz")]
    assert sim_main([*run, "--outputs", str(tmp_path / "other.npz")]) == 0
    assert not np.array_equal(results[name], read_arrays(tmp_path / "other.npz")[name])


def foreign_relu(net: Net) -> None:
    net.domains.append(helper.make_opsetid("my.ops", 1))
    net.end(net.op("Relu", [net.start(MAP)], domain="my.ops"), S8)


def float_convolution_before_the_quantizer(net: Net) -> None:
    y = net.op("Conv", [net.input(MAP), net.floats(np.ones((4, 4, 1, 1)))])
    net.end(net.op("Relu", [net.through(y, S8)]), S8)


def two_activations_in_float(net: Net) -> None:
    x, y = net.start(MAP), net.start(MAP, OTHER, "y")
    net.end(net.op("Add", [net.op("Sigmoid", [x]), net.op("Tanh", [y])]), S8)


def operator_behind_an_operator(net: Net) -> None:
    net.end(net.op("Sigmoid", [conv(net, net.start(MAP), 4, 5)]), S8)


def float_output(net: Net) -> None:
    net.output(conv(net, net.start(MAP), 4, 5))


REFUSED = {
    foreign_relu: ("Relu", "operators of domain 'my.ops' are not read"),
    float_convolution_before_the_quantizer: ("Conv", "is no preprocessing"),
    two_activations_in_float: ("Add", "with two activations"),
    operator_behind_an_operator: ("Sigmoid", "comes in float from Conv"),
    float_output: ("Conv", "computes the graph output"),
}


@pytest.mark.parametrize("form", REFUSED, ids=lambda f: f.__name__)
def test_what_is_refused_is_refused_by_the_users_node(form, tmp_path, capsys):
    net = Net()
    form(net)
    onnx.save(net.model(), str(tmp_path / "net.onnx"))
    words = [str(tmp_path / "net.onnx"), "--config", "tiny"]
    assert compiler_main(["check", *words, "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["unsupported"]
    op, reason = REFUSED[form]
    assert finding["op"] == op and reason in finding["reason"]
    assert finding["node"] in {node.name for node in net.nodes}
    assert compiler_main(["build", *words, "-o", str(tmp_path / "out")]) == 2
    assert finding["node"] in capsys.readouterr().err
