"""Float operators between DequantizeLinear and QuantizeLinear, read in terms of codes."""

from dataclasses import replace
from math import prod

import numpy as np
import onnx
import torch

from models import channelwise, functions, grouped, moves, norms, selection
from models.onnxfile import UnsupportedGraph, label
from models.operands import lookup
from models.operators import OPERATORS, concatenated
from models.prelu import is_per_channel
from models.tables import F32, QParams, dequantize, quantize_float
from models.values import (
    Call,
    Codes,
    Compute,
    Constant,
    Function,
    Group,
    Host,
    InsideNorm,
    Integers,
    Pending,
    Step,
    Tensors,
    Value,
)

PAIRS = ("Add", "Div", "Max", "Min", "Mul", "Sub", "Sum")
"""Operators on several quantized tensors that have definitions of their own."""
CLAMPS = ("Clip", "Relu")
SCALED = ("Einsum", "MatMul", "Softmax")
"""Operators before which a constant factor may stay in float."""
MEANS = ("GlobalAveragePool", "ReduceMean", "ReduceSum")


def tabulated(value: Function, params: QParams | None) -> Compute:
    """A function by table, at the parameters of its result (None: float), and its steps."""
    table = value.table if params is None else quantize_float(value.table, params)

    def compute(tensors: Tensors) -> torch.Tensor:
        result = lookup(tensors[value.codes.name], value.codes.params, table)
        for step in value.steps:
            result = step.apply(result, params)
        return result

    return compute


