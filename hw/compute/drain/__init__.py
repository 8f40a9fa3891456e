"""DRAIN: accumulators to activation rows."""
