"""Read the nodes that If and Loop leave in the flat graph: joins, and a Loop's two ends."""

from __future__ import annotations

import onnx

from compiler.frontend import control
from compiler.frontend.builder import Operand
from compiler.frontend.functions import Function
from compiler.frontend.inline import is_join
from compiler.frontend.model import refuse
from compiler.frontend.quantization import Quantization, parameters
from compiler.frontend.reading import KEPT, Hosted, Readings
from compiler.frontend.trips import ENTER, LEAVE, MARK
from compiler.ops import Predicate


class ControlReader(Readings):
    """Readings of structured control flow."""

    def join(self, node: onnx.NodeProto) -> None:
        """Read what is left of an If: a result of either arm."""
        tested, predicate = self._decision(node)
        arms = [self._arm(node, name) for name in node.input[1:]]
        made = control.joined(self.builder, node, arms, tested, predicate, self.builder.path)
        integer = any(n in self.integers for n in node.input[1:]) or all(
            arm.type is None and arm.quantization is None for arm in arms
        )
        self._settle(node.output[0], made, integer)

    def enter(self, node: onnx.NodeProto) -> None:
        """Read what a Loop begins with."""
        output = node.output[0]
        loop = next(n for n, k in self.model.flat.loops.items() if output in k.carried)
        found = self.as_codes(node.input[0], self.resolve(node, node.input[0]))
        if isinstance(found, Hosted):
            raise refuse(node, f"the host makes {node.input[0]} in float: quantize it")
        if not isinstance(found, Operand):
            raise refuse(node, f"begins with {node.input[0]}, which is computed in float")
        quantization = None if found.type is not None else self._passed(loop, output)
        mark = f"{loop}{MARK}"
        self.read[output] = control.entered(self.builder, node, mark, found, quantization)
        self.integers.add(output)

    def _passed(self, loop: str, name: str) -> Quantization | None:
        """Scale of codes that a Loop carries: that of a node that reads or makes them."""
        kept = self.model.flat.loops[loop]
        names, place = [name, kept.following[kept.carried.index(name)]], 0
        while place < len(names):
            here = names[place]
            place += 1
            maker = self.model.producers.get(here)
            if maker is not None and maker.op_type == "QuantizeLinear":
                return self.target(maker)
            for node in self.model.nodes:
                if node.op_type == "DequantizeLinear" and node.input[0] == here:
                    zero = node.input[2] if len(node.input) > 2 else ""
                    return parameters(self.model, node, node.input[1], zero)
                names += [n for n in self._passing(node, here) if n not in names]
        return None

    def _passing(self, node: onnx.NodeProto, name: str) -> list[str]:
        """What has the codes of a tensor, for all that a node says."""
        kind = node.op_type
        if kind == LEAVE:
            kept = self.model.flat.loops[node.name]
            groups = zip(kept.following, kept.carried, node.output, strict=False)
            return [n for group in groups if name in group for n in group]
        joined = list(node.input[1:]) if is_join(node) else list(node.input)
        passes = is_join(node) or kind in (ENTER, "Concat", "Max", "Min")
        if not passes and kind in KEPT:
            passes, joined = True, list(node.input[:1])
        ends = [*joined, *node.output]
        return ends if passes and name in ends else []

    def leave(self, node: onnx.NodeProto) -> None:
        """Read what a Loop hands out."""
        loop = node.name
        kept, mark = self.model.flat.loops[loop], f"{node.name}{MARK}"
        decision = self._decision(node) if kept.condition else None
        outputs = list(node.output)
        for name, inner, carried in zip(outputs, kept.following, kept.carried, strict=False):
            made, whole = self._arm(node, inner), self.resolve(node, carried)
            assert isinstance(whole, Operand)
            found = control.left(self.builder, node, mark, kept.trips, made, whole, decision)
            self._settle(
                name,
                found,
                inner in self.integers or (made.quantization is None and made.type is None),
            )
        for name, row in zip(outputs[len(kept.following) :], kept.rows, strict=True):
            found = control.stacked(self.builder, node, mark, kept.trips, self._arm(node, row))
            self._settle(name, found, row in self.integers)

    def _decision(self, node: onnx.NodeProto) -> tuple[Operand, Predicate]:
        """What a condition is about, and what it says."""
        name = node.input[0]
        choice = self.choices.get(name)
        if choice is not None:
            source = self.resolve(node, choice.argmax.input[0])
            if not isinstance(source, Operand) or source.type is None:
                raise refuse(
                    node, f"its ArgMax reads {choice.argmax.input[0]} in float: quantize it"
                )
            return source, control.by_index(self.model, node, choice, source)
        found = self.resolve(node, name)
        if isinstance(found, Hosted):
            raise refuse(node, f"the host makes its condition {name}: let it choose between graphs")
        if not isinstance(found, Function):
            raise refuse(
                node,
                f"its condition {name} is no comparison of one quantized element with constants, "
                "and no ArgMax compared with one",
            )
        return found.operand, control.by_code(self.model, node, found)

    def _arm(self, node: onnx.NodeProto, name: str) -> Operand:
        """The result of an arm."""
        found = self.resolve(node, name)
        if isinstance(found, Operand):
            constant = found.type is None and found.quantization is None
            if constant and found.array is not None and found.array.dtype.kind == "f":
                raise refuse(node, f"the result {name} of an arm is a float constant: quantize it")
            return found
        raise refuse(
            node, f"the result {name} of an arm is computed in float; {control.HOW_TO_QUANTIZE}"
        )
