"""Transformed (hFA) layers: equal to the direct convolution to the last bit, wherever they fit."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from compiler.backend.build import generate
from compiler.onnx_import import import_model
from compiler.policy import NAMES, Policy, plain
from compiler.tensor import CompilerError, GraphError
from hw.arch.isa import Array, ArrayMode, Drain
from models import fsb, slowfast, table
from sim.host import read
from tests.compiler.backend.harness import execute, feeds_of
from tests.compiler.backend.hfa_cases import (
    BASE,
    CASES,
    CONFIGS,
    LINE,
    NESTED,
    SPATIAL,
    TINY,
    conv,
    layer,
    modes,
    record,
)
from tests.models.qdq import Q, both, conv_model

FORCED = [(name, asked) for name, case in CASES.items() for asked in case[4]]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(("name", "asked"), FORCED)
def test_a_transformed_layer_equals_the_direct_one(name, asked, config):
    graph = layer(name, signed=asked in LINE)
    program = generate(graph, CONFIGS[config], policy=Policy(asked))
    assert plain(record(program)["chosen"]) == asked
    assert modes(program) == {ArrayMode.HFA}
    assert execute(graph, CONFIGS[config], program).differing() == []


@pytest.mark.parametrize("name", CASES)
def test_other_algorithms_are_refused_with_a_reason(name):
    graph = layer(name)
    for asked in sorted(set(NAMES) - set(CASES[name][4])):
        program = generate(graph, TINY, policy=Policy(asked))
        chosen = record(program)
        assert chosen["chosen"] == "direct"
        assert chosen["reason"].startswith(NAMES[asked].name + ": ")
        assert modes(program) == {ArrayMode.GEMM}


KERNELS = {
    (1, 3, 3): SPATIAL,
    (3, 1, 1): LINE,
    (3, 3, 3): SPATIAL + NESTED,
    (1, 1, 3): LINE,
}


@st.composite
def dense(draw):
    """A graph of one dense convolution with three taps somewhere, and an algorithm for it."""
    kernel = draw(st.sampled_from(sorted(KERNELS)))
    asked = draw(st.sampled_from(KERNELS[kernel]))
    shape = (
        draw(st.integers(1, 20)),
        draw(st.integers(1, 9)) if kernel[0] == 3 else draw(st.integers(1, 3)),
        draw(st.integers(1, 15)) if kernel != (1, 1, 3) else 1,
        draw(st.integers(1, 15)),
    )
    if kernel == (1, 1, 3):
        shape = (shape[0], 1, 1, shape[3])
    dilation = tuple(draw(st.integers(1, 3)) if k == 3 else 1 for k in kernel)
    pads = [tuple(draw(st.integers(0, 2)) if k == 3 else 0 for k in kernel) for _ in range(2)]
    pool = draw(st.sampled_from([None, (1, 2, 2), (2, 2, 2)]))
    signed = draw(st.booleans())
    zero = draw(st.integers(-128, 127) if signed else st.integers(0, 255))
    try:
        graph = conv(
            shape,
            draw(st.integers(1, 20)),
            kernel,
            {
                "dilation": dilation,
                "pad_begin": pads[0],
                "pad_end": pads[1],
                "pool": pool,
                "signed": draw(st.booleans()),
            },
            signed,
            zero,
        )
    except GraphError as error:
        assume("does not fit" not in str(error))
        raise
    return graph, asked


RANDOM = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


def smallest_input(op, shape, config):
    """Banks that the input of a single result takes, with all channels."""
    window = op.pool.kernel if op.pool else (1, 1, 1)
    rows = -(-shape[0] // config.array.rows)
    for size, kernel, dilation, pool in zip(shape[1:], op.kernel, op.dilation, window, strict=True):
        rows *= min(size, pool + (kernel - 1) * dilation)
    return -(-rows // config.memory.activation_bank_rows)


def check_random(example, config):
    graph, asked = example
    try:
        program = generate(graph, CONFIGS[config], policy=Policy(asked))
    except CompilerError as error:
        # Refused only where no bank is left for the result.
        assert "no tile fits" in str(error)
        needed = smallest_input(graph.ops[0], graph.type("x").shape, CONFIGS[config])
        assert needed >= CONFIGS[config].memory.activation_banks
        return
    chosen = record(program)
    # Only a pool or the memories can stand in the way.
    excused = any(word in chosen["reason"] for word in ("pool", "fits the memories"))
    assert plain(chosen["chosen"]) == asked or excused
    assert execute(graph, CONFIGS[config], program).differing() == []


def test_what_no_tile_fits_is_refused():
    """17 channels in lanes of four, seven dilated lines each way: eight banks of eight."""
    graph = conv(
        (17, 6, 8, 8),
        1,
        (3, 3, 3),
        {"dilation": (3, 3, 3), "pad_begin": (0, 0, 0), "pad_end": (1, 0, 0), "pool": (1, 2, 2)},
        False,
        0,
    )
    assert smallest_input(graph.ops[0], (17, 6, 8, 8), TINY) == TINY.memory.activation_banks
    with pytest.raises(
        CompilerError,
        match=r"conv \(Convolution\): no tile fits: one result reads 3×3×3 positions of 17 ",
    ):
        generate(graph, TINY)
    check_random((graph, "F(2x2,3x3)"), "tiny")


@settings(max_examples=30, **RANDOM)
@given(dense(), st.sampled_from(sorted(CONFIGS)))
def test_random_layers(example, config):
    check_random(example, config)


@pytest.mark.slow
@settings(max_examples=1000, **RANDOM)
@given(dense(), st.sampled_from(sorted(CONFIGS)))
def test_a_thousand_random_layers(example, config):
    check_random(example, config)


ORACLE = {
    "map": ((1, 6, 7, 9), (10, 6, 3, 3), {"pads": [1, 1, 1, 1]}, "F(4x4,3x3)"),
    "map, F(2x2)": ((1, 6, 4, 4), (5, 6, 3, 3), {"pads": [0, 1, 2, 1]}, "F(2x2,3x3)"),
    "clip": ((1, 5, 4, 6, 6), (7, 5, 3, 3, 3), {"pads": [1] * 6}, "F(2,3)xF(4x4,3x3)"),
    "temporal": ((1, 5, 6, 3, 3), (7, 5, 3, 1, 1), {"pads": [1, 0, 0, 1, 0, 0]}, "F(4,3)"),
    "sequence": ((1, 8, 19), (6, 8, 3), {"pads": [2, 2], "dilations": [2]}, "F(4,3)"),
}


@pytest.mark.parametrize("name", ORACLE)
def test_an_onnx_layer_equals_the_independent_oracle(name):
    """Oracle and ONNX Runtime know nothing of this compiler."""
    shape, weights, attributes, asked = ORACLE[name]
    rng = np.random.default_rng(3)
    w = rng.integers(-127, 128, weights).astype(np.int8)
    bias = rng.integers(-5000, 5000, weights[0]).astype(np.int32)
    scales = rng.uniform(0.001, 0.003, weights[0]).astype(np.float32).tolist()
    model = conv_model(
        shape, w, Q(0.04, 131), Q(scales, 0, np.int8), Q(0.05, 110), bias, **attributes
    )
    graph = import_model(model, "layer").graph
    assert graph is not None
    program = generate(graph, TINY, policy=Policy(asked))
    assert modes(program) == {ArrayMode.HFA}
    run = execute(graph, TINY, program)
    oracle, runtime = both(model, {"x": feeds_of(graph)["x"]})
    result = program.tensor(program.outputs[0].tensor)
    assert np.array_equal(
        read(run.memory, result), oracle.reshape(run.reference[result.name].shape)
    )
    assert np.abs(oracle.astype(int) - runtime).max() <= 1


# Twins: what must be seen.


def broken(program, **changes):
    """The program with some fields of its first ARRAY and DRAIN changed."""
    code = list(program.instructions)
    for kind_of in (Array, Drain):
        at = next(n for n, i in enumerate(code) if isinstance(i, kind_of))
        fields = {k: v(getattr(code[at], k)) for k, v in changes.items() if hasattr(code[at], k)}
        code[at] = dataclasses.replace(code[at], **fields)
    return dataclasses.replace(program, instructions=tuple(code))


@pytest.mark.parametrize(
    "changes",
    [
        {"zero_point": lambda z: z ^ 1},
        {"bounds": lambda b: (b[0], b[1] - 1, b[2])},
        {"destination_deltas": lambda d: (d[0], d[2], d[1], *d[3:])},
        {"low": lambda low: low + 40},
    ],
    ids=["zero point", "bound", "destination", "clamp"],
)
def test_a_wrong_field_is_seen(changes):
    graph = layer("7x7")
    program = generate(graph, TINY, policy=Policy("F(4x4,3x3)"))
    run = execute(graph, TINY, broken(program, **changes))
    assert run.differing() == ["y"]


def test_a_bias_that_is_not_folded_is_seen(monkeypatch):
    graph = layer("temporal")
    monkeypatch.setattr("compiler.array.choice.fold", lambda op, source: op)
    program = generate(graph, TINY, policy=Policy("F(4,3)"))
    assert execute(graph, TINY, program).differing() == ["y"]


def test_taps_in_the_direct_order_are_seen(monkeypatch):
    graph = layer("7x7")
    direct = lambda weights, algorithm, config: np.ascontiguousarray(  # noqa: E731
        weights.transpose(1, 2, 3, 4, 0, 5, 6)
    ).tobytes()
    monkeypatch.setattr("compiler.array.constants.weight_bytes", direct)
    program = generate(graph, TINY, policy=Policy("F(4x4,3x3)"))
    assert execute(graph, TINY, program).differing() == ["y"]


# Paper size.

NETWORKS = {
    "FSB-C3D": fsb.FSB_C3D,
    "C3D": fsb.C3D,
    "SlowFast R4": slowfast.R4,
    "SlowFast E2": slowfast.E2,
    "FastTRG R4": slowfast.R4_FASTTRG,
}


def paper_layers(config) -> set[tuple]:
    """Shapes of the dense stride-1 layers with three taps: channels, results, kernel."""
    found = set()
    for entry in table.layers(config):
        if 3 not in entry.kernel or set(entry.stride) != {1}:
            continue
        out, *space = entry.shape[1:]
        channels = entry.weights // (out * int(np.prod(entry.kernel)))
        if channels > 1:
            found.add(((channels, *space), out, entry.kernel))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_layer_shapes_of_the_paper_are_exact(name):
    """At paper size, on the algorithm that is chosen."""
    shapes = sorted(paper_layers(NETWORKS[name]))
    chosen = []
    for shape, out, kernel in shapes:
        pads = tuple(k // 2 for k in kernel)
        graph = conv(shape, out, kernel, {"pad_begin": pads, "pad_end": pads})
        program = generate(graph, BASE)
        chosen.append(record(program)["chosen"])
        assert execute(graph, BASE, program).differing() == [], (shape, out, kernel)
    assert sum(algorithm != "direct" for algorithm in chosen) >= len(shapes) // 2
