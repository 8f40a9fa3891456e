"""Joins instructions, constants and tensors into a program file's content."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from compiler.backend.placement import Placement
from compiler.emit.allocate import PAGE, ConstantPool, align
from compiler.emit.emitter import Emitter
from compiler.ir import AnyOperation, CompilerError, Graph, Port, Put
from hw.arch.codes import FEATURES
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import INSTRUCTION_BYTES, RULES, Begin, Halt, Instruction
from hw.arch.program import Block, Feed, Input, Layer, Output, Program, State, Trips
from hw.arch.rules import needs

ADDRESS_SPACE = 1 << 32


def features_of(instructions: Iterable[Instruction]) -> int:
    """Mask of the optional parts of the circuit that a program needs (`rules.needs`)."""
    mask = 0
    for instruction in instructions:
        for bit, needed in _NEEDS[type(instruction)]:
            if not mask & bit and needed(instruction):
                mask |= bit
    return mask


_NEEDS = {
    kind: [(1 << FEATURES.index(feature), needed) for feature, needed in needs(rules)]
    for kind, rules in RULES.items()
}


def link(
    graph: Graph,
    emitter: Emitter,
    placement: Placement,
    constants: ConstantPool,
    layers: Sequence[Layer],
    blocks: Sequence[Block] = (),
    loops: Sequence[Trips] = (),
) -> Program:
    """Finish a program: BEGIN and HALT around the layers, code behind the constants.

    `emitter.instructions[0]` is a placeholder for BEGIN, whose feature mask is known only now.

    Raises
    ------
    CompilerError
        If the program needs more than the 4 GiB that instructions can address.
    """
    config: AcceleratorConfig = emitter.config
    body = emitter.instructions[1:]
    instructions = (Begin(config.fingerprint, features_of(body)), *body, Halt())
    code = align(constants.end, PAGE)
    end = align(code + INSTRUCTION_BYTES * len(instructions), PAGE)
    if end > ADDRESS_SPACE:
        raise CompilerError(f"{graph.name} needs {end} bytes of DRAM; {ADDRESS_SPACE} at most")
    for value in graph.values.values():
        if value.constant is not None:
            tensor = placement.tensors[value.name]
            fill = value.type.zero_point
            constants.put(tensor.address, tensor.layout.pack(value.constant, fill).tobytes())
    for state in graph.states:
        tensor = placement.tensors[state.target]
        zero = bytes([tensor.zero_point % 256])
        constants.put(tensor.address, zero * tensor.layout.nbytes)
    hidden = {op.output for op in graph.ops if not stored(op, emitter)}
    return Program(
        network=graph.name,
        config=config.name,
        fingerprint=config.fingerprint,
        instructions=instructions,
        code_address=code,
        image=constants.image(),
        memory_bytes=end,
        store_window=placement.window,
        inputs=_inputs(graph),
        feeds=tuple(Feed(port.value, port.onnx_name) for port in graph.inputs),
        outputs=tuple(_output(graph, port) for port in graph.outputs),
        tensors=tuple(t for n, t in placement.tensors.items() if n not in hidden),
        layers=tuple(layers),
        blocks=tuple(blocks),
        loops=tuple(loops),
        states=_states(graph),
    )


def stored(op: AnyOperation, emitter: Emitter) -> bool:
    """Whether an operator's result lies where its tensor says: no part of a tensor does."""
    return not isinstance(op, Put) and emitter.lies(op.output)


def _states(graph: Graph) -> tuple[State, ...]:
    """States of the user's graph; before the first run their reals are zero."""
    found = {
        s.input: State(s.input, s.output, graph.type(s.target).zero_point) for s in graph.states
    }
    return tuple(found.values())


def _inputs(graph: Graph) -> tuple[Input, ...]:
    """Inputs of the user's graph."""
    return graph.signature or tuple(
        Input(port.onnx_name, graph.type(port.value).onnx_shape, graph.type(port.value).dtype.name)
        for port in graph.inputs
    )


def _output(graph: Graph, port: Port) -> Output:
    """An output of the user's graph."""
    kind = graph.seen(port)
    dtype = port.dtype or kind.dtype.name
    shape = kind.onnx_shape[:-1] if port.digits > 1 else kind.onnx_shape
    return Output(port.onnx_name, shape, dtype, port.value, kind.axes, port.digits)
