"""A row of the table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes
    ----------
    network, quantity, unit: what is counted, and in what.
    paper: the paper's figure, where it prints one.
    ours: the same quantity of the network as it is built here.
    relative_difference: (ours - paper) / paper.
    """

    network: str
    quantity: str
    unit: str
    paper: float | None
    ours: float
    relative_difference: float | None


def row(network: str, quantity: str, unit: str, paper: float | None, count: float) -> Row:
    """Make a row of a count in ones; the unit starts with M or G."""
    ours = count / {"M": 1e6, "G": 1e9}[unit[0]]
    difference = None if paper is None else (ours - paper) / paper
    return Row(network, quantity, unit, paper, ours, difference)
