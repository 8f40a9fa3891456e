"""The RTL under Verilator: whole networks at native speed, cocotb at job and unit level."""
