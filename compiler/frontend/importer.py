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

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx

from compiler.frontend import functions, host, moves, pairs, products, windows
from compiler.frontend.catalogue import check_attributes
from compiler.frontend.fold import fold_constants
from compiler.frontend.functions import Function
from compiler.frontend.model import (
    Array,
    Model,
    Unsupported,
    is_standard,
    label,
    refuse,
)
from compiler.frontend.prelu import prelu
from compiler.frontend.qoperator import MICROSOFT, QOPERATORS, qoperator_operands
from compiler.frontend.quantization import Quantization, of_type, parameters
from compiler.frontend.site import Builder, Operand, Site, site_at
from compiler.ir import COMPILER, FILE, Graph, Port, Value
from compiler.ops import UnaryTable, make_table, stored_codes
from compiler.tensor import CompilerError, TensorType
from hw.arch.numerics import NumericsError

CONVERTERS: dict[str, Callable[[Site], Operand]] = {
    "AveragePool": windows.average_pool,
    "Concat": pairs.concat,
    "Conv": products.convolution,
    "Gemm": products.gemm,
    "MatMul": products.matmul,
    "PRelu": prelu,
    **dict.fromkeys(windows.REDUCTIONS, windows.reduction),
    **dict.fromkeys(pairs.KINDS, pairs.pair),
}
"""Operators computed from quantized operands to a quantized result."""
POOLS = ("GlobalMaxPool", "MaxPool", "ReduceMax")
"""Operators that keep the quantization but reduce: they may stand where moves may."""
KEPT = (*moves.MOVES, *POOLS)
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
HOW_TO_GO_ON = "this operator is not supported; docs/operators.md lists those that are"


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Pending:
    """The result of an operator, not quantized yet.

    Attributes
    ----------
    node: the operator.
    operands: in ONNX order.
    steps: clamps, moves and maximum pools after it, with the output that is used.
    """

    node: onnx.NodeProto
    operands: Sequence[Operand | None]
    steps: tuple[tuple[onnx.NodeProto, int], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Hosted:
    """A value that the host computes, or writes as the user gives it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """A value that a node with a finding would have made."""


Read = Operand | Function | Pending | Hosted | Failed


class _Blocked(Exception):  # noqa: N818 - no fault: the finding is another node's
    """An operand comes from a node that has a finding already."""


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
        self.builder = Builder(model.names)
        self.findings: list[Unsupported] = list(model.problems)
        self._read: dict[str, Read] = {}
        self._integers: set[str] = set()
        self._outputs = {value.name for value in model.proto.graph.output}
        self._host_nodes: list[onnx.NodeProto] = []

    def run(self, name: str) -> Graph | None:
        """Import everything; None if there are findings."""
        try:
            fold_constants(self.model)
        except Unsupported as finding:
            self.findings.append(finding)
            return None
        for value in self.model.inputs:
            self._read[value.name] = Hosted()
        for node in self.model.nodes:
            if not all(not n or self.model.is_constant(n) for n in node.output):
                self._guarded(node)
        outputs = [self._output(value.name) for value in self.model.proto.graph.output]
        order = {label(node): i for i, node in enumerate(self.model.nodes)}
        self.findings.sort(key=lambda finding: order.get(finding.node, -1))
        if self.findings:
            return None
        ports = tuple(port for port in outputs if port is not None)
        builder = self.builder
        builder.finish_inputs(ports)
        sources = [port.onnx_name for port in builder.inputs]
        part = host.part(self.model, self._host_nodes, sources)
        return Graph(
            name,
            tuple(builder.inputs),
            ports,
            builder.values,
            tuple(builder.ops),
            host.signature(self.model, sources, part),
            part,
            frozenset(self.model.names),
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
        )

    # Walking ------------------------------------------------------------------------------

    def _guarded(self, node: onnx.NodeProto) -> None:
        """Read a node; turn whatever goes wrong into a finding about it, and go on."""
        state = self.builder.snapshot()
        try:
            self._visit(node)
            return
        except _Blocked:  # what it reads has a finding; that it is unknown is one of its own
            if self._why_not(node) == HOW_TO_GO_ON:
                self._found(refuse(node, HOW_TO_GO_ON))
        except Unsupported as finding:
            self._found(finding)
        except (CompilerError, NumericsError) as error:
            self._found(refuse(node, str(error)))
        self.builder.restore(state)
        for name in filter(None, node.output):
            self._read[name] = Failed()
        self._guess_result(node)

    def _found(self, finding: Unsupported) -> None:
        if all((f.node, f.reason) != (finding.node, finding.reason) for f in self.findings):
            self.findings.append(finding)

    def _guess_result(self, node: onnx.NodeProto) -> None:
        """After a failure: give codes a type from shape inference, to go on checking."""
        if node.op_type != "QuantizeLinear":
            return
        output = node.output[0]
        shape = self.model.shapes.get(output) or self.model.shapes.get(node.input[0])
        try:
            if shape is not None:
                self._loose(output, self._target(node).type(shape))
        except CompilerError:
            return

    def _loose(self, name: str, kind: TensorType) -> None:
        kind.check(name)
        self.builder.values[name] = Value(name, kind)
        self._read[name] = Operand(name, kind)
        self._integers.add(name)

    def _visit(self, node: onnx.NodeProto) -> None:
        """Read one node."""
        if not is_standard(node) and not self._is_microsoft(node):
            raise refuse(node, f"operators of domain {node.domain!r} are not read")
        kind = node.op_type
        if kind in QUANTIZERS or kind in QOPERATORS:
            check_attributes(node)
        if kind == "QuantizeLinear":
            self._quantize(node)
        elif kind == "DequantizeLinear":
            self._read[node.output[0]] = self._dequantized(node)
        elif kind in QOPERATORS:
            self._qoperator(node)
        else:
            self._operator(node)

    def _is_microsoft(self, node: onnx.NodeProto) -> bool:
        """ONNX Runtime's own operators that are read."""
        return node.domain == MICROSOFT and node.op_type in (*QOPERATORS, *QUANTIZERS, "Gelu")

    def _resolve(self, node: onnx.NodeProto, name: str) -> Read | None:
        """What an input of a node is; None where an optional one is absent."""
        if not name:
            return None
        found = self._read.get(name)
        if isinstance(found, Failed):
            raise _Blocked
        if found is not None:
            return found
        if self.model.is_constant(name):
            return Operand(name, None, self.model.constants[name])
        raise refuse(node, f"its input {name} is not made")

    # Inputs -------------------------------------------------------------------------------

    def _written(
        self, node: onnx.NodeProto, source: str, target: Quantization, name: str
    ) -> Operand:
        """A value that the host quantizes (or, of an integer input, takes as it is)."""
        shape = self.model.shapes.get(source)
        if shape is None:
            raise refuse(node, f"{source} has no fixed shape")
        if any(finding.node == source for finding in self.model.problems):
            raise _Blocked
        kind = target.type(shape)
        for port in self.builder.inputs:
            if port.onnx_name == source and self.builder.type(port.value) == kind:
                return Operand(port.value, kind)
        origin = FILE if name not in self.builder.values else COMPILER
        name = name if origin == FILE else self.builder.inner(name)
        kind.check(name)
        self.builder.values[name] = Value(name, kind, origin=origin)
        self.builder.inputs.append(Port(name, source))
        return Operand(name, kind)

    # QDQ ----------------------------------------------------------------------------------

    def _target(self, node: onnx.NodeProto) -> Quantization:
        zero = node.input[2] if len(node.input) > 2 else ""
        target = parameters(self.model, node, node.input[1], zero)
        if not target.single:
            raise refuse(node, "an activation needs one scale and 8 bits")
        return target

    def _quantize(self, node: onnx.NodeProto) -> None:
        """A QuantizeLinear ends whatever it reads."""
        name, output = node.input[0], node.output[0]
        target = self._target(node)
        found = self._resolve(node, name)
        if isinstance(found, Hosted):
            if self.model.dtypes.get(name) != np.float32:
                raise refuse(node, f"quantizes {name}, which is {self.model.dtypes.get(name)}")
            result = self._written(node, name, target, output)
        elif isinstance(found, Pending):
            result = self._compute(found, target)
        elif isinstance(found, Function):
            result = self._tabulate(found.last, found.operand, target, found)
        elif isinstance(found, Operand) and found.type is not None:
            result = found
            if not target.describes(found.kind):
                result = self._tabulate(node, found, target)
        else:
            raise refuse(node, f"quantizes {name}, which is constant")
        self._settle(output, result, integer=True)

    def _settle(self, name: str, operand: Operand, integer: bool = False) -> None:
        """Note what a tensor of the file stands for, and let its codes have its name."""
        # A float output of the graph is known by its reals, not by the codes behind it.
        if integer or name not in self._outputs:
            operand = self.builder.settle(operand, name, FILE)
        if integer:
            self._integers.add(name)
            if self._renamed(operand, name):
                operand = Operand(name, operand.kind)
        self._read[name] = operand

    def _renamed(self, operand: Operand, name: str) -> bool:
        """Prefer an integer tensor's name to that of a float one with the same codes."""
        old = operand.name
        made = any(op.output == old for op in self.builder.ops)
        if old in self._integers or name in self.builder.values or not made:
            return False
        self.builder.rename(old, Value(name, operand.kind))

        for key, found in self._read.items():
            match found:
                case Operand():
                    self._read[key] = found.named(old, name)
                case Function():
                    moved = found.operand.named(old, name)
                    self._read[key] = dataclasses.replace(found, operand=moved)
                case Pending():
                    operands = [each and each.named(old, name) for each in found.operands]
                    self._read[key] = dataclasses.replace(found, operands=operands)
        return True

    def _tabulate(
        self,
        node: onnx.NodeProto,
        source: Operand,
        target: Quantization,
        function: Function | None = None,
    ) -> Operand:
        """A function, or a change of quantization, as one table."""
        kind, result = source.kind, target.like(source.kind)
        applied = [] if function is None else [self._real(function)]
        names = "requantize" if function is None else " ".join(n.op_type for n in function.nodes)
        table = UnaryTable(
            name=self.builder.op_name(node),
            inputs=(source.name,),
            output=self.builder.inner(source.name),
            table=make_table(kind, result, applied),
            function=names,
        )
        return self.builder.emit(table, result, node)

    def _compute(self, pending: Pending, target: Quantization) -> Operand:
        """An operator with quantized operands, then clamps, moves and maximum pools."""
        node = pending.node
        site = site_at(self.builder, self.model, node, node.op_type, pending.operands, target)
        for step, _ in pending.steps:
            bounds = functions.clamp(self.model, step)
            if bounds is not None:
                ends = quantize_bounds(bounds, target)
                low, high = (min(max(end, site.low), site.high) for end in ends)
                site = dataclasses.replace(site, low=low, high=high)
        result = _convert(site)
        for step, index in pending.steps:
            if step.op_type in KEPT:
                result = self._moved(step, index, result, pending=True)
        return result

    def _dequantized(self, node: onnx.NodeProto) -> Operand:
        """The integers behind a DequantizeLinear."""
        name = node.input[0]
        zero = node.input[2] if len(node.input) > 2 else ""
        array = self.model.constants.get(name)
        if array is not None:
            quantization = parameters(
                self.model, node, node.input[1], zero, array.dtype, array.ndim
            )
            if array.dtype != quantization.dtype:
                raise refuse(
                    node, f"{name} holds {array.dtype}, its zero point is {quantization.dtype}"
                )
            return Operand(name, None, array, quantization)
        found = self._resolve(node, name)
        dtype: object = np.uint8
        if isinstance(found, Operand):
            dtype = found.kind.dtype
        elif isinstance(found, Hosted):
            dtype = self.model.dtypes.get(name, np.uint8)
        quantization = parameters(self.model, node, node.input[1], zero, dtype)
        if not quantization.single:
            raise refuse(node, "an activation needs one scale and 8 bits")
        return self._integer(node, name, quantization)

    def _integer(self, node: onnx.NodeProto, name: str, quantization: Quantization) -> Operand:
        """An integer activation, read with certain parameters."""
        array = self.model.constants.get(name)
        if array is not None:
            return Operand(name, None, array, quantization)
        found = self._resolve(node, name)
        if isinstance(found, Hosted):
            given = self.model.dtypes.get(name)
            if given != quantization.dtype:
                raise refuse(node, f"reads {name} as {quantization.dtype}; it is {given}")
            return self._written(node, name, quantization, name)
        if not isinstance(found, Operand) or name not in self._integers:
            raise refuse(node, f"its input {name} holds no 8-bit integers")
        if not quantization.describes(found.kind):
            raise refuse(
                node,
                f"reads {name} with scale {float(quantization.scale[0]):.9g}, zero point "
                f"{int(quantization.zero_point[0])}; it is {found.kind}",
            )
        return found

    # Operators ----------------------------------------------------------------------------

    def _operator(self, node: onnx.NodeProto) -> None:
        """A float operator, or a move of integers."""
        found = [self._resolve(node, name) for name in node.input]
        active = [f for f in found if not (isinstance(f, Operand) and f.type is None) and f]
        if active and all(isinstance(f, Hosted) for f in active):
            host.check(node)
            self._host_nodes.append(node)
            for name in filter(None, node.output):
                self._read[name] = Hosted()
            return
        if any(isinstance(f, Hosted) for f in active):
            where = next(n for n, f in zip(node.input, found, strict=True) if isinstance(f, Hosted))
            raise refuse(
                node,
                f"reads {where} in float: put QuantizeLinear and DequantizeLinear between them",
            )
        check_attributes(node)
        first = found[0] if found else None
        if node.op_type in KEPT:
            self._keep(node, first)
        elif not active:
            raise refuse(node, self._why_not(node))
        elif any(name in self._integers for name in node.input):
            self._on_integers(node, found)
        elif functions.is_nothing(node) and first is not None:
            self._read[node.output[0]] = first
        elif self._is_function(node, found):
            operands = [f for f in found if isinstance(f, Operand | Function) or f is None]
            self._read[node.output[0]] = functions.apply(self.model, node, operands)
        elif isinstance(first, Pending) and functions.clamp(self.model, node) is not None:
            self._follow(node, 0, first)
        else:
            self._start(node, found)

    def _is_function(self, node: onnx.NodeProto, found: Sequence[Read | None]) -> bool:
        """Elementwise on one activation: it meets itself, constants of one value, functions."""
        if not functions.is_elementwise(node) or any(isinstance(f, Pending) for f in found):
            return False
        if node.op_type == "PRelu" and isinstance(slope := found[1], Operand):
            return slope.array is None or functions.is_scalar(slope.array)
        if any(isinstance(f, Function) for f in found) or node.op_type not in pairs.KINDS:
            return True
        operands = [f for f in found if isinstance(f, Operand)]
        active = [f for f in operands if f.type is not None]
        if len({(f.name, f.kind) for f in active}) != 1:
            return False
        shapes = [active[0].kind.onnx_shape]
        for constant in operands:
            if constant.array is not None:
                if not functions.is_scalar(constant.array):
                    return False
                shapes.append(constant.array.shape)
        return math.prod(np.broadcast_shapes(*shapes)) == active[0].kind.elements

    def _keep(self, node: onnx.NodeProto, first: Read | None) -> None:
        """A move or maximum pool."""
        for index, name in enumerate(node.output):
            if not name:
                continue
            if isinstance(first, Pending):
                self._follow(node, index, first)
            elif isinstance(first, Function):
                self._read[name] = self._moved_function(node, index, first)
            elif isinstance(first, Operand) and first.type is None:
                if first.quantization is None:
                    raise refuse(node, f"its input {first.name} is a float constant")
                self._read[name] = moves.move_constant(self.model, node, first)
            elif isinstance(first, Operand):
                integer = node.input[0] in self._integers
                self._settle(name, self._moved(node, index, first), integer)
            else:
                raise refuse(node, self._why_not(node))

    def _moved_function(self, node: onnx.NodeProto, index: int, first: Function) -> Function:
        """A move of a function: the function of what was moved."""
        if node.op_type in (*POOLS, "Pad"):  # a maximum and a fill know values, not codes
            raise refuse(node, "follows a function: put QuantizeLinear between them")
        moved = self._moved(node, index, first.operand)
        return dataclasses.replace(first, operand=moved)

    def _moved(
        self, node: onnx.NodeProto, index: int, source: Operand, pending: bool = False
    ) -> Operand:
        """A move or maximum pool of codes, quantization unchanged."""
        if node.op_type not in POOLS:
            return moves.move(self.builder, self.model, node, index, source, pending)
        target = of_type(source.kind)
        operands = [source, *self._scalars(node)]
        site = site_at(self.builder, self.model, node, node.op_type, operands, target)
        if node.op_type == "MaxPool":
            return windows.max_pool(site)
        return windows.reduction(site)

    def _follow(self, node: onnx.NodeProto, index: int, first: Pending) -> None:
        steps = (*first.steps, (node, index))
        self._read[node.output[index]] = dataclasses.replace(first, steps=steps)

    def _scalars(self, node: onnx.NodeProto) -> list[Operand | None]:
        """Operands of a node behind its first, which are constants."""
        return [
            Operand(n, None, self.model.constants.get(n)) if n else None for n in node.input[1:]
        ]

    def _on_integers(self, node: onnx.NodeProto, found: Sequence[Read | None]) -> None:
        """An operator on bare integers: only what selects among codes."""
        source = found[0]
        output = node.output[0]
        if node.op_type == "Clip" and isinstance(source, Operand):  # Brevitas narrows codes so
            low, high = functions.clip_bounds(self.model, node)
            kind = source.kind
            codes = np.arange(256, dtype=np.uint8).view(kind.dtype)
            table = np.clip(codes.astype(np.float64), low, high).astype(kind.dtype).tobytes()
            op = UnaryTable(
                name=self.builder.op_name(node),
                inputs=(source.name,),
                output=self.builder.inner(source.name),
                table=table,
                function="Clip",
            )
            self._settle(output, self.builder.emit(op, kind, node), integer=True)
            return
        operands = [f for f in found if isinstance(f, Operand) and f.type is not None]
        same = {f.kind.quantization for f in operands}
        if node.op_type in ("Concat", "Max", "Min") and len(operands) == len(found):
            if len(same) > 1:
                raise refuse(node, "selects among integers of different scales: dequantize them")
            target = of_type(operands[0].kind)
            site = site_at(self.builder, self.model, node, node.op_type, operands, target)
            self._settle(output, _convert(site), integer=True)
            return
        raise refuse(node, "is not read on bare integers: dequantize them first")

    def _start(self, node: onnx.NodeProto, found: Sequence[Read | None]) -> None:
        """An operator of its own: its result waits for a QuantizeLinear."""
        found = [self._as_codes(n, f) for n, f in zip(node.input, found, strict=True)]
        for name, each in zip(node.input, found, strict=True):
            if isinstance(each, Pending | Function):
                maker = each.node if isinstance(each, Pending) else each.last
                raise refuse(
                    node,
                    f"its input {name} comes in float from {maker.op_type} {label(maker)}: "
                    "quantize it",
                )
        if node.op_type not in CONVERTERS:
            raise refuse(node, self._why_not(node))
        operands = [f for f in found if f is None or isinstance(f, Operand)]
        same = self._same_elements(node, operands)
        if same is not None:
            self._settle(node.output[0], same)
            return
        self._read[node.output[0]] = Pending(node, operands)

    def _as_codes(self, name: str, found: Read | None) -> Read | None:
        """A function all of whose values are codes of its operand's scale (Relu, above all)."""
        if not isinstance(found, Function):
            return found
        kind = found.operand.kind
        codes = np.frombuffer(make_table(kind, kind, [self._real(found)]), kind.dtype)
        centred = (stored_codes(kind) - kind.zero_point).astype(np.float32)
        reals = self._real(found)(centred * np.float32(kind.scale))
        again = (codes.astype(np.int64) - kind.zero_point).astype(np.float32)
        if not np.array_equal(again * np.float32(kind.scale), reals):
            return found
        self._settle(name, self._tabulate(found.last, found.operand, of_type(kind), found))
        return self._read[name]

    def _real(self, function: Function) -> Callable[[Array], Array]:
        return lambda real: function(real, self.model.opset)

    def _same_elements(
        self, node: onnx.NodeProto, operands: Sequence[Operand | None]
    ) -> Operand | None:
        """What a mean over axes of size 1 only moves; None for any other operator."""
        first = operands[0]
        assert first is not None
        if node.op_type in ("GlobalAveragePool", "ReduceMean") and first.type is not None:
            listed = operands[1].array if len(operands) > 1 and operands[1] is not None else None
            shape = first.kind.onnx_shape
            axes, keep = windows.reduced_axes(node, shape, listed)
            if all(shape[a] == 1 for a in axes):
                kept = tuple(n for a, n in enumerate(shape) if keep or a not in axes)
                return moves.reshaped(first, kept)
        return None

    # QOperator ----------------------------------------------------------------------------

    def _qoperator(self, node: onnx.NodeProto) -> None:
        """QLinearConv and the like."""
        op, operands, target = qoperator_operands(self.model, node, self._integer)
        site = site_at(self.builder, self.model, node, op, operands, target)
        if op in CONVERTERS:
            result = _convert(site)
        else:
            source = site.activation(0)
            if op not in functions.UNARY:
                raise refuse(node, self._why_not(node))
            plain = onnx.helper.make_node(op, ["x"], ["y"], label(node))
            kept = ("alpha", "beta", "axis")
            plain.attribute.extend(a for a in node.attribute if a.name in kept)
            function = functions.apply(self.model, plain, [source])
            result = self._tabulate(node, source, target, function)
        self._settle(node.output[0], result, integer=True)

    # The ends -----------------------------------------------------------------------------

    def _output(self, name: str) -> Port | None:
        """The codes behind a graph output."""
        found = self._read.get(name)
        node = self.model.producers.get(name)
        if isinstance(found, Operand) and found.type is not None:
            real = name not in self._integers
            seen = None if found.kind == self.builder.type(found.name) else found.kind
            return Port(found.name, name, seen, real)
        if isinstance(found, Failed):
            return None
        if isinstance(found, Pending | Function) and node is not None:
            self._found(refuse(node, f"computes the graph output {name} in float: quantize it"))
        elif isinstance(found, Hosted):
            what = "is a graph input" if node is None else "is computed before any QuantizeLinear"
            self._found(Unsupported(name, "output", f"{what}: there is nothing to accelerate"))
        else:
            self._found(Unsupported(name, "output", "is constant"))
        return None

    def _why_not(self, node: onnx.NodeProto) -> str:
        """Why a node cannot be part of an integer operator."""
        known = (*CONVERTERS, *functions.ELEMENTWISE, *KEPT, *QUANTIZERS, *QOPERATORS)
        if node.op_type not in known:
            return HOW_TO_GO_ON
        return "runs in float: its operands and its result must be quantized (QDQ around it)"


def _convert(site: Site) -> Operand:
    """Import the operator of a site; whatever is wrong with it carries its name."""
    try:
        return CONVERTERS[site.op](site)
    except Unsupported:
        raise
    except (CompilerError, NumericsError, ValueError) as error:
        raise site.refuse(str(error)) from error


def quantize_bounds(bounds: tuple[float, float], target: Quantization) -> tuple[int, int]:
    """Codes of two real bounds, saturated."""
    with np.errstate(over="ignore"):
        real = np.asarray(bounds, np.float32) / target.scale[0]
    limits = np.iinfo(target.dtype)
    codes = np.clip(np.rint(real).astype(np.float64) + target.zero_point[0], limits.min, limits.max)
    return int(codes[0]), int(codes[1])
