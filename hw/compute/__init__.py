"""The units that compute, a folder each, and what they share.

array, drain, vector   the units ARRAY, DRAIN and VECTOR: `unit.py` is the whole of one
weights                weights on their way to the array's columns, transformed in mode HFA
transform              transformed activations, and who paces them
parts                  multipliers, instruction registers, delay lines, choices
"""
