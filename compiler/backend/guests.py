"""Layers that are woven into the one before them, where the whole then takes fewer cycles."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from compiler.emit.touches import registered
from compiler.emit.trial import timed
from compiler.emit.weave import Times, woven
from compiler.flow.settle import Settled
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Instruction, UnitInstruction
from hw.arch.program import Layer


def weave(
    code: list[Instruction], layers: Sequence[Layer], settled: Settled, config: AcceleratorConfig
) -> tuple[list[Layer], Settled]:
    """Weave guests into their hosts, in place; layers, and what is computed with what, then.

    Parameters
    ----------
    code: without waits and control flow. layers: of all of it.
    settled: names the guests.
    config: the accelerator.
    """
    found, followers = list(layers), dict(settled.followers)
    makers = settled.assigned.graph.producers()
    for guests in settled.guests:
        names = [makers[value].name for value in (guests.host, guests.mean, guests.product)]
        numbers = [n for n, layer in enumerate(found) if layer.name in names]
        if [found[n].name for n in numbers] != names or not _adjacent(found, numbers):
            continue
        first, begin = found[numbers[0]].first, found[numbers[0]].last
        last = found[numbers[-1]].last
        better = _better(code[first:last], begin - first, config)
        if better is None:
            continue
        code[first:last] = better
        parts = [found[n] for n in numbers]
        for number, layer in zip(numbers, _joined(parts), strict=True):
            found[number] = layer
        followers |= {guests.mean: guests.host, guests.product: guests.host}
    return found, dataclasses.replace(settled, followers=followers)


def _adjacent(layers: Sequence[Layer], numbers: Sequence[int]) -> bool:
    """Whether nothing lies between some layers."""
    ends = [layers[n].last for n in numbers[:-1]]
    return ends == [layers[n].first for n in numbers[1:]]


def _better(
    code: Sequence[Instruction], begin: int, config: AcceleratorConfig
) -> list[UnitInstruction] | None:
    """A host and its guests, from one instruction on, woven; None where that is no better."""
    straight = [each for each in code if isinstance(each, UnitInstruction)]
    if len(straight) < len(code) or any(map(registered, straight)):
        return None
    host, guests = straight[:begin], straight[begin:]
    alone = timed(host, config)
    order = woven(host, guests, Times(alone.issue, alone.done), config)
    result = [straight[number] for number in order]
    return result if timed(result, config).cycles < timed(straight, config).cycles else None


def _joined(parts: Sequence[Layer]) -> list[Layer]:
    """A layer with all of them, and what is left of the others."""
    host, *others = parts
    last = others[-1].last
    whole = dataclasses.replace(
        host,
        op=" + ".join(part.op for part in parts),
        last=last,
        macs=sum(part.macs for part in parts),
        tensors=tuple(name for part in parts for name in part.tensors),
        tiling={**host.tiling, "woven in": {part.name: part.tiling for part in others}},
    )
    rest = [
        dataclasses.replace(
            part, first=last, last=last, macs=0, tensors=(), tiling={"computed with": host.name}
        )
        for part in others
    ]
    return [whole, *rest]
