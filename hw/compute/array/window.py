"""The depthwise window of one column: two lines of pixels and up to nine taps."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.compute.array.chain import control_layout, line_layout
from hw.compute.parts.latch import register_of

__all__ = ["TAPS", "DepthwiseWindow", "tap_sources"]

TAPS = 9
PIXEL_BITS = 9
"""A centred byte; the chain's lanes may be wider, for transformed activations."""


def tap_sources(tap: int) -> dict[int, int | None]:
    """Where tap ky·window_x + kx gets its next value: window_x → ky of the new column, or None.

    None means the next tap: a window row shifts towards lower taps. A width whose windows have no
    such tap is left out.
    """
    sources: dict[int, int | None] = {}
    for width in (1, 2, 3):
        row, position = divmod(tap, width)
        if row < 3:
            sources[width] = row if position == width - 1 else None
    return sources


class DepthwiseWindow(wiring.Component):
    """Slides a window_y × window_x window over pixels that come line by line.

    Latency: `line` is read three cycles before its pixel; a pixel in cycle q shows in `taps` in
    q + 1. A line is written in cycle q, so one column position must not recur within
    timing.LINE_HAZARD cycles.

    Parameters
    ----------
    config: the accelerator.

    Members
    -------
    line: line-buffer read, one cycle after it stood at the column's input.
    pixel, control: the pixel and its control.
    taps: operand ky·window_x + kx; those beyond the window hold stale pixels, their weights are 0.

    With feature hfa_depthwise, in its mode lines come in pairs, both pixels of a position one
    after the other; the second one writes both to the memory.
    older: the two pixels above the present position, newer first (cycle q).
    previous: the pixel before.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        pixel = signed(PIXEL_BITS)
        super().__init__(
            {
                "line": In(line_layout(config)),
                "pixel": In(pixel),
                "control": In(control_layout(config)),
                "taps": Out(pixel).array(TAPS),
                "older": Out(pixel).array(2),
                "previous": Out(pixel),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pixel_shape = signed(PIXEL_BITS)
        row = data.ArrayLayout(pixel_shape, 2)
        m.submodules.lines = lines = memory.Memory(
            shape=row, depth=self._config.memory.line_pixels, init=[]
        )
        read, write = lines.read_port(), lines.write_port()
        m.d.comb += [read.en.eq(self.line.enable), read.addr.eq(self.line.address)]

        # cycle q - 1: the two older pixels of this position leave the memory
        older = [Signal(pixel_shape, name=f"older{i}", reset_less=True) for i in range(2)]
        m.d.comb += [to.eq(pixel) for to, pixel in zip(self.older, older, strict=True)]
        fetched = Signal()
        m.d.sync += fetched.eq(self.line.enable)
        with m.If(fetched):
            m.d.sync += [older[0].eq(read.data[0]), older[1].eq(read.data[1])]

        # cycle q: the column of pixels enters the window, and moves up a line in the memory
        control = self.control
        shift = Signal()
        m.d.comb += [
            shift.eq(control.present & control.depthwise),
            write.en.eq(shift & (control.window_y != 1)),
            write.addr.eq(control.line),
            write.data[0].eq(self.pixel),
            write.data[1].eq(older[0]),
        ]
        if "hfa_depthwise" in self._config.features:
            previous = Signal(pixel_shape, reset_less=True)
            m.d.comb += self.previous.eq(previous)
            with m.If(control.tiles):
                m.d.comb += [
                    write.en.eq(control.present & control.lower),
                    write.data[1].eq(previous),
                ]
            with m.If(control.present):
                m.d.sync += previous.eq(self.pixel)
        # Oldest line first, whatever the window's height.
        entering = [
            Mux(
                control.window_y == 3,
                older[1],
                Mux(control.window_y == 2, older[0], self.pixel),
            ),
            Mux(control.window_y == 3, older[0], self.pixel),
            self.pixel,
        ]
        taps = [register_of(m, tap) for tap in self.taps]
        with m.If(shift):
            for tap in range(TAPS):
                choices = {
                    width: entering[source] if source is not None else taps[tap + 1]
                    for width, source in tap_sources(tap).items()
                }
                value = choices[3]
                for width in (2, 1):
                    if width in choices and choices[width] is not value:
                        value = Mux(control.window_x == width, choices[width], value)
                m.d.sync += taps[tap].eq(value)
        return m


def selected_tap(taps: Sequence[Value], row: int, rows: int, tap_pass: Value) -> Value:
    """Operand of array row `row` in the given pass: tap row + rows·pass (any value beyond nine)."""
    candidates = list(range(row, TAPS, rows))
    if not candidates:
        return taps[TAPS - 1]
    value = taps[candidates[-1]]
    for index in reversed(range(len(candidates) - 1)):
        value = Mux(tap_pass == index, taps[candidates[index]], value)
    return value
