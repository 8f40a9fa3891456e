"""What a layer computes together: operators of a chain or region, one after the other in strips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.report import LayerRow, Report
from reports.tables import Column, Table, number, text
from reports.units import count, share

COLUMNS = (
    Column("operator", meaning="of the file, in order", numeric=False),
    Column("algorithm", meaning="on the array; none is of the vector unit's", numeric=False),
    Column("array", "", "cycles in which the array works for it, as the compiler counts"),
    Column("of array", "%", "share of the array's cycles in the region"),
    Column("blocks", "", "blocks of channels of its result that are computed at a time"),
    Column("weights on chip", "", "of all groups of these blocks", numeric=False),
    Column("strips", "", "of its result that are on chip at a time"),
)


def opened(report: Report) -> dict[int, Table]:
    """By row of `tables.layers`: the table that the row opens into."""
    found = {row: parts(layer) for row, layer in enumerate(report.ran) if layer.members}
    return {row: table for row, table in found.items() if table is not None}


def parts(layer: LayerRow) -> Table | None:
    """A row for each operator; None where the compiler has not counted the array's cycles.

    What is recorded without an operator is the first one's: a convolution that others join.
    """
    recorded = {key: _by_operator(layer, key) for key in ("group", "held", "slots")}
    array = _by_operator(layer, "streamed")
    total = sum(array.values())
    if not total:
        return None
    algorithms = _by_operator(layer, "algorithm") or {layer.members[0]: layer.algorithm}
    rows = []
    for name in layer.members:
        done, blocks, strips = array.get(name), *(recorded[k].get(name) for k in ("group", "slots"))
        rows.append(
            (
                text(name),
                text(algorithms.get(name, "")),
                number(done, "" if done is None else count(done)),
                number(done, share(None if done is None else done / total)),
                number(blocks, str(blocks)),
                text(recorded["held"].get(name, "")),
                number(strips, str(strips)),
            )
        )
    return Table(layer.label, COLUMNS, tuple(rows))


def _by_operator(layer: LayerRow, key: str) -> Mapping[str, Any]:
    """A record of the layer's tiling by operator."""
    found = (layer.tiling or {}).get(key)
    if isinstance(found, Mapping):
        return found
    return {} if found is None else {layer.members[0]: found}
