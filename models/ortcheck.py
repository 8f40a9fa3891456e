"""Compare the oracle with ONNX Runtime, operator by operator.

What the file says between integer tensors becomes a model of its own: exposing inner tensors of
the whole network as outputs would keep ONNX Runtime from fusing what it fuses in use. They run
in order under ENABLE_ALL, each fed with what ONNX Runtime itself computed before, and the oracle
gets the same inputs: a difference never spreads to the next operator.
"""

import platform
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch

from models.exactness import exact_session
from models.extract import submodel
from models.quantgraph import Group, QuantizedGraph
from models.reference import Reference, evaluate

# What decides which of ONNX Runtime's int8 kernels run (docs/numerics.md, "Measured").
CPU_FLAGS = ("avx2", "fma", "avx_vnni", "avx512_vnni", "avx512bw", "amx_int8", "asimddp", "i8mm")


@dataclass
class OpFigures:
    """Comparison of all groups of one operator type."""

    op: str
    groups: int = 0
    elements: int = 0
    mismatches: int = 0
    max_difference: int = 0

    @property
    def rate(self) -> float:
        """Share of elements that differ."""
        return self.mismatches / self.elements if self.elements else 0.0

    def add(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Count one group's result."""
        difference = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
        self.groups += 1
        self.elements += difference.size
        self.mismatches += int(np.count_nonzero(difference))
        self.max_difference = max(self.max_difference, int(difference.max(initial=0)))


def platform_figures() -> dict[str, Any]:
    """ONNX Runtime's version and the processor features that choose its kernels."""
    flags: set[str] = set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(("flags", "Features")):
                flags = set(line.split(":", 1)[1].split())
                break
    return {
        "onnxruntime": ort.__version__,
        "machine": platform.machine(),
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in flags],
    }


def session(model: onnx.ModelProto | str) -> ort.InferenceSession:
    """Session under ENABLE_ALL on the CPU; S8 activations with two consumers stay integer."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.log_severity_level = 3
    return exact_session(model, options)


@dataclass(frozen=True)
class Part:
    """What the file itself says between integer tensors and the next one.

    Attributes
    ----------
    model: the user's nodes from `inputs` to `output`.
    inputs: integer tensors, or inputs of the graph.
    output: the tensor to compare.
    """

    model: onnx.ModelProto
    inputs: tuple[str, ...]
    output: str


def cut(graph: QuantizedGraph, output: str) -> tuple[list[onnx.NodeProto], tuple[str, ...]]:
    """The user's nodes that make a tensor from integers, and what they read.

    They are found by going back through the file to integer tensors and inputs of the graph: the
    reading in `models.quantgraph` has no say in which they are.
    """
    nodes = graph.file.between([output], graph.ends)
    read = dict.fromkeys(name for node in nodes for name in node.input)
    return nodes, tuple(name for name in read if name in graph.ends)


def part(graph: QuantizedGraph, output: str) -> Part:
    """A model of what `cut` finds."""
    nodes, inputs = cut(graph, output)
    kinds = {name: graph.kinds[name] for name in inputs}
    model = submodel(graph.file, nodes, kinds, [output])
    return Part(model, inputs, output)


@torch.no_grad()
def compare(
    path: str | Path | onnx.ModelProto,
    feeds: dict[str, np.ndarray],
    progress: Callable[[Group], None] = lambda group: None,
) -> dict[str, Any]:
    """Compare every group, and the whole network, with ONNX Runtime.

    Parameters
    ----------
    path: a quantized network.
    feeds: its inputs by name.
    progress: is told each group before it runs.

    Returns
    -------
    ``platform``; ``operators``, one row per operator type; ``network``, the outputs of the oracle
    against one session of the whole file, in steps of the output scale.
    """
    reference = Reference(path)
    graph = reference.graph
    tensors = {n: torch.from_numpy(np.asarray(a, order="C")) for n, a in feeds.items()}
    integers = graph.integers()
    figures: dict[str, OpFigures] = {}
    parts = {
        g.output: part(graph, g.output) for g in graph.groups if g.final or g.output in integers
    }
    uses = Counter(name for group in graph.groups for name in group.reads)
    uses.update(name for each in parts.values() for name in each.inputs)
    for group in graph.groups:
        progress(group)
        ours, read = evaluate(group, tensors), list(group.reads)
        if group.final or group.output in integers:
            each = parts[group.output]
            fed = {name: tensors[name].numpy() for name in each.inputs}
            theirs = session(each.model).run(None, fed)[0]
            row = figures.setdefault(group.op, OpFigures(group.op))
            if group.final:  # float: compare representations
                row.add(ours.numpy().view(np.int32), theirs.view(np.int32))
            else:
                row.add(ours.numpy(), theirs)
                ours = torch.from_numpy(theirs)
            read += each.inputs
        if not group.final:
            tensors[group.output] = ours
        uses.subtract(read)
        for name in {*read, group.output}:
            if not uses[name]:
                tensors.pop(name, None)
    return {
        "platform": platform_figures(),
        "operators": [asdict(row) | {"rate": row.rate} for row in figures.values()],
        "network": compare_network(reference, feeds),
    }


def compare_network(reference: Reference, feeds: dict[str, np.ndarray]) -> dict[str, Any]:
    """Run the whole file in one session and by the oracle, and compare the outputs."""
    ours = reference.run(feeds, keep=reference.output_names)
    theirs = session(reference.graph.model).run(reference.output_names, feeds)
    finals = [group.output for group in reference.groups if group.final]
    scales = {name: reference.graph.step(name) for name in finals}
    elements = mismatches = 0
    greatest = 0.0
    for name, other in zip(reference.output_names, theirs, strict=True):
        steps = np.abs(ours[name].astype(np.float64) - other) / scales.get(name, 1.0)
        elements += steps.size
        mismatches += int(np.count_nonzero(steps > 0.5))
        greatest = max(greatest, float(steps.max(initial=0)))
    return {
        "elements": elements,
        "mismatches": mismatches,
        "max_difference": round(greatest),
        "same_class": all(
            int(np.argmax(ours[name])) == int(np.argmax(other))
            for name, other in zip(reference.output_names, theirs, strict=True)
        ),
    }


def render(report: dict[str, Any]) -> str:
    """Make a text table of `compare`."""
    system, network = report["platform"], report["network"]
    lines = [
        " ".join(["ONNX Runtime", system["onnxruntime"], system["machine"], *system["cpu_flags"]]),
        f"{'operator':20} {'groups':>6} {'elements':>11} {'differ':>8} {'rate':>9} {'max':>4}",
    ]
    lines += [
        f"{row['op']:20} {row['groups']:6d} {row['elements']:11d} {row['mismatches']:8d} "
        f"{row['rate']:9.2e} {row['max_difference']:4d}"
        for row in report["operators"]
    ]
    lines.append(
        f"whole network: {network['mismatches']} of {network['elements']} outputs differ, "
        f"at most by {network['max_difference']} steps"
    )
    return "\n".join(lines)
