"""What a tensor of the file stands for while it is read, and the codes behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import onnx

from compiler.frontend import batched, channelwise, control, groups, moves, pairs, products, windows
from compiler.frontend.builder import Builder, Operand
from compiler.frontend.functions import Function
from compiler.frontend.last_bits import INEXACT, uncertain
from compiler.frontend.model import Array, Model, Unsupported, refuse
from compiler.frontend.norms import Moments
from compiler.frontend.prelu import prelu
from compiler.frontend.quantization import MASK, Quantization, of_type, parameters
from compiler.frontend.site import Site, site_at
from compiler.frontend.trips import in_loop
from compiler.ir import COMPILER, FILE, Port, Value
from compiler.ops import UnaryTable, make_table, stored_codes
from compiler.tensor import CompilerError, TensorType
from hw.arch.numerics import NumericsError, quantize

CONVERTERS: dict[str, Callable[[Site], Operand]] = {
    "AveragePool": windows.average_pool,
    "BatchNormalization": channelwise.batch_normalization,
    "Concat": pairs.concat,
    "Conv": products.convolution,
    "Div": channelwise.channelwise,
    "Einsum": batched.einsum,
    "Gemm": products.gemm,
    "LayerNormalization": groups.layer_norm,
    "MatMul": products.matmul,
    "PRelu": prelu,
    "Softmax": groups.softmax,
    **dict.fromkeys(windows.REDUCTIONS, windows.reduction),
    **dict.fromkeys(pairs.KINDS, pairs.pair),
}
"""Operators computed from quantized operands to a quantized result."""
SCALED = ("Einsum", "MatMul", "Softmax")
"""Operators in front of which a constant factor may stay in float."""
SCALED_BEHIND = ("Einsum", "MatMul")
"""Operators behind which it may, too."""
POOLS = ("GlobalMaxPool", "MaxPool", "ReduceMax")
"""Operators that keep the quantization but reduce: they may stand where moves may."""
KEPT = (*moves.MOVES, *POOLS)
INDICES = ("ArgMax",)
"""Operators whose results are codes without a QuantizeLinear."""
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
    factors, factor: constants by which operands and result are multiplied in float, see `Site`.
    convert: given, makes the operator instead of CONVERTERS.
    """

    node: onnx.NodeProto
    operands: Sequence[Operand | None]
    steps: tuple[tuple[onnx.NodeProto, int], ...] = ()
    factors: Sequence[float] = ()
    factor: float = 1.0
    convert: Callable[[Site], Operand] | None = None

    def named(self, old: str, new: str) -> Pending:
        """The same after a value has got another name."""
        operands = [each and each.named(old, new) for each in self.operands]
        return dataclasses.replace(self, operands=operands)


