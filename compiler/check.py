"""Which nodes of a file can be compiled, which cannot, and why; nothing is built."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compiler.onnx_import import Imported, import_onnx
from compiler.pipeline import back_end_accepts, optimize
from hw.arch.config import AcceleratorConfig


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
    unsupported: every other node, with its reason.
    remark: about the file as a whole, or empty.
    """

    supported: tuple[tuple[str, str], ...]
    unsupported: tuple[Finding, ...]
    remark: str

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "supported": [{"node": node, "op": op} for node, op in self.supported],
            "unsupported": [dataclasses.asdict(finding) for finding in self.unsupported],
            "remark": self.remark,
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
    findings += _back_end_findings(imported, config, fuse)
    bad = {finding.node for finding in findings}
    supported = tuple(node for node in imported.nodes if node[0] not in bad)
    return Report(supported, tuple(findings), imported.remark)


def _back_end_findings(imported: Imported, config: AcceleratorConfig, fuse: bool) -> list[Finding]:
    """Operators that were imported (also beside unsupported ones) but are not lowered."""
    accept = back_end_accepts(config)
    graph = optimize(imported.importable, fuse, accept)
    findings = []
    for op in graph.ops:
        why = accept(op, graph.input_types(op), graph.type(op.output))
        if why is not None:
            node, operator = imported.owners.get(op.name, (op.name, type(op).__name__))
            findings.append(Finding(node, operator, why))
    return findings
