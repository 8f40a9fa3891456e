"""Lowering of regions: results of a convolution or chain are taken on while the array works.

They are joined with another tensor on chip; or a pool trails, which reads what is stored.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from compiler.array import choice
from compiler.array.bound import least_cycles
from compiler.array.tail import SLOTS, Tail, Trailer
from compiler.cost import Cost
from compiler.emit.emitter import Emitter, RefusedError
from compiler.emit.streams import check
from compiler.emit.transfers import at, tensor_of
from compiler.emit.trial import BESIDE, SOURCE
from compiler.emit.vector import elementwise_rows
from compiler.lower import chain, convolution, pairwise, pool
from compiler.lower.base import Laid, Lanes, Placed
from compiler.lower.compare import better_apart, one_after_another
from compiler.lower.contracts import first_of, lanes_differ, not_dense
from compiler.lower.pool import pool_layer
from compiler.lower.windows import Most
from compiler.ops import Chain, Convolution, Pairwise, Pool, Region
from compiler.policy import Policy
from compiler.regions.choice import cost as region_cost
from compiler.regions.choice import fits
from compiler.regions.plan import Links
from compiler.tensor import TensorType
from compiler.tile.depthwise import suits
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Elementwise
from hw.arch.layout import LaneMap, TensorLayout, ceil_div
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm

TRAILING = (16, 4, 4)
"""Results along x, y, t of the tile of a pool that trails, at most: it waits for few of the
convolution's tiles, which come with x fastest."""


def _parts(op: Region) -> tuple[Convolution | Chain, Pairwise | Pool]:
    first, last = op.parts
    assert isinstance(first, Convolution | Chain), "passes/region.py"
    assert isinstance(last, Pairwise | Pool), "passes/region.py"
    return first, last


def _other(op: Region) -> int | None:
    """Number of the region's operand that the convolution's result is joined with, if any."""
    first, last = _parts(op)
    others = [name for name in last.inputs if name != first.output]
    return op.inputs.index(others[0]) if others else None


def _makes_dense(first: Convolution | Chain) -> bool:
    """Whether its result cannot have any lanes."""
    return isinstance(first, Chain) or first.groups > 1


