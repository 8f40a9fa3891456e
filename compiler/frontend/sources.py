"""Where the operands of an operator come from: the integers behind float tensors."""

from __future__ import annotations

import numpy as np
import onnx

from compiler.frontend import moves, windows
from compiler.frontend.model import Model, label, refuse
from compiler.frontend.quantization import Quantization, of_type, parameters
from compiler.frontend.site import Builder, Operand, site_at
from compiler.ir import Port, Value

POOLS = ("MaxPool", "GlobalMaxPool")
"""Operators that keep the quantization but reduce: they may stand where moves may."""


class Sources:
    """Resolves tensors of the file to values of the graph, making moves on the way.

    Parameters
    ----------
    model, builder: the file and the graph under construction.

    Members
    -------
    floats: float tensors that stand for integers made before.
    claimed: first outputs of nodes that belong to some operator.
    inputs: inputs of the network found so far.
    """

    def __init__(self, model: Model, builder: Builder) -> None:
        self.model = model
        self.builder = builder
        self.floats: dict[str, Operand] = {}
        self.claimed: set[str] = set()
        self.inputs: list[Port] = []

    def claim(self, *nodes: onnx.NodeProto) -> None:
        """Note that nodes belong to an operator."""
        self.claimed.update(node.output[0] for node in nodes)

    def operand(self, name: str, reader: onnx.NodeProto) -> Operand:
        """What a float input of an operator stands for in integers."""
        if name in self.floats:
            return self.floats[name]
        if self.model.is_constant(name):
            return Operand(name, None, self.model.constants[name])
        node = self.model.producers.get(name)
        if node is None:
            raise refuse(
                reader,
                f"reads the graph input {name} in float: put QuantizeLinear and DequantizeLinear "
                "between them",
            )
        if node.op_type == "DequantizeLinear":
            operand = self.dequantized(node)
        elif node.op_type in (*moves.MOVES, *POOLS):
            operand = self._moved(node, name, self.operand(node.input[0], node))
        else:
            raise refuse(
                reader,
                f"its input {name} comes in float from {node.op_type} {label(node)}: quantize it",
            )
        self.floats[name] = operand
        return operand

    def dequantized(self, node: onnx.NodeProto) -> Operand:
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
        known = self.builder.values.get(name)
        dtype = np.int8 if known is not None and known.type.signed else np.uint8
        quantization = parameters(self.model, node, node.input[1], zero, dtype)
        if not quantization.single:
            raise refuse(node, "an activation needs one scale and 8 bits")
        if known is None:
            return self._integer_input(node, name, quantization)
        return self._checked(node, name, quantization)

    def _checked(self, node: onnx.NodeProto, name: str, quantization: Quantization) -> Operand:
        """A known activation, read with the parameters that it was made with."""
        kind = self.builder.type(name)
        if not quantization.describes(kind):
            raise refuse(
                node,
                f"reads {name} with scale {float(quantization.scale[0]):.9g}, zero point "
                f"{int(quantization.zero_point[0])}; it is {kind}",
            )
        return Operand(name, kind)

    def _integer_input(
        self, node: onnx.NodeProto, name: str, quantization: Quantization
    ) -> Operand:
        """A graph input that is quantized already."""
        if all(value.name != name for value in self.model.inputs):
            raise refuse(node, f"its input {name} could not be imported (see the nodes before)")
        kind = quantization.type(self.input_shape(node, name))
        self.builder.values[name] = Value(name, kind)
        self.inputs.append(Port(name, name))
        return Operand(name, kind)

    def input_shape(self, node: onnx.NodeProto, name: str) -> tuple[int, ...]:
        """ONNX shape of a graph input."""
        if name not in self.model.shapes:
            raise refuse(node, f"graph input {name} has no fixed shape")
        return self.model.shapes[name]

    def _moved(self, node: onnx.NodeProto, name: str, source: Operand) -> Operand:
        """A move between DequantizeLinear and an operator: done on the integers."""
        self.claim(node)
        if source.type is None:
            if source.quantization is None:
                raise refuse(node, f"its input {source.name} is a float constant")
            return moves.move_constant(self.model, node, source)
        output = self.builder.unused(name)
        self.emit_move(node, list(node.output).index(name), source.name, output)
        return Operand(output, self.builder.type(output))

    def emit_move(self, node: onnx.NodeProto, index: int, source: str, output: str) -> None:
        """Append a move or maximum pool, quantization unchanged."""
        if node.op_type not in POOLS:
            moves.move(self.builder, self.model, node, index, source, output)
            return
        kind = self.builder.type(source)
        site = site_at(
            self.builder,
            self.model,
            node,
            node.op_type,
            [Operand(source, kind)],
            of_type(kind),
            output,
        )
        windows.max_pool(site)

    def integer_operand(
        self, node: onnx.NodeProto, name: str, quantization: Quantization
    ) -> Operand:
        """An integer input of a QOperator node."""
        array = self.model.constants.get(name)
        if array is not None:
            return Operand(name, None, array, quantization)
        if name in self.builder.values:
            return self._checked(node, name, quantization)
        return self._integer_input(node, name, quantization)