class Floats:
    """Reads float operators.

    Parameters
    ----------
    values: what every tensor of the file stands for, as far as is known; grows.
    groups: made so far; a float tensor that stands for codes of its own gets one.
    """

    def __init__(self, values: dict[str, Value], groups: list[Group]):
        self._values, self._groups = values, groups
        self._calls: dict[str, Call] = {}

    def read(self, call: Call) -> None:
        """Say what the results of a node stand for.

        Raises
        ------
        UnsupportedGraph
            They stand for nothing in integers.
        """
        for value, name in zip(call.operands, call.names, strict=True):
            if isinstance(value, Host):
                raise call.refuse(
                    f"input {name} is a float that nothing has quantized: quantize it"
                )
        inside = self._inside_norm(call)
        if inside is not None:
            self._values[call.node.output[0]] = inside
            return
        call = replace(call, operands=tuple(outside_norm(call, v) for v in call.operands))
        for index, name in enumerate(call.node.output):
            if not name:
                continue
            if call.op in (*moves.MOVES, *moves.SELECTIONS):
                self._values[name] = self._moved(call, index, name)
            elif index:
                raise call.refuse("only its first result is read")
            elif call.op in functions.ELEMENTWISE:
                self._values[name] = self._elementwise(call)
            elif call.op == "ArgMax":
                self._values[name] = self.index(self._on_codes(call), name)
            elif call.op == "Concat":
                self._values[name] = self._concatenated(call, name)
            elif call.op in OPERATORS:
                self._values[name] = self._operator(self._scaled(self._on_codes(call)), name)
                self._calls[name] = call
            else:
                raise call.refuse("has no integer definition")

    def _append(
        self, node: onnx.NodeProto, op: str, to: Codes, reads: tuple[str, ...], compute: Compute
    ) -> None:
        kind, params = to.params.dtype, to.params
        self._groups.append(
            Group(node, op, to.name, reads, compute, to.shape, kind, params, stands=True)
        )

    def _codes(
        self, call: Call, like: Codes, name: str, reads: tuple[str, ...], compute: Compute
    ) -> Codes:
        """Append the group of a float tensor that stands for codes."""
        codes = replace(like, name=name)
        self._append(call.node, call.op, codes, reads, compute)
        return codes

    def index(self, call: Call, name: str) -> Codes:
        """ArgMax: the lowest index among equals; of codes, or of bare integers."""
        value = call.operand(0)
        if not isinstance(value, Codes | Integers):
            raise _not_on_codes(call)
        compute, shape = grouped.arg_max(call, value.name, value.shape)
        digits = 2 if value.shape[call.attributes.get("axis", 0)] > 256 else 1
        codes = Codes(f"{name}#codes", grouped.INDEX, shape, index=True, digits=digits)
        self._append(call.node, call.op, codes, (value.name,), compute)
        return codes

    def _inside_norm(self, call: Call) -> InsideNorm | None:
        """What a node of a norm that is written out makes; None for any other node."""
        if any(isinstance(v, InsideNorm) for v in call.operands):
            return norms.goes_on(call) if call.op in norms.NODES else None
        if call.op != "Sub" or len(call.operands) != 2:
            return None
        mean = call.operands[1]
        if not isinstance(mean, Pending) or mean.steps or mean.form != "mean":
            return None
        return norms.begins(self._on_codes(call), self._calls.get(call.names[1]))

    def _scaled(self, call: Call) -> Call:
        """Operands that are codes times a constant, as codes at another scale."""
        if call.op not in SCALED:
            return call
        pairs = zip(call.operands, call.names, strict=True)
        return replace(call, operands=tuple(self._at_scale(v, n) for v, n in pairs))

    def _at_scale(self, value: Value | None, name: str) -> Value | None:
        if not isinstance(value, Function) or value.factor is None:
            return value
        params = value.codes.params
        scale = (F32(value.factor) * params.unit).astype(F32).reshape(1)
        codes = Codes(value.codes.name, replace(params, scale=scale), value.shape)
        if not value.steps:
            return codes
        steps, source = value.steps, value.codes.name

        def compute(tensors: Tensors) -> torch.Tensor:
            result = tensors[source]
            for step in steps:
                result = step.apply(result, params)
            return result

        codes = replace(codes, name=name)
        self._append(value.node, value.op, codes, (source,), compute)
        return codes

    # Moves --------------------------------------------------------------------------------

    def _moved(self, call: Call, index: int, name: str) -> Value:
        """What a move makes of its first operand."""
        value: Value | None = call.operand(0)
        if isinstance(value, Function) and call.op in moves.SELECTIONS:
            value = self._as_codes(value, call.names[0])
        if (
            isinstance(value, Codes)
            and call.op == "Pad"
            and not moves.pad_is_exact(call, value.params)
        ):
            value = as_function(call, value)
        if not isinstance(value, Codes | Function | Pending):
            raise call.refuse("moves a constant by what is computed")
        move = moves.read(call, value.shape, index)
        shape = moves.shape_after(move, value.shape)
        if not isinstance(value, Codes):
            view = moves.is_view(call.op, move, value.shape)
            return value.followed(Step(call.op, move, call.op in moves.MOVES, view), shape)
        source, params = value.name, value.params
        viewed = value.place.then(move) if moves.is_view(call.op, move, value.shape) else None

        def compute(tensors: Tensors) -> torch.Tensor:
            return move(tensors[source], params)

        like = replace(value, shape=shape, viewed=viewed)
        return self._codes(call, like, name, (source,), compute)

    def _concatenated(self, call: Call, name: str) -> Value:
        """Concat: of equal parameters a move, else at the scale of the result."""
        call = self._on_codes(call)
        pending = OPERATORS["Concat"](call)
        parts = [v for v in call.operands if isinstance(v, Codes)]
        if len(parts) != len(call.operands) or any(
            not v.params.same_as(parts[0].params) for v in parts
        ):
            return pending
        axis, shape = concatenated(call, [v.shape for v in parts])
        names = [v.name for v in parts]
        viewed = parts[0].place if len(parts) == 1 else None

        def compute(tensors: Tensors) -> torch.Tensor:
            return torch.cat([tensors[each] for each in names], dim=axis)

        like = replace(parts[0], shape=shape, viewed=viewed)
        return self._codes(call, like, name, pending.reads, compute)

    def _operator(self, call: Call, name: str) -> Value:
        """An operator of its own; a mean of single elements only changes the shape."""
        pending = OPERATORS[call.op](call)
        value = call.operand(0)
        shape = pending.shape
        if call.op not in MEANS or not isinstance(value, Codes) or prod(shape) != prod(value.shape):
            return pending
        source, move = value.name, moves.reshaped(shape)

        def compute(tensors: Tensors) -> torch.Tensor:
            return move(tensors[source], None)

        like = replace(value, shape=shape, viewed=value.place.then(move))
        return self._codes(call, like, name, (source,), compute)

    def _on_codes(self, call: Call) -> Call:
        """The call with every function that stands for codes turned into them."""
        pairs = zip(call.operands, call.names, strict=True)
        return replace(call, operands=tuple(self._as_codes(v, n) for v, n in pairs))

    def _as_codes(self, value: Value | None, name: str) -> Value | None:
        """A function whose values are all reals that its codes stand for: Relu, most of all."""
        if not isinstance(value, Function) or value.settled is not None:
            return value
        params = value.codes.params
        if value.table.dtype != np.float32 or np.isnan(value.table).any():
            return value
        if not np.array_equal(dequantize(quantize_float(value.table, params), params), value.table):
            return value
        codes, reads = Codes(name, params, value.shape), (value.codes.name,)
        self._append(value.node, value.ops[-1], codes, reads, tabulated(value, params))
        self._values[name] = codes
        return codes

    # Functions and pairs ------------------------------------------------------------------

    def _elementwise(self, call: Call) -> Value:
        """A function of one tensor, an operator on several, or a clamp behind an operator."""
        times = self._times(call)
        if times is not None:
            return times
        first = call.operand(0)
        to_float = call.op == "Cast" and call.attributes.get("to") == onnx.TensorProto.FLOAT
        if isinstance(first, Function) and first.table.dtype in (np.float64, np.float16):
            to_float = False
        if to_float and isinstance(first, Codes | Function | Pending):
            # It is float32 already, or an index that becomes it.
            return replace(first, index=False) if isinstance(first, Codes) else first
        if call.op in CLAMPS and isinstance(first, Pending):
            return first.followed(_clamp(call), first.shape)
        if call.op in CLAMPS and isinstance(first, Function) and first.settled is not None:
            return first.followed(_clamp(call), first.shape)
        if call.op in PAIRS and len(call.operands) > 1:
            on_codes = self._on_codes(call)
            if all(
                isinstance(v, Codes) or (isinstance(v, Constant) and v.codes is not None)
                for v in on_codes.operands
            ):
                # One tensor that meets itself or scalars is a function, as the file writes it.
                return self._maybe(call) or OPERATORS[call.op](on_codes)
        if call.op == "PRelu" and is_per_channel(call):
            return OPERATORS[call.op](self._on_codes(call))
        if call.op == "Where" and (selected := self._selected(call)) is not None:
            return selected
        if channelwise.belongs(call) and channelwise.is_on_codes(on_codes := self._on_codes(call)):
            return channelwise.line(on_codes)
        return self.function(call)

    def _selected(self, call: Call) -> Codes | None:
        """Where between two tensors of one scale; None where it is anything else."""
        if self._maybe(call) is not None:
            return None
        on_codes = self._on_codes(replace(call, operands=(None, *call.operands[1:])))
        operands = (call.operands[0], *on_codes.operands[1:])
        found = selection.where(replace(call, operands=operands))
        if found is None:
            return None
        codes, reads, compute = found
        self._append(call.node, call.op, codes, reads, compute)
        return codes

    def _times(self, call: Call) -> Pending | None:
        """A product of matrices times a positive constant, which its scale takes up."""
        pending = next((v for v in call.operands if isinstance(v, Pending)), None)
        if pending is None or pending.scaled is None:
            return None
        factor = _factor(call)
        if factor is None or any(step.op in CLAMPS for step in pending.steps):
            return None
        return replace(pending.scaled(factor), steps=pending.steps, shape=pending.shape)

    def _maybe(self, call: Call) -> Function | None:
        """The same as a function of one tensor, if it is one."""
        try:
            return self.function(call)
        except UnsupportedGraph:
            return None

    def function(self, call: Call) -> Function:
        """An elementwise function of one tensor and scalars.

        Raises
        ------
        UnsupportedGraph
            There are several tensors, or a constant that is no scalar.
        """
        parts = [self._part(call, i) for i in range(len(call.operands))]
        first, *others = [p for p in parts if isinstance(p, Function)]
        if any(not p.alike(first) for p in others):
            raise _not_on_codes(call)
        if first.settled is not None:
            raise call.refuse(f"follows {first.settled} without a quantization between")
        arrays = [
            None if p is None else p.table if isinstance(p, Function) else p.array.reshape(-1)[:1]
            for p in parts
        ]
        table = np.broadcast_to(functions.evaluate(call, arrays), (256,)).copy()
        shape = tuple(np.broadcast_shapes(*(p.shape for p in parts if p is not None)))
        node = first.node if first.ops else call.node
        own = _factor(call) if len(others) == 0 else None
        factor = None if own is None or first.factor is None else first.factor * own
        ops = (*first.ops, call.op)
        made = replace(first, node=node, table=table, ops=ops, factor=factor)
        if shape == made.shape:
            return made
        expand = moves.expanded(shape)
        view = moves.is_view("Expand", expand, made.shape)
        return made.followed(Step("Expand", expand, True, view), shape)

    def _part(self, call: Call, index: int) -> Function | Constant | None:
        """An operand of a function: of codes, or constant."""
        value, name = call.operands[index], call.names[index]
        if isinstance(value, Pending):
            raise _not_on_codes(call)
        if isinstance(value, Codes):
            return as_function(call, value)
        if isinstance(value, Constant):
            if value.array.size and (value.array != value.array.flat[0]).any():
                raise call.refuse(f"constant {name} is no scalar: quantize it")
            return value
        if value is None or isinstance(value, Function):
            return value
        raise call.refuse(f"input {name} is integers: dequantize it")


