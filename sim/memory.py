"""Where things lie: regions of the DRAM image, and how much of the scratchpads each layer uses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import INSTRUCTION_BYTES
from hw.arch.program import Program, Tensor
from hw.arch.walk import Memory, accesses
from hw.timeline.step import Step
from sim.functional.sequencer import WAITING

SCRATCHPADS = (Memory.ACTIVATION, Memory.WEIGHT, Memory.ACCUMULATOR, Memory.PARAMETER, Memory.TABLE)


@dataclasses.dataclass(frozen=True, slots=True)
class Region:
    """A region of DRAM.

    Attributes
    ----------
    kind: ``code``, ``image`` (weights, parameters, tables), ``input`` or ``tensor``.
    name: of the tensor. address, bytes: where, how much.
    first, last: layers during which it holds what it is named for: from that which stores it (−1:
        before the run) to the last that reads it before another one is stored there, or −2 where
        none does (an output).
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
    touched: dict[bool, list[tuple[int, int, int]]] = {False: [], True: []}
    for step in trace:
        if isinstance(step.instruction, WAITING):
            for a in accesses(step.instruction, config):
                if a.memory is Memory.DRAM:
                    touched[a.write].append((int(owner[step.pc]), a.low, a.high))
    reads, writes = (np.array(touched[k] or [(-1, 0, -1)], np.int64).T for k in (False, True))
    for tensor in program.tensors:
        if tensor.places:
            continue  # blocks of other tensors
        first = stored.get(tensor.name, -1)
        over = _later(writes, tensor, first + 1)
        # Other tensors may lie there behind it.
        until = int(over.min()) if over.size else len(program.layers)
        mine = _later(reads, tensor, first)
        mine = mine[mine < until]
        kind = "tensor" if first >= 0 else "input"
        last = int(mine.max()) if mine.size else max(first, 0) if over.size else -2
        found.append(Region(kind, tensor.name, tensor.address, tensor.layout.nbytes, first, last))
    return tuple(sorted(found, key=lambda region: (region.address, region.name)))


def _later(touched: npt.NDArray[np.int64], tensor: Tensor, first: int) -> npt.NDArray[np.int64]:
    """Layers from one on that touch a tensor's bytes; `touched` are layers and both ends."""
    layers, low, high = touched
    end = tensor.address + tensor.layout.nbytes
    return np.asarray(layers[(low < end) & (high >= tensor.address) & (layers >= first)], np.int64)


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
