"""The oracle: runs a quantized ONNX graph in PyTorch integer arithmetic.

Written from numerics.md sections 2 to 4 alone, apart from the accelerator and its compiler: if
one of them is wrong, they disagree. Convolutions accumulate exactly, requantization takes the
float32 roundings of ONNX Runtime's kernels, everything else is a table or a move.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
import torch

from models.errors import ModelsError
from models.operators import KERNELS, clamp_codes
from models.quantgraph import Group, QuantizedGraph, UnsupportedGraph
from models.tables import dequantize, quantize_float

__all__ = ["Reference", "UnsupportedGraph", "evaluate"]


def evaluate(group: Group, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Compute one group.

    Parameters
    ----------
    group : Group
        What to compute.
    tensors : dict
        Its activations by ONNX name: uint8 or int8, float32 for a graph input.

    Returns
    -------
    torch.Tensor
        uint8 or int8; float32 for a graph output.

    Raises
    ------
    UnsupportedGraph
        The operator, or the way it is used, has no integer definition.
    """
    operand = group.operands[0]
    if group.op == "QuantizeLinear":
        assert operand is not None and group.params is not None
        return torch.from_numpy(quantize_float(tensors[operand.name].numpy(), group.params))
    if group.op == "DequantizeLinear":
        assert operand is not None and operand.params is not None
        return torch.from_numpy(dequantize(tensors[operand.name].numpy(), operand.params))
    if group.params is None and group.op == "Clip":
        raise group.refuse("bounds on bare integers are not read: put them before the quantizer")
    if group.op not in KERNELS:
        raise group.refuse("has no integer definition")
    result = clamp_codes(group, KERNELS[group.op](group, tensors))
    if group.params is not None:
        dtype = torch.uint8 if group.params.dtype == np.uint8 else torch.int8
    else:
        dtype = next(t.dtype for name, t in tensors.items() if name in group.activations())
    return result.to(dtype).contiguous()


class Reference:
    """A quantized ONNX graph, ready to run.

    Parameters
    ----------
    model : str, Path or onnx.ModelProto
        QDQ or QOperator format, 8-bit activations.

    Members
    -------
    input_names, output_names : list of str
        The graph's inputs and outputs.
    groups : list of Group
        Its integer operations in execution order.

    Raises
    ------
    UnsupportedGraph
        A node has no integer definition; says which and why.
    ModelsError
        The file is missing or no ONNX file.
    """

    def __init__(self, model: str | Path | onnx.ModelProto):
        graph = QuantizedGraph(model)
        self.groups = graph.groups
        self.input_names = graph.inputs
        self.output_names = graph.outputs
        self._shapes = {
            value.name: [d.dim_value or None for d in value.type.tensor_type.shape.dim]
            for value in graph.model.graph.input
        }
        for group in self.groups:
            if group.op not in KERNELS and group.op not in ("QuantizeLinear", "DequantizeLinear"):
                raise group.refuse("has no integer definition")

    def integer_outputs(self) -> list[str]:
        """Names of the integer tensors behind the graph's float outputs."""
        return [
            group.activations()[0]
            for group in self.groups
            if group.output in self.output_names and group.op == "DequantizeLinear"
        ]

    def input_shape(self, name: str) -> list[int | None]:
        """Shape of an input; None where it is free."""
        return self._shapes.get(name, [])

    def run(
        self,
        feeds: dict[str, np.ndarray],
        keep: Iterable[str] | None = None,
        progress: Callable[[Group], None] = lambda group: None,
    ) -> dict[str, np.ndarray]:
        """Run the graph.

        Parameters
        ----------
        feeds : dict
            Every graph input by name; float32 (quantized first) or the integers themselves.
        keep : iterable of str, optional
            Which tensors to return; others are freed when last used. Default: all.
        progress : callable
            Is told each group before it runs.

        Returns
        -------
        dict
            Every integer activation under its ONNX name (in QDQ graphs the output of the
            QuantizeLinear), and the graph's outputs.

        Raises
        ------
        ModelsError
            A feed is missing, unknown or of the wrong shape, or `keep` names no tensor.
        """
        wanted = None if keep is None else set(keep)
        unknown = (wanted or set()) - {group.output for group in self.groups}
        if unknown:
            raise ModelsError(f"no tensor {', '.join(sorted(unknown))} in the graph")
        tensors = self._feeds(feeds)
        uses = Counter(name for group in self.groups for name in group.activations())
        results: dict[str, np.ndarray] = {}
        with torch.no_grad():
            for group in self.groups:
                progress(group)
                tensors[group.output] = evaluate(group, tensors)
                if wanted is None or group.output in wanted:
                    results[group.output] = tensors[group.output].numpy()
                for name in group.activations():
                    uses[name] -= 1
                for name in [*group.activations(), group.output]:
                    if uses[name] == 0:
                        tensors.pop(name, None)
        return results

    def _feeds(self, feeds: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """Check the inputs against the graph's."""
        missing = [name for name in self.input_names if name not in feeds]
        if missing or len(feeds) > len(self.input_names):
            raise ModelsError(f"inputs must be {self.input_names}, not {sorted(feeds)}")
        tensors = {}
        for name in self.input_names:
            array, shape = np.asarray(feeds[name]), self._shapes[name]
            fits = len(shape) == array.ndim and all(
                n is None or n == m for n, m in zip(shape, array.shape, strict=True)
            )
            if not fits:
                raise ModelsError(f"input {name} must have shape {shape}, not {list(array.shape)}")
            if array.dtype not in (np.float32, np.uint8, np.int8):
                raise ModelsError(f"input {name} must be float32 or 8-bit, not {array.dtype}")
            if array.dtype == np.float32 and not np.isfinite(array).all():
                raise ModelsError(f"input {name} holds values that are not finite")
            tensors[name] = torch.from_numpy(np.ascontiguousarray(array))
        return tensors
