"""STOREs of what nobody loads: everybody has read it on chip (compiler/emit/onchip.py)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from compiler.backend.placement import Placement
from compiler.emit.touches import Rows, Transfer
from compiler.flow.followers import lies_in
from compiler.flow.settle import Settled
from compiler.ir import AnyOperation
from hw.arch.isa import Instruction, Load, Store
from hw.arch.program import Layer, Tensor


def without_unread(
    instructions: list[Instruction],
    layers: Sequence[Layer],
    settled: Settled,
    placement: Placement,
    beat: int,
) -> tuple[list[Layer], frozenset[str]]:
    """Take STOREs of what nobody loads out of a program without control flow, in place.

    Parameters
    ----------
    instructions: without waits. layers: of all of them.
    beat: bytes of a row.

    Returns
    -------
    The layers as they are then, and the values of which something is stored nowhere.
    """
    kept = _kept(settled)
    ends = [placement.tensors[name] for name in kept]
    gone = _unread(instructions, ends, placement.end, beat)
    before = np.cumsum([0, *(index in gone for index in range(len(instructions)))])
    missing: set[tuple[str, int]] = set()
    for layer in layers:
        own = [gone[index] for index in range(layer.first, layer.last) if index in gone]
        for op in computed(layer, settled) if own else ():
            missing |= _blocks(placement.tensors[op.output], np.concatenate(own))
    hidden = frozenset(
        name
        for name in settled.assigned.graph.values.keys() - kept
        if not missing.isdisjoint(lies_in(settled, name))
    )
    instructions[:] = [each for index, each in enumerate(instructions) if index not in gone]
    return [
        dataclasses.replace(
            layer,
            first=layer.first - int(before[layer.first]),
            last=layer.last - int(before[layer.last]),
            tensors=tuple(name for name in layer.tensors if name not in hidden),
        )
        for layer in layers
    ], hidden


def _kept(settled: Settled) -> set[str]:
    """What is read when the run is over, of blocks whose other positions may be stored nowhere."""
    graph = settled.assigned.graph
    states = [name for state in graph.states for name in (state.source, state.target)]
    return {*graph.kept(), *states}


def addresses_of(tensor: Tensor) -> Iterable[tuple[int, int]]:
    """Addresses of a tensor: first one and the one behind, of pieces."""
    size = tensor.layout.positions * tensor.layout.lanes
    places = tensor.places or [tensor.address + n * size for n in range(tensor.layout.blocks)]
    return [(place, place + size) for place in places]


def holds(tensor: Tensor, address: int) -> bool:
    """Whether an address is a tensor's."""
    return any(first <= address < end for first, end in addresses_of(tensor))


def _blocks(tensor: Tensor, addresses: Rows) -> set[tuple[str, int]]:
    """Blocks of a tensor that hold one of some addresses, with its name."""
    return {
        (tensor.name, number)
        for number, (first, end) in enumerate(addresses_of(tensor))
        if ((addresses >= first) & (addresses < end)).any()
    }


def computed(layer: Layer, settled: Settled) -> list[AnyOperation]:
    """What a layer computes: an operator, and what follows or trails it; nothing of a decision."""
    graph = settled.assigned.graph
    first = next((op for op in graph.ops if op.name == layer.name), None)
    if first is None or layer.op == "decision":
        return []
    seconds = [op for op in graph.ops if settled.followers.get(op.output) == first.output]
    return [first, *seconds]


def _unread(
    instructions: Sequence[Instruction], kept: Iterable[Tensor], end: int, beat: int
) -> dict[int, Rows]:
    """By index of a STORE of what nobody loads: the addresses of its rows."""
    wanted = np.zeros(end // beat + 1, bool)
    for tensor in kept:
        for first, behind in addresses_of(tensor):
            wanted[first // beat : behind // beat] = True
    gone: dict[int, Rows] = {}
    for index in range(len(instructions) - 1, -1, -1):
        instruction = instructions[index]
        if not isinstance(instruction, Load | Store):
            continue
        if isinstance(instruction, Load) and instruction.dram >= end:
            continue  # a constant
        transfer = Transfer.of(index, instruction, beat)
        places = transfer.addresses // beat
        if isinstance(instruction, Load):
            wanted[places[places < len(wanted)]] = True
        elif wanted[places].any():
            wanted[places] = False
        else:
            gone[index] = transfer.addresses
    return gone
