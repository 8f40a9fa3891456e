"""Writes nodes and constants of a graph in the form that its opset has for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fuzz.style import Style

IR_VERSIONS = ((10, 5), (12, 6), (15, 8), (19, 9), (21, 10), (23, 11), (24, 12), (25, 13))
"""Opset and the IR version that came with it or after it."""

INNER = (
    "input0",
    "input1",
    "axis2",
    "slice",
    "features",
    "product",
    "restore",
    "input",
    "relayout",
)
"""Suffixes that a compiler might give to tensors of its own."""

Mark = tuple[tuple[int, int, int], tuple[int, str, int]]


class Namer:
    """Names in the manner of an exporter; each is given once.

    Parameters
    ----------
    scheme: `Style.names`.
    """

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        self.used: dict[str, None] = {}
        self._last = "x"
        self._count = 0

    def mark(self) -> tuple[int, str, int]:
        """What was given so far, for `restore`."""
        return len(self.used), self._last, self._count

    def restore(self, mark: tuple[int, str, int]) -> None:
        """Forget the names that were given since `mark`."""
        used, self._last, self._count = mark
        while len(self.used) > used:
            self.used.popitem()

    def name(self, hint: str) -> str:
        """A new name for something called `hint`."""
        while True:
            self._count += 1
            name = self._form(hint, self._count)
            if name not in self.used:
                self.used[name] = None
                if self.scheme == "ours" and "/" not in name:
                    self._last = name
                return name

    def exactly(self, name: str) -> str:
        """A name as given, if it is free, else one like it."""
        if name in self.used:
            return self.name(name)
        self.used[name] = None
        return name

    def _form(self, hint: str, n: int) -> str:
        match self.scheme:
            case "torch":
                return f"/stages.{n // 4}/blocks.{n % 4}/{hint}/{hint.capitalize()}_output_{n}"
            case "tf":
                return f"StatefulPartitionedCall/model/{hint}_{n}/BiasAdd:{n % 2}"
            case "blank":
                return f"{hint} of layer {n} (µ)"
            case "ours":
                if n % 2:
                    return f"{hint}{n}"
                return f"{self._last}/{INNER[n // 2 % len(INNER)]}"
            case "number":
                return str(100 + n)
            case _:
                return f"{hint}{n}"


class Writer:
    """A graph under construction.

    Parameters
    ----------
    style: how to write.

    Members
    -------
    nodes, initializers, inputs, outputs: of the graph, in file order.
    """

    def __init__(self, style: Style) -> None:
        self.style = style
        self.namer = Namer(style.names)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.properties: dict[str, str] = {}

    def mark(self) -> Mark:
        """Where the graph stands, for `restore`."""
        lengths = len(self.nodes), len(self.initializers), len(self.inputs)
        return lengths, self.namer.mark()

    def restore(self, mark: Mark) -> None:
        """Take back everything that was written since `mark`."""
        (nodes, initializers, inputs), names = mark
        del self.nodes[nodes:], self.initializers[initializers:], self.inputs[inputs:]
        self.namer.restore(names)

    def constant(self, value: Any, hint: str = "c") -> str:
        """A constant; Python integers become int64, floats float32."""
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        name = self.namer.name(hint)
        tensor = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        if self.style.constants == "node":
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.append(tensor)
        return name

    def several(
        self, op: str, inputs: Sequence[str], count: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Append a node with several outputs."""
        outputs = [self.namer.name(op.lower()) for _ in range(count)]
        names = {"number": f"node_{op}_{len(self.nodes)}", "none": "", "output": outputs[0]}
        node = helper.make_node(
            op,
            list(inputs),
            outputs,
            name=names[self.style.node_names],
            domain=domain,
            **attributes,
        )
        self.nodes.append(node)
        return outputs

    def node(self, op: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        """Append a node with one output; its name."""
        return self.several(op, inputs, 1, domain, **attributes)[0]

    def listed(
        self, op: str, data: str, key: str, values: Sequence[int], since: int, **kw: Any
    ) -> str:
        """Append a node whose list of integers became an input with opset `since`."""
        if self.style.opset < since:
            kw[key] = list(values)
            return self.node(op, [data], **kw)
        return self.node(op, [data, self.constant(np.asarray(values, np.int64), key)], **kw)

    def input(self, name: str, dtype: Any, shape: Sequence[int | str]) -> str:
        """Declare an input of the graph."""
        name = self.namer.exactly(name)
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, name: str, dtype: Any, shape: Sequence[int] | None) -> None:
        """Declare an output of the graph."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        dims = None if shape is None else list(shape)
        self.outputs.append(helper.make_tensor_value_info(name, kind, dims))

    def rename_output(self, old: str, new: str) -> str:
        """Give a tensor that is made by a node another name."""
        new = self.namer.exactly(new)
        for node in self.nodes:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
        return new

    def model(self) -> onnx.ModelProto:
        """The finished model."""
        inputs = list(self.inputs)
        if self.style.constants == "input":
            inputs += [
                helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
                for t in self.initializers
            ]
        graph = helper.make_graph(self.nodes, "graph", inputs, self.outputs, self.initializers)
        domains = [helper.make_opsetid("", self.style.opset)]
        if any(node.domain for node in self.nodes):
            domains.append(helper.make_opsetid("com.microsoft", 1))
        version = next(v for least, v in reversed(IR_VERSIONS) if self.style.opset >= least)
        model = helper.make_model(graph, opset_imports=domains, ir_version=version)
        for key, value in self.properties.items():
            model.metadata_props.add(key=key, value=value)
        return model
