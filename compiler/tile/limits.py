"""What instruction fields can hold: the limits of every lowering, read off the fields' widths."""

from __future__ import annotations

from hw.arch.isa import Array, Drain, Load, Reduce, limit

MAX_COUNT = min(limit(kind, "counts") for kind in (Array, Drain, Load, Reduce))
"""Trips of a level of any nest."""
MAX_BEATS = limit(Load, "beats")
"""Beats of a run."""
MAX_DELTA = limit(Array, "deltas")
"""Rows between neighbouring steps of a nest."""
MAX_STRIDE = limit(Array, "steps")
MAX_DILATION = limit(Array, "dilations")
MAX_COORDINATE = min(limit(Array, "starts"), limit(Array, "bounds"))
"""Size of a map along an axis on which windows slide."""
MAX_POOL = limit(Drain, "window")
"""Size of a pool inside a convolution."""
MAX_WINDOW = min(limit(Array, "emit_x"), limit(Array, "window_x"))
"""Window and stride of mode DEPTHWISE along the array's x and y."""
MAX_REDUCE_WINDOW = limit(Reduce, "window")
MAX_REDUCE_STRIDE = limit(Reduce, "steps")
MAX_REDUCE_COORDINATE = min(limit(Reduce, "starts"), limit(Reduce, "bounds"))
