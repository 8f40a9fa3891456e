"""Weights on their way to the columns: as they are, or transformed."""