@dataclasses.dataclass(frozen=True, slots=True)
class Hosted:
    """A value that the host computes, or writes as the user gives it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """A value that a node with a finding would have made."""


Read = Operand | Function | Pending | Moments | Hosted | Failed


class Blocked(Exception):  # noqa: N818 - no fault: the finding is another node's
    """An operand comes from a node that has a finding already."""


class Readings:
    """What has been read so far, and the graph that grows of it.

    Parameters
    ----------
    model: the indexed file; its inputs are the host's until something quantizes them.

    Members
    -------
    builder: the graph.
    read: what every tensor stands for, by name.
    integers: names of the tensors that are codes themselves.
    digits: bytes of indices, by name.
    outputs: names of the graph's outputs.
    host_nodes: nodes that the host evaluates.
    choices: decisions by an ArgMax, by the condition's name.
    deciding: results of nodes that only such decisions read; nobody else reads those nodes.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.builder = Builder(model.names)
        self.read: dict[str, Read] = {value.name: Hosted() for value in model.inputs}
        self.integers: set[str] = set()
        self.digits: dict[str, int] = {}
        self.outputs = {value.name for value in model.proto.graph.output}
        self.host_nodes: list[onnx.NodeProto] = []
        self.choices = control.choices(model)
        self.deciding = control.only_deciding(model, self.choices)

    def resolve(self, node: onnx.NodeProto, name: str) -> Read | None:
        """What an input of a node is; None where an optional one is absent."""
        if not name:
            return None
        found = self.read.get(name)
        if isinstance(found, Failed):
            raise Blocked
        if found is not None:
            return found
        if self.model.is_constant(name):
            return Operand(name, None, self.model.constants[name])
        raise refuse(node, f"its input {name} is not made")

    def _written(
        self, node: onnx.NodeProto, source: str, target: Quantization, name: str
    ) -> Operand:
        """A value that the host quantizes (or, of an integer input, takes as it is)."""
        shape = self.model.shapes.get(source)
        if shape is None:
            raise refuse(node, f"{source} has no fixed shape")
        if any(finding.node == source for finding in self.model.problems):
            raise Blocked
        kind = target.type(shape)
        for port in self.builder.inputs:
            if port.onnx_name == source and self.builder.type(port.value) == kind:
                return Operand(port.value, kind)
        # In a Loop's body the file has a name for each trip.
        once = name not in self.builder.values and not in_loop(self.builder.path)
        origin = FILE if once else COMPILER
        name = name if origin == FILE else self.builder.inner(name)
        kind.check(name)
        self.builder.values[name] = Value(name, kind, origin=origin)
        self.builder.inputs.append(Port(name, source))
        return Operand(name, kind)

    def target(self, node: onnx.NodeProto) -> Quantization:
        """What a QuantizeLinear quantizes to; Unsupported unless it is fit for an activation."""
        zero = node.input[2] if len(node.input) > 2 else ""
        target = parameters(self.model, node, node.input[1], zero)
        if not target.single:
            raise refuse(node, "an activation needs one scale and 8 bits")
        return target

    def _settle(self, name: str, operand: Operand, integer: bool = False) -> None:
        """Note what a tensor of the file stands for, and let its codes have its name."""
        # A float output of the graph is known by its reals, not by the codes behind it.
        if integer or name not in self.outputs:
            operand = self.builder.settle(operand, name, FILE)
        if integer:
            self.integers.add(name)
            if self._renamed(operand, name):
                operand = Operand(name, operand.kind)
        self.read[name] = operand

    def _renamed(self, operand: Operand, name: str) -> bool:
        """Prefer an integer tensor's name to that of a float one with the same codes."""
        old = operand.name
        made = any(op.output == old for op in self.builder.ops)
        if old in self.integers or name in self.builder.values or not made:
            return False
        if self.builder.paths.get(old, ()) != self.builder.path:
            return False  # what an arm reads has no name of that arm
        self.builder.rename(old, Value(name, operand.kind))

        for key, found in self.read.items():
            match found:
                case Operand():
                    self.read[key] = found.named(old, name)
                case Function():
                    moved = found.operand.named(old, name)
                    self.read[key] = dataclasses.replace(found, operand=moved)
                case Pending() | Moments():
                    self.read[key] = found.named(old, name)
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
        if function is not None:
            self._certain(function, kind, result)
        table = UnaryTable(
            name=self.builder.op_name(node),
            inputs=(source.name,),
            output=self.builder.inner(source.name),
            table=make_table(kind, result, applied),
            function=names,
        )
        return self.builder.emit(table, result, node)

    def _certain(self, function: Function, kind: TensorType, result: TensorType) -> None:
        """Refuse a function whose codes hang on bits that no standard fixes."""
        if not any(node.op_type in INEXACT for node in function.nodes):
            return
        centred = np.unique(stored_codes(kind) - kind.zero_point).astype(np.float32)
        reals = centred * np.float32(kind.scale)

        def codes(shift: float) -> Array:
            made = function(reals, self.model.opset, shift)
            return quantize(made, result.scale, result.zero_point, result.low, result.high)

        found = uncertain(codes)
        if found is not None:
            at, low, high = found
            names = " and ".join(dict.fromkeys(node.op_type for node in function.nodes))
            raise refuse(
                function.last,
                f"the last bits of a float32 decide its result: at {reals[at]:.6g} it is code "
                f"{low} or {high}; put QuantizeLinear and DequantizeLinear between {names}",
            )

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
            if (
                name in self.model.flat.carried
                and quantization.single
                and array.dtype.itemsize == 1
            ):
                kind = quantization.type(array.shape)
                return Operand(self.builder.constant(name, kind, array), kind)
            return Operand(name, None, array, quantization)
        found = self.resolve(node, name)
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
        found = self.resolve(node, name)
        if isinstance(found, Hosted):
            given = self.model.dtypes.get(name)
            if given != quantization.dtype:
                raise refuse(node, f"reads {name} as {quantization.dtype}; it is {given}")
            return self._written(node, name, quantization, name)
        if not isinstance(found, Operand) or name not in self.integers:
            raise refuse(node, f"its input {name} holds no 8-bit integers")
        if not quantization.describes(found.kind):
            raise refuse(
                node,
                f"reads {name} with scale {float(quantization.scale[0]):.9g}, zero point "
                f"{int(quantization.zero_point[0])}; it is {found.kind}",
            )
        return found

    def _moved(
        self,
        node: onnx.NodeProto,
        index: int,
        source: Operand,
        pending: bool = False,
        integer: bool = False,
    ) -> Operand:
        """A move or maximum pool of codes, quantization unchanged."""
        if node.op_type not in POOLS:
            return moves.move(self.builder, self.model, node, index, source, pending, integer)
        target = of_type(source.kind)
        operands = [source, *self._scalars(node)]
        site = site_at(self.builder, self.model, node, node.op_type, operands, target)
        if node.op_type == "MaxPool":
            return windows.max_pool(site)
        return windows.reduction(site)

    def _scalars(self, node: onnx.NodeProto) -> list[Operand | None]:
        """Operands of a node behind its first, which are constants."""
        return [
            Operand(n, None, self.model.constants.get(n)) if n else None for n in node.input[1:]
        ]

    def as_codes(self, name: str, found: Read | None) -> Read | None:
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
        here, self.builder.path = self.builder.path, self.model.paths.get(name, ())
        self._settle(name, self._tabulate(found.last, found.operand, of_type(kind), found))
        self.builder.path = here
        return self.read[name]

    def _real(self, function: Function) -> Callable[[Array], Array]:
        return lambda real: function(real, self.model.opset)

    def loose(self, name: str, kind: TensorType) -> None:
        """Codes that nothing makes: of a node with a finding, to go on checking behind it."""
        kind.check(name)
        self.builder.values[name] = Value(name, kind)
        self.read[name] = Operand(name, kind)
        self.integers.add(name)


