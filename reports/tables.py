"""Tables of a run, free of any output format: columns, cells, and their plain-text form.

A cell carries the value (for sorting and for machines) beside its text. The page turns the same
tables into HTML. `headline` and `layers` take several runs, so that comparisons need no second
set of tables.
"""

from __future__ import annotations

import dataclasses
import io
import math
import unicodedata
from collections.abc import Mapping, Sequence
from csv import writer as csv_writer

from reports import roof
from reports.report import LayerRow, Report
from reports.units import NO_VALUE, count, ratio, share, si


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One entry: the value that sorts, and the text that is shown."""

    value: float | str | None
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column: title, unit ("" if none), and what the figure means."""

    title: str
    unit: str = ""
    meaning: str = ""
    numeric: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells.

    Attributes
    ----------
    total: a last row that is not sorted with the others.
    notes: words that stand below a row, by its number, over its whole width.
    remark: words that stand below the table; MARK in a cell refers to them.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: tuple[Cell, ...] = ()
    notes: Mapping[int, str] = dataclasses.field(default_factory=dict)
    remark: str = ""


MARK = "*"
AHEAD = (
    f"{MARK} over 100 %: a part of the work was done ahead of time, under an earlier layer, and "
    "its cycles are that one's."
)


def text(value: str) -> Cell:
    """A cell of words."""
    return Cell(value, value)


def number(value: float | None, shown: str) -> Cell:
    """A cell of a number, or of nothing."""
    return Cell(value, NO_VALUE if value is None else shown)


def marked(value: float | None, shown: str) -> Cell:
    """A share; over 100 % it refers to the table's remark."""
    return number(value, shown + MARK if value is not None and value > roof.OVER else shown)


def headline(reports: Sequence[Report]) -> Table:
    """The figures of whole runs: a row per figure, a column per run."""
    columns = (Column("figure", numeric=False), *(Column(r.title) for r in reports))
    lines: list[tuple[str, list[Cell]]] = [
        ("result", [text(r.verdict) for r in reports]),
        ("cycles", [number(r.cycles, count(r.cycles)) for r in reports]),
        ("speed", [Cell(1 / r.seconds, r.speed) for r in reports]),
        ("multiply-accumulates", [number(r.macs, si(r.macs, "MAC")) for r in reports]),
        ("multipliers", [number(r.multipliers, count(r.multipliers)) for r in reports]),
        ("MAC per multiplier and cycle", [number(r.rate, ratio(r.rate, 3)) for r in reports]),
        ("roofline", [number(r.roofline_cycles, count(r.roofline_cycles)) for r in reports]),
        ("roofline / cycles", [number(r.roofline_share, share(r.roofline_share)) for r in reports]),
        ("DRAM traffic", [number(r.dram_bytes, si(r.dram_bytes, "B")) for r in reports]),
        ("energy", [number(r.energy_j, si(r.energy_j, "J")) for r in reports]),
        ("simulation time", [number(r.wall_s, si(r.wall_s, "s")) for r in reports]),
    ]
    rows = tuple((text(name), *cells) for name, cells in lines)
    return Table("Run", columns, rows)


ALGORITHM = Column("algorithm", meaning="direct, or the fast algorithm", numeric=False)
"""A column of `layers` where the compiler had a choice."""

LAYER_COLUMNS = (
    Column("layer", meaning="fused operator, in program order", numeric=False),
    Column("operator", numeric=False),
    Column("cycles", meaning="cycles that the run spent in this layer"),
    Column("of run", "%", "share of the run's cycles"),
    Column("MAC", meaning="multiply-accumulates of the original operator"),
    Column("array fed", "%", "share of its cycles in which the array took a vector"),
    Column(
        "lanes filled",
        "%",
        "share of the multipliers that do useful work when the array takes a vector; where it is "
        "transformed, of the products of its algorithm",
    ),
    Column("MAC / mult / cycle", meaning="MAC per multiplier and cycle; 1 is a full array"),
    Column("bound / cycles", "%", "roofline bound over cycles; 100 % is as fast as it can be"),
    Column(
        "held up by",
        meaning="the part that was busy in most of its cycles; latency: none was in three quarters "
        "of them, units waited for each other or for the first answer of the memory",
        numeric=False,
    ),
    Column("DRAM", "B", "bytes read and written"),
    Column("energy", "J", "estimate: action counts × energy table"),
)


