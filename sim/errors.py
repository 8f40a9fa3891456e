"""Errors that end a command."""

from __future__ import annotations


class InputError(ValueError):
    """What the user gave cannot be run: a missing file, a wrong shape, another configuration."""


class SimulatorError(RuntimeError):
    """A simulator could not be built or run, or found its own model broken."""
