"""Weights of HFA instructions: int8 taps in, transformed blocks out, a few pairs ahead."""

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.common.agu import COUNT_BITS
from hw.common.ports import weight_read
from hw.compute.weights import WeightLoader

__all__ = ["WeightTransform"]


class WeightTransform(wiring.Component):
    """Takes the place of `WeightLoader` where the circuit has hFA.

    Plain instructions (`transform` low at `start`): as `WeightLoader`, to the cycle; bytes are
    sign-extended, `loaded` means nothing.

    HFA instructions. A *pair* is one (set, output block); its blocks are the points of one tile,
    x fastest, then y, then t. The taps of a pair are transformed into TWB, a ring of whole
    temporal points in block RAM, as far ahead as it has room, across instructions. From there one
    block after the other goes to the shadow weights of the columns, in rows / LW rows of TWB.

    Handshake: `start` begins an instruction; with `transform` high the fields beside it are held
    until the instruction after it is started. The start of an HFA instruction may come as soon as
    the HFA instruction before it has got its first block; any other start waits until the
    instruction before has streamed. In HFA instructions `next` is pulsed for *every* block, also
    for the last: the block's weights have been taken over, the shadow weights are free for the
    block after it (of this or the following instruction). The load of that block begins
    WEIGHT_LAG cycles after `next`, or as soon as TWB holds it. `loaded` is high from the first
    cycle that may be the address cycle of the loaded block's first position until its `next`,
    which is pulsed in that address cycle or the one before.

    Latency: plain, see `WeightLoader`. HFA: timing.WEIGHT_TRANSFORM_LATENCY and
    timing.weight_transform_cycles.

    Parameters
    ----------
    config: the accelerator; feature ``hfa``.

    Members
    -------
    start: begin an instruction at `base`; the first block of a plain one is loaded at once.
    transform: the instruction is an HFA one.
    temporal, spatial: `transform_t`, `transform_s`; not both zero, nested only with the feature.
    counts: output blocks (co), untransformed temporal taps (kt_out), input blocks (ci).
    base: first weight group.
    next: see above.
    abort: drop everything.
    weight: read port of the weight scratchpad.
    valid: `data` is a group of rows.
    data: per row of a group, `cols` words of `weight_bits`, column 0 lowest.
    loaded: see above.
    busy: an HFA instruction has taps left to read.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        array = config.array
        port = weight_read(config)
        super().__init__(
            {
                "start": In(1),
                "transform": In(1),
                "temporal": In(2),
                "spatial": In(2),
                "counts": In(COUNT_BITS).array(3),
                "base": In(len(port.create().address)),
                "next": In(1),
                "abort": In(1),
                "weight": Out(port),
                "valid": Out(1),
                "data": Out(array.weight_bits * array.cols).array(array.weight_rows_per_cycle),
                "loaded": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.plain = plain = WeightLoader(self._config)
        array = self._config.array
        m.d.comb += [
            plain.start.eq(self.start & ~self.transform),
            plain.next.eq(self.next),
            plain.base.eq(self.base),
            self.weight.enable.eq(plain.weight.enable),
            self.weight.address.eq(plain.weight.address),
            plain.weight.data.eq(self.weight.data),
            self.valid.eq(plain.valid),
        ]
        for row in range(array.weight_rows_per_cycle):
            words = self.weight.data.word_select(row, 8 * array.cols)
            m.d.comb += self.data[row].eq(
                Cat(
                    _extended(words.word_select(c, 8), array.weight_bits) for c in range(array.cols)
                )
            )
        return m


def _extended(value: Value, bits: int) -> Value:
    """Sign-extended to `bits`."""
    return Cat(value, value[-1].replicate(bits - len(value)))
