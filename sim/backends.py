"""The simulators by name."""

from __future__ import annotations

from sim.backend import Backend

BACKENDS = ("functional", "cycle", "rtl", "soc")
"""Those that need nothing but a name; a board needs its port (`sim.board.backend`)."""


def make_backend(name: str) -> Backend:
    """Return a backend by name; imports what it needs only now.

    Raises
    ------
    ValueError
        If there is no such backend.
    """
    match name:
        case "functional":
            from sim.functional.backend import FunctionalBackend

            return FunctionalBackend()
        case "cycle":
            from sim.cycle.backend import CycleBackend

            return CycleBackend()
        case "rtl":
            from sim.cosim.backend import RtlBackend

            return RtlBackend()
        case "soc":
            from sim.board.backend import SocBackend

            return SocBackend()
        case _:
            raise ValueError(f"no backend {name!r}; there are {', '.join(BACKENDS)}")
