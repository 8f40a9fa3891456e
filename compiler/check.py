"""Which nodes of a file can be compiled, which cannot, and why; nothing is built."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compiler.advice import Hint, hints
from compiler.frontend.reading import HOW_TO_GO_ON
from compiler.frontend.replacements import advice
from compiler.ir import Graph
from compiler.onnx_import import Imported, import_onnx
from compiler.pipeline import back_end_accepts, optimize
from hw.arch.config import AcceleratorConfig

FOLLOWING = 6
"""Names of nodes that follow from findings, as many as are printed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One node that cannot be compiled."""

    node: str
    op: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """Result of a check.

    Attributes
    ----------
    supported: (node, operator).
    unsupported: nodes with a reason, operators that are not supported first.
    remark: about the file as a whole, or empty.
    following: nodes of which nothing is known, since they read what has a finding.
    hints: what would make it faster, where all is supported.
    """

    supported: tuple[tuple[str, str], ...]
    unsupported: tuple[Finding, ...]
    remark: str
    following: tuple[tuple[str, str], ...] = ()
    hints: tuple[Hint, ...] = ()

    @property
    def lines(self) -> list[str]:
        """For people: what matters first.

        Of a file that is not quantized most findings are that it is not; its remark says so once.
        """
        count = len(self.unsupported)
        lines = [f"{f.node} ({f.op}): {f.reason}" for f in self.unsupported]
        if self.remark:
            unknown = [f.op for f in self.unsupported if f.reason.startswith(HOW_TO_GO_ON)]
            counts = Counter(unknown)
            names = ", ".join(f"{op} ({n})" if n > 1 else op for op, n in counts.items())
            also = [f"quantized or not, these operators are not supported: {names}"]
            also += [f"{op}: {advice(op).removeprefix('; ')}" for op in counts if advice(op)]
            return [self.remark, *(also if unknown else [])]
        if self.following:
            names = ", ".join(name for name, _ in self.following[:FOLLOWING])
            more = ", ..." if len(self.following) > FOLLOWING else ""
            number = len(self.following)
            verb = "node follows" if number == 1 else "nodes follow"
            lines.append(f"{number} {verb} from {'it' if count == 1 else 'them'}: {names}{more}")
        lines += map(str, self.hints)
        findings = f"{count} finding{'' if count == 1 else 's'}"
        return [*lines, f"{len(self.supported)} nodes supported, {findings}"]

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "supported": [{"node": node, "op": op} for node, op in self.supported],
            "unsupported": [dataclasses.asdict(finding) for finding in self.unsupported],
            "remark": self.remark,
            "hints": [dataclasses.asdict(hint) for hint in self.hints],
            "following": [{"node": node, "op": op} for node, op in self.following],
        }


def check(
    source: Path,
    config: AcceleratorConfig,
    fuse: bool = True,
    states: Mapping[str, str] | None = None,
) -> Report:
    """Check a file against the importer and the back end.

    Parameters
    ----------
    states: output by input of states, beside those that the file declares.

    Raises
    ------
    FileError
        The file cannot be read as a model.
    """
    imported = import_onnx(source, states)
    findings = [Finding(f.node, f.op, f.reason) for f in imported.unsupported]
    graph = optimize(imported.importable, fuse, back_end_accepts(config))
    findings += _back_end_findings(imported, graph, config)
    bad = {finding.node for finding in findings} | {name for name, _ in imported.following}
    supported = tuple(node for node in imported.nodes if node[0] not in bad)
    faster = () if findings else hints(graph, config, back_end_accepts(config))
    return Report(supported, tuple(findings), imported.remark, imported.following, faster)


def _back_end_findings(
    imported: Imported, graph: Graph, config: AcceleratorConfig
) -> list[Finding]:
    """Operators that were imported (also beside unsupported ones) but are not lowered."""
    accept = back_end_accepts(config)
    findings = []
    for op in graph.ops:
        why = accept(op, graph.input_types(op), graph.type(op.output))
        if why is not None:
            node, operator = imported.owners.get(op.name, (op.name, type(op).__name__))
            findings.append(Finding(node, operator, why))
    return findings
