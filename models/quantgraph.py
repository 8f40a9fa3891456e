"""Read a quantized ONNX graph as a list of integer operations, forward, node by node.

Every tensor of the file is given a meaning (`models.values.Value`) by the node that makes it and
the meanings of what the node reads; no pattern is looked for. A float tensor behind a
DequantizeLinear stands for codes, and so does what moves make of it; an operator on such tensors
is `Pending` until a QuantizeLinear says at which scale its result is wanted; an elementwise
function is a table. What has no meaning in integers raises UnsupportedGraph, by node.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch

from models import bare, branches, constants, host, norms, qoperators, quantization
from models.errors import ModelsError
from models.floats import CLAMPS, Floats, tabulated
from models.onnxfile import CODES, MICROSOFT, STANDARD, OnnxFile, UnsupportedGraph, load
from models.operands import lookup
from models.operators import OPERATORS
from models.tables import QParams, dequantize, quantize_float, requantize_table
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
    Place,
    Shape,
    Tensors,
    Value,
)

__all__ = ["Group", "QuantizedGraph", "UnsupportedGraph", "load"]

_TORCH = {np.dtype(np.uint8): torch.uint8, np.dtype(np.int8): torch.int8}


class QuantizedGraph:
    """The groups of a quantized ONNX model in an order of execution.

    Parameters
    ----------
    model: the model; external data is read from beside the file.
    shapes: of inputs; others are as declared, 1 where an axis is free.

    Members
    -------
    groups: integer operations in execution order.
    inputs, outputs: names of the graph's inputs (without initializers) and outputs.
    shapes: of the inputs.
    names: for every tensor that is 8-bit integers or stands for codes, where its codes are: the
        name of a group's output or of a graph input, or a constant.
    ends: its 8-bit integer tensors and inputs, `integers` and `inputs`.
    kinds: type and shape of what groups make, and of inputs.

    Raises
    ------
    UnsupportedGraph
        A node has no integer definition.
    ModelsError
        The file is missing or no ONNX file, or damaged.
    """

    def __init__(self, model: str | Path | onnx.ModelProto, shapes: dict[str, Shape] | None = None):
        self.model = model if isinstance(model, onnx.ModelProto) else load(Path(model))
        self._flat = branches.flatten(self.model)
        self.file = OnnxFile(self._flat.model, self._flat.beside)
        self._behind = self._decision_chains()
        choices = (node for node in self.file.nodes if branches.is_choice(node))
        self._choices = {node.input[0]: node for node in choices}
        self.inputs, self.outputs = self.file.inputs, self.file.outputs
        self.shapes = {name: self._input_shape(name, shapes or {}) for name in self.inputs}
        self.groups: list[Group] = []
        self._values: dict[str, Value] = {}
        self._decided: set[str] = set()
        self._floats = Floats(self._values, self.groups)
        self._host = host.HostPart(self.file, self.shapes)
        for name in self.inputs:
            kind, shape = self.file.types[name], self.shapes[name]
            integers = kind in CODES
            self._values[name] = Integers(name, kind, shape, given=True) if integers else Host(name)
        skipped = self._only_deciding()
        for node in self.file.nodes:
            if id(node) not in skipped:
                self._read(node)
        for name in self.outputs:
            self._output(name)
        self.groups = [
            replace(group, guard=self._flat.guards.get(group.output, ())) for group in self.groups
        ]
        self.names = self._kept()
        self._integers = frozenset(n for n, v in self._values.items() if isinstance(v, Integers))
        self.ends = self._integers | set(self.inputs)
        self.kinds = {group.output: (group.dtype, group.shape) for group in self.groups}
        self.kinds |= {name: (self.file.types[name], self.shapes[name]) for name in self.inputs}

    def _decision_chains(self) -> dict[str, list[onnx.NodeProto]]:
        """For every condition that an ArgMax decides: the nodes from it on."""
        producers, constants = self.file.producers, self.file.constants
        conditions = [node.input[0] for node in self.file.nodes if branches.is_choice(node)]
        chains = {n: branches.behind_argmax(n, producers, constants) for n in conditions}
        return {name: chain for name, chain in chains.items() if chain is not None}

    def _only_deciding(self) -> set[int]:
        """Nodes whose results nothing but conditions need."""
        chained = {id(node) for chain in self._behind.values() for node in chain}
        needed = set(self.outputs)
        skipped = set()
        for node in reversed(self.file.nodes):
            if id(node) in chained and not needed.intersection(node.output):
                skipped.add(id(node))
            elif branches.is_choice(node):
                behind = node.input[0] in self._behind
                needed.update(node.input[1:] if behind else node.input)
            else:
                needed.update(node.input)
        return skipped

    def _input_shape(self, name: str, given: dict[str, Shape]) -> Shape:
        declared = self.file.shapes[name]
        if name in given:
            return given[name]
        if declared is None:
            raise ModelsError(f"input {name} declares no shape")
        return tuple(1 if n is None else n for n in declared)

    def _kept(self) -> dict[str, str | Constant]:
        """Where the codes of every tensor are."""
        names: dict[str, str | Constant] = {}
        for name, value in self._values.items():
            if isinstance(value, Codes | Integers):
                names[name] = value.name
            elif isinstance(value, Constant):
                codes = value.array if value.codes is None else value.codes
                if codes.dtype in CODES:
                    names[name] = Constant(name, codes)
        return names

    def trip(self, name: str, loop: str) -> int:
        """The trip of a Loop, from 0, in which a tensor is made; 0 outside of it."""
        return self._flat.trips.get(name, {}).get(loop, 0)

    def integers(self) -> frozenset[str]:
        """Names of the 8-bit integer tensors of the file that are no constants."""
        return self._integers

    def step(self, output: str) -> float:
        """Between neighbouring codes behind a float output of the graph."""
        value = self._value(output)
        codes = value.codes if isinstance(value, Function) else value
        assert isinstance(codes, Codes)
        return float(codes.params.unit)

    def _value(self, name: str) -> Value:
        if name not in self._values:
            self._values[name] = Constant(name, self.file.constants[name])
        return self._values[name]

    def _read(self, node: onnx.NodeProto) -> None:
        """Say what the results of a node stand for."""
        for name, _ in self._flat.guards.get(node.output[0], ()):
            self._decide(name)
        if branches.is_choice(node):
            self._choose(node)
            return
        operands = tuple(self._value(name) if name else None for name in node.input)
        call = Call.of(node, operands, self.file.opset)
        standard = node.domain in STANDARD
        quantizer = node.op_type if node.domain in (*STANDARD, MICROSOFT) else ""
        output = node.output[0]
        if any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute):
            raise call.refuse("has no integer definition: of control flow, If is read")
        if standard and node.op_type in ("Shape", "Size"):
            self._values[output] = self._shape(call)
        elif quantizer == "DequantizeLinear" and not isinstance(call.operand(0), Host):
            self._values[output] = self._dequantized(call)
        elif quantizer == "QuantizeLinear":
            self._values[output] = self._quantized(call)
        elif qoperators.form(node.domain, node.op_type) is not None:
            self._values[output] = self._qoperator(call)
        elif not call.activations():
            self._values |= constants.fold(call, self.model.opset_import)
        elif host.belongs(call):
            self._values |= {name: Host(name) for name in node.output if name}
        elif not standard:
            raise call.refuse(f"is an operator of the domain {node.domain!r}, which is not read")
        elif call.op == "ArgMax":
            index = self._floats.index(call, output)
            if index.digits > 1 and any(output in each.input for each in self.file.nodes):
                raise call.refuse("its index has two bytes, which nothing but an output reads")
            self._values[output] = index
        elif any(isinstance(v, Integers) for v in call.operands):
            for group, value in bare.read(call):
                self.groups.append(group)
                self._values[group.output] = value
        else:
            self._floats.read(call)

    def _choose(self, node: onnx.NodeProto) -> None:
        """The result of an If."""
        name, *arms = node.input
        self._decide(name)
        operands = (self._values.get(name), *(self._value(each) for each in arms))
        group, value = branches.chosen(Call.of(node, operands, self.file.opset))
        self.groups.append(group)
        self._values[group.output] = value

    def _decide(self, name: str) -> None:
        """Append the group of a condition, where it is not there yet."""
        if name in self._decided:
            return
        self._decided.add(name)
        node = self._choices[name]
        condition = self._values.get(name) or self._constant(name)
        chain = self._behind.get(name)
        source = None if chain is None else self._value(chain[0].input[0])
        constants, opset = self.file.constants, self.file.opset
        found = branches.decided(node, condition, chain, source, constants, opset)
        call = Call.of(node, (condition,), opset)
        self.groups.append(branches.deciding(call, found))

    def _constant(self, name: str) -> Constant | None:
        array = self.file.constants.get(name)
        return None if array is None else Constant(name, array)

    def _shape(self, call: Call) -> Constant:
        """Shape and Size, which are fixed here."""
        value, name = call.operand(0), call.node.output[0]
        shape = self._host.type(value.name)[1] if isinstance(value, Host) else value.shape
        if call.op == "Size":
            return Constant(name, np.array(int(np.prod(shape)), np.int64))
        first, end = call.attributes.get("start", 0), call.attributes.get("end", len(shape))
        return Constant(name, np.array(shape, np.int64)[first:end])

    def _dequantized(self, call: Call) -> Value:
        """What a DequantizeLinear makes: codes and their meaning."""
        value = call.operand(0)
        if isinstance(value, Constant) and value.name in self._flat.carried:
            value = self._values[value.name] = self._carried(value)
        if isinstance(value, Constant):
            params = quantization.of_dequantize(call, value.array.dtype, value.array.ndim)
            return Constant.quantized(call.node.output[0], value.array, params)
        if not isinstance(value, Integers):
            raise call.refuse(f"input {call.names[0]} is no 8-bit integer tensor")
        params = quantization.of_dequantize(call, value.dtype, len(value.shape))
        if not params.single:
            raise call.refuse("activations need one scale, not one per channel")
        return Codes(value.name, params, value.shape, value.viewed)

    def _quantized(self, call: Call) -> Value:
        """What a QuantizeLinear makes: the result of whatever it closes."""
        value, params = call.operand(0), quantization.of_quantize(call)
        if isinstance(value, Constant):
            return Constant(call.node.output[0], quantize_float(value.array, params))
        if not params.single or params.dtype not in CODES:
            raise call.refuse("an activation needs one scale and 8 bits")
        return self._finished(call, value, params)

    def _carried(self, value: Constant) -> Value:
        """Integers that a Loop begins with; not to be folded, since other trips have others."""
        array = value.array
        if array.dtype not in CODES:
            return value
        node = onnx.helper.make_node("Constant", [], [value.name])
        compute: Compute = lambda tensors: torch.from_numpy(array.copy())  # noqa: E731
        self.groups.append(
            Group(node, "Constant", value.name, (), compute, array.shape, array.dtype)
        )
        return Integers(value.name, array.dtype, array.shape)

    def _qoperator(self, call: Call) -> Value:
        """QLinearConv and the like: the float operator, finished at once."""
        if not call.activations():
            raise call.refuse("all its operands are constant")
        parts = qoperators.split(call)
        if parts.call.op in OPERATORS:
            return self._finished(call, OPERATORS[parts.call.op](parts.call), parts.target)
        return self._finished(call, self._floats.function(parts.call), parts.target)

    def _finished(self, call: Call, value: Value, params: QParams) -> Integers:
        """Append the group that makes integers at the given parameters."""
        output, node = call.node.output[0], call.node
        if isinstance(value, InsideNorm):
            value = norms.ends(call, value)
        reads: tuple[str, ...]
        if isinstance(value, Host):
            kind, shape = self._host.type(value.name)
            if kind != np.float32:
                raise call.refuse(f"quantizes {kind}; float32 is read")
            if value.name not in {*self.inputs, *(group.output for group in self.groups)}:
                self.groups.append(self._host.group(value.name))
            op, form, reads = "QuantizeLinear", "quantize", (value.name,)
            compute = _quantizer(value.name, params)
        elif isinstance(value, Codes):
            op, form, reads, shape = "Requantize", "requantize", (value.name,), value.shape
            compute = _requantizer(value, params)
            made = next((g for g in self.groups if g.output == value.name and g.stands), None)
            if made is not None:  # by a move, which this change of scale belongs to
                op, node = made.op, made.node
        elif isinstance(value, Function):
            op, form, reads, shape = value.op, "function", (value.codes.name,), value.shape
            node, compute = value.node, tabulated(value, params)
        elif isinstance(value, Pending):
            op, form, reads, shape = _operator(value.node), value.form, value.reads, value.shape
            node, compute = value.node, _computed(value, params)
        else:
            raise call.refuse(f"input {call.names[0]} is integers already")
        lost = value.lost(params) if isinstance(value, Pending) else 0.0
        kind = params.dtype
        self.groups.append(
            Group(node, op, output, reads, compute, shape, kind, params, form, lost=lost)
        )
        copied = isinstance(value, Codes) and value.params.same_as(params)
        viewed = value.place if isinstance(value, Codes) and copied else None
        if isinstance(value, Host):
            viewed = self._written_before(value, params, shape)
        return Integers(output, kind, shape, params, viewed=viewed)

    def _written_before(self, value: Host, params: QParams, shape: Shape) -> Place | None:
        """Where the same codes of a graph input lie: of a QuantizeLinear for another reader."""
        for group in self.groups[:-1]:
            same = group.params is not None and group.params.same_as(params)
            if group.op == "QuantizeLinear" and group.reads == (value.name,) and same:
                return Place(group.output, shape)
        return None

    def _output(self, name: str) -> None:
        """Last group of a float output of the graph."""
        value, node = self._value(name), self.file.producers.get(name)
        if node is None:
            raise ModelsError(f"graph output {name} is an input or a constant of the graph")
        if isinstance(value, Integers):
            return
        kind: np.dtype = np.dtype(np.float32)
        shape = () if isinstance(value, Host) else value.shape
        if isinstance(value, Codes) and value.index:
            source, kind = value.name, np.dtype(np.int64)
            compute = _widened(value)
            shape = shape[:-1] if value.digits > 1 else shape
        elif isinstance(value, Codes):
            source, compute = value.name, _dequantizer(value)
        elif isinstance(value, Function) and value.table.dtype == np.float32:
            source, compute = value.codes.name, tabulated(value, None)
        else:
            what = "constant" if isinstance(value, Constant) else "computed in float: quantize it"
            raise UnsupportedGraph(node, f"graph output {name} is {what}")
        reads = (source,)
        self.groups.append(
            Group(
                node,
                "DequantizeLinear",
                name,
                reads,
                compute,
                shape,
                kind,
                form="dequantize",
                final=True,
            )
        )


def _operator(node: onnx.NodeProto) -> str:
    """Float operator of a node."""
    found = qoperators.form(node.domain, node.op_type)
    return node.op_type if found is None else found[0]


def _quantizer(name: str, params: QParams) -> Compute:
    return lambda tensors: torch.from_numpy(quantize_float(tensors[name].numpy(), params))


def _dequantizer(value: Codes) -> Compute:
    return lambda tensors: torch.from_numpy(dequantize(tensors[value.name].numpy(), value.params))


def _widened(value: Codes) -> Compute:
    if value.digits == 1:
        return lambda tensors: tensors[value.name].to(torch.int64)
    weights = 256 ** torch.arange(value.digits)
    return lambda tensors: (tensors[value.name].to(torch.int64) * weights).sum(dim=-1)


def _requantizer(value: Codes, params: QParams) -> Compute:
    if value.params.same_as(params):
        return lambda tensors: tensors[value.name]
    table = requantize_table(value.params, params)
    return lambda tensors: lookup(tensors[value.name], value.params, table)


def _computed(value: Pending, params: QParams) -> Compute:
    """An operator, and its steps on codes."""
    kernel = value.kernel
    if value.clamped is not None and _cuts(value, params):
        kernel = value.clamped

    def compute(tensors: Tensors) -> torch.Tensor:
        result = kernel(tensors, params).to(_TORCH[params.dtype])
        for step in value.steps:
            result = step.apply(result, params)
        return result

    return compute


def _cuts(value: Pending, params: QParams) -> bool:
    """Whether a clamp behind an operator leaves out codes."""
    ends = torch.tensor([params.low, params.high]).to(_TORCH[params.dtype])
    for step in value.steps:
        if step.op in CLAMPS:
            ends = step.apply(ends, params)
    return bool(ends.tolist() != [params.low, params.high])
