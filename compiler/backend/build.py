"""The back end's way in: typed graph to linked program."""

from __future__ import annotations

from collections.abc import Callable

from compiler.arms import structured
from compiler.array.hfa import possible
from compiler.backend.link import link, stored
from compiler.backend.order import in_order
from compiler.backend.placement import place
from compiler.emit.allocate import PAGE, ConstantPool
from compiler.emit.emitter import Emitter, RefusedError
from compiler.emit.transfers import TransferError
from compiler.flow.blocks import BlockWriter
from compiler.flow.settle import Settled, settle
from compiler.ir import AnyOperation, CompilerError, Graph
from compiler.layout.assign import assign_layout, check_operator
from compiler.lower import lowering, refusal, roofline_cycles
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
    """Lay out, lower every operator and link the program: `lay_out`, then `emit`."""
    return emit(lay_out(graph, config), config, progress, policy)


def lay_out(graph: Graph, config: AcceleratorConfig) -> Settled:
    """Give every value its lanes, with relayouts where operands do not meet, and states a place.

    Raises
    ------
    CompilerError
        If an operator is not supported or fits no tile; names the node and the limit.
    """
    for op in graph.ops:
        why = refusal(op, graph.input_types(op), graph.type(op.output), config)
        if why is not None:
            raise CompilerError(f"{op.name} ({type(op).__name__}): {why}")
    return settle(assign_layout(in_order(graph), config))


def emit(
    settled: Settled,
    config: AcceleratorConfig,
    progress: Progress = lambda name: None,
    policy: Policy | None = None,
    dram: str = REUSE,
) -> Program:
    """Lower every operator and link the program.

    Parameters
    ----------
    settled: each operator of the graph becomes one layer that stores its result.
    config: the accelerator.
    progress: is told each operator's name before it is lowered.
    policy: how layers choose between direct and transformed.
    dram: how tensors share memory, one of policy.SHARING.

    Raises
    ------
    CompilerError
        If an operator fits no tile; names the node and the limit. If the policy names what does
        not exist.
    """
    policy = policy or Policy()
    policy.check(config)
    graph = settled.assigned.graph
    placement = place(settled, PAGE, dram)
    constants = ConstantPool(placement.end)
    emitter = Emitter(config, placement.tensors, constants, policy, placement.scratch)
    emitter.instructions.append(Begin(config.fingerprint))

    def layer(op: AnyOperation) -> Layer:
        progress(op.name)
        return _layer(graph, op, emitter)

    writer = BlockWriter(graph, emitter, layer)
    blocks = writer.write(structured(graph.ops, graph.path))
    return link(graph, emitter, placement, constants, writer.layers, blocks, writer.loops)


def _layer(graph: Graph, op: AnyOperation, emitter: Emitter) -> Layer:
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
    types = {name: graph.type(name) for name in layouts}
    algorithms = possible(tiling, emitter.policy)
    return Layer(
        name=op.name,
        op=known.kind(op, emitter.config),
        first=first,
        last=len(emitter.instructions),
        macs=op.macs(graph.input_types(op)),
        roofline_cycles=roofline_cycles(op, types, layouts, emitter.config, algorithms),
        tensors=(op.output,) if stored(op, emitter) else (),
        tiling=tiling,
    )
