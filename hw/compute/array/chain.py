"""What travels from column to column, and when.

All parts are registered once per column. Cycle q is the one in which an activation vector stands
at a column's input:

    q − 3  line      at the input: line-buffer read of this position
    q      x         activation vector, with its `control`
    q + 2  read      at the input: accumulator read
    q + 5  write     at the input: accumulator write

`ArrayUnit` delays the parts against each other once, in front of column 0.
"""

from amaranth.hdl import signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.common.ports import ACCUMULATOR_ADDRESS_BITS

__all__ = ["LINE_LEAD", "READ_LAG", "WRITE_LAG", "ChainSignature", "control_layout"]

LINE_LEAD = 3
READ_LAG = 2
WRITE_LAG = 5


def line_bits(config: AcceleratorConfig) -> int:
    """Address bits of the line buffer."""
    return exact_log2(config.memory.line_pixels)


def control_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Control of one activation vector.

    present: there is a vector (in depthwise mode, a pixel that shifts into the window).
    valid: it produces a sum.
    swap: first vector of a weight block: the shadow weights become active.
    depthwise: operands come from the window, not from the vector.
    window_x, window_y: window size, 1..3.
    tap_pass: which `rows` taps of the window are multiplied.
    line: pixel position in the line.

    With feature hfa_depthwise also
    tiles: mode HFA_DEPTHWISE; then `swap` says that tap block `tap_pass` is taken over.
    lower: the pixel is the second one of its column in the strip.
    odd: it is in an odd column of the line.
    tile: it completes a tile whose results are wanted.
    """
    tiles = {}
    if "hfa_depthwise" in config.features:
        tiles = {"tiles": 1, "lower": 1, "odd": 1, "tile": 1}
    return data.StructLayout(
        {
            "present": 1,
            "valid": 1,
            "swap": 1,
            "depthwise": 1,
            "window_x": 2,
            "window_y": 2,
            "tap_pass": 2,
            "line": line_bits(config),
            **tiles,
        }
    )


def line_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Line-buffer read."""
    return data.StructLayout({"enable": 1, "address": line_bits(config)})


READ_LAYOUT = data.StructLayout({"enable": 1, "overwrite": 1, "address": ACCUMULATOR_ADDRESS_BITS})
"""Accumulator read; `overwrite` takes zero instead of the row's content."""
WRITE_LAYOUT = data.StructLayout({"enable": 1, "address": ACCUMULATOR_ADDRESS_BITS})
"""Accumulator write."""


class ChainSignature(wiring.Signature):
    """Seen from the side that sends. The lanes of `x` are ports of their own."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__(
            {
                "x": Out(signed(config.array.activation_bits)).array(config.array.rows),
                "control": Out(control_layout(config)),
                "line": Out(line_layout(config)),
                "read": Out(READ_LAYOUT),
                "write": Out(WRITE_LAYOUT),
            }
        )
