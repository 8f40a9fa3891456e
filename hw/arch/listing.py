"""A program as assembly for people: each line with what its numbers stand for.

`hw/arch/assembly.py` reads the lines back: everything that is added is a comment.
"""

from __future__ import annotations

import bisect
import enum
from collections.abc import Iterator

from hw.arch import isa
from hw.arch.assembly import format_instruction
from hw.arch.isa import Instruction, Load, Store
from hw.arch.program import Program
from hw.arch.winograd_matrices import TRANSFORMS

ENUMERATIONS: dict[str, type[enum.IntEnum]] = {
    kind.__name__: kind
    for kind in (
        isa.Space,
        isa.ArrayMode,
        isa.ElementwiseOp,
        isa.ReduceOp,
        isa.FoldOp,
        isa.PermuteOp,
        isa.Condition,
    )
}
"""By the name that a field's `doc` begins with."""


class Places:
    """What lies where in a program's DRAM."""

    def __init__(self, program: Program) -> None:
        places = [(t.address, t.layout.nbytes, t.name) for t in program.tensors]
        places += [(address, len(data), "image") for address, data in program.image]
        size = len(program.instructions) * isa.INSTRUCTION_BYTES
        places.append((program.code_address, size, "code"))
        self._places = sorted(places)
        self._starts = [address for address, _, _ in self._places]

    def name(self, address: int) -> str:
        """Names of what holds an address, with the offset; "" for nothing.

        Where the compiler uses memory again, several tensors hold it.
        """
        found = []
        for start, size, name in self._places[: bisect.bisect_right(self._starts, address)]:
            if address < start + size:
                offset = address - start
                found.append(f"{name}+{offset:#x}" if offset else name)
        return " or ".join(found)


def remarks(instruction: Instruction, places: Places) -> list[str]:
    """What the numbers of an instruction stand for."""
    words = []
    for field in instruction.layout():
        kind = ENUMERATIONS.get(field.doc.split()[0].rstrip(".,:;") if field.doc else "")
        value = getattr(instruction, field.name)
        if kind is not None and value in [each.value for each in kind]:
            words.append(f"{field.name} {kind(value).name}")
        elif field.name in ("transform_t", "transform_s") and 0 < value < len(TRANSFORMS):
            words.append(f"{field.name} {TRANSFORMS[value].name}")
    if isinstance(instruction, (Load, Store)):
        arrow = "from" if isinstance(instruction, Load) else "to"
        place = places.name(instruction.dram)
        words += [f"{arrow} {place}"] if place else []
    return words


def listing(program: Program) -> Iterator[str]:
    """Lines of a whole program; a layer begins with its name, operator and what it stores."""
    places = Places(program)
    starts = {layer.first: layer for layer in program.layers if layer.first != layer.last}
    for index, instruction in enumerate(program.instructions):
        if index in starts:
            layer = starts[index]
            stores = f", stores {', '.join(layer.tensors)}" if layer.tensors else ""
            yield ""
            yield f"; {layer.name} ({layer.op}){stores}"
        comment = ", ".join([str(index), *remarks(instruction, places)])
        yield f"{format_instruction(instruction)}  ; {comment}"