def layers(report: Report) -> Table:
    """A row per layer that ran, in program order, and the run's totals."""
    ran = report.ran
    chosen = any(x.choice is not None for x in ran)
    rows = []
    for layer in ran:
        rate = layer.rate(report.multipliers) if layer.macs else None
        rows.append(
            (
                text(layer.label),
                text(layer.op),
                *((text(layer.algorithm),) if chosen else ()),
                number(layer.cycles, count(layer.cycles)),
                number(layer.cycles / report.cycles, share(layer.cycles / report.cycles)),
                number(layer.macs or None, si(layer.macs)),
                marked(layer.utilization, share(layer.utilization)),
                number(layer.filled, share(layer.filled)),
                number(rate, ratio(rate)),
                marked(layer.roofline_share, share(layer.roofline_share)),
                text(layer.bound),
                number(layer.dram_bytes, si(layer.dram_bytes, "B")),
                number(layer.energy_j, si(layer.energy_j, "J")),
            )
        )
    total = (
        text("whole run"),
        *[text("")] * (2 if chosen else 1),
        number(report.cycles, count(report.cycles)),
        number(1.0, share(1.0)),
        number(report.macs, si(report.macs)),
        number(report.utilization, share(report.utilization)),
        number(None, ""),
        number(report.rate, ratio(report.rate)),
        number(report.roofline_share, share(report.roofline_share)),
        text(""),
        number(report.dram_bytes, si(report.dram_bytes, "B")),
        number(report.energy_j, si(report.energy_j, "J")),
    )
    columns = (*LAYER_COLUMNS[:2], ALGORITHM, *LAYER_COLUMNS[2:]) if chosen else LAYER_COLUMNS
    notes = {i: _joined(layer) for i, layer in enumerate(ran) if layer.members}
    over = any(cell.text.endswith(MARK) for row in rows for cell in row)
    return Table("Layers", columns, tuple(rows), total, notes, AHEAD if over else "")


def _joined(layer: LayerRow) -> str:
    """What a layer computes together, and how well its cycles were foreseen."""
    words = f"joins {', '.join(layer.members)}"
    foreseen = (layer.tiling or {}).get("foreseen")
    if foreseen and layer.cycles:
        words += f": {count(foreseen)} cycles foreseen, {count(layer.cycles)} measured"
    return words


def units(report: Report) -> Table:
    """A row per unit: where its cycles went. The four shares add up to the run."""
    columns = (
        Column("unit", numeric=False),
        Column("working", "%", "an instruction is inside and moves on"),
        Column("on memory", "%", "an instruction is inside, stalled on the memory port"),
        Column("on token", "%", "the next instruction waits for another unit's result"),
        Column("idle", "%", "the queue is empty"),
        Column("instructions"),
    )
    rows = tuple(
        (
            text(unit.name),
            *(
                number(cycles / report.cycles, share(cycles / report.cycles))
                for cycles in (unit.working, unit.memory, unit.token, unit.idle)
            ),
            number(unit.instructions, count(unit.instructions)),
        )
        for unit in report.units
    )
    return Table("Units", columns, rows)


def energy(report: Report) -> Table:
    """A row per component, largest first."""
    columns = (
        Column("component", numeric=False),
        Column("energy", "J"),
        Column("share", "%"),
    )
    total_j = report.energy_j
    rows = tuple(
        (
            text(name),
            number(joules, si(joules, "J")),
            number(joules / total_j if total_j else None, share(joules / total_j)),
        )
        for name, joules in sorted(report.energy.items(), key=lambda item: -item[1])
    )
    total = (text("sum"), number(total_j, si(total_j, "J")), number(1.0, share(1.0)))
    return Table("Energy by component", columns, rows, total)


def energy_numbers(report: Report) -> Table:
    """The energy reference table: each number and where it comes from."""
    columns = (Column("number", numeric=False), Column("value"), Column("source", numeric=False))
    rows = tuple(
        (text(key), number(value, f"{value:g}"), text(source))
        for key, value, source in report.energy_table.numbers
    )
    return Table("Energy reference table", columns, rows)


def actions(report: Report) -> Table:
    """What happened how often: the counts behind the energy."""
    rows = tuple((text(name), number(v, count(v))) for name, v in sorted(report.actions.items()))
    return Table("Actions", (Column("action", numeric=False), Column("count")), rows)


def counters(report: Report) -> Table:
    """The performance counters as the core reports them."""
    rows = tuple((text(name), number(v, count(v))) for name, v in report.counters.items())
    return Table("Counters", (Column("counter", numeric=False), Column("value")), rows)


