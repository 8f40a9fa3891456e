"""Cut a part out of a file, as the user wrote it, and run it in ONNX Runtime."""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnxruntime as ort

from models.exactness import exact_session
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
    """Session that computes what the nodes say: no optimization changes them.

    With one thread: there is a session for every few nodes, and starting threads for each takes
    40 times as long as making it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return exact_session(model, options)


def in_double(model: onnx.ModelProto, real: str) -> onnx.ModelProto:
    """The nodes that make a float tensor, in float64 from what they dequantize on.

    Parameters
    ----------
    model: of `submodel`, from integers to the integers that `real` is quantized to.
    real: becomes the only output.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    listed = list(graph.node)
    del graph.node[:], graph.output[:]
    single = {
        name
        for node in listed
        for name in {"DequantizeLinear": node.input[1:2], "QuantizeLinear": node.input}.get(
            node.op_type, ()
        )
    }
    for node in listed:
        if node.op_type == "QuantizeLinear" and node.input[0] == real:
            continue
        graph.node.append(node)
        last = graph.node[-1]
        if node.op_type == "DequantizeLinear":
            last.output[0] = f"{node.output[0]} in float32"
            double = onnx.TensorProto.DOUBLE
            graph.node.append(
                onnx.helper.make_node("Cast", [last.output[0]], [node.output[0]], to=double)
            )
        for attribute in last.attribute:
            if (node.op_type, attribute.name, attribute.i) == ("Cast", "to", 1):  # float32
                attribute.i = onnx.TensorProto.DOUBLE
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in single:
            value = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    graph.output.append(onnx.ValueInfoProto(name=real))
    return made
