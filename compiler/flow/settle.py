"""Places in DRAM for what several values share: arms of a branch, trips of a Loop, states."""

from __future__ import annotations

from compiler.flow.joins import settle_joins
from compiler.flow.loops import settle_loops
from compiler.flow.places import Settled
from compiler.flow.states import settle_states
from compiler.flow.views import share
from compiler.layout.assign import Assigned, check_layouts

__all__ = ["Settled", "settle"]


def settle(assigned: Assigned) -> Settled:
    """Add the copies that joins, Loops and states need, and share bytes where nothing has to move.

    Raises
    ------
    CompilerError
        If a copy's contract does not hold.
    """
    plain = Settled(assigned, {})
    settled = settle_states(settle_loops(settle_joins(plain)))
    if settled is not plain:
        check_layouts(settled.assigned)
    return share(settled)
