"""What is computed strip by strip without leaving the chip: stages, plans, order, emission."""
