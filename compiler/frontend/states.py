"""State: an output of the graph that is an input of its next run.

ONNX has no field for it. Two places say which belong together: properties of the model
(`metadata_props`) named ``state:INPUT`` whose value is the output's name, and the command line.
Both sides must be codes of one scale: what a run leaves is what the next one reads, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping

from compiler.frontend.builder import Builder, Operand
from compiler.frontend.model import FileError, Model, Unsupported
from compiler.ir import Carried
from compiler.tensor import TensorType

PROPERTY = "state:"
"""Start of a property's name; the rest is the input's."""


def declared(model: Model, given: Mapping[str, str]) -> dict[str, str]:
    """Output by input of every state: the file's own, and those that the user names.

    Parameters
    ----------
    given: output by input, from the command line.

    Raises
    ------
    FileError
        There is no such input or output, or file and user do not agree.
    """
    pairs = {
        entry.key.removeprefix(PROPERTY): str(entry.value)
        for entry in model.proto.metadata_props
        if entry.key.startswith(PROPERTY)
    }
    for name, output in given.items():
        if pairs.setdefault(name, output) != output:
            raise FileError(
                f"state {name}={output}: the file itself says {name}={pairs[name]} (metadata)"
            )
    known = {
        "input": [value.name for value in model.inputs],
        "output": [value.name for value in model.proto.graph.output],
    }
    for pair in pairs.items():
        for (kind, names), name in zip(known.items(), pair, strict=True):
            if name not in names:
                raise FileError(
                    f"state {pair[0]}={pair[1]}: the graph has no {kind} {name!r}; it has "
                    + ", ".join(map(repr, names))
                )
    return pairs


def carry(
    builder: Builder, model: Model, name: str, output: str, found: Operand
) -> tuple[Carried, ...]:
    """What becomes of a state: a source for every value that is written from its input.

    Parameters
    ----------
    name, output: of the state.
    found: the codes behind the output.

    Raises
    ------
    Unsupported
        Input and output are codes of different shape or scale, or the host computes with the input
        before anything is quantized.
    """
    node = model.producers.get(output)
    targets = [port.value for port in builder.inputs if port.onnx_name == name]
    if not targets:
        raise _refused(
            name,
            f"goes to {output}, but no QuantizeLinear reads it directly: a state passes as codes, "
            "so nothing may be computed with it in float",
        )
    carried = []
    for target in targets:
        kind, made = builder.type(target), found.kind
        if made.onnx_shape != kind.onnx_shape:
            raise _refused(
                name,
                f"has shape {list(kind.onnx_shape)}, {output} has {list(made.onnx_shape)}: "
                "what one run leaves, the next must be able to read",
            )
        if made.quantization != kind.quantization:
            raise _refused(
                name,
                f"is quantized as {_scale(kind)}, {output} as {_scale(made)}: give both one scale "
                "(calibrate them together), or codes would change from run to run",
            )
        source = found
        if made.axes != kind.axes:
            if node is None:
                raise _refused(name, f"{output} is an input of the graph in another order")
            source = builder.in_form(found, kind.axes, node)
        carried.append(Carried(name, output, target, source.name))
    return tuple(carried)


def _scale(kind: TensorType) -> str:
    sign = "int8" if kind.signed else "uint8"
    return f"{sign} with scale {kind.scale:.9g}, zero point {kind.zero_point}"


def _refused(name: str, reason: str) -> Unsupported:
    return Unsupported(name, "state", reason)


__all__ = ["PROPERTY", "carry", "declared"]
