"""Windows of convolutions and pools: strides, padding and sizes as ONNX Runtime has them.

auto_pad: NOTSET takes `pads`; VALID takes none, whatever `pads` says; SAME_UPPER and SAME_LOWER
pad so that ceil(size / stride) windows fit, the odd element at the end or at the beginning. For a
pool ONNX Runtime counts the kernel without its dilation, so that a dilated pool gives fewer results
than "same"; a dilated convolution it refuses. Where the stride leaves elements over, it refuses
the pool, and a convolution may begin behind the first element: refused here.

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
    kernel, strides, dilations: per axis.
    pads: beginnings, then ends.
    counts: results.
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
        pads = _same(call, mode, kernel, strides, dilations, size, pool)
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


def _same(
    call: Call,
    mode: str,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    size: Shape,
    pool: bool,
) -> list[int]:
    """Pads of SAME_UPPER and SAME_LOWER."""
    if not pool and max(dilations) > 1:
        raise call.refuse(f"auto_pad {mode} of a dilated convolution: give explicit pads")
    needed = [(-(-n // s) - 1) * s + k - n for n, s, k in zip(size, strides, kernel, strict=True)]
    if min(needed) < (0 if pool else -1):  # ONNX Runtime refuses, or crops the beginning
        raise call.refuse(f"auto_pad {mode} with strides {strides} crops: give explicit pads")
    small = [max(0, n) // 2 for n in needed]
    large = [max(0, n) - half for n, half in zip(needed, small, strict=True)]
    return small + large if mode == "SAME_UPPER" else large + small


def _count(start: int, end: int, extent: int, stride: int, ceil: bool) -> int:
    """Windows along an axis of `start` elements (leading padding in it) and `end` of padding."""
    room = start + end - extent
    count = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (count - 1) * stride >= start:
        count -= 1
    return count
