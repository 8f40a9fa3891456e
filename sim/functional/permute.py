"""PERMUTE: bytes from lanes to lanes."""

from __future__ import annotations

import numpy as np

from hw.arch.fold_walk import permute_produced, permute_wants_second
from hw.arch.isa import Permute, PermuteOp
from hw.arch.nest import walked
from sim.functional.state import Bytes, State
from sim.functional.vector import check_ports


def execute_permute(instruction: Permute, state: State) -> None:
    """Move the bytes of one PERMUTE instruction.

    Raises
    ------
    UnitError
        ADDRESS, or BANK_CONFLICT where both sources of a step lie in one bank.
    """
    counts = instruction.counts
    first = walked(instruction.source0, counts, instruction.source0_deltas)
    codes = np.asarray(state.activation.read(first), np.uint8)  # [n3, n2, n1, n0, L]
    lanes = state.config.lane_block
    match PermuteOp(instruction.op):
        case PermuteOp.SELECT:
            other = codes
            if permute_wants_second(instruction, state.config):
                second = walked(instruction.source1, counts, instruction.source1_deltas)
                other = state.activation.read(second)
                if not instruction.serial:
                    check_ports(first, second, state.config.memory.activation_bank_rows)
            result = _selected(instruction, np.concatenate([codes, other], axis=-1), lanes)
        case PermuteOp.TRANSPOSE:
            result = np.full((*codes.shape[:3], lanes, lanes), instruction.pad, np.uint8)
            result[..., : counts[0]] = codes.swapaxes(-1, -2)
    produced = permute_produced(instruction, state.config)
    target = walked(instruction.destination, produced, instruction.destination_deltas)
    bank = state.weight if instruction.space else state.activation
    bank.write(target, result)


def _selected(instruction: Permute, both: Bytes, lanes: int) -> Bytes:
    """Bytes of two rows side by side, [..., 2·L], in the lanes that select them."""
    result = np.full((*both.shape[:-1], lanes), instruction.pad, np.uint8)
    for lane in range(lanes):
        if instruction.valid >> lane & 1:
            result[..., lane] = both[..., instruction.select[lane]]
    return result
