"""Boards: the host's side of the link, and the whole SoC under Verilator in a board's place."""
