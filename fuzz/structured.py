"""Random quantized networks with If and Loop, as quantizers could write them."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 7
SCALE, ZERO = 0.03, 118
"""Of every tensor."""
KIND = TensorProto.UINT8
FORMS = ("If", "nested If", "empty arm", "Loop", "nested Loop", "exit by the data")
"""What a network may hold. Every Loop carries one tensor or two."""


class Scope:
    """Nodes of one graph, and the tensors that stand for codes in it, outer ones included."""

    def __init__(self, file: File, outer: Scope | None = None):
        self.file, self.outer = file, outer
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.values: list[str] = list(outer.values) if outer else []
        """Codes by name; their reals are `NAME_real`, made where they are read first."""
        self.reals: dict[str, str] = {}

    def constant(self, value: npt.ArrayLike) -> str:
        """Add a constant; its name."""
        name = self.file.name("k")
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], outputs: int = 1, **attributes: object) -> list[str]:
        """Add a node; its outputs' names."""
        names = [self.file.name("t") for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, self.file.name("n"), **attributes))
        return names

    def _scale(self) -> list[str]:
        return [
            self.constant(np.float32(SCALE)),
            self.constant(np.array(ZERO, np.uint8)),
        ]

    def real(self, codes: str) -> str:
        """The reals that codes stand for, dequantized once in each graph."""
        if codes not in self.reals:
            (self.reals[codes],) = self.node("DequantizeLinear", [codes, *self._scale()])
        return self.reals[codes]

    def codes(self, real: str) -> str:
        """Quantize a real; the name of its codes."""
        (name,) = self.node("QuantizeLinear", [real, *self._scale()])
        self.values.append(name)
        return name


