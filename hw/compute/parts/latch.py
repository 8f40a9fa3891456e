"""Instruction registers as one signal per field, and delay lines."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, ValueCastable
from amaranth.lib import data

__all__ = ["Fields", "delay_line", "delayed", "register_of", "strobe_line"]


class Fields:
    """Registers for an instruction's fields.

    One signal per element instead of one 500-bit word: simulators then touch only what is used,
    and synthesis drops what is not.

    Parameters
    ----------
    layout: of the instruction.
    names: fields to keep.
    """

    def __init__(self, layout: data.StructLayout, names: tuple[str, ...]):
        self._layout = layout
        self._registers: dict[str, Any] = {}
        for name in names:
            shape = layout.members[name]
            if isinstance(shape, data.ArrayLayout):
                self._registers[name] = [
                    Signal(shape.elem_shape, name=f"{name}{i}", reset_less=True)
                    for i in range(shape.length)
                ]
            else:
                self._registers[name] = Signal(shape, name=name, reset_less=True)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._registers[name]
        except KeyError:
            raise AttributeError(name) from None

    def take(self, payload: Any) -> list[Any]:
        """Statements that load every register from a view of the layout."""
        result = []
        for name, register in self._registers.items():
            if isinstance(register, list):
                result += [r.eq(payload[name][i]) for i, r in enumerate(register)]
            else:
                result.append(register.eq(payload[name]))
        return result


def register_of(m: Module, port: Any) -> Any:
    """A register without reset that drives an output port. Call it outside of conditions.

    For data, which mean nothing until a strobe says so. A signature's members would be reset, and
    on an FPGA flip-flops with different resets cannot share a logic tile.

    Returns
    -------
    What `m.d.sync` assigns to, of the port's shape.
    """
    register = Signal(port.shape(), name=f"{port.name}_register", reset_less=True)
    m.d.comb += port.eq(register)
    return register


def delayed(m: Module, value: Value | ValueCastable, cycles: int, name: str) -> Any:
    """`value` of `cycles` cycles ago (zero, that is inactive, before the first)."""
    for stage in range(1, cycles + 1):
        register = Signal.like(value, name=f"{name}_d{stage}")
        m.d.sync += Value.cast(register).eq(Value.cast(value))
        value = register
    return value


def delay_line(m: Module, flag: Value, length: int, name: str) -> Value:
    """Bit k is `flag` of k cycles ago, k = 0..length."""
    register = Signal(length, name=name)
    m.d.sync += register.eq(Cat(flag, register)[:length])
    return Cat(flag, register)


def strobe_line(m: Module, strobe: Value, clear: Value, cycles: int, name: str) -> tuple[Any, Any]:
    """Delay a strobe in one shift register.

    Returns
    -------
    The strobe of `cycles` cycles ago, and whether any is under way; `clear` drops all.
    """
    line = Signal(cycles, name=name)
    m.d.sync += line.eq(Cat(strobe, line)[:cycles])
    with m.If(clear):
        m.d.sync += line.eq(0)
    return line[-1], line.any()
