"""Cycle simulation: the right times, instruction by instruction and burst by burst."""
