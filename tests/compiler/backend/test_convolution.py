"""Convolutions of random shapes against the integer reference, on three configurations."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from compiler.backend.build import generate
from compiler.ir import CompilerError
from compiler.lower import refusal
from hw.arch.isa import Array, ArrayMode, Drain, Reduce
from tests.compiler.backend.harness import CONFIGS, convolution, execute, kind, network

COMMON = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def triple(low: int, high: int) -> st.SearchStrategy[tuple[int, int, int]]:
    size = st.integers(low, high)
    return st.tuples(size, size, size)


@st.composite
def convolutions(draw, groups: bool = False, depthwise: bool = False):
    """A graph of one convolution."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    if depthwise:
        count = draw(st.sampled_from([2, 4, 5, 16, 19, 33]))
        channels, out = count, count
    elif groups:
        count = draw(st.sampled_from([2, 3, 4]))
        channels, out = count * draw(st.integers(1, 9)), count * draw(st.integers(2, 9))
    else:
        count = 1
        channels, out = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    shape = (channels, draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 12)))
    source = kind(shape, zero_point=draw(st.integers(0, 100)), signed=draw(st.booleans()))
    kernel = draw(triple(1, 3))
    pool = draw(st.one_of(st.none(), triple(1, 2))) if not depthwise else None
    try:
        op, result = convolution(
            rng,
            source,
            out,
            kernel,
            groups=count,
            signed=draw(st.booleans()),
            pool=pool,
            stride=draw(triple(1, 2)),
            dilation=draw(triple(1, 2)) if not depthwise else (1, 1, 1),
            pad_begin=draw(triple(0, 1)),
            pad_end=draw(triple(0, 1)),
        )
    except Exception as error:
        assume("does not fit" not in str(error))
        raise
    return network({"x": source}, [op], {"y": result})


@COMMON
@given(convolutions(), st.sampled_from(sorted(CONFIGS)))
def test_dense(graph, name):
    assert execute(graph, CONFIGS[name]).differing() == []


@COMMON
@given(convolutions(groups=True), st.sampled_from(sorted(CONFIGS)))
def test_grouped(graph, name):
    assert execute(graph, CONFIGS[name]).differing() == []


@COMMON
@given(convolutions(depthwise=True), st.sampled_from(sorted(CONFIGS)))
def test_depthwise(graph, name):
    assert execute(graph, CONFIGS[name]).differing() == []


CASES = {
    "pointwise": ((40, 2, 9, 13), 36, (1, 1, 1), {}),
    "temporal": ((24, 6, 5, 7), 20, (3, 1, 1), {"pad_begin": (1, 0, 0), "pad_end": (1, 0, 0)}),
    "spatial": ((8, 2, 20, 24), 8, (1, 3, 3), {"pad_begin": (0, 1, 1), "pad_end": (0, 1, 1)}),
    "dense": ((12, 4, 10, 10), 12, (3, 3, 3), {"pad_begin": (1, 1, 1), "pad_end": (1, 1, 1)}),
    "strided": ((16, 1, 21, 21), 20, (1, 1, 1), {"stride": (1, 2, 2)}),
    "pooled": ((20, 4, 8, 12), 24, (1, 1, 1), {"pool": (2, 2, 2)}),
    "thin": ((1, 4, 9, 30), 12, (1, 3, 3), {"pad_begin": (0, 1, 1), "pad_end": (0, 1, 1)}),
    "streamed weights": ((128, 2, 3, 3), 24, (3, 1, 1), {"pad_begin": (1, 0, 0)}),
    "fully connected": ((48, 1, 2, 2), 33, (1, 2, 2), {}),
}


def case(name: str, **changes):
    shape, out, kernel, attributes = CASES[name]
    source = kind(shape)
    rng = np.random.default_rng(1)
    op, result = convolution(rng, source, out, kernel, **{**attributes, **changes})
    return network({"x": source}, [op], {"y": result})


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", CASES)
def test_many_tiles(name, config):
    assert execute(case(name), CONFIGS[config]).differing() == []


def test_streamed_weights_take_several_pieces():
    program = generate(case("streamed weights"), CONFIGS["tiny"])
    arrays = [i for i in program.instructions if isinstance(i, Array)]
    assert any(a.accumulate for a in arrays)


def test_a_thin_input_is_packed():
    program = generate(case("thin"), CONFIGS["tiny"])
    assert any(isinstance(i, Reduce) for i in program.instructions)


def test_a_fused_pool_is_drained():
    program = generate(case("pooled"), CONFIGS["base"])
    drains = [i for i in program.instructions if isinstance(i, Drain)]
    assert drains
    assert all(d.window == (2, 2, 2) for d in drains)


def test_depthwise_uses_its_mode():
    source = kind((16, 2, 9, 9))
    op, result = convolution(np.random.default_rng(0), source, 16, (1, 3, 3), groups=16)
    graph = network({"x": source}, [op], {"y": result})
    arrays = [i for i in generate(graph, CONFIGS["base"]).instructions if isinstance(i, Array)]
    assert {a.mode for a in arrays} == {ArrayMode.DEPTHWISE}


@pytest.mark.parametrize("part", ["weight", "parameter"])
def test_a_wrong_constant_is_seen(part):
    graph = case("pointwise")
    config = CONFIGS["base"]
    program = generate(graph, config)
    sizes = [len(data) for _, data in program.image]
    which = sizes.index(max(sizes) if part == "weight" else min(sizes))
    image = list(program.image)
    address, data = image[which]
    broken = bytearray(data)
    # A weight that counts, or the high byte of the first channel's bias.
    broken[3] ^= 0x3F
    image[which] = (address, bytes(broken))
    run = execute(graph, config, dataclasses.replace(program, image=tuple(image)))
    assert run.differing() == ["y"]


def test_a_wrong_field_is_seen():
    graph = case("temporal")
    config = CONFIGS["base"]
    program = generate(graph, config)
    code = list(program.instructions)
    at = next(n for n, i in enumerate(code) if isinstance(i, Array))
    code[at] = dataclasses.replace(code[at], zero_point=code[at].zero_point ^ 1)
    run = execute(graph, config, dataclasses.replace(program, instructions=tuple(code)))
    assert run.differing() == ["y"]


@pytest.mark.parametrize("stride", [8, 15])
def test_large_strides_are_exact(stride):
    source = kind((8, 2, 40, 33))
    op, result = convolution(
        np.random.default_rng(0), source, 8, (1, 3, 4), stride=(1, stride, stride)
    )
    graph = network({"x": source}, [op], {"y": result})
    assert refusal(op, [source], result, CONFIGS["tiny"]) is None
    assert execute(graph, CONFIGS["tiny"]).differing() == []


def test_what_is_too_large_is_refused_with_its_limit():
    source = kind((8, 1, 64, 64))
    op, result = convolution(np.random.default_rng(0), source, 8, (1, 1, 1), stride=(1, 16, 16))
    why = refusal(op, [source], result, CONFIGS["tiny"])
    assert why is not None
    assert "stride 16" in why
    with pytest.raises(CompilerError, match=r"conv \(Convolution\): stride 16"):
        generate(network({"x": source}, [op], {"y": result}), CONFIGS["tiny"])
