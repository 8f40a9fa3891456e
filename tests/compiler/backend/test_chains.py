"""Chains of [temporal residual,] temporal, depthwise and pointwise convolution in strips on chip.

The interpreter's result is the reference here; whole networks are compared with the PyTorch
oracle in test_networks.py.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from compiler.codegen.build import generate
from compiler.codegen.fused_choice import best
from compiler.codegen.fused_plan import Links, tensor_of
from compiler.codegen.fused_strips import strips_of
from compiler.codegen.geometry import Axis
from compiler.codegen.policy import Policy
from compiler.ir import Chain, CompilerError, Convolution, Graph
from compiler.passes.chain import FUSE_CHAINS
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Load, Store
from sim.functional import MachineError
from tests.compiler.backend.harness import CONFIGS, convolution, execute, kind, network
from tests.compiler.backend.test_vector import residual

COMMON = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def chain(
    shape,
    mid: int = 8,
    out: int = 8,
    *,
    temporal: bool = True,
    trg: bool = False,
    pool=None,
    signed: bool = False,
    window=(3, 3),
    pads=((1, 1), (1, 1)),
    taps: int = 3,
    seed: int = 0,
) -> Graph:
    """A graph of one chain; `pads` are (begin, end) along h and w."""
    rng = np.random.default_rng(seed)
    source = kind(shape, 0.05, 7 if trg else 11, signed)
    stages, between, current = [], [], source
    if trg:
        graph = residual(shape, signed, tables=bool(seed % 2))
        (op,) = graph.ops
        stages.append(op)
        current = graph.type("y")
        between.append(current)
    if temporal:
        half = taps // 2
        op, current = convolution(
            rng, current, mid, (taps, 1, 1), name="t", pad_begin=(half, 0, 0),
            pad_end=(taps - 1 - half, 0, 0), signed=not signed,
        )  # fmt: skip
        stages.append(op)
        between.append(current)
    channels = current.shape[0]
    op, current = convolution(
        rng, current, channels, (1, *window), name="s", groups=channels,
        pad_begin=(0, pads[0][0], pads[1][0]), pad_end=(0, pads[0][1], pads[1][1]),
    )  # fmt: skip
    stages.append(op)
    between.append(current)
    op, current = convolution(rng, current, out, (1, 1, 1), name="p", pool=pool)
    stages.append(op)
    joined = Chain(
        name="chain", inputs=("x",), output="y", stages=tuple(stages), between=tuple(between)
    )
    return network({"x": source}, [joined], {"y": current})


@st.composite
def chains(draw) -> Graph:
    """Random chains, residual included."""
    trg = draw(st.booleans())
    shape = (
        draw(st.sampled_from([1, 3, 4, 6, 17])),
        draw(st.integers(2, 7)),
        draw(st.integers(3, 9)),
        draw(st.integers(3, 10)),
    )
    window = draw(st.sampled_from([(3, 3), (3, 3), (2, 3), (3, 1), (1, 3)]))
    pads = tuple((draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))) for k in window)
    temporal = trg or draw(st.booleans())
    channels = draw(st.sampled_from([2, 5, 8, 19]))
    if not temporal and shape[0] == 1:
        shape = (2, *shape[1:])
    try:
        return chain(
            shape,
            channels,
            draw(st.sampled_from([1, 7, 20])),
            temporal=temporal,
            trg=trg,
            pool=draw(st.sampled_from([None, (1, 2, 2), (2, 2, 2), (1, 1, 2)])),
            signed=draw(st.booleans()),
            window=window,
            pads=pads,
            taps=draw(st.sampled_from([1, 3])),
            seed=draw(st.integers(0, 1 << 16)),
        )
    except Exception as error:
        assume("does not fit" not in str(error))
        raise


NAMES = sorted(CONFIGS)


@COMMON
@given(chains(), st.sampled_from(NAMES))
def test_random_chains(graph, name):
    try:
        run = execute(graph, CONFIGS[name])
    except CompilerError as error:
        assume("no strip of" not in str(error))
        raise
    assert run.differing() == []


CASES = {
    "one strip": ("base", (20, 4, 6, 8), {"pool": (1, 2, 2)}),
    "packed": ("base", (3, 8, 20, 24), {"mid": 32, "out": 40, "pool": (1, 2, 2)}),
    "many blocks": ("base", (20, 8, 20, 24), {"mid": 40, "out": 40, "pool": (2, 2, 2)}),
    "no temporal": ("base", (40, 8, 40, 24), {"temporal": False, "out": 40, "pool": (2, 2, 2)}),
    "passes": ("tiny", (6, 5, 9, 7), {"mid": 6, "out": 10, "pool": (1, 2, 2)}),
    "groups of frames": ("tiny", (4, 4, 16, 30), {"mid": 4}),
    "cols beyond rows": ("wide", (10, 2, 6, 8), {"mid": 12, "out": 40, "pool": (2, 2, 2)}),
    "residual": ("base", (20, 8, 20, 24), {"mid": 32, "trg": True, "pool": (2, 2, 2)}),
    "residual, packed": ("base", (3, 16, 20, 24), {"mid": 32, "trg": True, "seed": 1}),
    "residual, tiny": ("tiny", (6, 4, 9, 10), {"mid": 6, "trg": True}),
    "transformed": ("base_hfa", (20, 8, 20, 24), {"mid": 32, "out": 40, "pool": (2, 2, 2)}),
    "transformed residual": ("base_hfa", (20, 16, 20, 24), {"mid": 32, "trg": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_chains(case):
    name, shape, options = CASES[case]
    assert execute(chain(shape, **options), AcceleratorConfig.load(name)).differing() == []
