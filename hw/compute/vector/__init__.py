"""VECTOR: element-wise operations and reductions."""
