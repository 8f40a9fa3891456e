"""The back end's way in: typed graph to linked program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from compiler.arms import structured
from compiler.backend.bounds import bounded
from compiler.backend.guests import weave
from compiler.backend.link import link, stored
from compiler.backend.order import in_order
from compiler.backend.placement import place
from compiler.backend.readers import Addresses, ReadLater
from compiler.backend.unread import without_unread
from compiler.emit.ahead import moved_layers, run_ahead
from compiler.emit.allocate import PAGE, ConstantPool
from compiler.emit.emitter import Emitter, RefusedError
from compiler.emit.transfers import TransferError
from compiler.flow.blocks import BlockWriter
from compiler.flow.followers import emit_pair, follow, unstored
from compiler.flow.guests import invite
from compiler.flow.settle import Settled, settle
from compiler.flow.trailers import emit_trailed, trail
from compiler.flow.waits import filled
from compiler.foreseen import foreseen
from compiler.ir import (
    AnyOperation,
    AttentionPool,
    CompilerError,
    Convolution,
    Graph,
    Pairwise,
)
from compiler.layout.assign import assign_layout, check_operator
from compiler.lower import lowering, refusal
from compiler.policy import REUSE, Policy
from hw.arch.config import AcceleratorConfig
from hw.arch.encoding import EncodingError
from hw.arch.isa import Begin
from hw.arch.program import Layer, Program

Progress = Callable[[str], None]


def generate(
    graph: Graph,
    config: AcceleratorConfig,
    progress: Progress = lambda name: None,
    policy: Policy | None = None,
) -> Program:
    """Lay out, lower every operator and link the program, which stores every tensor."""
    return emit(lay_out(graph, config), config, progress, policy, unread=True)


def lay_out(graph: Graph, config: AcceleratorConfig, joining: Policy | None = None) -> Settled:
    """Give every value its lanes, with relayouts where operands do not meet, and states a place.

    With `joining`, what is best computed together is, by that policy.

    Raises
    ------
    CompilerError
        If an operator is not supported or fits no tile; names the node and the limit.
    """
    for op in graph.ops:
        why = refusal(op, graph.input_types(op), graph.type(op.output), config)
        if why is not None:
            raise CompilerError(f"{op.name} ({type(op).__name__}): {why}")
    settled = settle(assign_layout(in_order(graph), config))
    if joining is None:
        return settled
    return invite(trail(follow(settled, config, joining), config, joining), config)


def emit(
    settled: Settled,
    config: AcceleratorConfig,
    progress: Progress = lambda name: None,
    policy: Policy | None = None,
    dram: str = REUSE,
    unread: bool = False,
) -> Program:
    """Lower every operator and link the program.

    Parameters
    ----------
    settled: each operator of the graph becomes one layer that stores its result; one that follows
        or trails another (compiler/flow/followers.py, trailers.py) has its result stored by that
        one's layer.
    config: the accelerator.
    progress: is told each operator's name before it is lowered.
    policy: how layers choose between direct and transformed.
    dram: how tensors share memory, one of policy.SHARING.
    unread: store what nobody loads and nobody reads after the run, too; where tensors do not share
        memory it is stored anyway.

    Raises
    ------
    CompilerError
        If an operator fits no tile; names the node and the limit. If the policy names what does
        not exist.
    """
    policy = policy or Policy()
    policy.check(config)
    plain = _emitted(settled, config, progress, policy, dram, unread)
    if not settled.guests:
        return plain
    # Each operator has been told already.
    other = _emitted(settled, config, lambda name: None, policy, dram, unread, guests=True)
    return min((plain, other), key=lambda program: foreseen(program, config).cycles)


def _emitted(
    settled: Settled,
    config: AcceleratorConfig,
    progress: Progress,
    policy: Policy,
    dram: str,
    unread: bool,
    guests: bool = False,
) -> Program:
    """As `emit`; `guests`: some layers leave room for others, and are woven into these."""
    graph = settled.assigned.graph
    placement = place(settled, PAGE, dram)
    constants = ConstantPool(placement.end)
    emitter = Emitter(
        config, placement.tensors, constants, policy, placement.scratch, unstored(settled),
        frozenset(each.product for each in settled.guests) if guests else frozenset(),
    )  # fmt: skip
    emitter.instructions.append(Begin(config.fingerprint))

    seconds = {first: name for name, first in settled.followers.items()}
    makers = graph.producers()

    read = ReadLater.of(settled, placement)

    def layer(op: AnyOperation) -> Layer:
        progress(op.name)
        if op.output in settled.followers:
            return _followed(op, makers[settled.followers[op.output]], emitter)
        later = read.behind(op.output)
        if op.output in seconds:
            return _both(settled, op, makers[seconds[op.output]], emitter, later)
        return _layer(graph, op, emitter, later)

    writer = BlockWriter(graph, emitter, layer)
    blocks = writer.write(structured(graph.ops, graph.path))
    layers, code = writer.layers, emitter.instructions
    if dram == REUSE and not unread and not blocks:
        beat = config.port.bytes
        layers, hidden = without_unread(code, layers, settled, placement, beat)
        emitter.unstored |= hidden
    if guests and not blocks:
        layers, settled = weave(code, layers, settled, config)
    layers = bounded(layers, settled, emitter)
    code[:] = filled(code, blocks, emitter.reaches, config)
    order = run_ahead(code, blocks, placement.end, config)
    layers = moved_layers(layers, code, order, placement.end)
    reaches = {place: emitter.reaches[n] for place, n in enumerate(order) if n in emitter.reaches}
    code[:] = filled([code[number] for number in order], blocks, reaches, config)
    return link(graph, emitter, placement, constants, layers, blocks, writer.loops)


def _layer(graph: Graph, op: AnyOperation, emitter: Emitter, later: Sequence[Addresses]) -> Layer:
    first = len(emitter.instructions)
    layouts = {name: emitter.tensors[name].layout for name in (*op.inputs, op.output)}
    check_operator(op, layouts)
    known = lowering(op)
    sources = [emitter.tensors[name] for name in op.inputs]
    try:
        tiling = known.emit(emitter, op, sources, emitter.tensors[op.output])
        for instruction in emitter.instructions[first:]:
            instruction.encode()
    except (RefusedError, TransferError, EncodingError) as error:
        raise CompilerError(f"{op.name} ({type(op).__name__}): {error}") from error
    emitter.end_layer(first, later)
    return Layer(
        name=op.name,
        op=known.kind(op, emitter.config),
        first=first,
        last=len(emitter.instructions),
        macs=op.macs(graph.input_types(op)),
        roofline_cycles=0,  # bounds.py
        tensors=(op.output,) if stored(op, emitter) else (),
        tiling=tiling,
    )


def _both(
    settled: Settled,
    op: AnyOperation,
    second: AnyOperation,
    emitter: Emitter,
    later: Sequence[Addresses],
) -> Layer:
    """An operator and what follows or trails it as one layer, which stores both results."""
    graph, begin = settled.assigned.graph, len(emitter.instructions)
    names = (*op.inputs, op.output, *second.inputs, second.output)
    layouts = {name: emitter.tensors[name].layout for name in names}
    for each in (op, second):
        check_operator(each, layouts)
    try:
        tiling = _emit_both(settled, op, second, emitter)
        for instruction in emitter.instructions[begin:]:
            instruction.encode()
    except (RefusedError, TransferError, EncodingError) as error:
        raise CompilerError(f"{op.name} and {second.name}: {error}") from error
    emitter.end_layer(begin, later)
    kinds = [lowering(each).kind(each, emitter.config) for each in (op, second)]
    return Layer(
        name=op.name,
        op=" + ".join(kinds),
        first=begin,
        last=len(emitter.instructions),
        macs=op.macs(graph.input_types(op)) + second.macs(graph.input_types(second)),
        roofline_cycles=0,  # bounds.py
        tensors=tuple(each.output for each in (op, second) if stored(each, emitter)),
        tiling=tiling,
    )


def _emit_both(
    settled: Settled, op: AnyOperation, second: AnyOperation, emitter: Emitter
) -> dict[str, Any]:
    if isinstance(second, AttentionPool):
        assert isinstance(op, Convolution), op.name
        return emit_trailed(op, second, emitter)
    assert isinstance(op, Pairwise) and isinstance(second, Convolution), op.name
    return emit_pair(settled, op, second, emitter)


def _followed(op: AnyOperation, first: AnyOperation, emitter: Emitter) -> Layer:
    """What another layer has stored."""
    here = len(emitter.instructions)
    return Layer(
        name=op.name,
        op=lowering(op).kind(op, emitter.config),
        first=here,
        last=here,
        macs=0,
        roofline_cycles=0,
        tensors=(),
        tiling={"computed with": first.name},
    )