class File:
    """A model under construction.

    Members
    -------
    draw: decides everything. loops: whether there are any.
    holds: what it has, by `FORMS`. joined: what If and Loop make that stand in no arm.
    """

    def __init__(self, seed: int, loops: bool = False):
        self.loops = loops
        self.holds: Counter[str] = Counter()
        self.draw = random.Random(seed)
        self.rng = np.random.default_rng(seed)
        self.count = 0
        self.joined: list[str] = []
        self.stacked: str | None = None

    def name(self, kind: str) -> str:
        """A new name."""
        self.count += 1
        return f"{kind}{self.count}"

    def model(self) -> onnx.ModelProto:
        """A whole network with at least one If."""
        scope = Scope(self)
        inputs = []
        for name in ("x", "z")[: self.draw.randint(1, 2)]:
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDTH]))
            scope.codes(name)
        if self.loops:
            inputs.append(helper.make_tensor_value_info("rows", TensorProto.FLOAT, [4, WIDTH]))
            (self.stacked,) = scope.node("QuantizeLinear", ["rows", *scope._scale()])
        self.some(scope, 1, 0)
        if self.loops:
            self.loop(scope, 0)
        self.fork(scope, 0)
        self.some(scope, self.draw.randint(1, 3), 0)
        total = self.joined[0]
        for codes in self.joined[1:]:  # nothing that a fork makes is left out
            total = scope.codes(scope.node("Max", [scope.real(total), scope.real(codes)])[0])
        results = [total, *self.draw.sample(scope.values[:-1], self.draw.randint(0, 1))]
        outputs = []
        for codes in results:
            (name,) = scope.node("DequantizeLinear", [codes, *scope._scale()])
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDTH]))
        graph = helper.make_graph(scope.nodes, "net", inputs, outputs, scope.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def some(self, scope: Scope, count: int, depth: int) -> None:
        """Operators, and forks among them."""
        for _ in range(count):
            chance = self.draw.random()
            if depth < 2 and chance < 0.3:
                self.fork(scope, depth)
            elif self.loops and depth < 2 and chance < 0.5:
                self.loop(scope, depth)
            else:
                self.operator(scope)

    def operator(self, scope: Scope) -> None:
        """One operator on codes, its result quantized."""
        draw = self.draw
        first = scope.real(draw.choice(scope.values))
        kind = draw.choice(("Add", "Mul", "Tanh", "Relu", "MatMul", "Turn", "Max"))
        if kind in ("Add", "Mul", "Max"):
            (made,) = scope.node(kind, [first, scope.real(draw.choice(scope.values))])
        elif kind == "MatMul":
            weight = self.rng.integers(-127, 128, [WIDTH, WIDTH]).astype(np.int8)
            scale = scope.constant(np.float32(0.008))
            zero = scope.constant(np.int8(0))
            (matrix,) = scope.node("DequantizeLinear", [scope.constant(weight), scale, zero])
            (made,) = scope.node("MatMul", [first, matrix])
        elif kind == "Turn":
            at = draw.randint(1, WIDTH - 1)
            parts = [self._slice(scope, first, at, WIDTH), self._slice(scope, first, 0, at)]
            (made,) = scope.node("Concat", parts, axis=1)
        else:
            (made,) = scope.node(kind, [first])
        scope.codes(made)

    def _slice(self, scope: Scope, name: str, first: int, last: int) -> str:
        ends = [scope.constant(np.array([n], np.int64)) for n in (first, last, 1)]
        return scope.node("Slice", [name, *ends])[0]

    def condition(self, scope: Scope) -> str:
        """A decision by one element, or by the index of the greatest of three."""
        draw = self.draw
        real = scope.real(draw.choice(scope.values))
        if draw.random() < 0.5:
            at = draw.randrange(WIDTH)
            element = self._slice(scope, real, at, at + 1)
            if draw.random() < 0.3:
                (element,) = scope.node("Abs", [element])
            kind = draw.choice(("Greater", "Less", "GreaterOrEqual", "LessOrEqual"))
            limit = scope.constant(np.float32(draw.uniform(-0.8, 0.8)))
            (found,) = scope.node(kind, [element, limit])
        else:
            at = draw.randint(0, WIDTH - 3)
            some = self._slice(scope, real, at, at + 3)
            (index,) = scope.node("ArgMax", [some], axis=1, keepdims=draw.randint(0, 1))
            (found,) = scope.node("Equal", [index, scope.constant(np.int64(draw.randint(0, 2)))])
        if draw.random() < 0.3:
            (found,) = scope.node("Not", [found])
        return found

    def fork(self, scope: Scope, depth: int) -> None:
        """An If of one or two results, which pass as codes or as reals."""
        draw = self.draw
        condition = self.condition(scope)
        count, as_codes = draw.randint(1, 2), draw.random() < 0.7
        arms = {}
        empty = draw.choice((None, None, "then_branch", "else_branch"))
        self.holds.update({"If": 1, "nested If": depth > 0, "empty arm": empty is not None})
        for name in ("then_branch", "else_branch"):
            arm = Scope(self, scope)
            if name != empty:
                self.some(arm, draw.randint(1, 3), depth + 1)
            known = len(scope.values)
            results = []
            for _ in range(count):
                own = arm.values[known:] if draw.random() < 0.8 else []
                codes = draw.choice(own or arm.values)
                source = codes if as_codes else arm.real(codes)
                results += arm.node("Identity", [source])
            kind = KIND if as_codes else TensorProto.FLOAT
            typed = [helper.make_tensor_value_info(r, kind, [1, WIDTH]) for r in results]
            arms[name] = helper.make_graph(arm.nodes, name, [], typed, arm.constants)
        for made in scope.node("If", [condition], count, **arms):
            if as_codes:
                scope.values.append(made)
            else:
                scope.codes(made)
            if not depth:
                self.joined.append(scope.values[-1])

    def loop(self, scope: Scope, depth: int) -> None:
        """A Loop with one or two carried tensors: rows handed out, or an exit of its own."""
        draw, trips = self.draw, self.draw.randint(1, 4)
        leaves = trips > 1 and draw.random() < 0.4
        self.holds.update({"Loop": 1, "nested Loop": depth > 0, "exit by the data": leaves})
        body = Scope(self, scope)
        number, going = self.name("trip"), self.name("go")
        count = draw.randint(1, 2)
        carried = [self.name("c") for _ in range(count)]
        body.values += carried
        if self.stacked is not None and draw.random() < 0.7:  # a row of an input for each trip
            axis = body.constant(np.array([0], np.int64))
            (place,) = body.node("Unsqueeze", [number, axis])
            body.values += body.node("Gather", [self.stacked, place], axis=0)
        known = len(body.values)
        self.some(body, draw.randint(1, 3), depth + 1)
        made = body.values[known:]
        following = [draw.choice(made) for _ in range(count)]
        decided = self.condition(body) if leaves else going
        results = [body.node("Identity", [decided])[0]]
        results += [body.node("Identity", [each])[0] for each in following]
        rows = 0 if leaves else draw.randint(0, 1)
        results += [body.node("Identity", [draw.choice(made)])[0] for _ in range(rows)]
        inputs = [
            helper.make_tensor_value_info(number, TensorProto.INT64, []),
            helper.make_tensor_value_info(going, TensorProto.BOOL, []),
            *(helper.make_tensor_value_info(name, KIND, [1, WIDTH]) for name in carried),
        ]
        outputs = [helper.make_tensor_value_info(results[0], TensorProto.BOOL, None)]
        outputs += [helper.make_tensor_value_info(r, KIND, [1, WIDTH]) for r in results[1:]]
        graph = helper.make_graph(body.nodes, self.name("body"), inputs, outputs, body.constants)
        initial = [
            draw.choice(scope.values)
            if draw.random() < 0.5
            else scope.constant(self.rng.integers(0, 256, [1, WIDTH]).astype(np.uint8))
            for _ in range(count)
        ]
        before = [scope.constant(np.array(trips, np.int64)), scope.constant(np.array(True))]
        found = scope.node("Loop", [*before, *initial], count + rows, body=graph)
        scope.values += found[:count]
        for stack in found[count:]:
            ends = [scope.constant(np.array([n], np.int64)) for n in (trips - 1, trips, 0)]
            (last,) = scope.node("Slice", [stack, *ends])
            shape = scope.constant(np.array([1, WIDTH], np.int64))
            scope.values += scope.node("Reshape", [last, shape])
        if not depth:
            self.joined += scope.values[-len(found) :]


def feeds(model: onnx.ModelProto, seed: int) -> dict[str, np.ndarray]:
    """Inputs of a network by name, normal."""
    rng = np.random.default_rng(seed)
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input
    }
    return {n: rng.normal(0, 1.2, shape).astype(np.float32) for n, shape in shapes.items()}
