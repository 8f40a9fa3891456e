"""Fields that several instruction classes declare alike."""

from __future__ import annotations

from typing import Any

from hw.arch.codes import COUNT_BITS, WAIT_BITS, Unit
from hw.arch.encoding import bits

WAITS = "per unit, LOAD first: 0, or wait for the d-th latest dispatched"


def wait_field() -> Any:
    """Declare `waits`, which every class has first that a dependency can hold back."""
    return bits(WAIT_BITS, WAITS, length=len(Unit))


def count_field(width: int, doc: str) -> Any:
    """Declare a number of something, at least one."""
    return bits(width, doc, default=1)


def counts_field(doc: str, length: int) -> Any:
    """Declare the counts of a nest."""
    return bits(COUNT_BITS, doc, length=length, default=(1,) * length)
