"""Find the integer operators in an ONNX graph.

Two ways of writing int8 networks are read. QDQ: float operators between DequantizeLinear and
QuantizeLinear nodes; the integer tensor is the QuantizeLinear's output. QOperator: QLinearConv
and the like. From every QuantizeLinear the importer walks back over functions of one tensor and
over moves to the operator that is to be computed in integers, or to a DequantizeLinear. What no
QuantizeLinear reaches runs in float, and is a finding.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import onnx

from compiler.frontend import functions, moves, pairs, products, windows
from compiler.frontend.fold import fold_constants
from compiler.frontend.model import Model, Unsupported, attributes_of, label, refuse
from compiler.frontend.qoperator import QOPERATORS, qoperator_operands
from compiler.frontend.quantization import Quantization, parameters
from compiler.frontend.site import Builder, Site, site_at
from compiler.frontend.sources import POOLS, Sources
from compiler.ir import Graph, Port, Value
from compiler.ops import UnaryTable, View, make_table
from compiler.ops.unary import Function
from compiler.tensor import CompilerError
from hw.arch.numerics import NumericsError

CONVERTERS: dict[str, Callable[[Site], None]] = {
    "AveragePool": windows.average_pool,
    "Concat": pairs.concat,
    "Conv": products.convolution,
    "Gemm": products.gemm,
    "GlobalAveragePool": windows.global_average_pool,
    "MatMul": products.matmul,
    "ReduceMean": windows.reduce_mean,
    **dict.fromkeys(pairs.KINDS, pairs.pair),
}
"""Operators computed from quantized operands to a quantized result."""

PASSED = ("DequantizeLinear", *moves.MOVES, *POOLS)
"""Operators through which a graph output is traced back to an integer tensor."""
KNOWN = (*CONVERTERS, *functions.SINGLE, *functions.WITH_SCALAR, *PASSED, "Clip")
"""Operators that can be part of an integer operator."""


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class _Step:
    """A node between an operator and its QuantizeLinear: a function, or a move (None)."""

    node: onnx.NodeProto
    index: int
    function: Function | None


class Importer:
    """Builds the graph of one model.

    Parameters
    ----------
    model: the indexed file.

    Members
    -------
    findings: every node that cannot be compiled, in file order.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.builder = Builder()
        self.findings: list[Unsupported] = list(model.problems)
        self.sources = Sources(model, self.builder)

    def run(self, name: str) -> Graph | None:
        """Import everything; None if there are findings."""
        try:
            fold_constants(self.model)
        except Unsupported as finding:
            self.findings.append(finding)
            return None
        for node in self.model.nodes:
            if all(not n or self.model.is_constant(n) for n in node.output):
                self.sources.claim(node)
            else:
                self._guarded(node, functools.partial(self._visit, node))
        outputs = [self._output(v.name) for v in self.model.proto.graph.output]
        self._report_unclaimed()
        if self.findings:
            return None
        ports = tuple(port for port in outputs if port is not None)
        builder = self.builder
        return Graph(name, tuple(self.sources.inputs), ports, builder.values, tuple(builder.ops))

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
        )

    # Walking ------------------------------------------------------------------------------

    def _guarded(self, node: onnx.NodeProto, action: Callable[[], None]) -> None:
        """Turn whatever goes wrong into a finding about the node, and go on."""
        state = self.builder.snapshot()
        try:
            action()
        except Unsupported as finding:
            self._failed(state, finding)
        except (CompilerError, NumericsError) as error:
            self._failed(state, refuse(node, str(error)))
        else:
            return
        self._guess_results(node)

    def _failed(self, state: tuple[dict[str, Value], int], finding: Unsupported) -> None:
        self.builder.restore(state)
        self.sources.floats = {
            k: v for k, v in self.sources.floats.items() if v.type is None or v.name in state[0]
        }
        if all((f.node, f.reason) != (finding.node, finding.reason) for f in self.findings):
            self.findings.append(finding)

    def _guess_results(self, node: onnx.NodeProto) -> None:
        """After a failure: give results a type from shape inference, to go on checking."""
        shape = self.model.shapes.get(node.output[0])
        if node.op_type == "QuantizeLinear":
            shape = shape or self.model.shapes.get(node.input[0])
        try:
            if node.op_type == "QuantizeLinear" and shape is not None:
                zero = node.input[2] if len(node.input) > 2 else ""
                kind = parameters(self.model, node, node.input[1], zero).type(shape)
                kind.check(node.output[0])
                self.builder.values[node.output[0]] = Value(node.output[0], kind)
        except CompilerError:
            return

    def _visit(self, node: onnx.NodeProto) -> None:
        """Import the operator that ends at this node, if one does."""
        if node.op_type == "QuantizeLinear":
            self.sources.claim(node)
            self._quantize(node)
        elif node.op_type == "DequantizeLinear":
            self.sources.claim(node)
            if not self.model.is_constant(node.input[0]):
                self.sources.floats[node.output[0]] = self.sources.dequantized(node)
        elif node.op_type in QOPERATORS:
            self.sources.claim(node)
            self._qoperator(node)
        elif node.input and node.input[0] in self.builder.values:
            self.sources.claim(node)
            self._integer_move(node)

    # QDQ ----------------------------------------------------------------------------------

    def _quantize(self, node: onnx.NodeProto) -> None:
        """Import what ends at a QuantizeLinear."""
        output = node.output[0]
        steps, name, main = self._walk_back(node.input[0])
        self.sources.claim(*(s.node for s in steps), *([] if main is None else [main]))
        zero = node.input[2] if len(node.input) > 2 else ""
        target = parameters(self.model, node, node.input[1], zero)
        if not target.single:
            raise refuse(node, "an activation needs one scale and 8 bits")
        if main is None and name not in self.sources.floats and name not in self.model.producers:
            shape = self.sources.input_shape(node, name)
            start = output if not steps else self.builder.unused(f"{output}/input")
            self.builder.values[start] = Value(start, target.type(shape))
            self.sources.inputs.append(Port(start, name))
            if steps:
                self._apply(node, steps, start, target, output)
            return
        if main is None:
            source = self.sources.operand(name, node)
            if source.type is None:
                raise refuse(node, f"quantizes the constant {name} after {label(steps[0].node)}")
            self._apply(node, steps, source.name, target, output)
        else:
            self._compute(main, list(main.output).index(name), steps, target, output)

    def _walk_back(self, name: str) -> tuple[list[_Step], str, onnx.NodeProto | None]:
        """Steps (in order) from an operator's output to `name`; no operator: from integers."""
        steps: list[_Step] = []
        while name not in self.sources.floats and name in self.model.producers:
            node = self.model.producers[name]
            if node.op_type == "DequantizeLinear":
                break
            index = list(node.output).index(name)
            found = functions.function(self.model, node)
            if found is not None:
                steps.insert(0, _Step(node, index, found[0]))
                name = found[1]
            elif node.op_type in (*moves.MOVES, *POOLS):
                steps.insert(0, _Step(node, index, None))
                name = node.input[0]
            else:
                return steps, name, node
        return steps, name, None

    def _apply(
        self,
        node: onnx.NodeProto,
        steps: Sequence[_Step],
        source: str,
        target: Quantization,
        output: str,
    ) -> None:
        """Moves on the integers, then all functions and the change of scale as one table."""
        applied = [s for s in steps if s.function is not None]
        moved = [s for s in steps if s.function is None]
        if applied and any(s.node.op_type in POOLS for s in moved):
            raise refuse(node, "pool and function without a QuantizeLinear between them")
        tabulated = bool(applied) or not target.describes(self.builder.type(source))
        for number, step in enumerate(moved, 1):
            last = number == len(moved) and not tabulated
            name = output if last else self.builder.unused(step.node.output[step.index])
            self.sources.emit_move(step.node, step.index, source, name)
            source = name
        kind = self.builder.type(source)
        if not tabulated:
            if not moved:
                op = View(name=label(node), inputs=(source,), output=output)
                self.builder.emit(op, kind)
            return
        result = target.type(kind.onnx_shape)
        main = applied[0].node if applied else node
        table = UnaryTable(
            name=label(main),
            inputs=(source,),
            output=output,
            table=make_table(kind, result, [s.function for s in applied if s.function]),
            function=" ".join(s.node.op_type for s in applied) or "requantize",
        )
        self.builder.emit(table, result)

    def _compute(
        self,
        node: onnx.NodeProto,
        index: int,
        steps: Sequence[_Step],
        target: Quantization,
        output: str,
    ) -> None:
        """An operator with quantized operands, clamps and moves after it."""
        if node.op_type not in CONVERTERS:
            raise refuse(node, self._why_not(node))
        operands = [self.sources.operand(n, node) if n else None for n in node.input]
        moved = [s for s in steps if s.function is None]
        first = output if not moved else self.builder.unused(moved[0].node.input[0])
        site = site_at(self.builder, self.model, node, node.op_type, operands, target, first, index)
        for step in steps:
            if step.function is not None:
                site = self._clamped(site, step.node)
        _convert(site)
        for number, step in enumerate(moved, 1):
            last = number == len(moved)
            name = output if last else self.builder.unused(step.node.output[step.index])
            self.sources.emit_move(step.node, step.index, first, name)
            first = name

    def _clamped(self, site: Site, node: onnx.NodeProto) -> Site:
        """Relu or Clip after an operator: a clamp of codes, which rounding commutes with."""
        bounds = functions.clamp(self.model, node)
        if bounds is None:
            raise refuse(
                node,
                f"follows {site.op} {site.name} in float: only Relu and Clip may; put a "
                "QuantizeLinear between them",
            )
        ends = quantize_bounds(bounds, site.target)
        low, high = (min(max(end, site.low), site.high) for end in ends)
        return dataclasses.replace(site, low=low, high=high)

    # QOperator ----------------------------------------------------------------------------

    def _qoperator(self, node: onnx.NodeProto) -> None:
        """Import QLinearConv and the like."""
        op, operands, target = qoperator_operands(self.model, node, self.sources.integer_operand)
        output = node.output[0]
        site = site_at(self.builder, self.model, node, op, operands, target, output)
        if op in CONVERTERS:
            _convert(site)
            return
        name, kind = site.activation(0)
        operator = functions.SINGLE.get(op)
        if operator is None:
            raise refuse(node, self._why_not(node))
        attributes = attributes_of(node)
        result = target.type(kind.onnx_shape)
        function = functions.in_double(lambda x: operator(x, attributes))
        table = make_table(kind, result, [function])
        self.builder.emit(
            UnaryTable(name=site.name, inputs=(name,), output=output, table=table, function=op),
            result,
        )

    def _integer_move(self, node: onnx.NodeProto) -> None:
        """An operator applied to integers as they are."""
        source = node.input[0]
        if node.op_type in (*moves.MOVES, *POOLS):
            for index, name in enumerate(node.output):
                if name:
                    self.sources.emit_move(node, index, source, name)
        elif node.op_type == "Clip":  # Brevitas narrows the code range this way
            low, high = functions.clip_bounds(self.model, node)
            kind = self.builder.type(source)
            codes = np.arange(256, dtype=np.uint8).view(kind.dtype)
            table = np.clip(codes.astype(np.float64), low, high).astype(kind.dtype).tobytes()
            self.builder.emit(
                UnaryTable(
                    name=label(node),
                    inputs=(source,),
                    output=node.output[0],
                    table=table,
                    function="Clip",
                ),
                kind,
            )
        else:
            raise refuse(node, "is not read on bare integers: dequantize them first")

    # The ends -----------------------------------------------------------------------------

    def _output(self, name: str) -> Port | None:
        """The integer tensor behind a graph output."""
        if name in self.builder.values:
            return Port(name, name)
        node = self.model.producers.get(name)
        result: list[Port] = []

        def resolve() -> None:
            if node is None:
                raise Unsupported(name, "output", "is an input or constant of the graph")
            if node.op_type not in KNOWN:
                raise refuse(node, f"{self._why_not(node)} (it makes the graph output {name})")
            if node.op_type not in PASSED:
                raise refuse(node, f"computes the graph output {name} in float: quantize it")
            operand = self.sources.operand(name, node)
            if operand.type is None:
                raise refuse(node, f"the graph output {name} is constant")
            result.append(Port(operand.name, name))

        if node is None or node.output[0] not in self.sources.claimed or node.op_type in PASSED:
            self._guarded(node if node is not None else self.model.nodes[-1], resolve)
        return result[0] if result else None

    def _report_unclaimed(self) -> None:
        """Whatever belongs to no integer operator is a finding."""
        reported = {finding.node for finding in self.findings}
        for node in self.model.nodes:
            if node.output[0] not in self.sources.claimed and label(node) not in reported:
                self.findings.append(refuse(node, self._why_not(node)))
        order = {label(node): i for i, node in enumerate(self.model.nodes)}
        self.findings.sort(key=lambda finding: order.get(finding.node, -1))

    def _why_not(self, node: onnx.NodeProto) -> str:
        """Why a node cannot be part of an integer operator."""
        if node.op_type not in KNOWN:
            return "this operator is not supported; README.md lists those that are"
        return "runs in float: its operands and its result must be quantized (QDQ around it)"


def _convert(site: Site) -> None:
    """Import the operator of a site; whatever is wrong with it carries its name."""
    try:
        CONVERTERS[site.op](site)
    except Unsupported:
        raise
    except (CompilerError, NumericsError) as error:
        raise site.refuse(str(error)) from error


def quantize_bounds(bounds: tuple[float, float], target: Quantization) -> tuple[int, int]:
    """Codes of two real bounds, saturated."""
    with np.errstate(over="ignore"):
        real = np.asarray(bounds, np.float32) / target.scale[0]
    limits = np.iinfo(target.dtype)
    codes = np.clip(np.rint(real).astype(np.float64) + target.zero_point[0], limits.min, limits.max)
    return int(codes[0]), int(codes[1])
