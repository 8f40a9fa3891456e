"""The units that compute: multiplier array, drain, vector unit."""
