"""Layers of a file as a file of their own: what it reads and makes, and what is refused."""

import numpy as np
import onnx
import pytest

from models.__main__ import main
from models.cut import cut, edges
from models.errors import ModelsError
from models.reference import Reference
from tests.models.net import Net
from tests.models.qdq import Q

CODES = Q(0.05, 120)


@pytest.fixture
def net():
    """x → tanh a → sigmoid b; b + a → c → relu d."""
    net = Net()
    x = net.start([1, 7], CODES)
    a = net.through(net.op("Tanh", [x]), CODES)
    b = net.through(net.op("Sigmoid", [a]), CODES)
    c = net.through(net.op("Add", [b, a]), CODES)
    net.end(net.op("Relu", [c]), CODES)
    return net.model()


def codes(model, op):
    """The codes that an operator's result is quantized to."""
    (node,) = (n for n in model.graph.node if n.op_type == op)
    (after,) = (n for n in model.graph.node if n.input[0] == node.output[0])
    return after.output[0]


def feeds():
    return {"x": np.random.default_rng(0).normal(0, 1, (1, 7)).astype(np.float32)}


def test_a_part_makes_what_the_whole_makes(net):
    reference = Reference(net)
    first, last = codes(net, "Tanh"), codes(net, "Add")
    part, arrays = cut(reference, [last], [first], feeds())
    whole = reference.run(feeds(), keep=[first, last])
    assert [n.op_type for n in part.graph.node if "Linear" not in n.op_type] == ["Sigmoid", "Add"]
    assert set(arrays) == {f"input:{first}", f"output:{last}"}
    assert np.array_equal(arrays[f"output:{last}"], whole[last])
    onnx.checker.check_model(part, full_check=True)
    assert np.array_equal(Reference(part).run({first: whole[first]})[last], whole[last])


def test_without_inputs_it_goes_back_to_the_files_own(net):
    part, arrays = cut(Reference(net), [codes(net, "Sigmoid")], [], feeds())
    assert [value.name for value in part.graph.input] == ["x"]
    assert np.array_equal(arrays["input:x"], feeds()["x"])


def test_edges_of_what_is_called_alike(net):
    a, b, c = (codes(net, op) for op in ("Tanh", "Sigmoid", "Add"))
    assert edges(Reference(net).graph, [b]) == ([b], [a])
    assert edges(Reference(net).graph, [b, c]) == ([c], [a])
    with pytest.raises(ModelsError, match="no 8-bit tensor begins with nonesuch"):
        edges(Reference(net).graph, ["nonesuch"])


def test_refusals(net):
    reference = Reference(net)
    b, c = codes(net, "Sigmoid"), codes(net, "Add")
    with pytest.raises(ModelsError, match="nonesuch: no 8-bit tensor"):
        cut(reference, ["nonesuch"], [], feeds())
    with pytest.raises(ModelsError, match="no node of the part reads"):
        cut(reference, [b], [c], feeds())


def test_the_command(net, tmp_path, capsys):
    onnx.save(net, tmp_path / "net.onnx")
    np.savez(tmp_path / "net.npz", **{f"input:{n}": v for n, v in feeds().items()})
    words = ["cut", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "part.onnx")]
    assert main([*words, "--inside", codes(net, "Sigmoid")]) == 0
    assert set(np.load(tmp_path / "part.npz")) == {
        f"input:{codes(net, 'Tanh')}",
        f"output:{codes(net, 'Sigmoid')}",
    }
    assert main(words) == 2
    assert "give --inside, or --to" in capsys.readouterr().err
