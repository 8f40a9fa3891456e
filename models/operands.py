"""What every integer kernel asks of its group: operands, scales, constants, windows."""

from collections.abc import Mapping

import numpy as np
import torch

from models.quantgraph import Group, Operand
from models.tables import F32, QParams

Tensors = Mapping[str, torch.Tensor]


def operand_of(group: Group, index: int) -> Operand:
    """Operand by position; refuses the group where it is absent."""
    if index >= len(group.operands) or group.operands[index] is None:
        raise group.refuse(f"input {index} is missing")
    operand = group.operands[index]
    assert operand is not None
    return operand


def params_of(group: Group, operand: Operand) -> QParams:
    """Scale and zero point of an operand; refuses the group where it has none."""
    if operand.params is None:
        raise group.refuse(f"input {operand.name} is not quantized")
    return operand.params


def target_of(group: Group) -> QParams:
    """Scale and zero point of the result; refuses the group where it has none."""
    if group.params is None:
        raise group.refuse("its output has no scale")
    return group.params


def codes_of(operand: Operand, tensors: Tensors) -> torch.Tensor:
    """Integers of an operand, in their own type."""
    if operand.value is None:
        return tensors[operand.name]
    return torch.from_numpy(operand.value.copy())  # ONNX's arrays are read-only


def constant_of(group: Group, index: int) -> np.ndarray | None:
    """A constant shape, axis list or bound; None where the optional input is absent."""
    if index >= len(group.operands) or group.operands[index] is None:
        return None
    operand = operand_of(group, index)
    if operand.value is None:
        raise group.refuse(f"input {operand.name} must be constant")
    return operand.value


def centred(group: Group, operand: Operand, tensors: Tensors) -> torch.Tensor:
    """Integers minus their zero point, carried by float32."""
    codes = codes_of(operand, tensors)
    zero = np.asarray(params_of(group, operand).spread(codes.dim())[1], dtype=F32)
    return codes.to(torch.float32) - torch.from_numpy(zero)


def lookup(codes: torch.Tensor, source: QParams, table: np.ndarray) -> torch.Tensor:
    """Apply a 256-entry table to codes."""
    return torch.from_numpy(table)[codes.to(torch.int32) - source.low]


def integers(group: Group, name: str, default: list[int]) -> list[int]:
    """An attribute that lists integers, or its default."""
    return list(group.attributes.get(name, default))


def window(group: Group, kernel: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, pads and dilations of a convolution or pool."""
    if group.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise group.refuse(f"auto_pad {group.attributes['auto_pad']}: give explicit pads")
    ones = [1] * len(kernel)
    pads = integers(group, "pads", [0] * (2 * len(kernel)))
    if min(pads) < 0:
        raise group.refuse(f"pads must not be negative, not {pads}")
    return integers(group, "strides", ones), pads, integers(group, "dilations", ones)
