"""Take layers out of a quantized file as a network of their own, with recorded codes.

For what a whole network is too long for: its middle on RTL, a bug's smallest case.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from models import ortcheck
from models.errors import ModelsError
from models.extract import submodel
from models.network import Feeds
from models.quantgraph import QuantizedGraph
from models.reference import Reference

CONTROL = ("If", "Loop", "Scan")


def cut(
    reference: Reference, outputs: Sequence[str], inputs: Sequence[str], feeds: Feeds
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Cut the layers between tensors out of a file.

    Parameters
    ----------
    reference: of a quantized file.
    outputs: 8-bit tensors that become the part's outputs.
    inputs: 8-bit tensors that become its inputs; behind others it goes back to the file's own.
    feeds: inputs of the whole file, by name; the oracle computes the part's from them.

    Returns
    -------
    The part, whose nodes are the file's, and its recording: ``input:<name>``, ``output:<name>``.

    Raises
    ------
    ModelsError
        A name is no 8-bit tensor of the file, the part does not depend on an input, or control
        flow is inside.
    """
    graph, file = reference.graph, reference.graph.file
    integers = graph.integers()
    unknown = sorted({*inputs, *outputs} - integers - set(graph.inputs))
    if unknown:
        raise ModelsError(
            f"{', '.join(unknown)}: no 8-bit tensor of the file (`models stats` lists them)"
        )
    ends = ({*inputs, *graph.inputs}) - set(outputs)
    nodes = file.between(outputs, ends)
    control = [node.op_type for node in nodes if node.op_type in CONTROL]
    if control:
        raise ModelsError(f"{control[0]} lies between these tensors; a part is a straight line")
    read = [n for n in dict.fromkeys(n for node in nodes for n in node.input) if n in ends]
    idle = sorted(set(inputs) - set(read))
    if idle:
        raise ModelsError(f"no node of the part reads {', '.join(idle)}")
    tensors = reference.run(feeds, keep=[*(n for n in read if n not in feeds), *outputs])
    unmade = [n for n in (*read, *outputs) if n not in tensors and n not in feeds]
    if unmade:
        raise ModelsError(f"the arm that makes {unmade[0]} does not run on this input")
    given = {name: feeds[name] if name in feeds else tensors[name] for name in read}
    model = submodel(file, nodes, {n: (a.dtype, a.shape) for n, a in given.items()}, outputs)
    del model.graph.output[:]
    for name in outputs:
        kind = onnx.helper.np_dtype_to_tensor_dtype(tensors[name].dtype)
        shape = tensors[name].shape
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    arrays = {f"input:{name}": array for name, array in given.items()}
    return model, arrays | {f"output:{name}": tensors[name] for name in outputs}


def edges(graph: QuantizedGraph, prefixes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Outputs and inputs of the layers whose 8-bit tensors have names that begin so.

    Raises
    ------
    ModelsError
        There are none.
    """
    made = graph.integers() - set(graph.inputs)
    inside = {name for name in made if name.startswith(tuple(prefixes))}
    if not inside:
        raise ModelsError(f"no 8-bit tensor begins with {' or '.join(prefixes)}")
    reads = {name: ortcheck.cut(graph, name)[1] for name in [*sorted(made), *graph.outputs]}
    inputs = {name for each in inside for name in reads[each]} - inside
    outputs = {name for each in reads.keys() - inside for name in reads[each]} & inside
    return sorted(outputs), sorted(inputs)


def write(model: onnx.ModelProto, arrays: Feeds, target: Path) -> None:
    """Write a part, and its recording beside it with the suffix .npz."""
    target.with_suffix(".npz").unlink(missing_ok=True)  # never a pair of two parts
    target.write_bytes(model.SerializeToString(deterministic=True))
    # By savez's types any keyword could be its option allow_pickle.
    np.savez(target.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]
