"""How well a quantized network uses its 8 bits, tensor by tensor."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.quantgraph import Group
from models.tables import QParams


@dataclass(frozen=True)
class TensorStats:
    """Use of one integer tensor's codes.

    Attributes
    ----------
    name, op: ONNX name, and the operator that made it.
    shape: of the tensor.
    scale, zero_point: of its codes.
    at_low, at_high: share of elements at the least and the greatest code: saturated, or, at the low
        end of a tensor after ReLU, zero.
    zero: share at the zero point.
    least, greatest: the codes reached.
    used_range: (greatest - least) / 255.
    std: standard deviation in codes: the bits in use are about log2 of it, plus two.
    """

    name: str
    op: str
    shape: list[int]
    scale: float
    zero_point: int
    at_low: float
    at_high: float
    zero: float
    least: int
    greatest: int
    used_range: float
    std: float


def tensor_stats(group: Group, codes: np.ndarray, params: QParams) -> TensorStats:
    """Measure one tensor."""
    histogram = np.bincount(codes.reshape(-1).astype(np.int64) - params.low, minlength=256)
    share = histogram / codes.size
    used = np.flatnonzero(histogram)
    values = params.codes()
    mean = float((share * values).sum())
    return TensorStats(
        name=group.output,
        op=group.op,
        shape=list(codes.shape),
        scale=float(params.unit),
        zero_point=params.zero,
        at_low=float(share[0]),
        at_high=float(share[-1]),
        zero=float(share[params.zero - params.low]),
        least=int(values[used[0]]),
        greatest=int(values[used[-1]]),
        used_range=float(used[-1] - used[0]) / 255,
        std=float(np.sqrt((share * (values - mean) ** 2).sum())),
    )


def network_stats(groups: list[Group], tensors: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Measure every integer tensor that the file names, in execution order."""
    return [
        asdict(tensor_stats(group, tensors[group.output], group.params))
        for group in groups
        if group.params is not None and not group.stands and group.output in tensors
    ]


def render(rows: list[dict[str, Any]]) -> str:
    """Make a text table of `network_stats`."""
    head = f"{'op':18} {'shape':24} {'zp':>4} {'at low':>8} {'at high':>8} {'zero':>7} "
    lines = [head + f"{'codes':>9} {'std':>6}  tensor"]
    for row in rows:
        shape = "×".join(str(n) for n in row["shape"])
        codes = f"{row['least']}..{row['greatest']}"
        lines.append(
            f"{row['op']:18} {shape:24} {row['zero_point']:4d} {row['at_low']:8.3%} "
            f"{row['at_high']:8.3%} {row['zero']:7.2%} {codes:>9} {row['std']:6.1f}  {row['name']}"
        )
    return "\n".join(lines)
