"""A program as assembly for people: each line with what its numbers stand for.

`hw/arch/assembly.py` reads the lines back: everything that is added is a comment.
"""

from __future__ import annotations

import bisect
import enum
import functools
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


IMAGE, INPUT = -2, -1
"""When it is made what lies in DRAM before the first layer."""


class Places:
    """What lies where in a program's DRAM, and which layer makes it."""

    def __init__(self, program: Program) -> None:
        made = {name: i for i, layer in enumerate(program.layers) for name in layer.tensors}
        places = [
            (t.address, t.layout.nbytes, t.name, made.get(t.name, INPUT))
            for t in program.tensors
            if not t.places  # blocks of others, which have a name
        ]
        places += [(address, len(data), "image", IMAGE) for address, data in program.image]
        size = len(program.instructions) * isa.INSTRUCTION_BYTES
        places.append((program.code_address, size, "code", IMAGE))
        ends = {address + size for address, size, *_ in places}
        self._bounds = sorted({address for address, *_ in places} | ends)
        # What holds the addresses from each bound to the next: each load and store is looked up.
        self._holders: list[list[tuple[int, str, int]]] = [[] for _ in self._bounds]
        for address, size, name, maker in sorted(places):
            first, last = (bisect.bisect_left(self._bounds, a) for a in (address, address + size))
            for holders in self._holders[first:last]:
                holders.append((address, name, maker))
        self._straight = not any(isinstance(i, isa.Branch | isa.Loop) for i in program.instructions)

    def name(self, address: int, layer: int | None = None, store: bool = False) -> str:
        """Names of what holds an address, with the offset; "" for nothing.

        Where the compiler uses memory again, several tensors hold it: of these what `layer` stores,
        or what was stored last before it; all of them where that does not tell, as what is read in
        an arm or a loop: the layer before it in the program need not be the one before it in time.
        """
        if not self._bounds or address < self._bounds[0]:
            return ""
        found = [
            (f"{name}+{address - start:#x}" if address > start else name, made)
            for start, name, made in self._holders[bisect.bisect_right(self._bounds, address) - 1]
        ]
        if layer is not None and (store or self._straight):
            fits = [made for _, made in found if (made == layer if store else made < layer)]
            found = [(name, made) for name, made in found if not fits or made == max(fits)]
        return " or ".join(name for name, _ in found)


@functools.cache
def _meanings(opcode: isa.Opcode) -> tuple[tuple[str, dict[int, str]], ...]:
    """Fields of an instruction whose values have names, and those names."""
    found = []
    for field in isa.CLASSES[opcode].layout():
        first = field.doc.split()[0].rstrip(".,:;") if field.doc else ""
        if first in ENUMERATIONS:
            found.append((field.name, {each.value: each.name for each in ENUMERATIONS[first]}))
        elif field.name in ("transform_t", "transform_s"):
            names = {value: each.name for value, each in enumerate(TRANSFORMS) if value}
            found.append((field.name, names))
    return tuple(found)


def remarks(instruction: Instruction, places: Places, layer: int | None = None) -> list[str]:
    """What the numbers of an instruction (of a layer, by index) stand for."""
    words = []
    for field, meanings in _meanings(instruction.OPCODE):
        meaning = meanings.get(getattr(instruction, field))
        if meaning is not None:
            words.append(f"{field} {meaning}")
    if isinstance(instruction, (Load, Store)):
        arrow = "from" if isinstance(instruction, Load) else "to"
        place = places.name(instruction.dram, layer, isinstance(instruction, Store))
        words += [f"{arrow} {place}"] if place else []
    return words


def listing(program: Program) -> Iterator[str]:
    """Lines of a whole program; a layer begins with its name, operator and what it stores."""
    places = Places(program)
    starts = {x.first: i for i, x in enumerate(program.layers) if x.first != x.last}
    current: int | None = None
    for index, instruction in enumerate(program.instructions):
        current = starts.get(index, current)
        if index in starts:
            layer = program.layers[starts[index]]
            stores = f", stores {', '.join(layer.tensors)}" if layer.tensors else ""
            yield ""
            yield f"; {layer.name} ({layer.op}){stores}"
        comment = ", ".join([str(index), *remarks(instruction, places, current)])
        yield f"{format_instruction(instruction)}  ; {comment}"
