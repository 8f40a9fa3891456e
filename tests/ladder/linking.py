"""Link hand-made instructions into a program, with the waits that they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    ALL_UNITS,
    MAX_WAIT,
    Array,
    ArrayMode,
    Begin,
    Fence,
    Halt,
    Instruction,
    Unit,
    encode,
    unit_of,
)
from hw.arch.program import Program
from hw.arch.walk import Access, Memory, accesses

CODE = 0
DATA = 0x10000
WEIGHTS = 0x20000
PARAMETERS = 0x30000
TABLES = 0x38000
OUTPUT = 0x40000
TOTAL = 0x90000


def _banks(access: Access, config: AcceleratorConfig) -> set[int]:
    size = {
        Memory.ACTIVATION: config.memory.activation_bank_rows,
        Memory.WEIGHT: config.weight_bank_beats,
        Memory.ACCUMULATOR: config.memory.accumulator_rows,
    }.get(access.memory)
    if size is None:
        return set()
    return set(range(access.low // size, access.high // size + 1))


def conflict(a: Access, b: Access, config: AcceleratorConfig) -> bool:
    """Whether two accesses by different units must not overlap in time."""
    if a.memory is not b.memory:
        return False
    if (a.write or b.write) and a.low <= b.high and b.low <= a.high:
        return True
    shared = _banks(a, config) & _banks(b, config)
    if a.memory is Memory.ACCUMULATOR:
        return bool(shared)
    return bool(shared) and a.write == b.write


def place_waits(
    instructions: Iterable[Instruction], config: AcceleratorConfig
) -> list[Instruction]:
    """Give every unit instruction the waits that it needs; straight-line code between fences.

    Three of four ARRAYs in mode HFA that can be `late` are.
    """
    result: list[Instruction] = []
    drained = could_be = 0  # the latest DRAIN that an ARRAY has waited for; how many could be late
    earlier: dict[Unit, list[list[Access]]] = {unit: [] for unit in Unit}
    for instruction in instructions:
        unit = unit_of(instruction)
        if unit is None:
            if isinstance(instruction, Fence) and instruction.units == ALL_UNITS:
                earlier = {unit: [] for unit in Unit}
                drained = 0
            result.append(instruction)
            continue
        mine = accesses(instruction, config)  # type: ignore[arg-type]
        waits = [0] * len(Unit)
        for other, history in earlier.items():
            if other is unit:
                continue
            for distance, theirs in enumerate(reversed(history), 1):
                if any(conflict(a, b, config) for a in mine for b in theirs):
                    waits[other] = min(distance, MAX_WAIT)
                    break
        earlier[unit].append(mine)
        instruction = dataclasses.replace(instruction, waits=tuple(waits))  # type: ignore[call-arg]
        if isinstance(instruction, Array) and waits[Unit.DRAIN]:
            drains = earlier[Unit.DRAIN]
            rows = [a for a in mine if a.memory is not Memory.ACCUMULATOR]
            open_ones = [a for theirs in drains[drained:] for a in theirs]
            drained = max(drained, len(drains) - waits[Unit.DRAIN] + 1)
            if instruction.mode == ArrayMode.HFA and not any(
                conflict(a, b, config) for a in rows for b in open_ones
            ):
                could_be += 1
                instruction = dataclasses.replace(instruction, late=int(could_be % 4 != 0))
        result.append(instruction)
    return result


def begin(config: AcceleratorConfig) -> Begin:
    """First instruction of a program for this configuration."""
    return Begin(fingerprint=config.fingerprint, features=config.feature_mask)


def halt(code: int = 0) -> Halt:
    """Last instruction."""
    return Halt(code=code)


def link(
    config: AcceleratorConfig,
    code: list[Instruction],
    image: list[tuple[int, bytes]],
    window: tuple[int, int] = (OUTPUT, TOTAL),
) -> Program:
    """Make a program of instructions and data, without tensors or layers."""
    for instruction in code:
        encode(instruction)
    return Program(
        network="random",
        config=config.name,
        fingerprint=config.fingerprint,
        instructions=tuple(code),
        code_address=CODE,
        image=tuple(image),
        memory_bytes=TOTAL,
        store_window=window,
        inputs=(),
        feeds=(),
        outputs=(),
        tensors=(),
        layers=(),
    )
