"""On-chip memories, and the units that move data between them and the AXI4 port."""
