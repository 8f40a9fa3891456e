"""Quantized exports of the families: what the files look like, and what stands beside them."""

import collections

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.count import count
from models.export import RECORDED_STEPS, export
from models.network import Input, Signature, State
from models.registry import ENTRIES
from models.samples import samples, video
from tests.models.networks import graph_macs, inferred, run

BY_DEFAULT = (
    ("fasttrg", ""),
    ("vtn_mobilenetv2", ""),
    ("vtn_online", ""),
    ("eacnet_r50", ""),
    ("xwisenet", ""),
    ("liteeval_fine", "fine=dpn107"),
)
ALL = [
    (name, variant)
    for name, entry in ENTRIES.items()
    if name not in ("liteeval", "liteeval_clip")
    for variant in entry.variants("tiny")
]
CASES = [
    pytest.param(case, id="-".join(case), marks=() if case in BY_DEFAULT else pytest.mark.slow)
    for case in ALL
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Exports of this module, made when first asked for."""
    folder, made = tmp_path_factory.mktemp("families"), {}

    def make(case):
        if case not in made:
            target = folder / f"{len(made)}.onnx"
            made[case] = export(case[0], target, "tiny", variant=case[1])
        return made[case], onnx.load(made[case].onnx)

    return make


def _constants(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def _makers(model):
    return {name: node for node in model.graph.node for name in node.output}


@pytest.mark.parametrize("case", CASES)
def test_every_operator_stands_between_codes(exported, case):
    _, model = exported(case)
    makers, constants = _makers(model), _constants(model)
    for node in model.graph.node:
        in_norm = "/norm" in node.name and node.op_type != "LayerNormalization"
        if node.op_type == "QuantizeLinear" or in_norm:
            continue
        kinds = {makers[name].op_type for name in node.input if name in makers}
        if node.op_type in ("Relu", "Clip"):  # a function of the operator before it
            assert len(kinds) == 1, node.name
        else:
            expected = (
                "QuantizeLinear" if node.op_type == "DequantizeLinear" else "DequantizeLinear"
            )
            assert kinds <= {expected}, (node.name, kinds)
        for name in node.input:
            value = constants.get(name)
            if value is not None and node.op_type in ("Conv", "Gemm", "MatMul"):
                pytest.fail(f"{node.name} has a float weight")
    assert all(makers[each.name].op_type == "DequantizeLinear" for each in model.graph.output)


MOST_STEPS = {"xwisenet": 24}
"""One step of a context, a norm's of few elements, is added to every position, and grows behind it;
operator by operator nothing is off by more than a step (tests/proof)."""


@pytest.mark.parametrize("case", CASES)
def test_recorded_arrays_are_what_onnx_runtime_gives(exported, case):
    done, model = exported(case)
    arrays = np.load(done.npz)
    config = ENTRIES[case[0]].config("tiny", case[1])
    feeds = {each.name: arrays[f"input:{each.name}"] for each in config.signature.inputs}
    found = run(model, feeds)
    makers, constants = _makers(model), _constants(model)
    for name in config.signature.outputs:
        recorded = arrays[f"output:{name}"]
        if done.recorded_by == "onnxruntime":
            assert np.array_equal(recorded, found[name])
            continue
        # The integer reference rounds on its own: a few steps of the output's scale after a
        # whole network, whose classes must be the same.
        scale = constants[makers[name].input[1]]
        assert np.abs(recorded - found[name]).max() <= MOST_STEPS.get(case[0], 8) * scale, name
        if case[0] in MOST_STEPS:
            assert recorded.argmax() == found[name].argmax()
    assert graph_macs(inferred(model).graph) == count(config).macs()


def test_softmax_has_its_scale(exported):
    for case in (("vtn_mobilenetv2", ""), ("xwisenet", "")):
        _, model = exported(case)
        constants = _constants(model)
        quantizers = {n.input[0]: n for n in model.graph.node if n.op_type == "QuantizeLinear"}
        found = [n for n in model.graph.node if n.op_type == "Softmax"]
        assert len(found) >= 2
        for node in found:
            scale, zero = (constants[name] for name in quantizers[node.output[0]].input[1:])
            assert scale == np.float32(1 / 256) and zero == 0


def test_the_unbiased_norm_is_one_float_subgraph(exported):
    _, model = exported(("vtn_mobilenetv2", ""))
    inside = [n for n in model.graph.node if "/norm1/" in n.name and "blocks.0" in n.name]
    kinds = collections.Counter(node.op_type for node in inside)
    assert kinds["QuantizeLinear"] == 1, "its output only"
    assert not {"Conv", "Gemm", "MatMul"} & set(kinds)
    made = {name for node in inside for name in node.output}
    makers = _makers(model)
    outside = {n for node in inside for n in node.input if n in makers and n not in made}
    assert {makers[name].op_type for name in outside} == {"DequantizeLinear"}
    assert len({makers[name].input[0] for name in outside}) == 1, "one activation goes in"


def test_products_see_codes_of_both_operands(exported):
    _, model = exported(("vtn_mobilenetv2", ""))
    makers, constants = _makers(model), _constants(model)
    products = [
        node
        for node in model.graph.node
        if node.op_type == "MatMul"
        and all(
            makers[makers[name].input[0]].op_type == "QuantizeLinear"
            for name in node.input
            if makers[name].input[0] in makers
        )
        and not any(makers[name].input[0] in constants for name in node.input)
    ]
    assert len(products) == 4, "two a block"


def test_frames_are_the_batch_of_two_dimensional_nodes(exported):
    for case in (("vtn_mobilenetv2", ""), ("eacnet_r50", "")):
        _, model = exported(case)
        shapes = {v.name: v for v in inferred(model).graph.value_info}
        config = ENTRIES[case[0]].config("tiny")
        convs = [n for n in model.graph.node if n.op_type == "Conv"]
        dims = [d.dim_value for d in shapes[convs[0].output[0]].type.tensor_type.shape.dim]
        assert len(dims) == 4 and dims[0] == config.frames


def test_a_state_has_one_scale_and_goes_on(exported):
    done, model = exported(("vtn_online", ""))
    constants, arrays = _constants(model), np.load(done.npz)
    nodes = {n.name: n for n in model.graph.node}
    entering = [constants[name] for name in nodes["window_QuantizeLinear"].input[1:]]
    leaving = [constants[name] for name in _makers(model)["window_next"].input[1:]]
    assert entering == leaving
    windows = arrays["steps:input:window"], arrays["steps:output:window_next"]
    assert windows[0].shape[0] == RECORDED_STEPS and not windows[0][0].any()
    assert np.array_equal(windows[0][1:], windows[1][:-1])
    # The window moves by one, and nothing but the newest vector is new: no drift.
    assert np.array_equal(windows[1][:, :, :-1], windows[0][:, :, 1:])
    assert windows[1][-1].any(axis=-1).sum() == RECORDED_STEPS
    assert np.array_equal(arrays["input:window"], windows[0][-1])


def test_twin_a_state_of_two_scales_would_drift(exported):
    done, model = exported(("vtn_online", ""))
    arrays = np.load(done.npz)
    maker = _makers(model)["window_next"]
    tensor = next(t for t in model.graph.initializer if t.name == maker.input[1])
    wider = numpy_helper.to_array(tensor) * np.float32(1.1)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(wider), "wider"))
    maker.input[1] = "wider"
    feeds = {name: arrays[f"input:{name}"] for name in ("frame", "window")}
    after = run(model, feeds)["window_next"]
    assert not np.array_equal(after[:, :-1], feeds["window"][:, 1:])


def test_videos_go_on_and_have_cuts():
    frames = video(3, 40, 16, 16)
    assert frames.shape == (40, 3, 16, 16) and np.array_equal(frames, video(3, 40, 16, 16))
    change = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    assert change.max() > 3 * np.median(change), "a cut changes more than motion"
    frame, window = Input("frame", (1, 3, 16, 16), "frame"), Input("w", (1, 4), "state")
    one = Signature((frame,))
    assert np.array_equal(samples(one, 5, 3)[2]["frame"], samples(one, 7, 1)[0]["frame"]), (
        "samples without states are their own"
    )
    stateful = Signature((frame, window), ("w_next",), (State("w", "w_next"),))
    steps = samples(stateful, 3, 40)
    assert np.array_equal(np.concatenate([step["frame"] for step in steps]), frames)
