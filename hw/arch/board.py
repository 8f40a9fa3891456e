"""A board with an accelerator, as the host sees it: where things are on its bus, and how to begin.

`board.json` lies beside a bitstream; hw/boards writes it, sim/board reads it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

BOARD_FILE = "board.json"
VERSION = 1


class BoardError(ValueError):
    """A board's description cannot be used."""


@dataclasses.dataclass(frozen=True, slots=True)
class BoardFile:
    """What a host must know.

    Attributes
    ----------
    board: its name; `config`: that of the accelerator's configuration.
    fingerprint: of the configuration, as the registers show it.
    clock_hz: of core and bus. baud: of the serial line.
    silence: clock cycles after which the bridge forgets a request that has begun.
    registers: address of the accelerator's registers on the bus.
    memory, memory_bytes: where DRAM lies on the host's bus, and how much there is.
    word_bits, sdram_rate: of the memory controller; clocks of the SDRAM per clock.
    start: writes that make the DRAM usable: (address, value, clock cycles to wait after it).
    """

    board: str
    config: str
    fingerprint: int
    clock_hz: int
    baud: float
    silence: int
    registers: int
    memory: int
    memory_bytes: int
    word_bits: int
    sdram_rate: int
    start: tuple[tuple[int, int, int], ...]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        content = {"version": VERSION, **dataclasses.asdict(self)}
        path.write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> BoardFile:
        """Read it.

        Raises
        ------
        BoardError
            If the file is missing, or is not one.
        """
        try:
            content: dict[str, Any] = json.loads(path.read_text())
            if content.pop("version") != VERSION:
                raise BoardError(f"{path}: of another version; make the bitstream again")
            start = tuple((int(a), int(v), int(w)) for a, v, w in content.pop("start"))
            return cls(**content, start=start)
        except OSError as error:
            raise BoardError(f"{path}: {error.strerror}; `hw bitstream` writes it") from error
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            if isinstance(error, BoardError):
                raise
            raise BoardError(f"{path} is no description of a board: {error}") from error
