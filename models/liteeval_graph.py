"""LiteEval's graphs with control flow, and its weights.

The step is If around the fine network; the clip is Loop around the step. Each of the four parts
is exported and quantized by itself (control.py); the states' codes go around.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto

from models import control
from models.control import Graph, codes, value
from models.initialise import initialise
from models.liteeval import STEP_PARTS, LiteEval, LiteEvalConfig
from models.network import Feeds
from models.quantize import OPSET, export_graph, quantize
from models.ranges import Scale, calibrated_range, compute_scale

ONE: Scale = (1.0, 0)
"""Scale of a number of steps: a code is the number."""
COUNT = (1, 1)
_BALANCING = 4  # rounds: decisions change the states that the gate sees
_BATCH = 8  # pictures that an encoder sees at once
_CALIBRATED = 32  # steps at most that shape the weights, or calibrate a part: all keep their maps


def _steps(config: LiteEvalConfig, feeds: list[Feeds]) -> Iterator[tuple[bool, Feeds]]:
    """Pictures of every step of some feeds, and whether a video starts there."""
    if config.part == "step":
        for number, feed in enumerate(feeds):
            yield number == 0, feed
        return
    picture = config.picture.name
    for feed in feeds:
        for t in range(config.steps):
            frame, small = (feed[name][t : t + 1] for name in ("frames", "thumbnails"))
            yield t == 0, {picture: frame, "thumbnail": small}


def _some(steps: list[Feeds]) -> list[Feeds]:
    """At most `_CALIBRATED` of them, evenly spaced."""
    return steps[:: -(-len(steps) // _CALIBRATED)]


@torch.no_grad()
def _features(network: LiteEval, steps: list[tuple[bool, Feeds]]) -> list[torch.Tensor]:
    """What both encoders see in every step: they have no state, so they run once, in batches."""
    found = []
    for encoder, name in (
        (network.coarse, "thumbnail"),
        (network.fine, network.config.picture.name),
    ):
        arrays = [pictures[name] for _, pictures in steps]
        batches = [arrays[n : n + _BATCH] for n in range(0, len(arrays), _BATCH)]
        found.append(torch.cat([encoder(torch.from_numpy(np.concatenate(b))) for b in batches]))
    return found


@torch.no_grad()
def _rollout(
    network: LiteEval, steps: list[tuple[bool, Feeds]], features: list[torch.Tensor]
) -> Iterator[tuple[Feeds, bool]]:
    """Every step's tensors, by name, and whether it is fine.

    Both arms run in every step, so that either is calibrated on all of them; the states of the
    next step are those of the arm that the gate chose. The tensors of the other arm have
    `/other` behind their names.
    """
    config = network.config
    tensors: dict[str, torch.Tensor] = {}
    for number, (first, pictures) in enumerate(steps):
        following = {name: tensors.get(f"{name}_next") for name in config.states}
        if first:
            following = {n: torch.zeros(config.state(n).shape) for n in config.states}
        inputs = {name: torch.from_numpy(array) for name, array in pictures.items()}
        tensors = following | inputs
        coarse, close = (each[number : number + 1] for each in features)
        network.run_part("look", tensors, coarse, run=network.look_at)
        arms = {part: dict(tensors) for part in ("read", "skip")}
        network.run_part("read", arms["read"], close, run=network.read_in)
        network.run_part("skip", arms["skip"])
        fine = bool(network.reads(tensors["gate"]))
        chosen, other = ("read", "skip") if fine else ("skip", "read")
        tensors = arms[chosen]
        network.run_part("answer", tensors)
        results = {f"{name}/other": arms[other][name] for name in config.passed(other)[1]}
        yield {name: each.numpy() for name, each in (tensors | results).items()}, fine


def draw(config: LiteEvalConfig, network: LiteEval, feeds: list[Feeds], seed: int) -> None:
    """Draw weights, and give the gate no preference over the feeds, in place."""
    pictures = _some([pictures for _, pictures in _steps(config, feeds)])
    stacked = {
        name: torch.from_numpy(np.concatenate([each[name] for each in pictures]))
        for name in pictures[0]
    }
    generator = torch.Generator().manual_seed(seed)
    states = {}
    for name in ("h_coarse", "c_coarse", "h_fine", "c_fine"):
        shape = (len(pictures), config.state(name).shape[1])
        states[name] = 0.5 * torch.empty(shape).normal_(generator=generator)

    def forward(picture: torch.Tensor, thumbnail: torch.Tensor) -> None:
        tensors = dict(states)
        network.run_part("look", tensors, thumbnail)
        network.run_part("read", tensors, picture)
        network.run_part("answer", tensors)

    initialise(network, (stacked[config.picture.name], stacked["thumbnail"]), seed, forward=forward)
    _balance(network, feeds)


@torch.no_grad()
def _balance(network: LiteEval, feeds: list[Feeds]) -> None:
    """Centre the gate: over the feeds the mean of both scores is zero, their spread one.

    Without a bias (the paper's gate) the weights lose their part along the mean of what the gate
    sees.
    """
    config, gate = network.config, network.gate
    steps = list(_steps(config, feeds))
    features = _features(network, steps)
    names = ["v_coarse", *(n for n in config.passed("look")[0] if n.endswith("fine"))]
    for _ in range(_BALANCING):
        seen = np.stack(
            [
                np.concatenate([tensors[name][0] for name in names])
                for tensors, _ in _rollout(network, steps, features)
            ]
        )
        x = torch.from_numpy(seen)
        mean = x.mean(dim=0)
        if gate.bias is None:
            along = gate.weight @ mean / mean.square().sum()
            gate.weight.sub_(along[:, None] * mean)
        else:
            gate.bias.copy_(-(gate.weight @ mean))
        spread = (x - mean) @ gate.weight.T
        factor = 1 / spread.std(dim=0).clamp(min=1e-6)
        gate.weight.mul_(factor[:, None])
        if gate.bias is not None:
            gate.bias.mul_(factor)


def decisions(network: LiteEval, feeds: list[Feeds]) -> list[bool]:
    """Whether each step is fine, in float."""
    steps = list(_steps(network.config, feeds))
    return [fine for _, fine in _rollout(network, steps, _features(network, steps))]


def _boundary(config: LiteEvalConfig, steps: list[Feeds]) -> dict[str, Scale]:
    """Scales of the tensors that pass between parts; a state has one scale all along."""
    groups: dict[str, set[str]] = {}
    for part in STEP_PARTS:
        for name in (name for names in config.passed(part) for name in names):
            groups.setdefault(name.removesuffix("_next"), set()).add(name)
    scales = {}
    for names in groups.values():
        found = [s[n] for s in steps for key in names for n in (key, f"{key}/other") if n in s]
        scale = compute_scale(*calibrated_range(found))
        scales.update(dict.fromkeys(names, scale))
    return scales


def _quantized_parts(
    config: LiteEvalConfig, network: LiteEval, feeds: list[Feeds], folder: Path
) -> tuple[dict[str, Path], dict[str, Scale]]:
    """Export and quantize the parts; files by part, scales of passed tensors by name."""
    pictures = list(_steps(config, feeds))
    rolled = _rollout(network, pictures, _features(network, pictures))
    steps = [tensors for tensors, _ in rolled]
    scales = _boundary(config, steps)
    steps = _some(steps)
    del scales["v_coarse"]  # a move may make it, which keeps the scale of its input
    paths = {}
    for part in STEP_PARTS:
        single = replace(config, part=part, budget=0)
        network.config = single
        float_path, paths[part] = folder / f"{part}-float.onnx", folder / f"{part}.onnx"
        export_graph(network, single.signature, float_path)
        names = [each.name for each in single.signature.inputs]
        inside = {name for names in config.passed(part) for name in names}
        quantize(
            float_path,
            [{name: tensors[name] for name in names} for tensors in steps],
            paths[part],
            pinned={name: scale for name, scale in scales.items() if name in inside},
        )
        float_path.unlink()
        if part == "look":
            scales["v_coarse"] = control.scale_of(onnx.load(paths[part]), "v_coarse")
    network.config = config
    return paths, scales


def _step(graph: Graph, config: LiteEvalConfig, paths: dict[str, Path]) -> str:
    """Append one step, from the pictures' floats or codes to `logits_codes`; the decision's name.

    The parts' pictures are inputs of the graph, or codes that are there already.
    """
    pictures = {"look": "thumbnail", "read": config.picture.name}
    inside = {codes(p) for p in pictures.values()} & {
        n for node in graph.nodes for n in node.output
    }

    def part(name: str) -> control.Part:
        taken, made = config.passed(name)
        picture = pictures.get(name)
        if picture is not None and codes(picture) in inside:
            taken = (*taken, picture)
        return control.cut(paths[name], name, taken, made)

    graph.add(part("look"))
    scale = control.scale_of(onnx.load(paths["look"]), "gate")
    graph.dequantize("gate", scale)
    graph.node("ArgMax", ["gate"], "choice", axis=1, keepdims=0)
    fine = graph.constant("fine_index", np.array([config.fine_index], np.int64))
    graph.node("Equal", ["choice", fine], "reads")
    outputs = {name: config.state(name).shape for name in config.passed("read")[1]}
    read, skip = part("read"), part("skip")
    if config.budget:
        outputs["count_next"] = COUNT
        _counted(read, skip)
    graph.node(
        "If",
        ["reads"],
        [codes(name) for name in outputs],
        then_branch=control.branch(read, "fine_step", outputs),
        else_branch=control.branch(skip, "skipped_step", outputs),
    )
    graph.add(part("answer"))
    return "reads"


def _counted(read: control.Part, skip: control.Part) -> None:
    """Count fine steps in the arms: codes of scale 1."""
    graph = Graph("count")
    real = graph.dequantize("read/count", ONE, codes("count"))
    more = graph.node("Add", [real, graph.constant("read/one", np.float32(1))], "read/more")
    scale = graph.constant("read/unit", np.float32(1)), graph.constant("read/zero", np.uint8(0))
    graph.node("QuantizeLinear", [more, *scale], codes("count_next"))
    read.nodes += graph.nodes
    read.constants += graph.constants
    skip.nodes.append(
        onnx.helper.make_node("Identity", [codes("count")], [codes("count_next")], "skip/count")
    )


def compose(config: LiteEvalConfig, network: LiteEval, feeds: list[Feeds], folder: Path) -> Path:
    """Write the quantized step or clip; the file's path."""
    paths, scales = _quantized_parts(config, network, feeds, folder)
    logits = control.scale_of(onnx.load(paths["answer"]), "logits")
    graph = Graph("network")
    signature = config.signature
    inputs = [value(each.name, TensorProto.FLOAT, each.shape) for each in signature.inputs]
    if config.part == "step":
        for name in config.states:
            graph.quantize(name, scales[name])
        _step(graph, config, paths)
        graph.dequantize("logits", logits)
        for name in config.states:
            graph.dequantize(f"{name}_next", scales[name])
        shapes: dict[str, tuple[int | None, ...]] = {"logits": (1, config.classes), "gate": (1, 2)}
        shapes |= {f"{name}_next": config.state(name).shape for name in config.states}
    else:
        gate = control.scale_of(onnx.load(paths["look"]), "gate")
        _loop(graph, config, paths, scales, logits)
        if config.budget:
            graph.dequantize("logits", logits, "last_logits_codes")
            graph.dequantize("reads", ONE, "last_count_codes")
            shapes = {"logits": (1, config.classes), "reads": COUNT}
        else:
            graph.dequantize("logits", logits, "all_logits_codes")
            graph.dequantize("gates", gate, "all_gates_codes")
            shapes = {"logits": (config.steps, config.classes), "gates": (config.steps, 2)}
    outputs = [value(name, TensorProto.FLOAT, shapes[name]) for name in signature.outputs]
    target = folder / "int8.onnx"
    control.save(graph.body(inputs, outputs), OPSET, target)
    return target


def _input_scale(path: Path, name: str) -> Scale:
    """Scale and zero point with which a part quantizes its picture."""
    model = onnx.load(path)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    (node,) = (n for n in model.graph.node if name in n.input)
    return float(constants[node.input[1]]), int(constants[node.input[2]])


def _loop(
    graph: Graph,
    config: LiteEvalConfig,
    paths: dict[str, Path],
    scales: dict[str, Scale],
    logits: Scale,
) -> None:
    """Append the Loop over a clip: `all_logits_codes` and `all_gates_codes`, a row a step.

    With a budget: `last_logits_codes` and `last_count_codes`.
    """
    for name, part, step in (
        ("frames", "read", config.picture.name),
        ("thumbnails", "look", "thumbnail"),
    ):
        graph.quantize(name, _input_scale(paths[part], step))
    body = Graph("step")
    first = body.constant("axis", np.array([0], np.int64))
    body.node("Unsqueeze", ["trip", first], "trips")
    for source, step in (("frames", config.picture.name), ("thumbnails", "thumbnail")):
        body.node("Gather", [codes(source), "trips"], codes(step), axis=0)
    _step(body, config, paths)
    # What goes round: name in the body, what follows it, shape, first code, name behind the Loop.
    carried = [
        (
            codes(name),
            codes(f"{name}_next"),
            config.state(name).shape,
            scales[name][1],
            f"last_{name}",
        )
        for name in config.states
    ]
    rows = {"row_logits": (codes("logits"), config.classes), "row_gate": (codes("gate"), 2)}
    if config.budget:
        rows = {}
        answer = (1, config.classes)
        carried += [
            (codes("count"), codes("count_next"), COUNT, 0, "last_count_codes"),
            ("logits_before", codes("logits"), answer, logits[1], "last_logits_codes"),
        ]
        real = body.dequantize("count_so_far", ONE, codes("count_next"))
        limit = body.constant("budget", np.float32(config.budget))
        below = body.node("Less", [real, limit], "below")
        body.node("Squeeze", [below, body.constant("axes", np.array([0, 1], np.int64))], "goes_on")
    else:
        body.node("Identity", ["go_on"], "goes_on")
    for row, (name, _) in rows.items():
        body.node("Squeeze", [name, first], row)
    arguments = [value("trip", TensorProto.INT64, ()), value("go_on", TensorProto.BOOL, ())]
    arguments += [value(name, TensorProto.UINT8, shape) for name, _, shape, _, _ in carried]
    results = [value("goes_on", TensorProto.BOOL, ())]
    results += [value(after, TensorProto.UINT8, shape) for _, after, shape, _, _ in carried]
    results += [value(row, TensorProto.UINT8, (size,)) for row, (_, size) in rows.items()]
    initial = [
        graph.constant(f"{name}_initial", np.full(shape, code, np.uint8))
        for name, _, shape, code, _ in carried
    ]
    behind = [name for *_, name in carried]
    behind += [] if config.budget else [codes("all_logits"), codes("all_gates")]
    steps = graph.constant("steps", np.array(config.steps, np.int64))
    true = graph.constant("true", np.array(True))
    graph.node("Loop", [steps, true, *initial], behind, body=body.body(arguments, results))
