"""Layers that can be transformed, small; shared by the tests of hFA."""

import dataclasses

import numpy as np

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode
from tests.compiler.backend.harness import convolution, kind, network


def _two_blocks_per_row() -> AcceleratorConfig:
    """`wide` with transforms: an accumulator row becomes two scratchpad rows."""
    plain = AcceleratorConfig.load("wide")
    return dataclasses.replace(
        plain,
        name="wide_hfa",
        array=dataclasses.replace(plain.array, activation_bits=17, weight_bits=16),
        memory=dataclasses.replace(plain.memory, transformed_rows=256),
        lanes=dataclasses.replace(plain.lanes, output_transform=2),
        features=("depthwise", "vector", "hfa", "hfa_nested"),
    )


CONFIGS = {name: AcceleratorConfig.load(name) for name in ("tiny", "base")}
CONFIGS["wide_hfa"] = _two_blocks_per_row()
TINY, BASE = CONFIGS["tiny"], CONFIGS["base"]
SAME = {"pad_begin": (0, 1, 1), "pad_end": (0, 1, 1)}
TEMPORAL = {"pad_begin": (1, 0, 0), "pad_end": (1, 0, 0)}
FULL = {"pad_begin": (1,) * 3, "pad_end": (1,) * 3}
SPATIAL = ("F(2x2,3x3)", "F(4x4,3x3)")
NESTED = ("F(2,3)xF(2x2,3x3)", "F(2,3)xF(4x4,3x3)", "F(4,3)xF(2x2,3x3)")
LINE = ("F(2,3)", "F(4,3)")


def padded(axis: int, begin: int, end: int) -> dict[str, tuple[int, int, int]]:
    """Padding along one of t, h, w."""
    pads = [[0, 0, 0], [0, 0, 0]]
    pads[0][axis], pads[1][axis] = begin, end
    return {"pad_begin": tuple(pads[0]), "pad_end": tuple(pads[1])}


# Shape, results, kernel, attributes, algorithms that can be asked for.
CASES = {
    "7x7": ((9, 1, 7, 7), 10, (1, 3, 3), SAME, SPATIAL),
    "4x4, two frames": ((9, 2, 4, 4), 10, (1, 3, 3), SAME, SPATIAL),
    "14x14": ((20, 1, 14, 14), 5, (1, 3, 3), SAME, SPATIAL),
    "unequal padding": (
        (5, 2, 9, 8),
        6,
        (1, 3, 3),
        {"pad_begin": (0, 2, 0), "pad_end": (0, 1, 2)},
        SPATIAL,
    ),
    "dilated map": ((6, 2, 9, 11), 9, (1, 3, 3), {**FULL, "dilation": (1, 2, 2)}, SPATIAL),
    "pool in the tile": ((6, 1, 7, 7), 9, (1, 3, 3), {**SAME, "pool": (1, 2, 2)}, SPATIAL),
    "temporal": ((9, 7, 5, 6), 10, (3, 1, 1), TEMPORAL, LINE),
    "two frames": ((9, 2, 4, 4), 10, (3, 1, 1), TEMPORAL, LINE),
    "dilated time": ((9, 9, 3, 4), 10, (3, 1, 1), {**padded(0, 2, 2), "dilation": (2, 1, 1)}, LINE),
    "Conv1d": ((9, 1, 1, 23), 10, (1, 1, 3), padded(2, 1, 1), LINE),
    "Conv1d dilated, causal": (
        (9, 1, 1, 23),
        10,
        (1, 1, 3),
        {**padded(2, 6, 0), "dilation": (1, 1, 3)},
        LINE,
    ),
    "3x3x3": ((6, 5, 6, 7), 9, (3, 3, 3), FULL, SPATIAL + NESTED),
    "3x3x3, pool 2x2x2": ((6, 4, 8, 8), 9, (3, 3, 3), {**FULL, "pool": (2, 2, 2)}, NESTED),
    "stem, packed": ((3, 4, 12, 12), 9, (3, 3, 3), {**FULL, "pool": (1, 2, 2)}, SPATIAL + NESTED),
    "taps and steps along time": (
        (6, 6, 8, 8),
        9,
        (5, 3, 3),
        {"pad_begin": (2, 1, 1), "pad_end": (2, 1, 1), "stride": (2, 1, 1)},
        SPATIAL,
    ),
    "streamed weights": ((96, 1, 5, 5), 24, (1, 3, 3), SAME, SPATIAL),
}


def layer(name: str, signed: bool = False):
    shape, out, kernel, attributes, _ = CASES[name]
    return conv(shape, out, kernel, attributes, signed)


def conv(shape, out, kernel, attributes, signed=False, zero_point=None):
    zero = zero_point if zero_point is not None else (-7 if signed else 77)
    source = kind(shape, zero_point=zero, signed=signed)
    op, result = convolution(np.random.default_rng(1), source, out, kernel, **attributes)
    return network({"x": source}, [op], {"y": result})


def modes(program) -> set[ArrayMode]:
    return {ArrayMode(i.mode) for i in program.instructions if isinstance(i, Array)}


def record(program, at: int = 0):
    return program.layers[at].tiling["hfa"]
