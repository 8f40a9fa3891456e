"""What is read, what becomes of it, and its limits: the registries together, for a page of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from compiler.frontend.catalogue import FORMS, UNREAD, Form
from compiler.frontend.functions import ELEMENTWISE
from compiler.frontend.host import PREPROCESSING
from compiler.frontend.model import FIRST_OPSET, LAST_OPSET
from compiler.frontend.qoperator import QOPERATORS
from compiler.lower import lowerings, refusal
from compiler.ops import AnyOperation, AxisMean, Convolution
from compiler.tensor import TensorType
from hw.arch.config import CONFIG_DIRECTORY, AcceleratorConfig
from hw.arch.numerics import Mean, NumericsError

__all__ = [
    "ELEMENTWISE",
    "FIRST_OPSET",
    "FORMS",
    "LAST_OPSET",
    "PREPROCESSING",
    "QOPERATORS",
    "UNREAD",
    "Form",
    "capacities",
    "limits_of",
    "presets",
]

MOST = 1 << 16
"""Where a search for a capacity ends."""


def limits_of(form: Form) -> tuple[str, ...]:
    """What instruction fields hold at most, for each operator that a form becomes."""
    known = lowerings()
    return tuple(dict.fromkeys(text for kind in form.becomes for text in known[kind].limits))


@dataclasses.dataclass(frozen=True, slots=True)
class Capacity:
    """Something of which a configuration's memories hold so much.

    Attributes
    ----------
    what: for people.
    most: the largest number that is accepted; None where none is.
    """

    what: str
    most: int | None


def capacities(config: AcceleratorConfig) -> Iterator[Capacity]:
    """What the back end accepts on a configuration, found by asking it."""
    for what, make in PROBES.items():
        yield Capacity(what, _most(make, config))


def presets() -> list[AcceleratorConfig]:
    """Every configuration that comes with the toolkit."""
    return [AcceleratorConfig.load(path.stem) for path in sorted(CONFIG_DIRECTORY.glob("*.yaml"))]


Probe = Callable[[int], tuple[AnyOperation, TensorType, TensorType]]


def _most(make: Probe, config: AcceleratorConfig) -> int | None:
    """The largest size that is accepted, by bisection; `MOST` where all are."""

    def runs(size: int) -> bool:
        try:
            op, source, result = make(size)
        except NumericsError:
            return False
        return refusal(op, [source], result, config) is None

    if not runs(1):
        return None
    high = 2
    while runs(high):
        if high >= MOST:
            return high
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if runs(middle) else (low, middle)
    return low


def _kind(*shape: int) -> TensorType:
    return TensorType.of((1, *shape), False, 1.0, 0)


def _product(
    source: TensorType, outputs: int, kernel: tuple[int, int, int]
) -> tuple[Convolution, TensorType, TensorType]:
    op = Convolution(
        name="probe",
        inputs=("x",),
        output="y",
        weight=np.ones((outputs, source.shape[0], *kernel), np.int8),
        bias=np.zeros(outputs, np.int32),
        multiplier=np.full(outputs, 1 << 23, np.int64),
        shift=np.full(outputs, 23, np.int64),
        low=0,
        high=255,
    )
    return op, source, _kind(*op.infer([source]))


def _mean(side: int) -> tuple[AxisMean, TensorType, TensorType]:
    source = _kind(1, 1, side, side)
    mean = Mean.of(1.0, 1.0, 0, side * side)
    op = AxisMean(name="probe", inputs=("x",), output="y", axes=(2, 3), mean=mean, low=0, high=255)
    return op, source, _kind(1, 1, 1, 1)


PROBES: dict[str, Probe] = {
    "features of a Gemm on one row": lambda n: _product(_kind(n, 1, 1, 1), 1, (1, 1, 1)),
    "input channels of a 3×3 Conv": lambda n: _product(_kind(n, 1, 3, 3), 1, (1, 3, 3)),
    "input channels of a 3×3×3 Conv": lambda n: _product(_kind(n, 3, 3, 3), 1, (3, 3, 3)),
    "side of a square map under a mean": _mean,
}
"""One operator by a size of it."""