def as_function(call: Call, codes: Codes) -> Function:
    """Codes as the function that does nothing."""
    table = dequantize(codes.params.codes(), codes.params)
    if codes.index:
        table = table.astype(np.int64)
    return Function(call.node, codes, table, codes.shape, factor=1.0)


def outside_norm(call: Call, value: Value | None) -> Value | None:
    """A norm that is written out, seen by a node that is no part of it."""
    return norms.ends(call, value) if isinstance(value, InsideNorm) else value


def _factor(call: Call) -> float | None:
    """The positive float32 constant that a node multiplies by, or 1 over what it divides by."""
    if call.op not in ("Mul", "Div") or len(call.operands) != 2:
        return None
    index = 0 if isinstance(call.operands[0], Constant) and call.op == "Mul" else 1
    constant = call.operands[index]
    if not isinstance(constant, Constant) or constant.array.dtype != F32:
        return None
    values = np.unique(constant.array)
    if values.size != 1 or not 0 < float(values[0]) < np.inf:
        return None
    return float(values[0]) if call.op == "Mul" else 1 / float(values[0])


def _clamp(call: Call) -> Step:
    low, high = (0.0, np.inf) if call.op == "Relu" else functions.clip_bounds(call)
    return Step(call.op, moves.clamp(low, high))


def _not_on_codes(call: Call) -> UnsupportedGraph:
    """Why operands that are no single tensor of codes cannot be computed with."""
    for value, name in zip(call.operands, call.names, strict=True):
        if isinstance(value, Function | Pending):
            return call.refuse(
                f"input {name} comes in float from {value.node.op_type} {label(value.node)}, "
                "behind which only Relu, Clip, moves and maxima may stand: quantize it"
            )
    return call.refuse("has no integer definition for several quantized tensors")
