"""Assembly text: one line per instruction, every field that differs from its default.

LOAD   waits=ARRAY:2,DRAIN:1 dram=0x4000 space=1 beats=256
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from hw.arch.isa import CLASSES, Instruction, Opcode, Unit


class AssemblyError(ValueError):
    """A line that does not assemble; names the line number and the word."""


def format_instruction(instruction: Instruction) -> str:
    """Return the line of one instruction."""
    words = [f"{instruction.OPCODE.name:<12}"]
    for f in dataclasses.fields(instruction):
        value = getattr(instruction, f.name)
        if value == f.default:
            continue
        if f.name == "waits":
            text = ",".join(f"{Unit(u).name}:{d}" for u, d in enumerate(value) if d)
        elif isinstance(value, tuple):
            text = ",".join(str(v) for v in value)
        elif f.name in ("dram", "fingerprint", "features"):
            text = hex(value)
        else:
            text = str(value)
        words.append(f"{f.name}={text}")
    return " ".join(words).rstrip()


def format_program(instructions: Iterable[Instruction]) -> Iterator[str]:
    """Yield one line per instruction, with its index as a comment."""
    for index, instruction in enumerate(instructions):
        yield f"{format_instruction(instruction)}  ; {index}"


def parse_line(line: str, number: int = 1) -> Instruction | None:
    """Return the instruction on a line, or None for a blank or comment line.

    Raises
    ------
    AssemblyError
        If the mnemonic, a field or a value is unknown.
    """
    words = line.split(";", 1)[0].split()
    if not words:
        return None
    try:
        kind = CLASSES[Opcode[words[0]]]
    except KeyError:
        raise AssemblyError(f"line {number}: unknown mnemonic {words[0]!r}") from None
    known = {f.name: f for f in kind.layout()}
    values: dict[str, int | tuple[int, ...]] = {}
    for word in words[1:]:
        name, separator, text = word.partition("=")
        if not separator or name not in known:
            raise AssemblyError(f"line {number}: {words[0]} has no field {name!r}")
        try:
            if name == "waits":
                waits = [0] * len(Unit)
                for item in text.split(","):
                    unit, _, distance = item.partition(":")
                    waits[Unit[unit]] = int(distance)
                values[name] = tuple(waits)
            elif known[name].length > 1:
                values[name] = tuple(int(v, 0) for v in text.split(","))
            else:
                values[name] = int(text, 0)
        except (KeyError, ValueError):
            raise AssemblyError(f"line {number}: bad value {text!r} for {name}") from None
    return kind(**values)  # type: ignore[arg-type]


def parse_program(lines: Iterable[str]) -> list[Instruction]:
    """Assemble all lines."""
    parsed = (parse_line(line, number) for number, line in enumerate(lines, 1))
    return [instruction for instruction in parsed if instruction is not None]
