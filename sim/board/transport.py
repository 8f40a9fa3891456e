"""Ways to a bridge: a serial port, or a simulated SoC. Time is in clock cycles of the board."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import weakref
from pathlib import Path
from typing import Any, Protocol

from sim.errors import SimulatorError

HEARTBEAT = 2048
"""Cycles between two records of time of a simulated SoC (native/main.cpp)."""
USB_LATENCY_S = 0.05
"""That a USB bridge and the operating system may add to a reply."""


class TransportError(SimulatorError):
    """The line is closed, or the simulator ended."""


class Transport(Protocol):
    """A line to the board."""

    latency: int
    """Clock cycles that the way adds to a reply, at most."""

    def send(self, data: bytes) -> None:
        """Send bytes."""

    def receive(self, cycles: int) -> bytes:
        """Bytes that came, as soon as there are some; b"" if none came within so many cycles."""

    def close(self) -> None:
        """End it."""


class SerialTransport:
    """A serial port.

    Parameters
    ----------
    port: its device. baud: its rate. clock_hz: of the board.

    Raises
    ------
    TransportError
        If it cannot be opened.
    """

    def __init__(self, port: str, baud: float, clock_hz: int):
        import serial

        self._hz = clock_hz
        self.latency = round(USB_LATENCY_S * clock_hz)
        try:
            self._line: Any = serial.Serial(port, round(baud), timeout=0)
        except (serial.SerialException, OSError, ValueError) as error:
            raise TransportError(f"cannot open {port} at {baud:,.0f} baud: {error}") from error
        self._errors = (serial.SerialException, OSError)
        self._line.reset_input_buffer()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        try:
            self._line.write(data)
        except self._errors as error:
            raise TransportError(f"the serial port failed: {error}") from error

    def receive(self, cycles: int) -> bytes:
        """See `Transport`."""
        try:
            self._line.timeout = cycles / self._hz
            first = self._line.read(1)
            return bytes(first) + bytes(self._line.read(self._line.in_waiting)) if first else b""
        except self._errors as error:
            raise TransportError(f"the serial port failed: {error}") from error

    def close(self) -> None:
        """End it."""
        self._line.close()


class SocTransport:
    """The serial line of a simulated SoC, a process.

    Parameters
    ----------
    program: the model (sim/board/soc.py). divisor: clock cycles of a bit.
    trace: file that gets the strobes of the core's units (native/main.cpp); None: none.
    """

    STUCK_S = 120
    """Seconds of silence from the simulator itself."""

    def __init__(self, program: Path, divisor: int, trace: Path | None = None):
        self.latency = 4 * HEARTBEAT
        self.cycles = 0
        words = [str(program), str(divisor), *([] if trace is None else [str(trace)])]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._half = b""
        self._end = weakref.finalize(self, _end, self._process)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        if not self._end.alive:
            raise TransportError("the simulated SoC ended: it was closed")
        try:
            while data:
                data = data[os.write(self._input, data) :]
        except OSError as error:
            raise TransportError(f"the simulated SoC ended: {self._reason()}") from error

    def receive(self, cycles: int) -> bytes:
        """See `Transport`."""
        until = self.cycles + cycles
        came = bytearray()
        while not came and self.cycles < until:
            if not select.select([self._output], [], [], self.STUCK_S)[0]:
                raise TransportError("the simulated SoC does not go on")
            block = self._half + os.read(self._output, 65536)
            if block == self._half:
                raise TransportError(f"the simulated SoC ended: {self._reason()}")
            even = len(block) & ~1
            block, self._half = block[:even], block[even:]
            self.cycles += HEARTBEAT * block[::2].count(b"T")
            came += bytes(v for k, v in zip(block[::2], block[1::2], strict=True) if k == ord("B"))
        return bytes(came)

    def reset(self) -> None:
        """Reset the board."""
        self._process.send_signal(signal.SIGUSR1)

    def _reason(self) -> str:
        code = self._process.wait(timeout=10)
        return "a rule of the SDRAM was broken" if code == 3 else f"exit code {code}"

    def close(self) -> None:
        """End it; also done when nobody holds this any more, and when Python ends."""
        self._end()


def _end(process: subprocess.Popen[bytes]) -> None:
    """The simulator ends with its input."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


class LossyTransport:
    """Loses bytes of another transport, either way, at random: for tests.

    Parameters
    ----------
    inner: the transport. share: of the bytes that get lost. seed: of the dice.
    """

    def __init__(self, inner: Transport, share: float, seed: int = 0):
        self.inner, self.latency = inner, inner.latency
        self.lost = 0
        self._share, self._dice = share, random.Random(seed)

    def _kept(self, data: bytes) -> bytes:
        kept = bytes(b for b in data if self._dice.random() >= self._share)
        self.lost += len(data) - len(kept)
        return kept

    def send(self, data: bytes) -> None:
        """Send what is not lost."""
        self.inner.send(self._kept(data))

    def receive(self, cycles: int) -> bytes:
        """What came and is not lost."""
        return self._kept(self.inner.receive(cycles))

    def close(self) -> None:
        """End it."""
        self.inner.close()
