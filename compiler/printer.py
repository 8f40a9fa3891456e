"""Text of graphs and programs, for the stage dumps."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from compiler.foreseen import FORESEEN
from compiler.ir import Graph, Operation
from compiler.tensor import TensorType
from hw.arch import numerics
from hw.arch.isa import FIXED_POINT
from hw.arch.program import Program

SHORT = 8
"""Longest array that is printed in full."""


def print_graph(graph: Graph) -> str:
    """A graph, one operator per paragraph."""
    return "\n".join(_graph_lines(graph)) + "\n"


def _graph_lines(graph: Graph) -> Iterator[str]:
    yield f"graph {graph.name}: {len(graph.ops)} operators, {graph.macs():,} multiply-accumulates"
    for port in graph.inputs:
        yield f"input {port.value} ({port.onnx_name}): {graph.type(port.value)}"
    for name, value in graph.values.items():
        if value.constant is not None:
            yield f"constant {name}: {value.type}"
    for op in graph.ops:
        yield ""
        yield f"{op.output}: {graph.type(op.output)}"
        yield f"  = {type(op).__name__} {op.name}({', '.join(op.inputs)})"
        for text in _attributes(op):
            yield f"      {text}"
    yield ""
    for port in graph.outputs:
        yield f"output {port.value} ({port.onnx_name})"
    for state in graph.states:
        yield f"state {state.target} ({state.input}) = {state.source} ({state.output})"


def _attributes(op: Operation) -> Iterator[str]:
    for field in dataclasses.fields(op):
        if field.name in ("name", "inputs", "output"):
            continue
        value = getattr(op, field.name)
        if value is not None and (isinstance(value, np.ndarray) or value != field.default):
            yield f"{field.name} = {_text(value)}"


def _text(value: Any) -> str:
    """A field's value; long arrays as shape and range."""
    if isinstance(value, np.ndarray):
        if value.size <= SHORT:
            return str(value.tolist())
        return f"{value.dtype}{list(value.shape)} in {value.min()}..{value.max()}"
    if isinstance(value, bytes):
        return f"table of {len(value)}, {len(set(value))} different"
    if isinstance(value, TensorType):
        return str(value)
    if isinstance(value, numerics.Factor):
        return f"{value.fixed / 2.0**FIXED_POINT:.9g}"
    if isinstance(value, tuple) and any(isinstance(v, bytes) for v in value):
        return ", ".join(_text(v) for v in value)
    if dataclasses.is_dataclass(value):
        inner = (f"{f.name} {_text(getattr(value, f.name))}" for f in dataclasses.fields(value))
        return ", ".join(inner)
    return str(value)


def print_layout(program: Program) -> str:
    """Where tensors lie in DRAM."""
    lines = [f"{'address':>10} {'bytes':>11}  channels      T×H×W         tensor"]
    for tensor in sorted(program.tensors, key=lambda t: t.address):
        layout = tensor.layout
        space = f"{layout.frames}×{layout.height}×{layout.width}"
        place = f"{tensor.address:#10x} {layout.nbytes:11,}"
        parts = "" if not tensor.places else "  blocks at " + ", ".join(map(hex, tensor.places))
        lines.append(f"{place}  {layout.lane_map!s:13} {space:13} {tensor.name}{parts}")
    lines.append(f"{program.memory_bytes:,} bytes of DRAM in all")
    return "\n".join(lines) + "\n"


def print_tiles(program: Program) -> str:
    """What was chosen for each layer."""
    lines = []
    for layer in program.layers:
        lines.append(f"{layer.name} ({layer.op}): instructions {layer.first}..{layer.last - 1}")
        lines += [f"    {key}: {value}" for key, value in layer.tiling.items()]
    return "\n".join(lines) + "\n"


def print_schedule(program: Program) -> str:
    """Instructions of each kind and foreseen cycles of each layer, beside its bound."""
    lines = [f"{'foreseen':>12} {'roofline':>12} {'MAC':>15}  layer"]
    for layer in program.layers:
        instructions = program.instructions[layer.first : layer.last]
        kinds = Counter(i.OPCODE.name for i in instructions)
        listed = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
        cycles = layer.tiling[FORESEEN]
        lines.append(
            f"{cycles:12,} {layer.roofline_cycles:12,} {layer.macs:15,}  {layer.name}: {listed}"
        )
    return "\n".join(lines) + "\n"


def _way(way: Mapping[str, float]) -> str:
    """What one way to compute a layer costs, as far as it is known."""
    units = {
        "cycles": "cycles",
        "multiplications": "multiplications",
        "energy_uj": "µJ",
        "dram_bytes": "bytes",
    }
    return ", ".join(f"{way[key]:,} {unit}" for key, unit in units.items() if key in way)


def _choice(record: Mapping[str, Any]) -> Iterator[str]:
    """Why nothing is transformed, what could be, and what could not."""
    if record["reason"]:
        yield f"    not transformed: {record['reason']}"
    yield from (f"    {name}: {_way(way)}" for name, way in record["candidates"].items())
    yield from (f"    {name}: refused, {why}" for name, why in record["refused"].items())


def print_choices(program: Program) -> str:
    """Direct or transformed: what each convolution could be, what was chosen, and why."""
    lines = []
    for layer in program.layers:
        record = layer.tiling.get("hfa")
        if record is None:
            continue
        lines.append(f"{layer.name} ({layer.op}): {record['chosen']}")
        lines += _choice(record)
        if "depthwise" in record:
            lines.append(f"  its depthwise convolution: {record['depthwise']['chosen']}")
            lines += _choice(record["depthwise"])
    return "\n".join(lines) + "\n" if lines else "no layer can be transformed\n"
