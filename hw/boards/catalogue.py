"""Boards that a bitstream can be made for."""

import dataclasses

__all__ = ["BOARDS", "Board"]


@dataclasses.dataclass(frozen=True, slots=True)
class Board:
    """A board.

    Attributes
    ----------
    name: as `--board` takes it. title: for people.
    device, package: for nextpnr and ecppack.
    clock_hz: of core and bus. sdram_rate: clocks of the SDRAM per clock: 1 or 2.
    module: LiteDRAM's class of the memory chip. memory_bytes: how much it holds.
    dq: data pins of the memory.
    baud: of the host's line.
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
    baud: float

    @property
    def word_bits(self) -> int:
        """Bits of a word of the memory controller."""
        return self.dq * self.sdram_rate


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
            baud=3_000_000,
        ),
    )
}
