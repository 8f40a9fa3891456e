"""What instruction fields can hold: the limits of every lowering, read off the fields' widths."""

from __future__ import annotations

from hw.arch.encoding import Encodable
from hw.arch.isa import Array, Drain, Load, Reduce


def highest(kind: type[Encodable], field: str) -> int:
    """Largest value of an element of a field."""
    return next(f.high for f in kind.layout() if f.name == field)


MAX_COUNT = min(highest(kind, "counts") for kind in (Array, Drain, Load, Reduce))
"""Trips of a level of any nest."""
MAX_BEATS = highest(Load, "beats")
"""Beats of a run."""
MAX_DELTA = highest(Array, "deltas")
"""Rows between neighbouring steps of a nest."""
MAX_STRIDE = highest(Array, "steps")
MAX_DILATION = highest(Array, "dilations")
MAX_COORDINATE = min(highest(Array, "starts"), highest(Array, "bounds"))
"""Size of a map along an axis on which windows slide."""
MAX_POOL = highest(Drain, "window")
"""Size of a pool inside a convolution."""
MAX_WINDOW = min(highest(Array, "emit_x"), highest(Array, "window_x"))
"""Window and stride of mode DEPTHWISE along the array's x and y."""
MAX_REDUCE_WINDOW = highest(Reduce, "window")
MAX_REDUCE_STRIDE = highest(Reduce, "steps")
MAX_REDUCE_COORDINATE = min(highest(Reduce, "starts"), highest(Reduce, "bounds"))
