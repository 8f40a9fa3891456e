"""Run small models through the importer and interpreter, and through ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from compiler import interpreter
from compiler.ir import Graph
from compiler.onnx_import import Imported, import_model
from models.exactness import exact_session

MICROSOFT = "com.microsoft"


def imported(model: onnx.ModelProto) -> Graph:
    """The graph of a model that must be supported."""
    result: Imported = import_model(copy(model), "single")
    assert result.graph is not None, [str(f) for f in result.unsupported]
    return result.graph


def findings(model: onnx.ModelProto) -> list[tuple[str, str, str]]:
    """Node, operator and reason of everything unsupported."""
    result = import_model(copy(model), "single")
    return [(f.node, f.op, f.reason) for f in result.unsupported]


def ours(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The interpreter's result, as the file types it."""
    return outputs(imported(model), feeds)[0]


def outputs(graph: Graph, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What the interpreter makes of every output of a graph, as the file types it."""
    values = interpreter.run(graph, feeds)
    return [interpreter.output(graph, port, values[port.value]) for port in graph.outputs]


def theirs(model: onnx.ModelProto, feeds: dict[str, np.ndarray], optimize=True) -> np.ndarray:
    """ONNX Runtime's result, int8 kernels fused unless `optimize` is off."""
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    options.graph_optimization_level = level
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = exact_session(model.SerializeToString(), options)
    (result,) = session.run(None, feeds)
    return result


def copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy, since the importer fixes symbolic batches in place."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return result


def codes(rng: np.random.Generator, shape, dtype=np.uint8) -> np.ndarray:
    """Random codes over the whole range."""
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)


def steps(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """How many elements differ, and by how much at most."""
    assert a.shape == b.shape and a.dtype == b.dtype, (a.shape, b.shape, a.dtype, b.dtype)
    difference = np.abs(a.astype(np.int64) - b.astype(np.int64))
    return int(np.count_nonzero(difference)), int(difference.max(initial=0))


def qoperator_model(op, domain, inputs, shapes, constants, output=np.uint8, **attributes):
    """A model of one QOperator node.

    `inputs` are names in order, `shapes` the (shape, dtype) of those that are fed, `constants`
    the values of the others.
    """
    node = helper.make_node(op, inputs, ["y"], op.lower(), domain=domain, **attributes)
    kinds = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8}
    fed = [helper.make_tensor_value_info(n, kinds[d], s) for n, (s, d) in shapes.items()]
    graph = helper.make_graph(
        [node],
        "single",
        fed,
        [helper.make_tensor_value_info("y", kinds[output], None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 9
    return model
