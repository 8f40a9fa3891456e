"""Every network at tiny: the float graph is the module, and its work is the table's."""

import copy
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from models.count import count
from models.export import weighted
from models.liteeval import STEP_PARTS
from models.quantize import export_graph
from models.registry import ENTRIES
from models.samples import outputs_of, roll, samples
from tests.models.networks import graph_macs, inferred, run

BY_DEFAULT = {
    "fsb_c3d": ("",),
    "c3d_fc": ("",),
    "slowfast": ("build=e2",),
    "fasttrg": ("",),
    "fast3d": ("",),
    "slowdepth": ("projections=no",),
    "vtn_resnet34": ("modality=stacked", "modality=two_stream"),
    "vtn_mobilenetv2": ("norm=none",),
    "vtn_seresnext101": ("modality=difference",),
    "vtn_decoder": ("scale=model",),
    "vtn_online": ("",),
    "eacnet_r50": ("", "mgte=3+4+5"),
    "eacnet_bninception": ("",),
    "xwisenet": ("", "context=gc", "position=branch"),
    "r3d18_x": ("",),
    "r3d34_dw": ("",),
    "r3d50_st": ("",),
    "liteeval_fine": ("fine=dpn107",),
}
_ALL = [(name, variant) for name, entry in ENTRIES.items() for variant in entry.variants("tiny")]
CASES = [
    pytest.param(*case, marks=() if case[1] in BY_DEFAULT.get(case[0], ()) else pytest.mark.slow)
    for case in _ALL
    if case[0] not in ("liteeval", "liteeval_clip")
]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _limit(network, inputs, at, made):
    """How far libraries may be apart: norms over few elements lose much of float32."""
    exact = copy.deepcopy(network).double()
    with torch.no_grad():
        real = outputs_of(exact(*(x.double() if x.is_floating_point() else x for x in inputs)))[at]
    return 1e-4 * max(1, made.abs().max()) + min(8 * (made - real).abs().max(), 1e-3)


def _check(config, network, path):
    """Float graph against module on samples that the weights were not made from."""
    signature = config.signature
    export_graph(network, signature, path)
    model = onnx.load(path)
    assert [each.name for each in model.graph.input] == [each.name for each in signature.inputs]
    assert [each.name for each in model.graph.output] == list(signature.outputs)
    for feeds in roll(network, signature, samples(signature, 77, 2)):
        found = run(model, feeds)
        inputs = [torch.from_numpy(feeds[each.name]) for each in signature.inputs]
        with torch.no_grad():
            expected = outputs_of(network(*inputs))
        for at, (name, tensor) in enumerate(zip(signature.outputs, expected, strict=True)):
            assert tensor.abs().max() > 0.01, "the network says nothing"
            off = np.abs(found[name] - tensor.numpy()).max()
            if off > 1e-4 * max(1, tensor.abs().max()):
                assert off <= _limit(network, inputs, at, tensor)
    assert graph_macs(inferred(model).graph) == count(config).macs()
    return model, feeds, found


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_float_graph_is_the_module(name, variant, tmp_path):
    config = ENTRIES[name].config("tiny", variant)
    _check(config, weighted(config, "tiny", 0), tmp_path / "float.onnx")


def test_twin_a_changed_weight_is_seen(tmp_path):
    config = ENTRIES["r3d18_x"].config("tiny")
    network = weighted(config, "tiny", 0)
    model, feeds, found = _check(config, network, tmp_path / "float.onnx")
    weight = next(t for t in model.graph.initializer if len(t.dims) == 5)
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0] *= 1.5
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    assert np.abs(run(model, feeds)["logits"] - found["logits"]).max() > 1e-3


LITEEVAL = [
    pytest.param(variant, marks=() if variant in ("rules=code", "cell=gru") else pytest.mark.slow)
    for variant in ENTRIES["liteeval"].variants("tiny")
]


@pytest.mark.parametrize("variant", LITEEVAL)
def test_float_parts_of_liteeval_are_the_module(variant, tmp_path):
    config = ENTRIES["liteeval"].config("tiny", variant)
    network = weighted(config, "tiny", 0)
    for part in STEP_PARTS:
        single = replace(config, part=part)
        network.config = single
        path = tmp_path / f"{part}.onnx"
        export_graph(network, single.signature, path)
        model = onnx.load(path)
        rng = np.random.default_rng(3)
        shapes = {each.name: each.shape for each in single.signature.inputs}
        feeds = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
        found = run(model, feeds)
        with torch.no_grad():
            expected = outputs_of(network(*map(torch.from_numpy, feeds.values())))
        for name, tensor in zip(single.signature.outputs, expected, strict=True):
            assert np.abs(found[name] - tensor.numpy()).max() <= 1e-4
        assert graph_macs(inferred(model).graph) == count(single).macs()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("xwisenet", ""),
        ("r3d18_x", ""),
        ("r3d50_st", ""),
        ("fasttrg", ""),
        ("fsb_c3d", ""),
        ("vtn_resnet34", ""),
        ("vtn_mobilenetv2", ""),
        ("vtn_decoder", ""),
        ("eacnet_r50", ""),
        ("liteeval_fine", "fine=dpn107"),
    ],
)
def test_work_of_the_paper_size_graph_is_the_tables(name, variant, tmp_path):
    config = ENTRIES[name].config("paper", variant)
    export_graph(config.build(), config.signature, tmp_path / "float.onnx")
    model = inferred(onnx.load(tmp_path / "float.onnx"))
    assert graph_macs(model.graph) == count(config).macs()
