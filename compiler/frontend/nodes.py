"""Read one node after another: what its results stand for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import onnx

from compiler.frontend import (
    functions,
    groups,
    host,
    leftovers,
    moves,
    pairs,
    selection,
    windows,
)
from compiler.frontend.builder import Operand
from compiler.frontend.catalogue import UNREAD, check_attributes
from compiler.frontend.control_reader import ControlReader
from compiler.frontend.cuts import reshaped
from compiler.frontend.functions import Function
from compiler.frontend.model import (
    is_standard,
    label,
    refuse,
)
from compiler.frontend.qoperator import MICROSOFT, QOPERATORS, qoperator_operands
from compiler.frontend.quantization import Quantization, of_type
from compiler.frontend.reading import (
    CONVERTERS,
    HOW_TO_GO_ON,
    INDICES,
    KEPT,
    POOLS,
    QUANTIZERS,
    Hosted,
    Pending,
    Read,
    convert,
    quantize_bounds,
)
from compiler.frontend.replacements import how_to_quantize
from compiler.frontend.schema import check_qoperator, check_schema
from compiler.frontend.site import site_at
from compiler.ops import MOST_OF_A_BYTE, UnaryTable


class NodeReader(ControlReader):
    """Readings that grow node by node."""

    def visit(self, node: onnx.NodeProto) -> None:
        """Read one node."""
        if not is_standard(node) and not self._is_microsoft(node):
            other = f"operators of domain {node.domain!r} are not read"
            raise refuse(node, UNREAD.get(node.op_type, other))
        if is_standard(node):
            check_schema(node, self.model.opset)
        else:
            check_qoperator(node)
        kind = node.op_type
        if kind in QUANTIZERS or kind in QOPERATORS:
            check_attributes(node)
        if kind == "QuantizeLinear":
            self._quantize(node)
        elif kind == "DequantizeLinear":
            self.read[node.output[0]] = self._dequantized(node)
        elif kind in QOPERATORS:
            self._qoperator(node)
        else:
            self._operator(node)

    def _is_microsoft(self, node: onnx.NodeProto) -> bool:
        """ONNX Runtime's own operators that are read."""
        return node.domain == MICROSOFT and node.op_type in (*QOPERATORS, *QUANTIZERS, "Gelu")

    def _quantize(self, node: onnx.NodeProto) -> None:
        """A QuantizeLinear ends whatever it reads."""
        name, output = node.input[0], node.output[0]
        target = self.target(node)
        found = leftovers.outside_norm(node, self.resolve(node, name))
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

    def _compute(self, pending: Pending, target: Quantization) -> Operand:
        """An operator with quantized operands, then clamps, moves and maximum pools."""
        node = pending.node
        site = site_at(self.builder, self.model, node, node.op_type, pending.operands, target)
        site = dataclasses.replace(site, factors=pending.factors, factor=pending.factor)
        for step, _ in pending.steps:
            bounds = functions.clamp(self.model, step)
            if bounds is not None:
                ends = quantize_bounds(bounds, target)
                # One clamp after another: bounds that do not meet leave one code.
                low, high = (min(max(end, ends[0]), ends[1]) for end in (site.low, site.high))
                site = dataclasses.replace(site, low=low, high=high)
        result = convert(site, pending.convert)
        for step, index in pending.steps:
            if step.op_type in KEPT:
                result = self._moved(step, index, result, pending=True)
        return result

    def _operator(self, node: onnx.NodeProto) -> None:
        """A float operator, or a move of integers."""
        found = [self.resolve(node, name) for name in node.input]
        active = [f for f in found if not (isinstance(f, Operand) and f.type is None) and f]
        if active and all(isinstance(f, Hosted) for f in active):
            host.check(node)
            self.host_nodes.append(node)
            for name in filter(None, node.output):
                self.read[name] = Hosted()
            return
        if any(isinstance(f, Hosted) for f in active):
            where = next(n for n, f in zip(node.input, found, strict=True) if isinstance(f, Hosted))
            raise refuse(
                node,
                f"reads {where} in float: put QuantizeLinear and DequantizeLinear between them",
            )
        check_attributes(node)
        if (inside := leftovers.inside_norm(self, node, found)) is not None:
            self.read[node.output[0]] = inside
            return
        found = [leftovers.outside_norm(node, each) for each in found]
        first = found[0] if found else None
        if node.op_type in KEPT:
            self._keep(node, first)
        elif not active:
            raise refuse(node, self.why_not(node))
        elif node.op_type in INDICES:
            self._index(node, first)
        elif any(name in self.integers for name in node.input):
            self._on_integers(node, found)
        elif functions.is_nothing(node, first) and first is not None:
            self.read[node.output[0]] = first
        elif (made := selection.chosen(self, node, found)) is not None:
            self._settle(node.output[0], made)
        elif self._is_function(node, found):
            operands = [f for f in found if isinstance(f, Operand | Function) or f is None]
            self.read[node.output[0]] = functions.apply(self.model, node, operands)
        elif isinstance(first, Pending) and functions.clamp(self.model, node) is not None:
            self._follow(node, 0, first)
        elif (scaled := leftovers.scaled_behind(self, node, found)) is not None:
            self.read[node.output[0]] = scaled
        else:
            self._start(node, found)

    def _is_function(self, node: onnx.NodeProto, found: Sequence[Read | None]) -> bool:
        """Elementwise on one activation: it meets itself, constants of one value, functions."""
        if not functions.is_elementwise(node) or any(isinstance(f, Pending) for f in found):
            return False
        if node.op_type == "PRelu" and isinstance(slope := found[1], Operand):
            return slope.array is None or functions.is_scalar(slope.array)
        divides_channels = node.op_type == "Div" and any(
            isinstance(f, Operand) and f.array is not None and not functions.is_scalar(f.array)
            for f in found
        )
        if divides_channels:
            return False
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
                self.read[name] = self._moved_function(node, index, first)
            elif isinstance(first, Operand) and first.type is None:
                if first.quantization is None:
                    raise refuse(node, f"its input {first.name} is a float constant")
                self.read[name] = moves.move_constant(self.model, node, first)
            elif isinstance(first, Operand):
                integer = node.input[0] in self.integers
                moved = self._moved(node, index, first, integer=integer)
                self._settle(name, moved, integer)
            else:
                raise refuse(node, self.why_not(node))

    def _moved_function(self, node: onnx.NodeProto, index: int, first: Function) -> Function:
        """A move of a function: the function of what was moved."""
        if node.op_type in (*POOLS, "Pad"):  # a maximum and a fill know values, not codes
            raise refuse(node, "follows a function: put QuantizeLinear between them")
        operand = self._moved(node, index, first.operand)
        moved = {**first.moved, node.output[index]: first.result}
        return dataclasses.replace(first, operand=operand, moved=moved)

    def _index(self, node: onnx.NodeProto, first: Read | None) -> None:
        """An index of codes, which needs no QuantizeLinear: it is a code itself."""
        first = self.as_codes(node.input[0], first)
        if not isinstance(first, Operand) or first.type is None:
            raise refuse(node, f"reads {node.input[0]} in float: quantize it")
        output = node.output[0]
        self.model.dtypes[output] = np.dtype(np.int64)
        found, self.digits[output] = groups.arg_max(self.builder, node, first)
        if self.digits[output] > 1 and any(output in each.input for each in self.model.nodes):
            raise refuse(
                node,
                f"its index has two bytes; of more than {MOST_OF_A_BYTE} elements it is lowered as "
                "an output of the graph, which nothing else reads",
            )
        self._settle(output, found)

    def _follow(self, node: onnx.NodeProto, index: int, first: Pending) -> None:
        steps = (*first.steps, (node, index))
        self.read[node.output[index]] = dataclasses.replace(first, steps=steps)

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
            self._settle(output, convert(site), integer=True)
            return
        raise refuse(node, "is not read on bare integers: dequantize them first")

    def _start(self, node: onnx.NodeProto, found: Sequence[Read | None]) -> None:
        """An operator of its own: its result waits for a QuantizeLinear."""
        if node.op_type not in CONVERTERS and self.why_not(node).startswith(HOW_TO_GO_ON):
            raise refuse(node, HOW_TO_GO_ON)  # quantizing what it reads would not help
        found = [self.as_codes(n, f) for n, f in zip(node.input, found, strict=True)]
        found, factors = leftovers.scaled_before(node, found)
        for name, each in zip(node.input, found, strict=True):
            if isinstance(each, Pending | Function):
                maker = each.node if isinstance(each, Pending) else each.last
                raise refuse(
                    node,
                    f"its input {name} comes in float from {maker.op_type} {label(maker)}: "
                    f"quantize it{how_to_quantize(maker.op_type)}",
                )
        if node.op_type not in CONVERTERS:
            raise refuse(node, self.why_not(node))
        operands = [f for f in found if f is None or isinstance(f, Operand)]
        same = self._same_elements(node, operands)
        if same is not None:
            self._settle(node.output[0], same)
            return
        self.read[node.output[0]] = Pending(node, operands, factors=factors)

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
                return reshaped(first, kept)
        return None

    def _qoperator(self, node: onnx.NodeProto) -> None:
        """QLinearConv and the like."""
        op, operands, target = qoperator_operands(self.model, node, self._integer)
        site = site_at(self.builder, self.model, node, op, operands, target)
        if op in CONVERTERS:
            result = convert(site)
        else:
            source = site.activation(0)
            if op not in functions.UNARY:
                raise refuse(node, self.why_not(node))
            plain = onnx.helper.make_node(op, ["x"], ["y"], label(node))
            kept = ("alpha", "beta", "axis")
            plain.attribute.extend(a for a in node.attribute if a.name in kept)
            function = functions.apply(self.model, plain, [source])
            result = self._tabulate(node, source, target, function)
        self._settle(node.output[0], result, integer=True)

    def why_not(self, node: onnx.NodeProto) -> str:
        """Why a node cannot be part of an integer operator."""
        if node.op_type in UNREAD:
            return UNREAD[node.op_type]
        known = (*CONVERTERS, *INDICES, *functions.ELEMENTWISE, *KEPT, *QUANTIZERS, *QOPERATORS)
        if node.op_type not in known:
            return HOW_TO_GO_ON
        return "runs in float: its operands and its result must be quantized (QDQ around it)"
