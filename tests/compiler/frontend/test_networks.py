"""Whole tiny networks: the interpreter against the PyTorch oracle, tensor by tensor."""

import dataclasses

import numpy as np
import onnx
import pytest

from compiler import golden, interpreter
from compiler.ir import Convolution, TemporalResidual, verify
from compiler.onnx_import import import_onnx
from compiler.pipeline import optimize
from models.reference import Reference

NETWORKS = ("fsb_c3d", "c3d_fc")


def recorded(path):
    arrays = golden.load(path.with_suffix(".npz"))
    return {key[6:]: value for key, value in arrays.items() if key.startswith("input:")}


def differing(graph, feeds, reference):
    """Names of the tensors of a graph that differ from the oracle's, and how many it knows."""
    results = interpreter.run(graph, feeds)
    known = [name for name in results if name in reference]
    return [n for n in known if not np.array_equal(results[n], reference[n])], len(known)


@pytest.fixture(scope="module", params=NETWORKS)
def case(request, network):
    path = network(request.param)
    feeds = recorded(path)
    return import_onnx(path), feeds, Reference(path).run(feeds), onnx.load(path).graph.node


def test_every_tensor_equals_the_oracle(case):
    imported, feeds, reference, nodes = case
    assert imported.unsupported == ()
    bad, known = differing(imported.graph, feeds, reference)
    integers = {n.output[0] for n in nodes if n.op_type == "QuantizeLinear"} & set(reference)
    assert bad == [] and known == len(imported.graph.values)
    # What only another shape of a tensor is has no value of its own.
    aliases = {n for n in integers if "Reshape" in n}
    assert set(imported.graph.values) == integers - aliases


@pytest.mark.parametrize("fuse", [False, True])
def test_passes_keep_every_bit(case, fuse):
    imported, feeds, reference, _ = case
    graph = optimize(imported.graph, fuse)
    assert graph.macs() == imported.graph.macs()
    bad, known = differing(graph, feeds, reference)
    assert bad == [] and known == len(graph.values)


def test_fusion_leaves_what_it_should(network):
    graph = optimize(import_onnx(network("fsb_c3d")).graph)
    assert sum(isinstance(op, TemporalResidual) for op in graph.ops) == 2
    pools = [op.pool for op in graph.ops if isinstance(op, Convolution) and op.pool]
    # The other two dimensions of pool3 and pool4 are the tiny clip's.
    assert [p.kernel[1:] for p in pools] == [(2, 2)] * 4
    assert len(graph.ops) == 2 + 24 + 1 + 2  # residuals, convolutions, pool5, mean and classifier


def test_unfused_graph_stores_every_tensor(network):
    imported = import_onnx(network("fsb_c3d")).graph
    graph = optimize(imported, fuse=False)
    assert set(imported.values) == set(graph.values)


def corrupt(op):
    if isinstance(op, Convolution):
        return dataclasses.replace(op, bias=op.bias + np.int32(1 << 12))
    return dataclasses.replace(op, average_low=op.average.zero_point + 9)


@pytest.mark.parametrize("kind", [Convolution, TemporalResidual])
def test_twin_one_corrupted_operator_is_seen(network, kind):
    path = network("fsb_c3d")
    feeds, reference = recorded(path), Reference(path).run(recorded(path))
    graph = optimize(import_onnx(path).graph)
    victim = next(op for op in graph.ops if isinstance(op, kind))
    broken = graph.replaced([corrupt(op) if op is victim else op for op in graph.ops])
    verify(broken)
    assert victim.output in differing(broken, feeds, reference)[0]


def test_keep_frees_everything_else(network):
    path = network("fsb_c3d")
    graph = import_onnx(path).graph
    wanted = [port.value for port in graph.outputs]
    assert list(interpreter.run(graph, recorded(path), wanted)) == wanted


@pytest.mark.slow
def test_paper_size_network(tmp_path):
    """FSB-C3D at paper size: every tensor, within a minute."""
    from models.export import export

    path = export("fsb_c3d", tmp_path / "fsb_c3d.onnx").onnx
    graph = import_onnx(path).graph
    assert graph.macs() == 5_580_325_376
    feeds = recorded(path)
    bad, known = differing(graph, feeds, Reference(path).run(feeds))
    assert bad == [] and known == len(graph.values)
