"""Find the integer operators in an ONNX graph.

Two ways of writing int8 networks are read. QDQ: float operators between DequantizeLinear and
QuantizeLinear nodes. QOperator: QLinearConv and the like. Nodes are read in order of execution, and
each tensor of the file becomes one of:

* a constant (`model.constants`), or a dequantized one (`Operand` with an array);
* codes: an integer tensor, or the float tensor that stands for it (`Operand` with a type);
* a function of codes that no QuantizeLinear has ended yet (`Function`);
* the result of an operator on codes that no QuantizeLinear has ended yet (`Pending`);
* a value that the host computes in float before the first QuantizeLinear (`Hosted`).

A QuantizeLinear turns each of them into codes. What fits nowhere runs in float, and is a finding.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from compiler.frontend import control, host, states
from compiler.frontend.builder import Operand
from compiler.frontend.fold import fold_constants
from compiler.frontend.functions import Function
from compiler.frontend.inline import is_join
from compiler.frontend.model import (
    Model,
    Unsupported,
    label,
    refuse,
)
from compiler.frontend.nodes import NodeReader
from compiler.frontend.reading import (
    HOW_TO_GO_ON,
    Blocked,
    Failed,
    Hosted,
    Pending,
)
from compiler.frontend.replacements import advice, how_to_quantize
from compiler.frontend.trips import ENTER, LEAVE
from compiler.ir import Carried, Graph, Port
from compiler.tensor import CompilerError
from hw.arch.numerics import NumericsError


class Importer:
    """Builds the graph of one model.

    Parameters
    ----------
    model: the indexed file.
    given: output by input of states, beside those that the file declares.

    Members
    -------
    findings: every node that cannot be compiled, operators that are not supported first, each in
        file order.
    following: nodes (name, operator) of which nothing is known, since they read what has a finding.
    """

    def __init__(self, model: Model, given: Mapping[str, str] | None = None) -> None:
        self.model = model
        self.states = states.declared(model, given or {})
        self.reader = NodeReader(model)
        self.builder = self.reader.builder
        self.findings: list[Unsupported] = list(model.problems)
        self.following: list[tuple[str, str]] = []

    def run(self, name: str) -> Graph | None:
        """Import everything; None if there are findings."""
        try:
            fold_constants(self.model)
        except Unsupported as finding:
            self.findings.append(finding)
            return None
        for node in self.model.nodes:
            known = all(not n or self.model.is_constant(n) for n in node.output)
            if not known and node.output[0] not in self.reader.deciding:
                self.builder.path = self.model.paths.get(node.output[0], ())
                self._guarded(node)
        self.builder.path = ()
        # One output may stand there twice: by name it is one.
        names = dict.fromkeys(value.name for value in self.model.proto.graph.output)
        outputs = [self._output(name) for name in names]
        carried = self._carried()
        order = {label(node): i for i, node in enumerate(self.model.nodes)}
        self.findings.sort(
            key=lambda f: (not f.reason.startswith(HOW_TO_GO_ON), order.get(f.node, -1))
        )
        if self.findings:
            return None
        ports = tuple(port for port in outputs if port is not None)
        builder = self.builder
        carried = builder.finish_inputs(ports, carried)
        sources = [port.onnx_name for port in builder.inputs]
        part = host.part(self.model, self.reader.host_nodes, sources)
        return Graph(
            name,
            tuple(builder.inputs),
            ports,
            builder.values,
            tuple(builder.ops),
            host.signature(self.model, sources, part),
            part,
            frozenset(self.model.names),
            carried,
            {name: path for name, path in builder.paths.items() if name in builder.values},
        )

    def importable(self, name: str) -> Graph:
        """What was imported, whole or not: loose ends become inputs and outputs."""
        values, ops = self.builder.values, tuple(self.builder.ops)
        made = {op.output for op in ops}
        read = {n for op in ops for n in op.inputs}
        starts = [n for n, v in values.items() if n not in made and v.constant is None]
        ends = [n for n in values if n not in read]
        return Graph(
            name,
            tuple(Port(n, n) for n in starts),
            tuple(Port(n, n) for n in ends),
            values,
            ops,
            reserved=frozenset(self.model.names),
            paths={} if self.findings else self.builder.paths,
        )

    def _guarded(self, node: onnx.NodeProto) -> None:
        """Read a node; turn whatever goes wrong into a finding about it, and go on."""
        state = self.builder.snapshot()
        found = len(self.findings)
        try:
            if is_join(node):
                self.reader.join(node)
            elif node.op_type == ENTER:
                self.reader.enter(node)
            elif node.op_type == LEAVE:
                self.reader.leave(node)
            else:
                self.reader.visit(node)
            return
        except Blocked:  # what it reads has a finding; that it is unknown is one of its own
            if self.reader.why_not(node) == HOW_TO_GO_ON:
                self._found(refuse(node, HOW_TO_GO_ON))
        except Unsupported as finding:
            self._found(finding)
        except (CompilerError, NumericsError) as error:
            self._found(refuse(node, str(error)))
        self.builder.restore(state)
        for name in filter(None, node.output):
            self.reader.read[name] = Failed()
        self._guess_result(node)
        known = any(not isinstance(self.reader.read[n], Failed) for n in filter(None, node.output))
        if len(self.findings) == found and not known:
            self.following.append((label(node), str(node.op_type)))

    def _found(self, finding: Unsupported) -> None:
        if finding.reason == HOW_TO_GO_ON:
            reason = HOW_TO_GO_ON + advice(finding.op)
            finding = Unsupported(finding.node, finding.op, reason)
        inside = {label(n) for n in self.model.nodes if n.output[0] in self.model.paths}
        if finding.node in inside and "float" in finding.reason:
            reason = f"{finding.reason}; {control.HOW_TO_QUANTIZE}"
            finding = Unsupported(finding.node, finding.op, reason)
        if all((f.node, f.reason) != (finding.node, finding.reason) for f in self.findings):
            self.findings.append(finding)

    def _guess_result(self, node: onnx.NodeProto) -> None:
        """After a failure: give codes a type from shape inference, to go on checking."""
        if node.op_type != "QuantizeLinear" or len(node.input) < 2:
            return
        output = node.output[0]
        shape = self.model.shapes.get(output) or self.model.shapes.get(node.input[0])
        try:
            if shape is not None:
                self.reader.loose(output, self.reader.target(node).type(shape))
        except CompilerError:
            return

    def _carried(self) -> tuple[Carried, ...]:
        """What every state becomes; findings where it cannot be one."""
        carried: list[Carried] = []
        for name, output in self.states.items():
            found = self.reader.read.get(output)
            if not isinstance(found, Operand) or found.type is None:
                continue  # a finding of its own
            try:
                carried += states.carry(self.builder, self.model, name, output, found)
            except Unsupported as finding:
                self.findings.append(finding)
        return tuple(carried)

    def _dtype(self, name: str) -> str:
        """Element type of a graph output that is no codes."""
        if name in self.reader.integers:
            return ""
        return "int64" if self.model.dtypes.get(name) == np.int64 else "float32"

    def _output(self, name: str) -> Port | None:
        """The codes behind a graph output."""
        found = self.reader.read.get(name)
        node = self.model.producers.get(name)
        if isinstance(found, Operand) and found.type is not None:
            seen = None if found.kind == self.builder.type(found.name) else found.kind
            return Port(found.name, name, seen, self._dtype(name), self.reader.digits.get(name, 1))
        if isinstance(found, Failed):
            return None
        if isinstance(found, Pending | Function) and node is not None:
            reason = f"computes the graph output {name} in float: quantize it"
            self._found(refuse(node, reason + how_to_quantize(node.op_type)))
        elif isinstance(found, Hosted):
            what = "is a graph input" if node is None else "is computed before any QuantizeLinear"
            self._found(Unsupported(name, "output", f"{what}: there is nothing to accelerate"))
        else:
            self._found(Unsupported(name, "output", "is constant"))
        return None
