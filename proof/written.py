"""The oracle against the user's own nodes, evaluated in float as they are written.

Between integer tensors of the file the nodes are cut out by going back through the file alone;
ONNX Runtime evaluates them, without optimizations, on the codes of the oracle. So a node that was
misread, or passed over, is found even where oracle and compiler agree about it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from compiler.tensor import CompilerError
from models.extract import as_written, in_double
from models.ortcheck import Part, cut, part
from models.quantgraph import QuantizedGraph
from models.values import Group
from proof.limits import LIMITS, Limit

Array = npt.NDArray[Any]
DECISION = "decision"
"""Form of the groups that say which arm of a branch runs."""


@dataclasses.dataclass(slots=True)
class Figures:
    """All groups of one form.

    Attributes
    ----------
    operators, elements: compared.
    differ, steps, share: elements that do, by how much, the greatest share of one operator.
    beyond: of them, those that no tie explains.
    noise: of them, those whose own float is noise: its nodes in double say the same as we.
    """

    operators: int = 0
    elements: int = 0
    differ: int = 0
    beyond: int = 0
    steps: int = 0
    share: float = 0.0
    noise: int = 0

    def add(self, found: Figures) -> None:
        """Count one group."""
        self.operators += 1
        self.elements += found.elements
        self.differ += found.differ
        self.beyond += found.beyond
        self.noise += found.noise
        self.steps = max(self.steps, found.steps)
        self.share = max(self.share, found.differ / max(found.elements, 1))


class Written:
    """Compares groups with the file, one after the other.

    Parameters
    ----------
    graph: as the oracle has read it.

    Members
    -------
    figures: by form.
    unproven: what ONNX Runtime could not evaluate, and why.
    """

    def __init__(self, graph: QuantizedGraph) -> None:
        self._graph = graph
        self._integers = graph.integers()
        self.figures: dict[str, Figures] = {}
        self.unproven: list[dict[str, str]] = []

    def concerns(self, group: Group) -> bool:
        """Whether a group makes integers of the file, or a float output of the graph."""
        if group.form == DECISION:
            return True
        # What an arm made is compared there; what a Loop begins with is made by nothing.
        chosen = group.op in ("Constant", "If")
        made = not group.stands and not chosen and group.output in self._integers
        return bool(group.final or made)

    def reads(self, group: Group) -> tuple[str, ...]:
        """Integer tensors and inputs of the graph that the file's nodes go back to."""
        return tuple(cut(self._graph, group.output)[1])

    def check(
        self,
        group: Group,
        result: Array,
        tensors: Mapping[str, Array],
        taken: Mapping[str, bool] | None = None,
    ) -> None:
        """Compare one group.

        Parameters
        ----------
        group: made `result`.
        tensors: what `reads` names, but for what is made in arms that were not taken.
        taken: by decision, the arm that was; decisions are compared by themselves.

        Raises
        ------
        CompilerError
            An element differs by more than its form may: names node, element and both values.
        """
        if group.form == DECISION:
            self._decision(group, result, tensors)
            return
        piece = _one_way(part(self._graph, group.output), taken or {})
        fed = {name: tensors[name] for name in piece.inputs}
        last = piece.model.graph.node[-1]
        limit = LIMITS[group.form]
        real = last.input[0] if limit.steps and last.op_type == "QuantizeLinear" else ""
        try:
            if real:
                piece.model.graph.output.append(onnx.ValueInfoProto(name=real))
            theirs = as_written(piece.model).run(None, fed)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            self.unproven.append({"node": group.name, "op": group.op, "reason": str(error)})
            return
        if group.final:
            found = _floats(group, result, theirs[0])
        else:
            known = theirs[1] if real else None

            def double() -> Array:
                return np.asarray(as_written(in_double(piece.model, real)).run(None, fed)[0])

            found = _codes(group, limit, result, theirs[0], known, double)
        self.figures.setdefault(group.form, Figures()).add(found)

    def _decision(self, group: Group, result: Array, tensors: Mapping[str, Array]) -> None:
        """What decides a branch: the same as the file's own comparison."""
        piece = part(self._graph, group.output)
        fed = {name: tensors[name] for name in piece.inputs}
        theirs = np.asarray(as_written(piece.model).run(None, fed)[0])
        if theirs.size != 1 or bool(theirs.reshape(-1)[0]) != bool(result):
            raise CompilerError(
                f"node {group.name} ({group.op}): {group.output} is {bool(result)}; the file's own "
                f"nodes make {theirs.tolist()}"
            )
        self.figures.setdefault(DECISION, Figures()).add(Figures(0, 1))


