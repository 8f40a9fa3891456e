"""Sizes: what memories and fields hold, windows and boxes, and what tilings are likely to cost."""
