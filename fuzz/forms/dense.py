"""Gemm and MatMul by constant matrices, on vectors, flattened maps and tokens."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fuzz.bench import Bench, Unsuitable, Value
from fuzz.forms.weights import make_weight
from fuzz.forms.windows import product

OUTPUTS = (10, 4, 7, 1, 12, 16, 24, 44)
MOST_WEIGHTS = 24_000


def gemm(b: Bench) -> None:
    """A dense layer on a vector, or on a map that is flattened before."""
    x = b.value(fits=lambda v: not v.tokens)
    if len(x.shape) > 2:
        x = _flattened(b, x)
    features, outputs = x.shape[1], b.c.pick(OUTPUTS)
    if features * outputs > MOST_WEIGHTS:
        raise Unsuitable
    matmul = b.c.chance(30)
    transposed = not matmul and not b.c.chance(20)
    shape, axis = ((outputs, features), 0) if transposed else ((features, outputs), 1)
    weight = make_weight(b, shape, axis)
    b.form("gemm.matmul" if matmul else "gemm")
    attributes = {"transB": 1} if transposed else {}
    op = "MatMul" if matmul else "Gemm"
    product(b, op, x, weight, features, (x.shape[0], outputs), attributes)


def _flattened(b: Bench, x: Value) -> Value:
    """[1, C, ...] as [1, features]: with a quantizer, without, or on codes."""
    shape = (1, math.prod(x.shape[1:]))
    if shape[1] > 2048 or x.shape[0] > 1:
        raise Unsuitable
    w = b.writer

    def flatten(name: str) -> str:
        match b.c.below(4):
            case 3 if not (x.codes and b.style.qoperator):
                b.form("shape_subgraph")
                return _reshaped(b, name)
            case 0:
                axis: dict[str, Any] = {} if b.c.chance(50) else {"axis": 1}
                return w.node("Flatten", [name], **axis)
            case 1:
                written = b.c.pick(([1, -1], [-1, shape[1]], [0, -1]))
                return w.node("Reshape", [name, w.constant(np.array(written), "shape")])
            case _:
                return w.node("Reshape", [name, w.constant(np.array(shape), "shape")])

    b.form("gemm.flattened", f"gemm.flattened.{'map' if math.prod(x.shape[2:]) > 1 else 'vector'}")
    if x.codes and b.c.chance(60 if b.style.qoperator else 15):
        codes = flatten(b.integer(x))
        return b.made(Value(shape, x.scale, x.zero, x.dtype, x.sample, codes))
    real = flatten(b.read(x))
    if b.c.below(100) < b.style.bare:
        return b.made(Value(shape, x.scale, x.zero, x.dtype, x.sample, real=real))
    if b.c.chance(15):
        return b.quantized(real, shape, x.sample)
    return b.quantized(real, shape, x.sample, like=x)


def _reshaped(b: Bench, name: str) -> str:
    """Flatten as torch's first exporter wrote it: the batch is read from the tensor's shape."""
    w = b.writer
    batch = w.node("Gather", [w.node("Shape", [name]), w.constant(np.array(0), "index")], axis=0)
    batch = w.listed("Unsqueeze", batch, "axes", [0], 13)
    shape = w.node("Concat", [batch, w.constant(np.array([-1]), "rest")], axis=0)
    return w.node("Reshape", [name, shape])


def tokens(b: Bench) -> None:
    """MatMul of [1, tokens, features] by a constant matrix."""
    ready = [v for v in b.values if v.tokens]
    x = b.c.pick(ready[::-1]) if ready and not b.c.chance(20) else to_tokens(b)
    features, outputs = x.shape[-1], b.c.pick(OUTPUTS)
    weight = make_weight(b, (features, outputs), 1)
    b.form("tokens.matmul")
    shape = (*x.shape[:-1], outputs)
    y = product(b, "MatMul", x, weight, features, shape, {}, tokens=True)
    if b.c.chance(30):  # a linear layer of torch: MatMul, Add
        rng = b.c.generator()
        bias = rng.normal(0, 0.3 * float(y.sample.std()) + 0.01, outputs).astype(np.float32)
        codes_scale = np.float32(np.abs(bias).max() / 127)
        codes = np.rint(bias / codes_scale).astype(np.int8)
        if b.style.signed:
            name = b.dequantize(b.writer.constant(codes, "b"), codes_scale, 0, np.int8)
        else:
            shifted = (codes.astype(np.int16) + 128).astype(np.uint8)
            name = b.dequantize(b.writer.constant(shifted, "b"), codes_scale, 128, np.uint8)
        b.form("tokens.matmul_add")
        real = b.writer.node("Add", [b.read(y), name])
        b.quantized(real, shape, y.sample, tokens=True)


def to_tokens(b: Bench) -> Value:
    """A map as tokens: Reshape and Transpose, each with a quantizer or none."""
    x = b.spatial()
    count, w = math.prod(x.shape[2:]), b.writer
    if count * x.shape[1] > 2048:
        raise Unsuitable
    real = b.read(x)
    if len(x.shape) > 3:
        shape = w.constant(np.array([1, x.shape[1], -1]), "shape")
        real = w.node("Reshape", [real, shape])
        if b.c.chance(50):
            codes = b.quantize(real, x.scale, x.zero, x.dtype)
            real = b.dequantize(codes, x.scale, x.zero, x.dtype)
    real = w.node("Transpose", [real], perm=[0, 2, 1])
    b.form("tokens.of_map")
    return b.quantized(real, (1, count, x.shape[1]), x.sample, like=x, tokens=True)
