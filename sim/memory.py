"""Where things lie: regions of the DRAM image, and how much of the scratchpads each layer uses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import INSTRUCTION_BYTES
from hw.arch.program import Program
from hw.arch.walk import Memory, accesses
from sim.functional.sequencer import WAITING, Step

SCRATCHPADS = (Memory.ACTIVATION, Memory.WEIGHT, Memory.ACCUMULATOR, Memory.PARAMETER, Memory.TABLE)


@dataclasses.dataclass(frozen=True, slots=True)
class Region:
    """A region of DRAM.

    Attributes
    ----------
    kind: ``code``, ``image`` (weights, parameters, tables), ``input`` or ``tensor``.
    name: of the tensor. address, bytes: where, how much.
    first, last: layers during which it holds what it is named for: from that which stores it (−1:
        before the run) to the last that reads it, or −2 where none does (an output).
    """

    kind: str
    name: str
    address: int
    bytes: int
    first: int
    last: int


def regions(
    program: Program, trace: Sequence[Step], owner: npt.NDArray[np.int64], config: AcceleratorConfig
) -> tuple[Region, ...]:
    """Regions of the DRAM image, by address.

    Parameters
    ----------
    trace: executed instructions. owner: layer of every instruction of the program.
    """
    code = len(program.instructions) * INSTRUCTION_BYTES
    found = [Region("code", "instructions", program.code_address, code, -1, len(program.layers))]
    found += [
        Region("image", "weights", at, len(data), -1, len(program.layers))
        for at, data in program.image
    ]
    stored = {name: i for i, layer in enumerate(program.layers) for name in layer.tensors}
    reads: list[tuple[int, int, int]] = []
    for step in trace:
        if isinstance(step.instruction, WAITING):
            reads += [
                (int(owner[step.pc]), a.low, a.high)
                for a in accesses(step.instruction, config)
                if a.memory is Memory.DRAM and not a.write
            ]
    layers, low, high = np.array(reads or [(-1, 0, -1)], np.int64).T
    for tensor in program.tensors:
        first = stored.get(tensor.name, -1)
        end = tensor.address + tensor.layout.nbytes
        mine = layers[(low < end) & (high >= tensor.address) & (layers >= first)]
        kind = "tensor" if first >= 0 else "input"
        last = int(mine.max()) if mine.size else -2
        found.append(Region(kind, tensor.name, tensor.address, tensor.layout.nbytes, first, last))
    return tuple(sorted(found, key=lambda region: (region.address, region.name)))


def capacity(config: AcceleratorConfig) -> dict[str, int]:
    """Rows (or beats) of every scratchpad by name."""
    memory = config.memory
    return {
        Memory.ACTIVATION.value: memory.activation_rows,
        Memory.WEIGHT.value: config.weight_beats,
        Memory.ACCUMULATOR.value: 2 * memory.accumulator_rows,
        Memory.PARAMETER.value: config.parameter_rows * config.parameter_row_beats,
        Memory.TABLE.value: memory.tables * config.table_beats,
    }


def occupancy(
    trace: Sequence[Step], owner: npt.NDArray[np.int64], layers: int, config: AcceleratorConfig
) -> list[Mapping[str, int]]:
    """Rows of every scratchpad that a layer's instructions read or write, by layer."""
    sizes = capacity(config)
    used = [{name: np.zeros(size, np.bool_) for name, size in sizes.items()} for _ in range(layers)]
    seen: set[tuple[int, str, int, int]] = set()
    for step in trace:
        layer = int(owner[step.pc])
        if layer < 0 or not isinstance(step.instruction, WAITING):
            continue
        for access in accesses(step.instruction, config):
            key = (layer, access.memory.value, access.low, access.high)
            if access.memory in SCRATCHPADS and key not in seen:
                seen.add(key)
                used[layer][access.memory.value][access.low : access.high + 1] = True
    return [{name: int(rows.sum()) for name, rows in each.items()} for each in used]