_PARTS = ("array", "drain", "vector", "port")
"""Units whose cycles a tiling estimates; the largest one bounds the layer."""
_TILES = ("load", "accumulator", "estimate", "alternatives", "streamed", "fill", "turns", *_PARTS)


def tiling(report: Report) -> Table:
    """A row per layer that has a tiling: what the compiler chose, expected, and passed over."""
    columns = (
        Column("layer", numeric=False),
        Column("load tile", "", "outputs along x × y × t that the scratchpad holds at a time"),
        Column("accumulator tile", "", "outputs along x × y × t in an accumulator bank"),
        Column("choices", numeric=False),
        Column("bounded by", "", "the unit that the estimate makes busiest", numeric=False),
        Column("estimate", "", "cycles, as the compiler foresaw them"),
        Column("measured", "", "cycles of the run"),
        Column("next best", "", "the compiler's estimate for the best tiling that it passed over"),
    )
    rows = []
    for layer in report.layers:
        choice = layer.tiling
        if not choice:
            continue
        parts = {name: choice[name] for name in _PARTS if name in choice}
        other = [x["estimate"] for x in choice.get("alternatives", ()) if "estimate" in x]
        rest = {key: value for key, value in choice.items() if key not in (*_TILES, "hfa")}
        rows.append(
            (
                text(layer.label),
                _tile(choice.get("load")),
                _tile(choice.get("accumulator")),
                text(described(rest)),
                text(max(parts, key=lambda name: parts[name]) if parts else NO_VALUE),
                _cycles(choice.get("estimate")),
                _cycles(layer.cycles),
                _cycles(min(other, default=None)),
            )
        )
    return Table("Tiling", columns, tuple(rows))


def _tile(sizes: Sequence[int] | None) -> Cell:
    if sizes is None:
        return Cell(None, NO_VALUE)
    return Cell(math.prod(sizes), described(sizes))


def _cycles(value: int | None) -> Cell:
    return number(value, "" if value is None else count(value))


def described(choice: object) -> str:
    """A nested mapping as words: ``tile 8 × 56 × 56 · order x, y``."""
    if isinstance(choice, Mapping):
        return " · ".join(f"{key.replace('_', ' ')} {described(v)}" for key, v in choice.items())
    if isinstance(choice, (list, tuple)):
        plain = all(isinstance(item, (int, float)) for item in choice)
        return (" × " if plain else ", ").join(described(item) for item in choice)
    if isinstance(choice, float):
        return f"{choice:.4g}"
    return str(choice)


def _width(value: str) -> int:
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in value)
    return len(value) + wide - sum(unicodedata.combining(c) != 0 for c in value)


def plain(table: Table) -> str:
    """The table as aligned text: words to the left, numbers to the right, notes below rows."""
    titles = tuple(column.title for column in table.columns)
    rows = [tuple(cell.text for cell in row) for row in table.rows]
    total = [tuple(cell.text for cell in table.total)] if table.total else []
    widths = [max(_width(line[i]) for line in (titles, *rows, *total)) for i in range(len(titles))]

    def line(cells: Sequence[str]) -> str:
        parts = []
        for cell, width, column in zip(cells, widths, table.columns, strict=True):
            gap = " " * (width - _width(cell))
            parts.append(gap + cell if column.numeric else cell + gap)
        return "  ".join(parts).rstrip()

    rule = "  ".join("-" * width for width in widths)
    lines = [line(titles), rule]
    for index, row in enumerate(rows):
        lines += [line(row), *([f"  {table.notes[index]}"] if index in table.notes else [])]
    if total:
        lines += [rule, *map(line, total)]
    if table.remark:
        lines += ["", table.remark]
    return "\n".join(lines)


def records(table: Table) -> list[dict[str, float | str | None]]:
    """The table's values: a mapping a row, by the columns' titles."""
    titles = [column.title for column in table.columns]
    return [dict(zip(titles, (cell.value for cell in row), strict=True)) for row in table.rows]


def csv(table: Table) -> str:
    """The table's values as comma-separated text, a line a row, titles first."""
    stream = io.StringIO()
    writer = csv_writer(stream, lineterminator="\n")
    writer.writerow([column.title for column in table.columns])
    for row in table.rows:
        writer.writerow(["" if cell.value is None else cell.value for cell in row])
    return stream.getvalue()
