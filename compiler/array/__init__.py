"""Convolutions on the array: their forms, the choice between direct and transformed, emission."""
