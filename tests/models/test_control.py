"""LiteEval's graphs with If and Loop: the same as their parts, step by step."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models import control
from models.count import count
from models.export import export, weighted
from models.liteeval_graph import decisions
from models.registry import ENTRIES
from models.samples import samples, zero_states
from tests.models.networks import graph_macs, inferred, run

STEP = [
    pytest.param(variant, marks=() if variant in ("", "rules=code") else pytest.mark.slow)
    for variant in ENTRIES["liteeval"].variants("tiny")
]
CLIP = [
    pytest.param(variant, marks=() if variant == "budget=3" else pytest.mark.slow)
    for variant in ENTRIES["liteeval_clip"].variants("tiny")
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("liteeval"), {}

    def make(name, variant):
        if (name, variant) not in made:
            target = folder / f"{len(made)}.onnx"
            made[name, variant] = export(name, target, "tiny", variant=variant)
        done = made[name, variant]
        return onnx.load(done.onnx), np.load(done.npz)

    return make


def _branches(graph):
    """If node, its arms, and the graph that holds it."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "body":
                return _branches(attribute.g)
        if node.op_type == "If":
            return node, {a.name: a.g for a in node.attribute}, graph
    raise AssertionError("no If")


def _without_if(model, arm):
    """The model with one arm in the If's place: what a host would run that had decided."""
    straight = onnx.ModelProto()
    straight.CopyFrom(model)
    node, arms, graph = _branches(straight.graph)
    taken = arms[arm]
    renamed = dict(zip((v.name for v in taken.output), node.output, strict=True))
    for inner in taken.node:
        for names in (inner.input, inner.output):
            names[:] = [renamed.get(name, name) for name in names]
    before = list(graph.node)
    place = next(i for i, each in enumerate(before) if each.op_type == "If")
    graph.initializer.extend(taken.initializer)
    nodes = [*before[:place], *taken.node, *before[place + 1 :]]
    del graph.node[:]
    graph.node.extend(nodes)
    return straight


@pytest.mark.parametrize("variant", STEP)
def test_a_step_takes_the_arm_that_its_gate_chose(exported, variant):
    model, _ = exported("liteeval", variant)
    config = ENTRIES["liteeval"].config("tiny", variant)
    signature = config.signature
    straight = {
        True: _without_if(model, "then_branch"),
        False: _without_if(model, "else_branch"),
    }
    states, seen = zero_states(signature), []
    for pictures in samples(signature, 500, 24):
        feeds = pictures | states
        found = run(model, feeds)
        fine = int(found["gate"].argmax()) == config.fine_index
        expected = run(straight[fine], feeds)
        assert all(np.array_equal(found[name], expected[name]) for name in found)
        other = run(straight[not fine], feeds)
        assert any(not np.array_equal(found[name], other[name]) for name in found)
        states = {pair.input: found[pair.output] for pair in signature.states}
        seen.append(fine)
    assert 0.2 <= np.mean(seen) <= 0.8, seen
    assert np.count_nonzero(np.diff(seen)) >= 3, "decisions follow the data"


@pytest.mark.parametrize("variant", STEP)
def test_a_skipped_step_copies_the_coarse_state(exported, variant):
    model, _ = exported("liteeval", variant)
    config = ENTRIES["liteeval"].config("tiny", variant)
    signature, width = config.signature, config.coarse_width
    states, skipped = zero_states(signature), 0
    for pictures in samples(signature, 500, 24):
        found = run(model, pictures | states)
        if int(found["gate"].argmax()) != config.fine_index:
            skipped += 1
            for kind in ("h", "c"):
                name = f"{kind}_fine_next"
                if name in found:
                    kept = states[f"{kind}_fine"][:, width:]
                    assert np.array_equal(found[name][:, width:], kept), "no drift"
                    if f"{kind}_coarse_next" in found:
                        coarse = found[f"{kind}_coarse_next"]
                        step = _scale(model, name) / 2 + _scale(model, f"{kind}_coarse_next") / 2
                        assert np.abs(found[name][:, :width] - coarse).max() <= 2 * step
        states = {pair.input: found[pair.output] for pair in signature.states}
    assert skipped


def _scale(model, output):
    return control.scale_of(model, output)[0]


def test_codes_pass_the_branch_with_one_scale(exported):
    model, _ = exported("liteeval", "")
    node, arms, graph = _branches(model.graph)
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    readers = {n.input[0]: n for n in graph.node if n.op_type == "DequantizeLinear"}
    for place, joined in enumerate(node.output):
        after = [constants[name] for name in readers[joined].input[1:3]]
        for arm in arms.values():
            output = arm.output[place]
            assert output.type.tensor_type.elem_type == onnx.TensorProto.UINT8
            inner = constants | {t.name: numpy_helper.to_array(t) for t in arm.initializer}
            (maker,) = (n for n in arm.node if output.name in n.output)
            assert maker.op_type == "QuantizeLinear"
            assert [inner[name] for name in maker.input[1:3]] == after