def _tail(
    op: Region, sources: Sequence[Tensor], target: Tensor, made: Tensor, config: AcceleratorConfig
) -> Tail | Trailer:
    """What VECTOR does.

    Raises
    ------
    RefusedError
        If no tile of a pool fits.
    """
    _, last = _parts(op)
    if isinstance(last, Pool):
        x, y, t = TRAILING
        if last.window.kernel[0] == 1:
            t = 1  # Frames that share nothing would only be waited for.
        most = Most((x, y, t), config.memory.activation_bank_rows // SLOTS)
        stream = pool_layer(last, made, target, config, most)
        check(stream, config)
        return Trailer(stream)
    number = _other(op)
    assert number is not None
    return _join(op, last, sources[number], target, made)


def _join(op: Region, last: Pairwise, other: Tensor, target: Tensor, made: Tensor) -> Tail:
    """The operands in the order in which they are rounded."""
    leads = last.inputs[0] == _parts(op)[0].output
    operands = (made, other) if leads else (other, made)
    fields = pairwise.arithmetic_fields(last) | {
        "signed": (int(operands[0].signed), int(operands[1].signed)),
        "low": last.low,
        "high": last.high,
    }

    def instructions(rows: int, result: int, beside: int, joined: int) -> list[Elementwise]:
        sources = (result, beside) if leads else (beside, result)
        return elementwise_rows(rows, sources, joined, fields)

    return Tail(other.address - target.address, instructions)


def _between(op: Region, target: Tensor, address: int | None = None) -> Tensor:
    """What the convolution makes, in the lanes of the region's result.

    It goes where that goes, or to an address of its own.
    """
    layout = target.layout
    made = tensor_of(op.between[0], layout.lanes, layout.lane_map)
    address = target.address if address is None else address
    return dataclasses.replace(made, name=target.name, address=address)


class RegionLowering(Placed[Region]):
    """What the array makes, and what VECTOR does with it meanwhile."""

    operation = Region
    limits = ()

    def scattered(self, op: Region, number: int) -> bool:
        """What the results are joined with lies as they do."""
        return number != _other(op)

    def kind(self, op: Region, config: AcceleratorConfig) -> str:
        """Those of its parts."""
        first, last = _parts(op)
        if isinstance(first, Chain):
            kind = chain.LOWERING.kind(first, config)
        else:
            kind = convolution.LOWERING.kind(first, config)
        if isinstance(last, Pool):
            return f"{kind} + {pool.LOWERING.kind(last, config)}"
        return f"{kind} + {pairwise.LOWERING.kind(last, config)}"

    def refusal(
        self,
        op: Region,
        inputs: Sequence[TensorType],
        output: TensorType,
        config: AcceleratorConfig,
        policy: Policy | None,
    ) -> str | None:
        """Equal maps, tiles that fit; with a policy, no slower than its parts apart."""
        first = _parts(op)[0]
        other = _other(op)
        if other is not None and {inputs[other].shape, op.between[0].shape} != {output.shape}:
            return "an operand is repeated"
        if "vector" not in config.features:
            return f"configuration {config.name} has no vector unit"
        made = first.stages[-1] if isinstance(first, Chain) else first
        if isinstance(made, Convolution) and suits(made, config):
            return f"{made.name} runs in mode DEPTHWISE"
        if isinstance(first, Convolution) and first.pool is not None:
            return f"{first.name} has a fused pool"
        if policy is None:
            lanes = config.lane_block
            sources = [tensor_of(kind, lanes) for kind in inputs]
            return self.misfit(op, sources, tensor_of(output, lanes), config)
        try:
            joined, apart = _costs(op, inputs, output, config, policy)
        except RefusedError as error:
            return str(error)
        return better_apart(joined, apart, ("joined", "apart"), config, policy)

    def misfit(
        self, op: Region, sources: Sequence[Tensor], target: Tensor, config: AcceleratorConfig
    ) -> str | None:
        """Why no tile fits, for tensors that lie as they do."""
        first, made = _parts(op)[0], _between(op, target)
        try:
            tail = _tail(op, sources, target, made, config)
        except RefusedError as error:
            return str(error)
        if isinstance(first, Convolution):
            return choice.refusal(first, sources[0], made, config, tail)
        assert isinstance(tail, Tail), "passes/region.py"
        links = Links.of(first, sources[0], made, tail)
        if not fits(links, config):
            return f"no strip of its {len(first.stages)} operators fits {config.name}"
        return None

    def contract(
        self, op: Region, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """Joined are equal lanes; chains read dense ones, and make them as grouped convolutions."""
        first, other = _parts(op)[0], _other(op)
        return first_of(
            (
                None if other is None else lanes_differ(sources[other], result),
                not_dense(result) if _makes_dense(first) else None,
                not_dense(sources[0]) if isinstance(first, Chain) else None,
            )
        )

    def lanes(self, op: Region) -> Lanes:
        """Those of the operand that is joined; dense where none is."""
        return Lanes.OWN

    def demands(self, op: Region, maps: Sequence[LaneMap]) -> list[LaneMap] | None:
        """A convolution reads any; see `contract`."""
        wanted, first, other = list(maps), _parts(op)[0], _other(op)
        dense = {0} if isinstance(first, Chain) else set()
        if other is not None and _makes_dense(first):
            dense.add(other)
        for number in dense:
            wanted[number] = LaneMap.dense(maps[number].channels, maps[number].lanes)
        return wanted

    def result(self, op: Region, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """Those of the operand that is joined; dense where none is."""
        other = _other(op)
        return LaneMap.dense(channels, maps[0].lanes) if other is None else maps[other]

    def scratch(self, op: Region, source: TensorLayout) -> int:
        """What a chain stores beside its result, or what a pool reads."""
        first, last = _parts(op)
        if isinstance(last, Pool):
            return TensorLayout.dense(op.between[0].shape, source.lanes).nbytes
        return chain.LOWERING.scratch(first, source) if isinstance(first, Chain) else 0

    def bound(
        self,
        op: Region,
        sources: Sequence[Laid],
        result: Laid,
        config: AcceleratorConfig,
        algorithms: Sequence[Algorithm],
    ) -> int:
        """The array's cycles, or the bytes of operands, weights and result."""
        first = _parts(op)[0]
        beats = super().bound(op, sources, result, config, algorithms)
        if isinstance(first, Chain):
            made = dataclasses.replace(result, type=op.between[0])
            alone = chain.LOWERING.bound(first, [sources[0]], made, config, algorithms)
            return max(alone, beats)
        beats += ceil_div(first.weight.size, config.port.bytes)
        source = sources[0]
        return max(least_cycles(first, source.layout, source.type, algorithms, config), beats)

    def emit(
        self, emitter: Emitter, op: Region, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """The convolution or chain with a tail, or a convolution that is trailed."""
        first, last = _parts(op)
        address = emitter.scratch[target.name] if isinstance(last, Pool) else None
        made = _between(op, target, address)
        tail = _tail(op, sources, target, made, emitter.config)
        if isinstance(first, Chain):
            assert isinstance(tail, Tail), "passes/region.py"
            report = chain.emitted(emitter, first, sources[0], made, tail)
        else:
            report = choice.lower(emitter, first, sources[0], made, tail)
            report |= {"streamed": {first.name: report["array"]}}
        return report | {"parts": [part.name for part in op.parts]}


def _costs(
    op: Region,
    kinds: Sequence[TensorType],
    output: TensorType,
    config: AcceleratorConfig,
    policy: Policy,
) -> tuple[Cost, Cost]:
    """Of a region, and of its parts one after another.

    Raises
    ------
    RefusedError
        If no tile fits.
    """
    first, last = _parts(op)
    # The two meet in DRAM where a pool trails.
    addresses = itertools.count(SOURCE, BESIDE)
    sources, target = (
        [at(tensor_of(kind, config.lane_block), next(addresses)) for kind in kinds],
        at(tensor_of(output, config.lane_block), next(addresses)),
    )
    made = _between(op, target, next(addresses) if isinstance(last, Pool) else None)
    tail = _tail(op, sources, target, made, config)
    if isinstance(first, Chain):
        assert isinstance(tail, Tail), "passes/region.py"
        cost = region_cost(Links.of(first, sources[0], made, tail), config, policy)
        if cost is None:
            raise RefusedError(f"no strip of its {len(first.stages)} operators fits")
        joined, alone = cost, chain.LOWERING.cost(first, sources, made, config, policy)
    else:
        way, _ = choice.plan(first, sources[0], made, config, policy, tail)
        joined = Cost.of_way(way, config)
        if isinstance(last, Pool):
            layers = (
                (convolution.LOWERING, first, sources, made),
                (pool.LOWERING, last, [made], target),
            )
            return joined, one_after_another(layers, config, policy)
        alone = convolution.LOWERING.cost(first, sources, made, config, policy)
    assert isinstance(last, Pairwise), "passes/region.py"
    other = sources[_other(op) or 0]
    operands = [made if name == first.output else other for name in last.inputs]
    return joined, alone + pairwise.LOWERING.cost(last, operands, target, config, policy)


LOWERING = RegionLowering()
