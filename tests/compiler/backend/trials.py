"""What trials remember."""

from compiler.emit.trial import _alone, layer_cycles
from compiler.lower.compare import _part_cost


def forget() -> None:
    """Let nothing be remembered, for what is emitted changes."""
    for cache in (_alone, layer_cycles, _part_cost):
        cache.cache_clear()
