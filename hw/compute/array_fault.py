"""Which ARRAY instructions cannot be executed."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import C, Mux, Value
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ArrayMode, ErrorCode
from hw.arch.timing import LINE_HAZARD
from hw.common.agu import any_zero
from hw.compute.tile_control import wrong_tiles
from hw.compute.transform_engine import wrong_transform

__all__ = ["array_fault"]

X, Y, KX = 0, 1, 4


def array_fault(
    fields: Any, counts: Sequence[Value], blocks: Value, config: AcceleratorConfig
) -> Value:
    """ErrorCode of an instruction, 0 if it can be executed. Addresses are checked as they come.

    Parameters
    ----------
    fields: its registers.
    counts: its counts in the order of the nest.
    blocks: its count of co.
    config: the accelerator.
    """
    f = fields
    depthwise = f.mode == ArrayMode.DEPTHWISE
    supported = f.mode == ArrayMode.GEMM
    if "depthwise" in config.features:
        supported = supported | depthwise
    line = counts[X]
    line_bits = exact_log2(config.memory.line_pixels)
    bad_window = (
        (f.window_x == 0)
        | (f.window_y == 0)
        | (f.emit_x == 0)
        | (f.emit_y == 0)
        | (line < f.window_x)
        | (~f.resume & (counts[Y] < f.window_y))
        | (f.resume & ~f.keep)
        | ((f.window_y > 1) & ((line < LINE_HAZARD) | (line > config.memory.line_pixels)))
        | (counts[KX] != 1)
    )
    field = any_zero((*counts, blocks)) | (depthwise & bad_window)
    # Later entries are checked as they are read.
    outside = depthwise & f.keep & f.line[line_bits:].any()
    misaligned = f.weight[: exact_log2(config.weight_group_beats)].any() | outside
    if "hfa" in config.features:
        hfa = f.mode == ArrayMode.HFA
        nested = "hfa_nested" in config.features
        unsupported, wrong = wrong_transform(f.transform_t, f.transform_s, counts, f.steps, nested)
        supported = supported | (hfa & ~unsupported)
        field = field | (hfa & wrong)
    if "hfa_depthwise" in config.features:
        tiled = f.mode == ArrayMode.HFA_DEPTHWISE
        wrong = wrong_tiles(f, counts, blocks, config)
        supported, field = supported | tiled, field | (tiled & wrong)
    attention = f.weights_from_activation | f.transpose_weights
    return Mux(
        ~supported | attention,
        ErrorCode.UNSUPPORTED.value,
        Mux(field, ErrorCode.FIELD.value, Mux(misaligned, ErrorCode.ADDRESS.value, C(0, 6))),
    )
