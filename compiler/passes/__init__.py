"""Rewrites of the graph. Passes do not know each other; compiler/pipeline.py knows the order."""
