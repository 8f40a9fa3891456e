"""Inputs for a graph, made from the file alone so that a replay has the same."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Arrays = dict[str, npt.NDArray[Any]]
REACH = 1.15
"""How far inputs go beyond what their quantizer holds."""


def make_feeds(model: onnx.ModelProto) -> Arrays:
    """An array per input of the graph: codes uniformly, reals as the file's properties say.

    Without the property ``feed NAME`` a real input spans what its quantizer holds, or ±3. A part
    of the reals lies half-way between two codes.
    """
    graph = model.graph
    constants = {t.name: t for t in graph.initializer}
    properties = {p.key: p.value for p in model.metadata_props}
    result: Arrays = {}
    for value in graph.input:
        if value.name in constants:
            continue
        tensor = value.type.tensor_type
        shape = [d.dim_value or 1 for d in tensor.shape.dim]
        rng = np.random.default_rng(zlib.crc32(f"{value.name} {shape}".encode()))
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            result[value.name] = rng.integers(limits.min, limits.max + 1, shape, dtype)
            continue
        scale = _scale(graph, value.name, constants)
        low, high = _range(properties.get(f"feed {value.name}"), scale)
        real = rng.uniform(low * REACH, high * REACH, shape)
        if scale is not None:
            ties = rng.random(shape) < 0.1
            real = np.where(ties, (np.floor(real / scale) + 0.5) * scale, real)
        result[value.name] = np.asarray(real, np.float32)
    return result


def _range(text: str | None, scale: float | None) -> tuple[float, float]:
    if text is not None:
        low, high = (float(part) for part in text.split())
        return low, high
    reach = 3.0 if scale is None else 127 * scale
    return -reach, reach


def _scale(
    graph: onnx.GraphProto, name: str, constants: dict[str, onnx.TensorProto]
) -> float | None:
    """Scale of a quantizer that reads an input."""
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] == name:
            found = constants.get(node.input[1])
            if found is not None:
                return float(numpy_helper.to_array(found).reshape(-1)[0])
    return None
