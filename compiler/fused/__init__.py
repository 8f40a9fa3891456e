"""Chains of convolutions that are computed strip by strip without leaving the chip."""
