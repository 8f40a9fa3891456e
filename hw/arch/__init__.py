"""The contract: configuration, ISA, assembly, program file, integer numerics, timing rules."""
