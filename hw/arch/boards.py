"""Boards that a bitstream can be made for, and the times of what lies between core and memory."""

import dataclasses

from hw.arch.config import AcceleratorConfig

__all__ = ["BOARDS", "Board", "ControllerTiming"]

CONVERTER_ACCEPT = 1
"""Burst converter (hw/boards/converter.py): cycles from an address's acceptance to its second
register."""
CONVERTER_COMMAND = 1
"""Cycles from a burst's beginning to its first command."""
CONVERTER_ARRIVE = 2
"""Cycles from the acceptance of a write's beat until a burst with it may begin."""
CONVERTER_BEAT = 3
"""Cycles from the word that ends a beat to the beat on R."""
CONVERTER_ANSWER = 1
"""Cycles from the word that ends a write to its response."""
CONVERTER_BEATS = 16
"""Beats of writes that wait."""


@dataclasses.dataclass(frozen=True, slots=True)
class ControllerTiming:
    """Times of LiteDRAM's controller for a memory chip, in cycles of the core's clock.

    Attributes
    ----------
    precharge, activate: until a row is closed, and until it is open.
    row_open, row_cycle: from the opening of a row to its closing, and to the next row's opening.
    write_recovery: from a write to the closing of its row.
    read_to_write: from a write that waits, when reads went before, to its issue.
    write_to_read: from a write until the controller may turn to reads.
    read_latency, write_latency: from a command's issue until its word is given, and is taken.
    refresh_interval, refresh_cycles: between two refreshes, and from the wish for one until
        commands go on, with all rows closed.
    """

    precharge: int
    activate: int
    row_open: int
    row_cycle: int
    write_recovery: int
    read_to_write: int
    write_to_read: int
    read_latency: int
    write_latency: int
    refresh_interval: int
    refresh_cycles: int


@dataclasses.dataclass(frozen=True, slots=True)
class Board:
    """A board.

    Attributes
    ----------
    name: as `--board` takes it. title: for people.
    device, package: for nextpnr and ecppack.
    clock_hz: of core and bus. sdram_rate: clocks of the SDRAM per clock: 1 or 2.
    module: LiteDRAM's class of the memory chip. memory_bytes: how much it holds.
    dq: data pins of the memory. banks: of it. row_bytes: of a row of one bank.
    baud: of the host's line.
    controller: times of the memory controller at `clock_hz`.
    """

    name: str
    title: str
    device: str
    package: str
    clock_hz: int
    sdram_rate: int
    module: str
    memory_bytes: int
    dq: int
    banks: int
    row_bytes: int
    baud: float
    controller: ControllerTiming

    @property
    def word_bits(self) -> int:
        """Bits of a word of the memory controller."""
        return self.dq * self.sdram_rate

    def behind(self, config: AcceleratorConfig) -> AcceleratorConfig:
        """The configuration with what its port can expect of this board's memory.

        A beat is some words, and refreshes stop them all. The burst of another unit opens a row
        elsewhere; every other one, LOAD's behind STORE's or the reverse, turns the bus around.
        """
        times = self.controller
        words = config.port.bytes * 8 / self.word_bits
        turn = times.read_to_write + times.write_to_read
        port = dataclasses.replace(
            config.port,
            rate=(1 - times.refresh_cycles / times.refresh_interval) / words,
            gap=times.precharge + times.activate + turn // 2,
        )
        return dataclasses.replace(config, port=port)


BOARDS = {
    board.name: board
    for board in (
        Board(
            name="ulx3s_85f",
            title="ULX3S with an LFE5U-85F and 32 MiB of SDRAM",
            device="LFE5U-85F",
            package="CABGA381",
            clock_hz=62_500_000,
            sdram_rate=2,
            module="MT48LC16M16",
            memory_bytes=32 << 20,
            dq=16,
            banks=4,
            row_bytes=1024,
            baud=3_000_000,
            controller=ControllerTiming(
                precharge=2,
                activate=2,
                row_open=4,
                row_cycle=5,
                write_recovery=4,
                read_to_write=4,
                write_to_read=3,
                read_latency=5,
                write_latency=1,
                refresh_interval=489,
                refresh_cycles=16,
            ),
        ),
    )
}
