"""Small graphs of a softmax, norm, ArgMax or product; shared by the tests of those."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from compiler.backend.build import generate
from compiler.ir import Graph
from compiler.ops import ArgMax, BatchedMatMul, Normalize, Softmax
from hw.arch.axes import merged
from hw.arch.config import AcceleratorConfig
from hw.arch.group_numerics import NormConstants, SoftmaxConstants
from hw.arch.matmul_numerics import ProductScale
from tests.compiler.backend.harness import execute, kind, network
from tests.machines import folding

CONFIGS = {
    "tiny": folding("tiny_direct", weight_bits=9),
    "ecp5": folding("ecp5_85k"),
    "wide": folding("wide", weight_bits=9),
    "base": folding("base"),
}
COMMON = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = st.sampled_from(sorted(CONFIGS))


def softmax(shape, axes, signed=False, target=False, scale=1 / 256) -> Graph:
    x = kind(shape, 0.06, 11, signed)
    y = kind(shape, scale, -128 if target else 0, target)
    constants = SoftmaxConstants.of(x.scale, y.scale)
    op = Softmax(
        name="op", inputs=("x",), output="y", axes=axes, constants=constants, low=y.low, high=y.high
    )
    return network({"x": x}, [op], {"y": y})


def norm(shape, axes, unbiased=False, seed=0) -> Graph:
    rng = np.random.default_rng(seed)
    x, y = kind(shape, 0.04, 100), kind(shape, 0.03, -5, True)
    n = int(np.prod([shape[axis] for axis in axes]))
    gamma, beta = rng.normal(1, 0.3, n), rng.normal(0, 0.3, n)
    correction = n / (n - 1) if unbiased and n > 1 else 1.0
    how = {"root_epsilon": 1e-3} if unbiased else {"epsilon": 1e-5}
    how |= {"correction": correction, "reach": 132}
    constants = NormConstants.of(x.scale, y.scale, gamma, beta, **how)
    op = Normalize(
        name="op", inputs=("x",), output="y", axes=axes, constants=constants, low=-128, high=127
    )
    return network({"x": x}, [op], {"y": y})


def arg_max(shape) -> Graph:
    x, y = kind(shape, 0.04, 100), kind((1 + (shape[0] > 256), *shape[1:]), 1.0, 0)
    return network({"x": x}, [ArgMax(name="op", inputs=("x",), output="y")], {"y": y})


def matrices(sizes, batch_in_channels: bool, lanes_last: bool):
    """Axes of [batch, a, b]: b (or a) along C, the other one along W."""
    b, m, n = sizes
    strides = (m * n, n, 1)
    lane = (n, 1) if lanes_last else (m, n)
    other = (m, n) if lanes_last else (n, 1)
    channels = [(b, strides[0]), lane] if batch_in_channels else [lane]
    frames = () if batch_in_channels else ((b, strides[0]),)
    return merged(channels), merged(frames), (), merged([other])


def product(sizes, layout, signed_a=False, signed_b=False) -> Graph:
    batch, rows, inner, columns = sizes
    left = matrices((batch, rows, inner), layout[0], layout[1])
    right = matrices((batch, inner, columns), layout[2], layout[3])
    target = matrices((batch, rows, columns), layout[4], layout[5])
    a = typed((batch, rows, inner), left, 0.03, 17, signed_a)
    b = typed((batch, inner, columns), right, 0.02, 100, signed_b)
    y = typed((batch, rows, columns), target, 0.02 * np.sqrt(inner), 121, False)
    scale = ProductScale.of(a.scale, a.zero_point, b.scale, b.zero_point, y.scale, y.zero_point)
    op = BatchedMatMul(
        name="op",
        inputs=("a", "b"),
        output="y",
        batch=batch,
        rows=rows,
        inner=inner,
        columns=columns,
        left=left,
        right=right,
        target=target,
        scale=scale,
        low=3,
        high=250,
    )
    return network({"a": a, "b": b}, [op], {"y": y})


def typed(shape, axes, scale, zero_point, signed):
    known = kind((1, 1, 1, int(np.prod(shape))), scale, zero_point, signed)
    return dataclasses.replace(known, onnx_shape=shape, axes=axes)


def scores(name="tiny") -> tuple[Graph, AcceleratorConfig]:
    """Q·Kᵀ: heads in the channels of both operands."""
    config = CONFIGS[name]
    return product((2, 5, config.lane_block + 2, 6), (True, True, True, False, False, True)), config


def broken(graph, config, chosen, change) -> list[str]:
    """What differs where the chosen instructions are changed."""
    program = generate(graph, config)
    assert any(map(chosen, program.instructions))
    code = [dataclasses.replace(i, **change) if chosen(i) else i for i in program.instructions]
    return execute(
        graph, config, dataclasses.replace(program, instructions=tuple(code))
    ).differing()