def convert(site: Site, converter: Callable[[Site], Operand] | None = None) -> Operand:
    """Import the operator of a site; whatever is wrong with it carries its name."""
    try:
        return (converter or CONVERTERS[site.op])(site)
    except Unsupported:
        raise
    except (CompilerError, NumericsError, ValueError) as error:
        raise site.refuse(f"{error}{_of_mask(site)}") from error


APART = 2**21
"""Scales further apart than this are those of a mask and of what it masks."""


def _of_mask(site: Site) -> str:
    """What to do where two operands have scales that nothing brings together."""
    if site.op not in pairs.KINDS:
        return ""
    read = [operand for operand in site.operands if operand is not None]
    scales = [o.type.scale for o in read if o.type is not None]
    scales += [float(o.quantization.scale.max()) for o in read if o.quantization is not None]
    return MASK if len(scales) > 1 and max(scales) > min(scales) * APART else ""


def quantize_bounds(bounds: tuple[float, float], target: Quantization) -> tuple[int, int]:
    """Codes of two real bounds, saturated."""
    with np.errstate(over="ignore"):
        real = np.asarray(bounds, np.float32) / target.scale[0]
    limits = np.iinfo(target.dtype)
    codes = np.clip(np.rint(real).astype(np.float64) + target.zero_point[0], limits.min, limits.max)
    return int(codes[0]), int(codes[1])
