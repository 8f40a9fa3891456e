"""cocotb: the least that a model can do; it was built on a path with blanks."""

from __future__ import annotations

from typing import Any

import cocotb

from hw.arch.registers import ID_VALUE, Register
from sim.cosim.bench import Bench


@cocotb.test()
async def the_core_answers(dut: Any) -> None:
    bench = Bench(dut, 1 << 16)
    await bench.reset()
    assert await bench.read(Register.ID) == ID_VALUE
