"""What is accepted is emitted and right; what is refused is refused with the same words."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from compiler import lower
from compiler.backend.build import generate
from compiler.emit.emitter import Probe
from compiler.ir import AxisMean, CompilerError, Graph, Pool, PoolKind, Window
from compiler.tile.limits import MAX_BEATS, MAX_COORDINATE, MAX_COUNT
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, Load, Space, limit
from hw.arch.numerics import Mean
from tests.compiler.backend.harness import CONFIGS, convolution, execute, kind, network
from tests.compiler.backend.single_operators import configurations, graphs

CONFIGURATIONS = configurations()
EASY = 50_000
"""Elements, at most, of what is also run; multiply-accumulates a thousand times as many."""


def easy(graph: Graph) -> bool:
    (op,) = graph.ops
    sizes = [math.prod(t.shape) for t in (*graph.input_types(op), graph.type(op.output))]
    return max(sizes) <= EASY and graph.macs() <= 1000 * EASY


def check_seeds(first: int, count: int) -> dict[str, int]:
    """Accepted, refused and run."""
    done = {"accepted": 0, "refused": 0, "run": 0}
    names = sorted(CONFIGURATIONS)
    for seed, graph in graphs(first, count):
        name = names[seed % len(names)]
        config = CONFIGURATIONS[name]
        (op,) = graph.ops
        why = lower.refusal(op, graph.input_types(op), graph.type(op.output), config)
        where = f"seed {seed} on {name}"
        if why is not None:
            with pytest.raises(CompilerError) as refused:
                generate(graph, config)
            assert why in str(refused.value), where
            done["refused"] += 1
            continue
        program = generate(graph, config)
        done["accepted"] += 1
        if easy(graph):
            assert execute(graph, config, program).differing() == [], where
            done["run"] += 1
    return done


def test_check_and_build_say_the_same():
    done = check_seeds(0, 260)
    assert min(done.values()) >= 25, done


@pytest.mark.slow
@pytest.mark.parametrize("block", range(12))
def test_check_and_build_say_the_same_of_more(block):
    check_seeds(10_000 + 500 * block, 500)


def single(shape, out, kernel, **attributes) -> Graph:
    x = kind(shape)
    op, y = convolution(np.random.default_rng(0), x, out, kernel, **attributes)
    return network({"x": x}, [op], {"y": y})


def refusal(graph: Graph, config: AcceleratorConfig) -> str | None:
    (op,) = graph.ops
    why = lower.refusal(op, graph.input_types(op), graph.type(op.output), config)
    if why is not None:
        with pytest.raises(CompilerError, match=r"^conv \(Convolution\): "):
            generate(graph, config)
    return why


# Dense layers on whole maps, kernels of many taps

WHOLE = {
    "28×28": ((1, 1, 28, 28), 10, (1, 28, 28)),
    "3×32×32": ((3, 1, 32, 32), 10, (1, 32, 32)),
    "20×17×17": ((20, 1, 17, 17), 10, (1, 17, 17)),
    "16×2×7×7": ((16, 2, 7, 7), 33, (2, 7, 7)),
}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", WHOLE)
def test_a_kernel_may_be_the_whole_map(name, config):
    graph = single(*WHOLE[name])
    assert execute(graph, CONFIGS[config]).differing() == []


LARGE = {
    "31×31": ((2, 1, 40, 36), 6, (1, 31, 31), {"pad_begin": (0, 15, 15), "pad_end": (0, 15, 15)}),
    "7×7×7": ((3, 8, 16, 16), 8, (7, 7, 7), {"stride": (1, 2, 2), "pad_begin": (3, 3, 3)}),
    "1×400": ((5, 1, 1, 900), 6, (1, 1, 400), {"stride": (1, 1, 3)}),
    "9×9 of 40 channels, dilated": ((40, 1, 20, 20), 24, (1, 9, 9), {"dilation": (1, 2, 2)}),
}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", LARGE)
def test_taps_come_in_pieces(name, config):
    shape, out, kernel, attributes = LARGE[name]
    graph = single(shape, out, kernel, **attributes)
    if refusal(graph, CONFIGS[config]) is None:
        assert execute(graph, CONFIGS[config]).differing() == []
    else:
        assert config == "tiny"  # the input of one result does not fit


def test_a_piece_of_other_taps_is_seen():
    graph, config = single((1, 1, 40, 40), 3, (1, 37, 37)), CONFIGS["tiny"]
    program = generate(graph, config)
    code = list(program.instructions)
    later = [n for n, i in enumerate(code) if isinstance(i, Array) and i.accumulate]
    assert later
    assert execute(graph, config, program).differing() == []
    array = code[later[0]]
    code[later[0]] = dataclasses.replace(array, activation=array.activation + 1)
    broken = dataclasses.replace(program, instructions=tuple(code))
    assert execute(graph, config, broken).differing() == ["y"]


def test_what_one_result_reads_has_to_fit():
    why = refusal(single((20_000, 1, 1, 1), 10, (1, 1, 1)), CONFIGS["tiny"])
    assert why == (
        "no tile fits: one result reads 1×1×1 positions of 20000 channels, 5000 rows of 4 bytes; "
        "tiny_direct has 2048 scratchpad rows, a bank of them for results"
    )
    assert refusal(single((7_000, 1, 1, 1), 10, (1, 1, 1)), CONFIGS["tiny"]) is None


def test_dilation_that_no_tile_spans_is_refused():
    wide = single((16, 1, 33, 33), 4, (1, 3, 3), dilation=(1, 15, 15))
    why = refusal(wide, CONFIGS["tiny"])
    assert why is not None
    assert "one result reads 1×3×3 positions of 16 channels" in why
    assert refusal(wide, CONFIGS["base"]) is None


# Depthwise


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("taps", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (1, 1, 3), (2, 2, 1), (4, 1, 1)])
def test_temporal_depthwise_kernels_with_strides_in_space(taps, stride, config):
    graph = single((9, 8, 7, 6), 9, (taps, 1, 1), groups=9, stride=stride)
    assert execute(graph, CONFIGS[config]).differing() == []


# Means


def mean_of(shape, axes=(1, 2, 3)) -> Graph:
    x, y = kind(shape), kind(tuple(1 if a in axes else n for a, n in enumerate(shape)), 0.04)
    count = math.prod(shape[a] for a in axes)
    mean = Mean.of(x.scale, y.scale, y.zero_point, count)
    op = AxisMean(name="mean", inputs=("x",), output="y", axes=axes, mean=mean, low=0, high=255)
    return network({"x": x}, [op], {"y": y})


def test_a_mean_of_a_map_that_does_not_fit_is_refused():
    graph = mean_of((4, 1, 64, 64))
    (op,) = graph.ops
    why = lower.refusal(op, graph.input_types(op), graph.type("y"), CONFIGS["tiny"])
    assert why == (
        "a window of 4096 positions; tiny_direct has 1792 scratchpad rows beside those of the "
        "result"
    )
    with pytest.raises(CompilerError, match=r"mean \(AxisMean\): a window of 4096 positions"):
        generate(graph, CONFIGS["tiny"])
    assert execute(graph, CONFIGS["base"]).differing() == []


# Large maps, small memories


def pooled(shape, kernel, stride) -> Graph:
    x = kind(shape)
    window = Window(kernel, stride)
    op = Pool(
        name="pool", inputs=("x",), output="y", kind=PoolKind.MAX, window=window, low=0, high=255
    )
    return network({"x": x}, [op], {"y": kind(op.infer([x]))})


SMALL_TILES = {
    "pool": pooled((1, 1, 700, 900), (1, 2, 2), (1, 2, 2)),
    "convolution": single((1, 1, 1000, 1000), 1, (1, 2, 2), stride=(1, 3, 3)),
    "depthwise": single((2, 1, 800, 800), 2, (1, 3, 3), groups=2, stride=(1, 2, 2)),
}


@pytest.mark.parametrize("name", SMALL_TILES)
def test_large_maps_are_cut_as_small_as_it_takes(name):
    config = CONFIGURATIONS["few-rows"]
    graph = SMALL_TILES[name]
    (op,) = graph.ops
    assert lower.refusal(op, graph.input_types(op), graph.type(op.output), config) is None


# Fields


def test_limits_are_those_of_the_fields():
    assert (limit(Load, "counts"), limit(Load, "beats")) == (MAX_COUNT, MAX_BEATS)
    assert limit(Array, "starts") == MAX_COORDINATE


@pytest.mark.parametrize("config", ["tiny", "base"])
def test_long_lines_need_no_coordinates_without_a_window(config):
    """A pointwise convolution on more positions than a window may slide over."""
    graph = single((5, 1, 1, 5000), 6, (1, 1, 1))
    assert execute(graph, CONFIGS[config]).differing() == []
    why = refusal(single((5, 1, 1, 5000), 6, (1, 1, 3)), CONFIGS[config])
    assert why == "a window on a map of 5000, padded by 0; at most 2047 along an axis"


def test_a_stride_that_is_never_taken_is_no_limit():
    graph = single((5, 1, 9, 9), 6, (1, 9, 9), stride=(16, 16, 16))
    assert execute(graph, CONFIGS["base"]).differing() == []


def test_constants_of_many_beats_come_in_runs():
    width = CONFIGS["base"].port.bytes
    load = Probe(CONFIGS["base"]).load_constant(bytes(2 * (MAX_BEATS + 1) * width), Space.WEIGHT, 0)
    assert load.beats * math.prod(load.counts) == 2 * (MAX_BEATS + 1)
    assert load.beats <= MAX_BEATS
    load.encode()
