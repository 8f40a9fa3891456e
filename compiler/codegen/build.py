"""The back end's way in: typed graph to linked program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

from compiler.codegen import (
    convolution,
    copies,
    depthwise,
    elementwise,
    fused,
    rearrange,
    reduce,
    relayout,
    temporal_residual,
)
from compiler.codegen.allocate import PAGE, ConstantPool
from compiler.codegen.assign import Assigned, assign_layout, check_operator
from compiler.codegen.depthwise_tiling import suits
from compiler.codegen.emitter import Emitter, RefusedError
from compiler.codegen.hfa import possible
from compiler.codegen.link import link
from compiler.codegen.placement import place
from compiler.codegen.policy import Policy
from compiler.codegen.roofline import roofline_cycles
from compiler.codegen.support import reason
from compiler.codegen.transfers import TransferError
from compiler.ir import (
    AnyOperation,
    Chain,
    CompilerError,
    Concat,
    Convolution,
    Elementwise,
    Graph,
    Pool,
    Rearrange,
    Reduce,
    Relayout,
    Slice,
    TemporalResidual,
    UnaryTable,
    View,
)
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


def lay_out(graph: Graph, config: AcceleratorConfig) -> Assigned:
    """Give every value its lanes, with relayouts where operands do not meet.

    Raises
    ------
    CompilerError
        If an operator is not supported or fits no tile; names the node and the limit.
    """
    for op in graph.ops:
        why = reason(op, graph.input_types(op), graph.type(op.output), config)
        if why is not None:
            raise CompilerError(f"{op.name} ({type(op).__name__}): {why}")
    return assign_layout(graph, config)


def emit(
    assigned: Assigned,
    config: AcceleratorConfig,
    progress: Progress = lambda name: None,
    policy: Policy | None = None,
) -> Program:
    """Lower every operator and link the program.

    Parameters
    ----------
    assigned: each operator of the graph becomes one layer that stores its result.
    config: the accelerator.
    progress: is told each operator's name before it is lowered.
    policy: how layers choose between direct and transformed.

    Raises
    ------
    CompilerError
        If an operator fits no tile; names the node and the limit. If the policy names what does
        not exist.
    """
    policy = policy or Policy()
    policy.check(config)
    graph = assigned.graph
    placement = place(assigned, PAGE)
    constants = ConstantPool(placement.end)
    emitter = Emitter(config, placement.tensors, constants, policy, placement.scratch)
    emitter.instructions.append(Begin(config.fingerprint))
    layers = []
    for op in graph.ops:
        progress(op.name)
        layers.append(_layer(graph, op, emitter))
    return link(graph, emitter, placement, constants, layers)


def _layer(graph: Graph, op: AnyOperation, emitter: Emitter) -> Layer:
    first = len(emitter.instructions)
    layouts = {name: emitter.tensors[name].layout for name in (*op.inputs, op.output)}
    check_operator(op, layouts)
    try:
        kind, tiling = _lower(emitter, op)
        for instruction in emitter.instructions[first:]:
            instruction.encode()
    except (RefusedError, TransferError, EncodingError) as error:
        raise CompilerError(f"{op.name} ({type(op).__name__}): {error}") from error
    algorithms = possible(tiling, emitter.policy)
    return Layer(
        name=op.name,
        op=kind,
        first=first,
        last=len(emitter.instructions),
        macs=op.macs(graph.input_types(op)),
        roofline_cycles=roofline_cycles(graph, op, layouts, emitter.config, algorithms),
        tensors=(op.output,),
        tiling=tiling,
    )


def _lower(emitter: Emitter, op: AnyOperation) -> tuple[str, dict[str, Any]]:
    """Emit an operator; its kind for reports, and the chosen tiling."""
    sources = [emitter.tensors[name] for name in op.inputs]
    target = emitter.tensors[op.output]
    match op:
        case Convolution():
            if suits(op, emitter.config):
                return "conv_depthwise", depthwise.lower(emitter, op, sources[0], target)
            name = "conv_grouped" if op.groups > 1 else "conv"
            return name, convolution.lower(emitter, op, sources[0], target)
        case Elementwise():
            return op.kind.value, elementwise.lower(emitter, op, sources, target)
        case UnaryTable():
            return op.function, copies.lower_table(emitter, op, sources[0], target)
        case Reduce():
            layer = reduce.mean_layer(op, sources[0], target, emitter.config)
            return "mean", reduce.lower(emitter, layer)
        case Pool():
            layer = reduce.pool_layer(op, sources[0], target, emitter.config)
            return f"{op.kind.value}_pool", reduce.lower(emitter, layer)
        case TemporalResidual():
            report = temporal_residual.lower(emitter, op, sources[0], target)
            return "temporal_residual", report
        case Concat():
            return "concat", copies.lower_concat(emitter, op, sources, target)
        case Slice():
            layers = copies.slice_layers(op, sources[0], target, emitter.config)
            return "slice", copies.lower_moves(emitter, layers)
        case View():
            return "view", {}
        case Rearrange():
            moves = list(rearrange.layers(op, sources[0], target, emitter.config))
            return "rearrange", copies.lower_moves(emitter, moves)
        case Relayout():
            return "relayout", relayout.lower(emitter, op, sources[0], target)
        case Chain():
            return "chain", fused.lower(emitter, op, sources[0], target)
        case _:
            assert_never(op)
