"""Ranges of a network's tensors on calibration samples, and the scales that follow from them."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

Feeds = Mapping[str, np.ndarray]
Range = tuple[float, float]
Scale = tuple[float, int]

# Ops whose output the quantizer gives the scale of their input: a range of their own is void.
SAME_SCALE = ("Slice", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "MaxPool")
TAIL = 2e-4  # share of elements left outside the range on either side
_SMALL = 20_000  # fewer elements than this on all clips: extremes, not quantiles
_MARGIN = 0.03  # how far extremes are widened, for clips not seen
_SAMPLE = 500_000  # elements looked at per tensor and clip
_AT_ONCE = 1 << 29  # elements of all tensors that one session hands out, or that are looked at
_SPAN = 4.0  # how many times the narrowest of a concat's operands the widest may be


def _tail(values: list[np.ndarray], size: int) -> Range:
    """Range of a tensor from samples of each clip; `size` elements in all."""
    everything = np.concatenate(values)
    low, high = float(everything.min()), float(everything.max())
    if size < _SMALL:
        margin = _MARGIN * (high - low)
        return low - margin * (low < 0), high + margin
    inner = np.quantile(everything, [TAIL, 1 - TAIL])
    # A tensor with many equal extremes (a clipped picture) keeps them: they are its true ends.
    return float(min(inner[0], 0)), float(inner[1])


def calibrated_range(tensors: Iterable[np.ndarray]) -> Range:
    """Range of one tensor from its values on all samples, as `ranges` finds it."""
    flat = [tensor.reshape(-1) for tensor in tensors]
    return _tail(flat, sum(each.size for each in flat))


def _step(size: int) -> int:
    """One of how many elements is looked at: odd, not to fall into step with rows and channels."""
    return size // _SAMPLE | 1


def _some(tensor: np.ndarray) -> np.ndarray:
    return tensor.reshape(-1)[:: _step(tensor.size)]


def _groups(values: Mapping[str, int]) -> Iterator[list[str]]:
    """Split tensors so that a group's elements stay below _AT_ONCE."""
    group: list[str] = []
    elements = 0
    for name, size in values.items():
        if group and elements + size > _AT_ONCE:
            yield group
            group, elements = [], 0
        group.append(name)
        elements += size
    if group:
        yield group


def _sizes(model: onnx.ModelProto) -> dict[str, int]:
    """Elements of each float tensor that a node makes and that gets a scale of its own."""
    shapes = onnx.shape_inference.infer_shapes(model).graph
    known = {value.name: value.type.tensor_type for value in (*shapes.value_info, *shapes.output)}
    sizes = {}
    for node in model.graph.node:
        if node.op_type in (*SAME_SCALE, "Constant"):
            continue
        for name in node.output:
            kind = known.get(name)
            if kind is None or kind.elem_type == onnx.TensorProto.FLOAT:
                dims = kind.shape.dim if kind else ()
                sizes[name] = int(np.prod([d.dim_value for d in dims], dtype=np.int64))
    return sizes


def ranges(path: Path, feeds: Iterable[Feeds]) -> dict[str, Range]:
    """Range of each activation of a float ONNX file on calibration samples.

    All but a small share of the elements lie inside. The extremes of a large tensor are rare:
    a range that reaches them would leave most codes unused, and where a difference of two
    tensors spans exactly twice their range every odd result would be a rounding tie.

    Parameters
    ----------
    path: float ONNX file.
    feeds: samples of its inputs.

    Returns
    -------
    Least and greatest real value by tensor name; 0 lies inside.
    """
    model, feeds = onnx.load(path), list(feeds)
    found = {
        name: _tail([_some(f[name]) for f in feeds], sum(f[name].size for f in feeds))
        for name in feeds[0]
    }
    made = {n: max(size, len(feeds) * size // _step(size)) for n, size in _sizes(model).items()}
    for group in _groups(made):
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in group)
        session = ort.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        samples: dict[str, list[np.ndarray]] = {name: [] for name in group}
        sizes = dict.fromkeys(group, 0)
        for feed in feeds:
            for name, tensor in zip(group, session.run(group, dict(feed)), strict=True):
                samples[name].append(_some(tensor).copy())
                sizes[name] += tensor.size
        found |= {name: _tail(several, sizes[name]) for name, several in samples.items()}
    return found


def compute_scale(low: float, high: float) -> Scale:
    """Scale and zero point of a u8 tensor whose range is low to high; 0 lies inside."""
    scale = np.float32((max(high, 0.0) - min(low, 0.0)) / 255)
    return float(scale), int(np.clip(np.rint(-min(low, 0.0) / scale), 0, 255))


def union(found: dict[str, Range], ties: Iterable[tuple[str, ...]]) -> None:
    """Give the tensors of each tie the range that holds them all, in place."""
    for tie in ties:
        several = [found[name] for name in tie]
        both = (min(low for low, _ in several), max(high for _, high in several))
        found.update(dict.fromkeys(tie, both))


def concat_ties(graph: onnx.GraphProto, found: Mapping[str, Range]) -> list[tuple[str, ...]]:
    """Operands and result of every concat of channels, where one scale suits them all.

    A concat whose operands have its scale moves codes as they are. It costs precision where an
    operand's range is far smaller than the others': not more than `_SPAN` of it here.
    """
    makers = {name: node for node in graph.node for name in node.output}
    ties = []
    for node in graph.node:
        axes = [each.i for each in node.attribute if each.name == "axis"]
        if node.op_type != "Concat" or axes != [1]:
            continue
        names = {node.output[0]}
        for name in node.input:
            while name in makers and makers[name].op_type in SAME_SCALE:
                name = makers[name].input[0]
            names.add(name)
        widths = [found[name][1] - found[name][0] for name in names & found.keys()]
        if len(widths) == len(names) and max(widths) <= _SPAN * min(widths):
            ties.append(tuple(sorted(names)))
    return ties


def disjoint(ties: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Ties that have a tensor in common as one."""
    groups: list[set[str]] = []
    for tie in ties:
        met = [group for group in groups if group & set(tie)]
        groups = [group for group in groups if group not in met]
        groups.append(set(tie).union(*met))
    return [tuple(sorted(group)) for group in groups]
