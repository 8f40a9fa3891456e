"""Energy: action counts of the dynamic instruction trace times an energy reference table."""

from sim.energy.actions import Action, count_actions
from sim.energy.table import EnergyError, EnergyTable

__all__ = ["Action", "EnergyError", "EnergyTable", "count_actions"]
