"""Constants that nodes compute: shape subgraphs, folded arithmetic, moves of quantized weights."""

from collections.abc import Iterable

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator

from models import moves
from models.onnxfile import STANDARD
from models.tables import QParams
from models.values import Call, Constant


def fold(call: Call, opsets: Iterable[onnx.OperatorSetIdProto]) -> dict[str, Constant]:
    """Results of a node that depends on constants alone.

    A move of a quantized constant keeps its codes; everything else is evaluated by onnx.

    Raises
    ------
    UnsupportedGraph
        The node cannot be evaluated.
    """
    results = [name for name in call.node.output if name]
    first = call.operands[0] if call.operands else None
    moved = call.op in moves.MOVES and call.node.domain in STANDARD
    if moved and isinstance(first, Constant) and first.codes is not None:
        return {n: moved_constant(call, first, i, n) for i, n in enumerate(call.node.output) if n}
    feeds = {
        name: value.array
        for name, value in zip(call.names, call.operands, strict=True)
        if isinstance(value, Constant)
    }
    graph = onnx.helper.make_graph(
        [call.node],
        "constant",
        [declared(name, array.dtype) for name, array in feeds.items()],
        [onnx.helper.make_tensor_value_info(name, 0, None) for name in results],
    )
    model = onnx.helper.make_model(graph, opset_imports=opsets)
    try:
        arrays = ReferenceEvaluator(model).run(None, feeds)
    except Exception as error:  # the evaluator raises whatever its kernels raise
        raise call.refuse(f"its constant operands do not evaluate: {error}") from error
    return {n: Constant(n, np.asarray(a)) for n, a in zip(results, arrays, strict=True)}


def declared(name: str, dtype: np.dtype) -> onnx.ValueInfoProto:
    """A tensor of a type and any shape."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return onnx.helper.make_tensor_value_info(name, kind, None)


def moved_constant(call: Call, value: Constant, index: int, name: str) -> Constant:
    """A move of a quantized constant: of its codes, and of the axis along which scales run."""
    move = moves.read(call, value.shape, index)

    def moved(array: np.ndarray) -> np.ndarray:
        result: np.ndarray = move(torch.from_numpy(np.array(array)), None).contiguous().numpy()
        return result

    assert value.codes is not None and value.params is not None
    codes, params = moved(value.codes), value.params
    if params.axis is None:
        return Constant.quantized(name, codes, params)
    along = [-1 if axis == params.axis else 1 for axis in range(value.array.ndim)]
    channels = np.arange(params.scale.size).reshape(along)
    where = moved(np.broadcast_to(channels, value.shape))  # the channel of each moved element
    for axis in range(where.ndim):
        line = np.moveaxis(where, axis, 0).reshape(where.shape[axis], -1)
        if line.size and (line == line[:, :1]).all():
            chosen = line[:, 0]
            scale, zero = params.scale[chosen], params.zero_point[chosen]
            return Constant.quantized(name, codes, QParams(scale, zero, params.dtype, axis))
    raise call.refuse(f"mixes the channels of the quantized constant {value.name}")
