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
    temporal_residual,
)
from compiler.codegen.allocate import PAGE, ConstantPool
from compiler.codegen.emitter import Emitter
from compiler.codegen.hfa import possible
from compiler.codegen.layouts import place
from compiler.codegen.link import link
from compiler.codegen.policy import Policy
from compiler.codegen.roofline import roofline_cycles
from compiler.codegen.support import reason
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
    Slice,
    TemporalResidual,
    UnaryTable,
    View,
)
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Begin
from hw.arch.program import Layer, Program

Progress = Callable[[str], None]


def generate(
    graph: Graph,
    config: AcceleratorConfig,
    progress: Progress = lambda name: None,
    policy: Policy | None = None,
) -> Program:
    """Lower every operator and link the program.

    Parameters
    ----------
    graph: typed and legal; each operator becomes one layer that stores its result.
    config: the accelerator.
    progress: is told each operator's name before it is lowered.
    policy: how layers choose between direct and transformed.

    Raises
    ------
    CompilerError
        If an operator is not supported or fits no tile; names the node and the limit. If the
        policy names what does not exist.
    """
    policy = policy or Policy()
    policy.check(config)
    for op in graph.ops:
        why = reason(op, graph.input_types(op), graph.type(op.output), config)
        if why is not None:
            raise CompilerError(f"{op.name} ({type(op).__name__}): {why}")
    placement = place(graph, config.lane_block, PAGE)
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
    kind, tiling = _lower(emitter, op)
    layouts = {name: emitter.tensors[name].layout for name in (*op.inputs, op.output)}
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
            if depthwise.suits(op, emitter.config):
                return "conv_depthwise", depthwise.lower(emitter, op, sources[0], target)
            kind = "conv_grouped" if op.groups > 1 else "conv"
            return kind, convolution.lower(emitter, op, sources[0], target)
        case Elementwise():
            return op.kind.value, elementwise.lower(emitter, op, sources, target)
        case UnaryTable():
            return op.function, copies.lower_table(emitter, op, sources[0], target)
        case Reduce():
            return "mean", reduce.lower_mean(emitter, op, sources[0], target)
        case Pool():
            return f"{op.kind.value}_pool", reduce.lower_pool(emitter, op, sources[0], target)
        case TemporalResidual():
            report = temporal_residual.lower(emitter, op, sources[0], target)
            return "temporal_residual", report
        case Concat():
            return "concat", copies.lower_concat(emitter, op, sources, target)
        case Slice():
            return "slice", copies.lower_slice(emitter, op, sources[0], target)
        case View():
            return "view", {}
        case Rearrange():
            return "rearrange", rearrange.lower(emitter, op, sources[0], target)
        case Chain():
            return "chain", fused.lower(emitter, op, sources[0], target)
        case _:
            assert_never(op)
