"""Instruction fetch, the sequencer, and the register port."""