@pytest.mark.parametrize("variant", STEP)
def test_work_of_both_paths_is_the_tables(exported, variant):
    model, _ = exported("liteeval", variant)
    config = ENTRIES["liteeval"].config("tiny", variant)
    macs = {p: count(replace(config, part=p)).macs() for p in ("look", "read", "skip", "answer")}
    for arm, part in (("then_branch", "read"), ("else_branch", "skip")):
        straight = inferred(_without_if(model, arm))
        assert graph_macs(straight.graph) == macs["look"] + macs[part] + macs["answer"]


@pytest.mark.parametrize("variant", CLIP)
def test_a_clip_is_its_steps(exported, variant):
    model, arrays = exported("liteeval_clip", variant)
    clip = ENTRIES["liteeval_clip"].config("tiny", variant)
    # The same runtime on both sides: the recording is of integer kernels, which `run` leaves out,
    # and on some processors a product's float sum lies on the other side of a tie.
    feeds = {name[6:]: arrays[name] for name in arrays if name.startswith("input:")}
    whole = run(model, feeds)
    step = _step_of(model, clip)
    config = replace(clip, part="step", budget=0)
    states, rows, gates, fine = zero_states(config.signature), [], [], 0
    for t in range(clip.steps):
        feeds = {
            config.picture.name: arrays["input:frames"][t : t + 1],
            "thumbnail": arrays["input:thumbnails"][t : t + 1],
        }
        found = run(step, feeds | states)
        states = {pair.input: found[pair.output] for pair in config.signature.states}
        rows.append(found["logits"][0])
        gates.append(found["gate"][0])
        fine += int(found["gate"].argmax()) == config.fine_index
        if clip.budget and fine == clip.budget:
            break
    assert 0 < fine < len(rows), "both arms ran"
    if not clip.budget:
        assert np.array_equal(whole["logits"], np.stack(rows))
        assert np.array_equal(whole["gates"], np.stack(gates))
        return
    assert np.array_equal(whole["logits"], rows[-1][None]), "the step that ended the clip"
    assert whole["reads"].tolist() == [[fine]]
    if clip.budget == 3:
        assert fine == 3 and len(rows) < clip.steps, "the budget ended the clip"


def _step_of(model, config):
    """A model of one trip of the Loop, pictures and states in and out as floats."""
    (loop,) = (n for n in model.graph.node if n.op_type == "Loop")
    (body,) = (a.g for a in loop.attribute)
    outer = {t.name: t for t in model.graph.initializer}
    quantizers = {n.output[0]: n for n in model.graph.node if n.op_type == "QuantizeLinear"}
    step = control.Graph("step")
    step.constants = list(body.initializer)
    scales = {}
    for stacked, name in (("frames", config.picture.name), ("thumbnails", "thumbnail")):
        scale, zero = quantizers[control.codes(stacked)].input[1:3]
        scales[name] = _pair(outer[scale], outer[zero])
    single = replace(config, part="step", budget=0)
    for name in single.states:
        scales[name] = _state_scale(body, name)
    for name, scale in scales.items():
        step.quantize(name, scale)
    # Without what makes a Loop of it: the trip's pictures, the count of fine steps.
    dropped = {control.codes(config.picture.name), control.codes("thumbnail")}
    dropped |= {"trips", "goes_on", "below", "count_so_far"}
    step.constant(control.codes("count"), np.zeros((1, 1), np.uint8))
    step.nodes += [node for node in body.node if not dropped & set(node.output)]
    for name in single.states:
        step.dequantize(f"{name}_next", scales[name])
    logits = next(n for n in model.graph.node if n.output[0] == "logits")
    step.dequantize("logits", _pair(*(outer[name] for name in logits.input[1:3])))
    signature = single.signature
    kind = onnx.TensorProto.FLOAT
    inputs = [control.value(each.name, kind, each.shape) for each in signature.inputs]
    outputs = [onnx.ValueInfoProto(name=name) for name in signature.outputs]
    for each in outputs:
        each.type.tensor_type.elem_type = kind
    graph = step.body(inputs, outputs)
    made = onnx.helper.make_model(graph, opset_imports=model.opset_import)
    made.ir_version = model.ir_version
    return made


def _pair(scale, zero):
    return float(numpy_helper.to_array(scale)), int(numpy_helper.to_array(zero))


def _state_scale(graph, name, outer=()):
    """Scale of a carried state, from whichever node of the body or its arms reads its codes."""
    constants = {t.name: t for t in (*outer, *graph.initializer)}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] == control.codes(name):
            return _pair(*(constants[each] for each in node.input[1:3]))
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found = _state_scale(attribute.g, name, constants.values())
                if found:
                    return found
    return None


@pytest.mark.slow
def test_decisions_of_a_long_clip_follow_the_data():
    config = replace(ENTRIES["liteeval_clip"].config("tiny"), steps=129)
    network = weighted(config, "tiny", 0)
    for seed in (500, 501):
        seen = decisions(network, samples(config.signature, seed, 1))
        assert 0.2 <= np.mean(seen) <= 0.8 and np.count_nonzero(np.diff(seen)) >= 10


def test_a_part_that_is_not_quantized_at_its_edge_is_refused(tmp_path):
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "float.onnx")
    with pytest.raises(RuntimeError, match="x, y are not quantized at the edge"):
        control.cut(tmp_path / "float.onnx", "part", ["x"], ["y"])
