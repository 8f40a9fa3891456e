"""Port signatures shared by units and memories, seen from the unit (the client)."""

from amaranth.hdl import ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ADDRESS_BITS, LOCAL_BITS

__all__ = [
    "NO_COLLISION",
    "LocalWriteSignature",
    "ReadSignature",
    "UnitSignature",
    "WriteSignature",
    "accumulator_read",
    "activation_read",
    "activation_write",
    "parameter_read",
    "weight_read",
    "weight_write",
]

NO_COLLISION = {"no_rw_check": 1}
"""Attribute of a memory in which no row is read in the cycle in which it is written (tokens see to
it): without it Yosys adds registers and comparators that keep the old value for such a read."""

ACCUMULATOR_ADDRESS_BITS = 12
"""Accumulator rows; bank 1 follows bank 0."""


class ReadSignature(wiring.Signature):
    """A fixed-latency read port without back-pressure.

    `enable` and `address` in cycle t give `data` in cycle t + the memory's `READ_LATENCY`.
    """

    def __init__(self, address_width: int, data_shape: ShapeLike):
        super().__init__({"enable": Out(1), "address": Out(address_width), "data": In(data_shape)})


class WriteSignature(wiring.Signature):
    """A write port without back-pressure; `enable` in cycle t writes a whole row."""

    def __init__(self, address_width: int, data_shape: ShapeLike):
        super().__init__({"enable": Out(1), "address": Out(address_width), "data": Out(data_shape)})


class LocalWriteSignature(wiring.Signature):
    """What the load unit writes: one beat per cycle to one of the on-chip memories."""

    def __init__(self, address_width: int, data_width: int):
        super().__init__(
            {
                "enable": Out(1),
                "space": Out(2),
                "address": Out(address_width),
                "data": Out(data_width),
            }
        )


def activation_read(config: AcceleratorConfig) -> ReadSignature:
    """Row of the activation scratchpad: `lane_block` bytes, lane 0 in the low byte."""
    return ReadSignature(ADDRESS_BITS, 8 * config.lane_block)


def activation_write(config: AcceleratorConfig) -> WriteSignature:
    """Row of the activation scratchpad, written whole."""
    return WriteSignature(ADDRESS_BITS, 8 * config.lane_block)


def weight_read(config: AcceleratorConfig) -> ReadSignature:
    """Weight group (LW rows × cols bytes); the address counts groups, not beats."""
    beats = config.weight_group_beats
    return ReadSignature(LOCAL_BITS - exact_log2(beats), 8 * config.port.bytes * beats)


def weight_write(config: AcceleratorConfig) -> WriteSignature:
    """Beat of the weight scratchpad, `lane_block` bytes, lane 0 in the low byte; address in beats.

    Of VECTOR, with the feature attention. As all writes: `enable` in cycle t is seen by reads from
    cycle t + timing.WRITE_LATENCY on.
    """
    return WriteSignature(ADDRESS_BITS, 8 * config.lane_block)


def parameter_read(config: AcceleratorConfig) -> ReadSignature:
    """Parameter row (requantize lanes × 64 bits); the address counts rows, not beats."""
    beats = config.parameter_row_beats
    return ReadSignature(LOCAL_BITS - exact_log2(beats), 8 * config.port.bytes * beats)


def accumulator_read(config: AcceleratorConfig) -> ReadSignature:
    """Accumulator row: cols × accumulator bits, column 0 lowest."""
    return ReadSignature(
        ACCUMULATOR_ADDRESS_BITS, config.array.cols * config.memory.accumulator_bits
    )


class UnitSignature(wiring.Signature):
    """How a unit meets its queue, seen from the unit.

    The queue offers an instruction only when its waits are over. `done` pulses once per accepted
    instruction, in order; from the next cycle on, other queues see the token. `error` (not zero
    for one cycle) is an `ErrorCode`. While `abort` is high the unit starts nothing new, lets open
    bursts end, and falls to `busy` low.
    """

    def __init__(self, payload: ShapeLike):
        super().__init__(
            {
                "instruction": In(stream.Signature(payload)),
                "done": Out(1),
                "busy": Out(1),
                "error": Out(6),
                "abort": In(1),
            }
        )
