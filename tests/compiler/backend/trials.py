"""What trials remember."""

from compiler.emit.trial import _alone, layer_cycles
from compiler.lower.compare import _part_cost
from compiler.regions import choice, dense


def forget() -> None:
    """Let nothing be remembered, for what is emitted changes."""
    for cache in (_alone, layer_cycles, _part_cost, choice._ranked, dense._alone):
        cache.cache_clear()
