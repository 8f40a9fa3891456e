"""What nobody loads is not stored; what the host reads after a run is."""

from types import SimpleNamespace

import numpy as np
import onnx

from compiler.flow.followers import lies_in
from proof.build import build
from sim.build import Build
from tests.models.net import Net
from tests.models.qdq import Q


def test_an_output_is_stored_where_the_rest_of_its_block_is_not(tmp_path):
    q = Q(0.11, 7, np.int8)
    net = Net()
    x = net.start((1, 1, 4, 2))
    product = net.op("MatMul", [x, net.op("Transpose", [x], perm=[0, 1, 3, 2])])
    y = net.through(product, q)
    r = net.through(net.op("Relu", [y]), q)
    both = net.through(net.op("Concat", [y, r], axis=1), Q(0.13, 3, np.int8))
    net.output(net.op("Slice", [both, net.ints([0]), net.ints([1]), net.ints([1])]))
    net.output(net.through(net.op("Sigmoid", [r]), Q(1 / 256, -128, np.int8)))
    onnx.save(net.model(), tmp_path / "net.onnx")
    shared = build(tmp_path / "net.onnx", "tiny", tmp_path / "build")
    program = Build.load(tmp_path / "build").program
    assert {port.tensor for port in program.outputs} <= {t.name for t in program.tensors}
    every = build(tmp_path / "net.onnx", "tiny", tmp_path / "build", dram="all")
    assert shared.proof["tensors"] < every.proof["tensors"]


def _parted(tmp_path, frames):
    """Channels become frames, of which some are taken; a build of it."""
    net = Net(opset=18)
    weights = net.weight((12, 36), 1)
    y = net.through(net.op("MatMul", [net.start((1, 7, 12)), weights]), Q(0.2, 0, np.int8))
    y = net.op("Transpose", [net.op("Reshape", [y, net.ints([7, 3, 3, 4])])], perm=[3, 1, 2, 0])
    y = net.op("Slice", [y, net.ints([0, 1]), net.ints([frames, 3]), net.ints([0, 3])])
    net.output(net.through(y, Q(0.2, 0, np.int8)))
    onnx.save(net.model(), tmp_path / "net.onnx")
    built = build(tmp_path / "net.onnx", "tiny", tmp_path / str(frames))
    return built, {t.name for t in Build.load(tmp_path / str(frames)).program.tensors}


def test_a_view_across_blocks_of_which_some_are_stored_nowhere(tmp_path):
    (some, partly), (every, whole) = _parted(tmp_path, 2), _parted(tmp_path, 4)
    assert some.proof is not None and every.proof is not None
    # Twin: where all frames are taken all are stored, and the view is compared.
    source, view = sorted(whole - partly)
    assert view.startswith(source)


def test_a_view_lies_in_every_block_that_its_rows_touch():
    """Rows 3 to 8 of blocks of four: three of them, not the first one alone."""
    layouts = {
        "whole": SimpleNamespace(positions=4, blocks=3),
        "view": SimpleNamespace(positions=6, blocks=1),
    }
    views = {"view": (("whole", 3),)}
    settled = SimpleNamespace(assigned=SimpleNamespace(layouts=layouts), views=views)
    assert [*lies_in(settled, "view")] == [("whole", 0), ("whole", 1), ("whole", 2)]
    assert [*lies_in(settled, "whole")] == [("whole", 0), ("whole", 1), ("whole", 2)]
    layouts["view"].positions = 1
    assert [*lies_in(settled, "view")] == [("whole", 0)]
