"""What an integer kernel reads: codes of an activation or of a constant, and what they mean."""

from dataclasses import dataclass

import numpy as np
import torch

from models.onnxfile import label
from models.tables import F32, QParams
from models.values import Call, Codes, Constant, Function, Host, Pending, Shape, Tensors


@dataclass(frozen=True)
class Source:
    """A quantized operand.

    Attributes
    ----------
    name: of the activation or constant.
    params: how its codes stand for reals.
    shape: of the operand.
    codes: of a constant.
    """

    name: str
    params: QParams
    shape: Shape
    codes: np.ndarray | None = None

    def tensor(self, tensors: Tensors) -> torch.Tensor:
        """The codes, in their own type."""
        if self.codes is None:
            return tensors[self.name]
        return torch.from_numpy(self.codes.copy())  # ONNX's arrays are read-only

    def centred(self, tensors: Tensors) -> torch.Tensor:
        """Codes minus their zero point, carried by float32."""
        codes = self.tensor(tensors)
        zero = np.asarray(self.params.spread(codes.dim())[1], dtype=F32)
        return codes.to(torch.float32) - torch.from_numpy(zero)


def source(call: Call, index: int) -> Source:
    """A quantized operand; refuses the node where there is none.

    Raises
    ------
    UnsupportedGraph
        The operand is absent, float, or made by an operator in float.
    """
    value, name = call.operand(index), call.names[index]
    if isinstance(value, Codes):
        return Source(value.name, value.params, value.shape)
    if isinstance(value, Constant):
        if value.codes is None or value.params is None:
            raise call.refuse(f"constant {name} is float: quantize it")
        return Source(name, value.params, value.codes.shape, value.codes)
    if isinstance(value, Function | Pending):
        raise call.refuse(
            f"input {name} comes in float from {value.node.op_type} {label(value.node)}: put a "
            "QuantizeLinear and a DequantizeLinear between them"
        )
    if isinstance(value, Host):
        raise call.refuse(f"input {name} is a float that nothing has quantized: quantize it")
    raise call.refuse(f"input {name} is integers: dequantize it")


def activation(call: Call, index: int) -> Source:
    """A quantized operand with one scale."""
    found = source(call, index)
    if not found.params.single:
        raise call.refuse(f"input {call.names[index]} needs one scale, not one per channel")
    return found


def reads(*sources: Source) -> tuple[str, ...]:
    """Names of the activations among operands, once each."""
    return tuple(dict.fromkeys(s.name for s in sources if s.codes is None))


def lookup(codes: torch.Tensor, source: QParams, table: np.ndarray) -> torch.Tensor:
    """Apply a 256-entry table, in ascending order of codes, to codes."""
    return torch.from_numpy(table)[codes.to(torch.int32) - source.low]
