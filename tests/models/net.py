"""Small quantized networks of several nodes, and their outputs by ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from models.exactness import exact_session
from models.reference import Reference
from tests.models.qdq import Q

KINDS = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8, np.float32: TensorProto.FLOAT}
S8 = Q(0.05, 0, np.int8)
U8 = Q(0.04, 120)


class Net:
    """Collects nodes, inputs and outputs; every method returns the name of what it made."""

    def __init__(self, opset: int = 17, seed: int = 0):
        self.nodes, self.inputs, self.outputs, self.constants = [], [], [], []
        self.opset, self.domains = opset, []
        self.rng = np.random.default_rng(seed)
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def constant(self, value, name: str | None = None) -> str:
        name = name or self.name()
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def floats(self, value) -> str:
        return self.constant(np.asarray(value, np.float32))

    def ints(self, value) -> str:
        return self.constant(np.asarray(value, np.int64))

    def op(self, kind: str, inputs: list[str], count: int = 1, output: str = "", **attributes):
        names = [output] if output else [self.name() for _ in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, names, f"node_{names[0]}", **attributes))
        return names[0] if count == 1 else names

    def input(self, shape, name: str = "x", dtype=np.float32) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, KINDS[dtype], shape))
        return name

    def output(self, name: str, dtype=np.float32) -> str:
        self.outputs.append(helper.make_tensor_value_info(name, KINDS[dtype], None))
        return name

    def _params(self, q: Q) -> list[str]:
        scale = np.asarray(q.scale, np.float32)
        return [self.constant(scale), self.constant(np.full(scale.shape, q.zero, q.dtype))]

    def quantize(self, name: str, q: Q = S8, output: str = "") -> str:
        return self.op("QuantizeLinear", [name, *self._params(q)], output=output)

    def dequantize(self, name: str, q: Q = S8, axis: int = 1) -> str:
        attributes = {"axis": axis} if np.ndim(q.scale) else {}
        return self.op("DequantizeLinear", [name, *self._params(q)], **attributes)

    def through(self, name: str, q: Q = S8) -> str:
        """A QuantizeLinear and a DequantizeLinear."""
        return self.dequantize(self.quantize(name, q), q)

    def start(self, shape, q: Q = S8, name: str = "x") -> str:
        """A float input, quantized."""
        return self.through(self.input(shape, name), q)

    def end(self, name: str, q: Q = S8) -> str:
        """A float output, quantized."""
        return self.output(self.through(name, q))

    def weight(self, shape, axis: int = 0, q: Q | None = None) -> str:
        """Dequantized random weights, scales per channel unless `q` says otherwise."""
        scales = (0.02 * self.rng.uniform(0.5, 1.5, shape[axis])).tolist()
        q = q or Q(scales, 0, np.int8)
        codes = self.rng.integers(-127, 128, shape).astype(q.dtype)
        return self.dequantize(self.constant(codes), q, axis)

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "net", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset), *self.domains]
        version = 8 if self.opset < 21 else 10
        return helper.make_model(graph, opset_imports=opsets, ir_version=version)

    def feeds(self, spread: float = 3.0) -> dict[str, np.ndarray]:
        """Random inputs: normal, or all codes."""
        result = {}
        for value in self.inputs:
            tensor = value.type.tensor_type
            shape = [d.dim_value or 1 for d in tensor.shape.dim]
            if tensor.elem_type == TensorProto.FLOAT:
                result[value.name] = self.rng.normal(0, spread, shape).astype(np.float32)
            else:
                kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
                info = np.iinfo(kind)
                result[value.name] = self.rng.integers(info.min, info.max + 1, shape).astype(kind)
        return result


def by_onnx_runtime(model: onnx.ModelProto, feeds) -> dict[str, list[np.ndarray]]:
    """Outputs as the file says, and as the optimizer has them; without those that do not load."""
    results = {}
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        options.log_severity_level = 4
        try:
            session = exact_session(model.SerializeToString(), options)
        except Exception:  # what a level cannot load says nothing about the file
            continue
        results[level] = session.run(None, feeds)
    assert "ORT_DISABLE_ALL" in results, "ONNX Runtime does not take the file"
    return results


def steps_apart(ours: np.ndarray, theirs: np.ndarray, unit: float) -> np.ndarray:
    """Differences in steps of the last quantization."""
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    return np.abs(ours.astype(np.float64) - theirs.astype(np.float64)) / unit


def agree(net: Net, feeds=None, limit: float = 0, share: float = 1.0, spread: float = 3.0) -> None:
    """The oracle's outputs are ONNX Runtime's.

    Parameters
    ----------
    limit: steps that an output may differ by.
    share: of the elements that may differ.
    """
    model, feeds = net.model(), feeds if feeds is not None else net.feeds(spread)
    reference = Reference(model)
    outputs = [value.name for value in model.graph.output]
    ours = reference.run(feeds, keep=outputs)
    made = {g.output: g for g in reference.groups if not g.final}
    units = {
        g.output: float(made[g.reads[0]].params.unit) if g.reads[0] in made else 1.0
        for g in reference.groups
        if g.final
    }
    theirs = by_onnx_runtime(model, feeds)
    both = theirs.get("ORT_ENABLE_ALL", theirs["ORT_DISABLE_ALL"])
    for i, name in enumerate(outputs):
        unit = units.get(name, 1.0)
        off = steps_apart(ours[name], theirs["ORT_DISABLE_ALL"][i], unit)
        all_ = steps_apart(ours[name], both[i], unit)
        assert len(np.unique(ours[name])) > 1 or ours[name].size == 1, "nothing was compared"
        if np.array_equal(theirs["ORT_DISABLE_ALL"][i], both[i]):
            assert off.max(initial=0) <= limit + 1e-3, f"{name}: {off.max()} steps"
        else:  # the two differ by themselves: near the file, and near or equal the kernels
            assert off.max(initial=0) <= max(limit, 1) + 1e-3, f"{name}: {off.max()} steps"
            assert min(off.max(), all_.max()) <= limit + 1e-3, f"{name}: {all_.max()} steps"
        assert (off > 1e-3).mean() <= share


def differ(net: Net, feeds=None) -> None:
    """The twin of `agree`: it must notice."""
    try:
        agree(net, feeds)
    except AssertionError as error:
        assert "steps" in str(error)
    else:
        raise AssertionError("a corrupted network went unnoticed")
