"""Run programs: functional, cycle and RTL simulation behind one protocol."""
