"""When every instruction of a run issues and is done, to the cycle, and when the memory serves it.

The compiler foresees a program with it, and the cycle model times a run: both see the same core. It
knows the contract (hw.arch) only; that RTL takes as long is proven by tests/ladder and each proof.
"""
