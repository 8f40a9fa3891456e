"""What stands before the first QuantizeLinear: computed by the host, in float, as the file says."""

import numpy as np
import onnx
import torch

from models.extract import as_written, submodel
from models.onnxfile import MICROSOFT, STANDARD, OnnxFile, UnsupportedGraph
from models.values import Call, Group, Host, Integers, Shape, Tensors


def belongs(call: Call) -> bool:
    """Whether a node works on what no quantizer has seen yet.

    Integers that are graph inputs belong to it where a Cast makes numbers of them.
    """
    values = call.activations()
    if call.node.domain not in (*STANDARD, MICROSOFT):
        return False
    if all(isinstance(v, Host) for v in values):
        return True
    given = all(isinstance(v, Host) or (isinstance(v, Integers) and v.given) for v in values)
    return given and call.op == "Cast"


class HostPart:
    """Tensors that the host computes from the graph's inputs.

    Parameters
    ----------
    file: whose graph it is.
    shapes: of the graph's inputs.
    """

    def __init__(self, file: OnnxFile, shapes: dict[str, Shape]):
        self._file, self._shapes = file, shapes
        self._known = {n: (file.types[n], shapes[n]) for n in file.inputs}

    def type(self, name: str) -> tuple[np.dtype, Shape]:
        """Type and shape of a tensor, found by computing it on zeros."""
        if name not in self._known:
            model, inputs = self._model(name)
            zeros = {n: np.zeros(self._shapes[n], self._file.types[n]) for n in inputs}
            result = self._run(name, model, zeros)
            self._known[name] = (result.dtype, result.shape)
        return self._known[name]

    def group(self, name: str) -> Group:
        """The group that computes a tensor from the graph's inputs."""
        kind, shape = self.type(name)
        model, inputs = self._model(name)

        def compute(tensors: Tensors) -> torch.Tensor:
            feeds = {each: tensors[each].numpy() for each in inputs}
            return torch.from_numpy(self._run(name, model, feeds))

        node = self._file.producers[name]
        return Group(node, "Host", name, inputs, compute, shape, kind, form="host")

    def _model(self, name: str) -> tuple[onnx.ModelProto, tuple[str, ...]]:
        nodes = self._file.between([name], self._file.inputs)
        read = {each for node in nodes for each in node.input}
        inputs = tuple(each for each in self._file.inputs if each in read)
        types = {each: (self._file.types[each], self._shapes[each]) for each in inputs}
        return submodel(self._file, nodes, types, [name]), inputs

    def _run(self, name: str, model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
        try:
            result: np.ndarray = as_written(model).run(None, feeds)[0]
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            node = self._file.producers[name]
            raise UnsupportedGraph(node, f"does not run in ONNX Runtime: {error}") from error
        return result
