"""Cut a part out of a file, as the user wrote it, and run it in ONNX Runtime."""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnxruntime as ort

from models.onnxfile import OnnxFile

ElementType = np.dtype | None


def submodel(
    file: OnnxFile,
    nodes: Iterable[onnx.NodeProto],
    inputs: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
    outputs: Iterable[str],
) -> onnx.ModelProto:
    """Make a model of some nodes.

    Parameters
    ----------
    file: where they come from; its constants become initializers.
    nodes: in order of computation.
    inputs: types and shapes of the tensors that come from outside.
    outputs: names of the tensors that become graph outputs.
    """
    listed = list(nodes)
    made = {*inputs, *(name for node in listed for name in node.output)}
    needed = dict.fromkeys(name for node in listed for name in node.input if name)
    initializers = [
        onnx.numpy_helper.from_array(file.constants[name], name)
        for name in needed
        if name not in made
    ]
    given = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape
        )
        for name, (kind, shape) in inputs.items()
    ]
    # ONNX Runtime infers the types of outputs that say none.
    graph = onnx.helper.make_graph(
        listed, "part", given, [onnx.ValueInfoProto(name=name) for name in outputs], initializers
    )
    model = onnx.helper.make_model(graph, opset_imports=file.model.opset_import)
    model.ir_version = file.model.ir_version
    return model


def as_written(model: onnx.ModelProto) -> ort.InferenceSession:
    """Session that computes what the nodes say: no optimization changes them."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
