"""The oracle: runs a quantized ONNX graph in PyTorch integer arithmetic.

Written from docs/numerics.md alone, apart from the accelerator and its compiler: if
one of them is wrong, they disagree. Convolutions accumulate exactly, requantization takes the
float32 roundings of ONNX Runtime's kernels, everything else is a table or a move.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch

from models.errors import ModelsError
from models.quantgraph import Group, QuantizedGraph, UnsupportedGraph
from models.values import Constant

__all__ = ["Reference", "UnsupportedGraph", "evaluate"]

Feeds = Mapping[str, np.ndarray]


def evaluate(group: Group, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Compute one group.

    Parameters
    ----------
    group: what to compute.
    tensors: what it reads, by ONNX name: uint8 or int8, graph inputs as the file types them.

    Returns
    -------
    uint8 or int8; float32 for a float output of the graph.

    Raises
    ------
    UnsupportedGraph
        The values leave what is defined: an accumulator leaves int32, 0 is divided by 0.
    """
    return group.compute(tensors).contiguous()


class Reference:
    """A quantized ONNX graph, ready to run.

    Parameters
    ----------
    model: QDQ or QOperator format, 8-bit activations.

    Members
    -------
    graph: as read with free axes of size 1.
    input_names, output_names: the graph's inputs and outputs.
    groups: its integer operations in execution order.

    Raises
    ------
    UnsupportedGraph
        A node has no integer definition; says which and why.
    ModelsError
        The file is missing or no ONNX file.
    """

    def __init__(self, model: str | Path | onnx.ModelProto):
        self.graph = QuantizedGraph(model)
        self.groups = self.graph.groups
        self.input_names = self.graph.inputs
        self.output_names = self.graph.outputs

    def integer_outputs(self) -> list[str]:
        """Names of the integer tensors behind the graph's float outputs."""
        return [group.reads[0] for group in self.groups if group.final]

    def input_shape(self, name: str) -> list[int | None]:
        """Shape of an input; None where it is free."""
        return self.graph.file.shapes.get(name) or []

    def run(
        self,
        feeds: Feeds,
        keep: Iterable[str] | None = None,
        progress: Callable[[Group], None] = lambda group: None,
        as_codes: bool = False,
        forced: Mapping[str, bool] | None = None,
    ) -> dict[str, np.ndarray]:
        """Run the graph; of an If the arm that its condition chooses.

        Parameters
        ----------
        feeds: every graph input that anything reads, by name, as the file types it.
        keep: which tensors to return; others are freed when last used. Default: all. May name any
            8-bit integer tensor of the file, any float tensor that stands for codes (then the codes
            are returned), and the graph's outputs.
        progress: is told each group before it runs.
        as_codes: whether a float output of the graph that stands for codes is returned as codes,
            too.
        forced: conditions of If by name that are taken to be so, whatever the values.

        Returns
        -------
        By ONNX name; the graph's outputs as the file types them. What an arm that did not run
        would make is not there.

        Raises
        ------
        ModelsError
            A feed is missing, unknown, or of the wrong type or shape, or `keep` names no tensor.
        """
        graph = self._graph_for(feeds)
        finals = {g.output for g in graph.groups if g.final}
        outputs = {g.output for g in graph.groups}
        wanted = outputs if keep is None else set(keep)
        unknown = wanted - outputs - set(graph.names)
        if unknown:
            raise ModelsError(f"no tensor {', '.join(sorted(unknown))} in the graph")
        if as_codes:
            finals -= set(graph.names)
        places = {n: graph.names.get(n, n) for n in wanted - finals}
        results: dict[str, np.ndarray] = {}
        for name, place in places.items():
            if isinstance(place, Constant):
                results[name] = place.array
            elif place in feeds:
                results[name] = np.asarray(feeds[place])
        named: dict[str, list[str]] = {}
        for name, place in places.items():
            if isinstance(place, str):
                named.setdefault(place, []).append(name)
        for group, result, _ in self.steps(feeds, graph, progress, forced):
            if group.final:
                results |= {group.output: result.numpy()} if group.output in wanted & finals else {}
            else:
                for name in named.get(group.output, ()):
                    results[name] = result.numpy()
        return results

    def steps(
        self,
        feeds: Feeds,
        graph: QuantizedGraph | None = None,
        progress: Callable[[Group], None] = lambda group: None,
        forced: Mapping[str, bool] | None = None,
        trips: tuple[str, int] | None = None,
    ) -> Iterator[tuple[Group, torch.Tensor, Mapping[str, torch.Tensor]]]:
        """Run the graph step by step.

        Parameters
        ----------
        feeds, progress, forced: see `run`.
        graph: as read for the shapes of the feeds.
        trips: a Loop, and how many of its trips run; what needs later ones does not run either.

        Yields
        ------
        Each group that runs, its result, and all tensors that it or a later group reads. What no
        later group reads is forgotten before the next one runs.
        """
        graph = graph or self._graph_for(feeds)
        tensors = self._feeds(feeds, graph)
        needs = [(*g.reads, *(name for name, _ in g.guard)) for g in graph.groups]
        uses = Counter(name for names in needs for name in names)
        late: set[str] = set()
        for group, names in zip(graph.groups, needs, strict=True):
            progress(group)
            if trips is not None and (
                graph.trip(group.output, trips[0]) >= trips[1] or late & {*names}
            ):
                late.add(group.output)
            elif group.runs(tensors):
                with torch.no_grad():
                    result = evaluate(group, tensors)
                if group.output in (forced or {}):
                    result = torch.tensor((forced or {})[group.output])
                if not group.final:
                    tensors[group.output] = result
                yield group, result, tensors
            uses.subtract(names)
            for name in {*names, group.output}:
                if uses[name] == 0:
                    tensors.pop(name, None)

    def _graph_for(self, feeds: Feeds) -> QuantizedGraph:
        """The graph for the shapes of the feeds, which decide where axes are free."""
        given = {name: np.shape(feeds[name]) for name in self.input_names if name in feeds}
        if given == {name: self.graph.shapes[name] for name in given}:
            return self.graph
        for name, shape in given.items():
            declared = self.graph.file.shapes[name]
            fits = declared is None or len(declared) == len(shape)
            if not fits or any(
                n is not None and n != m for n, m in zip(declared or (), shape, strict=False)
            ):
                raise ModelsError(f"input {name} must have shape {declared}, not {list(shape)}")
        return QuantizedGraph(self.graph.model, given)

    def _feeds(self, feeds: Feeds, graph: QuantizedGraph) -> dict[str, torch.Tensor]:
        """Check the inputs against the graph's."""
        read = {name for group in graph.groups for name in group.reads}
        needed = [name for name in self.input_names if name in read]
        if not set(needed) <= set(feeds) <= set(self.input_names):
            raise ModelsError(f"inputs must be {self.input_names}, not {sorted(feeds)}")
        tensors = {}
        for name in needed:
            array, kind = np.asarray(feeds[name]), graph.file.types[name]
            if array.dtype != kind:
                raise ModelsError(f"input {name} must be {kind}, not {array.dtype}")
            if kind.kind == "f" and not np.isfinite(array).all():
                raise ModelsError(f"input {name} holds values that are not finite")
            tensors[name] = torch.from_numpy(np.asarray(array, order="C"))
        return tensors
