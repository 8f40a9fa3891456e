"""Windows of convolutions and pools: strides, padding and sizes as ONNX Runtime has them.

auto_pad: NOTSET takes `pads`; VALID takes none, whatever `pads` says; SAME_UPPER and SAME_LOWER
pad so that ceil(size / stride) windows fit, the odd element at the end or at the beginning. For a
convolution they count the dilated kernel; for a pool ONNX Runtime counts the kernel without its
dilation, so that a dilated pool gives fewer results than "same".

ceil_mode: one more window where the last does not end with the map, unless it would begin behind
the map and its leading padding.
"""

from dataclasses import dataclass

from models.values import Call, Shape


@dataclass(frozen=True)
class Windows:
    """Where windows lie, along each spatial axis.

    Attributes
    ----------
    kernel, strides, dilations : tuple of int
    pads : tuple of int
        Beginnings, then ends.
    counts : tuple of int
        Results.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    counts: tuple[int, ...]


def windows_of(call: Call, kernel: list[int], size: Shape, pool: bool) -> Windows:
    """Read a node's window attributes for a map of this size."""
    rank, mode = len(kernel), call.attributes.get("auto_pad", "NOTSET")
    if rank != len(size) or rank == 0:
        raise call.refuse(f"a kernel of rank {rank} on a map of size {list(size)}")
    strides = call.integers("strides", [1] * rank)
    dilations = call.integers("dilations", [1] * rank)
    if len(strides) != rank or len(dilations) != rank or min(*strides, *dilations, *kernel) < 1:
        raise call.refuse(f"kernel {kernel}, strides {strides}, dilations {dilations}")
    if mode == "NOTSET":
        pads = call.integers("pads", [0] * (2 * rank))
    elif mode == "VALID":
        pads = [0] * (2 * rank)
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        reach = (
            kernel if pool else [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
        )
        needed = [
            max(0, (-(-n // s) - 1) * s + r - n)
            for n, s, r in zip(size, strides, reach, strict=True)
        ]
        small = [n // 2 for n in needed]
        large = [n - n // 2 for n in needed]
        pads = small + large if mode == "SAME_UPPER" else large + small
    else:
        raise call.refuse(f"auto_pad {mode} is unknown")
    if len(pads) != 2 * rank or min(pads) < 0:
        raise call.refuse(f"pads {pads}: two for each of {rank} axes, not negative, are read")
    ceil = pool and bool(call.attributes.get("ceil_mode", 0))
    counts = tuple(
        _count(
            size[a] + pads[a], pads[a + rank], dilations[a] * (kernel[a] - 1) + 1, strides[a], ceil
        )
        for a in range(rank)
    )
    if min(counts) < 1:
        raise call.refuse(f"kernel {kernel} does not fit a map of size {list(size)}")
    return Windows(tuple(kernel), tuple(strides), tuple(pads), tuple(dilations), counts)


def _count(start: int, end: int, extent: int, stride: int, ceil: bool) -> int:
    """Windows along an axis of `start` elements (leading padding in it) and `end` of padding."""
    room = start + end - extent
    count = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (count - 1) * stride >= start:
        count -= 1
    return count
