"""What stages do not do, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compiler.array.depthwise_choice import refusal
from compiler.ir import Convolution, TemporalResidual
from compiler.ops.chain import Member
from compiler.tile.depthwise import order_of, suits
from hw.arch.config import AcceleratorConfig
from hw.arch.winograd import Algorithm


def unsuitable(ops: Sequence[Member], config: AcceleratorConfig) -> str | None:
    """Why some operators are no region, or None if they are one."""
    return next(_reasons(ops, config), None)


def _reasons(ops: Sequence[Member], config: AcceleratorConfig) -> Iterator[str]:
    once: Convolution | None = None
    for number, op in enumerate(ops):
        if isinstance(op, TemporalResidual):
            if number:
                yield f"{op.name} prepares what is loaded, and {ops[number - 1].name} makes it"
            continue
        if op.pool is not None and number < len(ops) - 1:
            yield f"{op.name} has a fused pool, and others behind it"
        if op.depthwise:
            yield from _depthwise(op, config)
            once = op if order_of(op) == (0, 1, 2) else once
            continue
        if op.groups > 1:
            yield f"{op.name} has {op.groups} groups"
        own = op.kernel[1] == op.stride[1] == 1 and not op.pad_begin[1] and not op.pad_end[1]
        if once is not None and not own:
            yield f"{op.name} skips lines or reads them again, which {once.name} makes once"
    if all(isinstance(op, TemporalResidual) for op in ops):
        yield "the array has nothing to do"


def _depthwise(op: Convolution, config: AcceleratorConfig) -> Iterator[str]:
    """Those of a window, or of what goes along time."""
    if not suits(op, config):
        yield f"{op.name} does not run in mode DEPTHWISE"
    elif order_of(op) != (0, 1, 2):
        if any((*op.pad_begin[1:], *op.pad_end[1:])) or op.stride[1:] != (1, 1):
            yield f"{op.name} slides along time and moves or pads lines"
    elif op.kernel[0] != 1:
        yield f"{op.name} has a window of frames and lines"
    elif op.stride[0] != 1 or any((op.pad_begin[0], op.pad_end[0])):
        yield f"{op.name} has stride {op.stride} along time or pads it"
    elif max(op.pad_begin) >= max(op.kernel[1:]):
        yield f"{op.name} has wide padding"


def suited(stage: Convolution, algorithm: Algorithm) -> bool:
    """Whether a stage can be computed so, as its taps allow; a window only in tiles."""
    if stage.depthwise:
        return order_of(stage) == (0, 1, 2) and refusal(stage, algorithm) is None
    return (stage.kernel[0] > 1 or not algorithm.temporal) and (
        max(stage.kernel[1:]) > 1 or not algorithm.spatial
    )
