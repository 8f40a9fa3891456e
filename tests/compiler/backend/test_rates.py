"""Rates that direct tilings reach on `base`, by the cycle model of the whole core."""

import math

import numpy as np
import pytest

from compiler.backend.build import generate
from compiler.lower import roofline_cycles
from compiler.policy import Policy
from hw.arch.isa import Array
from hw.arch.timing import array_stream_cycles
from hw.timeline.model import CoreModel
from sim.functional.backend import dynamic_trace
from tests.compiler.backend.harness import CONFIGS, convolution, kind, network

CONFIG = CONFIGS["base"]
SAME = {"pad_begin": (0, 1, 1), "pad_end": (0, 1, 1)}
TEMPORAL = {"pad_begin": (1, 0, 0), "pad_end": (1, 0, 0)}

DENSE = {
    "1x1 64 at 56": ((64, 1, 56, 56), 64, (1, 1, 1), {}),
    "3x3 64 at 56": ((64, 1, 56, 56), 64, (1, 3, 3), SAME),
    "3x3 stride 2": ((64, 1, 56, 56), 64, (1, 3, 3), {**SAME, "stride": (1, 2, 2)}),
    "temporal 64 at 56": ((64, 4, 56, 56), 64, (3, 1, 1), TEMPORAL),
    "3x3x3 64 at 28": (
        (64, 4, 28, 28),
        64,
        (3, 3, 3),
        {"pad_begin": (1,) * 3, "pad_end": (1,) * 3},
    ),
    "1x1 512 at 7": ((512, 1, 7, 7), 512, (1, 1, 1), {}),
    # Weights of the next outputs come while there is still something to compute.
    "1x1 2048 at 7": ((2048, 1, 7, 7), 512, (1, 1, 1), {}),
    "grouped, 16 channels": ((256, 1, 28, 28), 256, (1, 3, 3), {**SAME, "groups": 16}),
}


def built(shape, out, kernel, attributes):
    source = kind(shape)
    op, result = convolution(np.random.default_rng(0), source, out, kernel, **attributes)
    graph = network({"x": source}, [op], {"y": result})
    return graph, generate(graph, CONFIG, policy=Policy("off"))


def cycles(program):
    trace = dynamic_trace(program, CONFIG, program.memory())
    model = CoreModel(CONFIG, trace, program.code_address, len(program.instructions))
    model.run()
    return model.cycles


@pytest.mark.parametrize("name", DENSE)
def test_dense_layers_keep_the_multipliers_busy(name):
    _, program = built(*DENSE[name])
    (layer,) = program.layers
    total = cycles(program)
    rate = layer.macs / (CONFIG.array.multipliers * total)
    assert 0.92 <= rate <= 1
    assert layer.roofline_cycles <= total <= 1.1 * layer.roofline_cycles
    # The estimate that chose the tiling is worth something.
    assert abs(layer.tiling["estimate"] - total) < 0.03 * total


DEPTHWISE = {
    "3x3": ((64, 1, 56, 56), (1, 3, 3), SAME, 1),
    "3x1x1": ((64, 16, 14, 14), (3, 1, 1), TEMPORAL, 1),
    "3x3x3": ((64, 4, 28, 28), (3, 3, 3), {"pad_begin": (1,) * 3, "pad_end": (1,) * 3}, 3),
    "3x3 stride 2": ((64, 1, 56, 56), (1, 3, 3), {**SAME, "stride": (1, 2, 2)}, 4),
}


@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise_streams_each_row_once(name):
    shape, kernel, attributes, per_row = DEPTHWISE[name]
    graph, program = built(shape, shape[0], kernel, {**attributes, "groups": shape[0]})
    arrays = [i for i in program.instructions if isinstance(i, Array)]
    busy = sum(array_stream_cycles(i, CONFIG) for i in arrays)
    rows = math.prod(graph.type("y").shape) // CONFIG.lane_block
    # Borders of the tiles stream too.
    assert per_row * rows <= busy <= 1.25 * per_row * rows
    total = cycles(program)
    bound = max(program.layers[0].roofline_cycles, busy)
    assert total <= 1.2 * bound


def test_a_roofline_is_a_lower_bound_and_counts_real_channels():
    graph, program = built((3, 1, 32, 32), 16, (1, 1, 1), {})
    (op,) = graph.ops
    layouts = {t.name: t.layout for t in program.tensors}
    bound = roofline_cycles(op, {n: v.type for n, v in graph.values.items()}, layouts, CONFIG)
    weights = 3 * 16 // 16
    assert bound == 1024 * 3 // 16 + 1024 + weights
    assert bound <= cycles(program)