def _one_way(piece: Part, taken: Mapping[str, bool]) -> Part:
    """The nodes without the arms of branches that were not taken: their values are not there."""
    graph = piece.model.graph
    if not any(node.op_type == "If" and node.input[0] in taken for node in graph.node):
        return piece
    kept: list[onnx.NodeProto] = []
    wanted = {output.name for output in graph.output}
    for node in reversed(graph.node):
        if not wanted & set(node.output):
            continue
        if node.op_type == "If" and node.input[0] in taken:
            arm = node.input[1 if taken[node.input[0]] else 2]
            node = onnx.helper.make_node("Identity", [arm], node.output)
        kept.insert(0, node)
        wanted |= set(node.input)
    inputs = [value for value in graph.input if value.name in wanted]
    model = onnx.ModelProto()
    model.CopyFrom(piece.model)
    del model.graph.node[:], model.graph.input[:]
    model.graph.node.extend(kept)
    model.graph.input.extend(inputs)
    return Part(model, tuple(name for name in piece.inputs if name in wanted), piece.output)


def _floats(group: Group, ours: Array, theirs: Array) -> Figures:
    """A float output: the same number, or the same function in another float precision."""
    _same_kind(group, ours, theirs)
    wrong = ~(np.isclose(ours, theirs, rtol=1e-6, atol=0, equal_nan=True))
    if wrong.any():
        raise _error(group, ours, theirs, wrong)
    return Figures(0, ours.size, int(np.count_nonzero(ours != theirs)))


def _codes(
    group: Group,
    limit: Limit,
    ours: Array,
    theirs: Array,
    real: Array | None,
    double: Callable[[], Array],
) -> Figures:
    """Codes: differences at ties, and few others.

    Parameters
    ----------
    real: what the file's nodes quantize; None where it is not to be seen.
    double: the same from nodes in float64.
    """
    _same_kind(group, ours, theirs)
    where = np.flatnonzero(ours.reshape(-1) != theirs.reshape(-1))
    if not where.size:
        return Figures(0, ours.size)
    distance = np.abs(
        ours.reshape(-1)[where].astype(np.int64) - theirs.reshape(-1)[where].astype(np.int64)
    )
    found = Figures(0, ours.size, where.size, where.size, int(distance.max()))
    far = where[distance > limit.steps]
    if real is None:
        if far.size:
            raise _error(group, ours, theirs, far, f"; {limit.steps} step is allowed")
        if where.size > limit.kernel * ours.size:
            raise _error(group, ours, theirs, where, f" (limit {limit.kernel:.1e})")
        return found
    assert group.params is not None
    unit = float(group.params.unit)
    reach = limit.reach + group.lost / unit
    values = real.reshape(-1)[where].astype(np.float64) / unit
    from_tie = np.abs(values - np.floor(values) - 0.5)
    beyond = where[from_tie > reach]
    if limit.noisy and (far.size or beyond.size):
        exact = double().reshape(-1) / unit + group.params.zero
        exact = np.clip(exact, group.params.low, group.params.high)
        wrong = np.abs(ours.reshape(-1) - exact) > 0.5 + reach
        found.noise = len(np.union1d(far, beyond)) - int(wrong[np.union1d(far, beyond)].sum())
        far, beyond = far[wrong[far]], beyond[wrong[beyond]]
    if far.size:
        raise _error(group, ours, theirs, far, f"; {limit.steps} step is allowed")
    found.beyond = beyond.size
    if found.beyond > limit.beyond * ours.size:
        raise _error(group, ours, theirs, beyond, f" beyond ties (limit {limit.beyond:.1e})")
    return found


def _same_kind(group: Group, ours: Array, theirs: Array) -> None:
    if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
        raise CompilerError(
            f"node {group.name} ({group.op}): {group.output} is {ours.dtype} {list(ours.shape)}; "
            f"the file makes {theirs.dtype} {list(theirs.shape)}"
        )


def _error(group: Group, ours: Array, theirs: Array, wrong: Array, more: str = "") -> CompilerError:
    flat = np.flatnonzero(wrong) if wrong.dtype == bool else wrong
    index = tuple(int(i) for i in np.unravel_index(int(flat[0]), ours.shape))
    return CompilerError(
        f"node {group.name} ({group.op}): {group.output} differs from the file's own nodes at "
        f"{list(index)}: {ours[index]} instead of {theirs[index]} ({flat.size} of {ours.size} "
        f"elements{more})"
    )
