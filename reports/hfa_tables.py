"""Tables of direct and transformed layers, and of two runs set against each other."""

from __future__ import annotations

from reports import hfa
from reports.choice import DIRECT, Choice, Way
from reports.report import LayerRow, Report
from reports.tables import Cell, Column, Table, number, text
from reports.units import change, count, ratio, share, si

LAYER_COLUMNS = (
    Column("layer", numeric=False),
    Column("algorithm", meaning="that the compiler chose", numeric=False),
    Column("cycles, direct", meaning="estimated for the best direct tiling"),
    Column("chosen", meaning="cycles, estimated for the chosen way"),
    Column("run", meaning="cycles of the run"),
    Column("saved", meaning="cycles, direct less chosen"),
    Column("products, direct", meaning="multiplications of the array, idle lanes included"),
    Column("chosen", meaning="multiplications of the chosen way, ragged tiles included"),
    Column("times fewer", meaning="multiplications, direct / chosen"),
    Column("energy, direct", "J", "compiler's estimate, without what both ways share"),
    Column("chosen", "J", "compiler's estimate, without what both ways share"),
)


def _estimates(layer: LayerRow) -> list[Cell]:
    """Figures of a layer; without candidates, its tiling foresaw the direct cycles."""
    direct, taken = (layer.choice.direct, layer.choice.taken) if layer.choice else (None, None)

    def figure(way: Way | None, name: str) -> float | None:
        value: float | None = None if way is None else getattr(way, name)
        return value

    cycles = figure(direct, "cycles"), figure(taken, "cycles")
    if taken is None and layer.algorithm == DIRECT:
        cycles = (layer.tiling.get("estimate"),) * 2
    products = figure(direct, "multiplications"), figure(taken, "multiplications")
    energy = figure(direct, "energy_j"), figure(taken, "energy_j")
    saved = None if cycles[0] is None or cycles[1] is None else cycles[0] - cycles[1]
    gain = products[0] / products[1] if products[0] is not None and products[1] else None
    return [
        *(number(v, si(v or 0)) for v in (*cycles, layer.cycles, saved)),
        *(number(v, si(v or 0)) for v in products),
        number(gain, ratio(gain)),
        *(number(v, si(v or 0, "J")) for v in energy),
    ]


def _why(layer: LayerRow) -> str:
    made = layer.choice
    if made is None:
        return "the compiler recorded no choice"
    return made.reason


def considered(report: Report) -> tuple[LayerRow, ...]:
    """Layers that multiply, or have a record."""
    return tuple(x for x in report.layers if x.executions and (x.choice is not None or x.macs))


def layers(report: Report) -> Table:
    """A row per layer that multiplies: its algorithm, what it saved, or why it is direct."""
    rows = []
    for layer in considered(report):
        made = layer.choice
        name = made.chosen if made else DIRECT
        rows.append((text(layer.label), text(name), *_estimates(layer)))
    reasons = {i: why for i, x in enumerate(considered(report)) if (why := _why(x))}
    notes = {i: f"direct: {why}" for i, why in reasons.items()}
    return Table(
        "Direct or transformed", LAYER_COLUMNS, tuple(rows), _sum(report), notes, _note(report)
    )


_BRIEF = (0, 1, 2, 3, 5, 8)
"""Columns for a terminal."""


def brief(report: Report) -> Table:
    """`layers` for a terminal: algorithm, cycles, factor of multiplications."""
    table = layers(report)

    def line(cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
        return tuple(cells[i] for i in _BRIEF) if cells else ()

    columns = tuple(table.columns[i] for i in _BRIEF)
    rows = tuple(map(line, table.rows))
    return Table(table.title, columns, rows, line(table.total), table.notes, table.remark)


def _sum(report: Report) -> tuple[Cell, ...]:
    taken = [c for c in hfa.recorded(report) if c.transformed]
    if not taken:
        return ()
    cycles, products = hfa.total(taken, "cycles"), hfa.total(taken, "multiplications")
    energy = hfa.total(taken, "energy_j")
    measured = sum(x.cycles for x in report.layers if x.choice and x.choice.transformed)
    known = bool(energy.layers)
    return (
        text("transformed layers"),
        text(count(len(taken))),
        *(number(v, si(v)) for v in (cycles.direct, cycles.chosen, measured, cycles.saved)),
        number(products.direct, si(products.direct)),
        number(products.chosen, si(products.chosen)),
        number(products.gain, ratio(products.gain)),
        number(energy.direct if known else None, si(energy.direct, "J")),
        number(energy.chosen if known else None, si(energy.chosen, "J")),
    )


def _note(report: Report) -> str:
    """For how many of the transformed layers energy was estimated, if not for all."""
    taken = [c for c in hfa.recorded(report) if c.transformed]
    estimated = hfa.total(taken, "energy_j").layers
    if estimated == len(taken):
        return ""
    return f"Energy is estimated for {estimated} of the {len(taken)} transformed layers."


def ways(report: Report) -> Table:
    """A row per layer and algorithm: estimated, or refused and why."""
    columns = (
        Column("layer", numeric=False),
        Column("algorithm", numeric=False),
        Column("", numeric=False),
        Column("cycles"),
        Column("multiplications"),
        Column("energy", "J"),
        Column("DRAM", "B"),
        Column("refused because", numeric=False),
    )
    nothing = number(None, "")
    rows: list[tuple[Cell, ...]] = []
    for layer in report.layers:
        made = layer.choice
        if made is None:
            continue
        name = text(layer.label)
        rows += [
            (name, text(way.name), text(_mark(made, way)), *_figures(way), text(""))
            for way in made.ways
        ]
        rows += [
            (name, text(algorithm), text("refused"), *[nothing] * 4, text(why))
            for algorithm, why in made.refused.items()
        ]
    return Table("All ways", columns, tuple(rows))


def _mark(made: Choice, way: Way) -> str:
    return "chosen" if way.name == made.chosen else ""


def _figures(way: Way) -> tuple[Cell, ...]:
    return (
        number(way.cycles, count(way.cycles)),
        number(way.multiplications, count(way.multiplications)),
        number(way.energy_j, si(way.energy_j or 0, "J")),
        number(way.dram_bytes, si(way.dram_bytes, "B")),
    )


def parts(report: Report) -> Table:
    """What transforming adds, by part; empty where the prices are not recorded."""
    found = hfa.parts(report)
    columns = (
        Column("part", numeric=False),
        Column("energy", "J"),
        Column("of run", "%", "share of the run's energy"),
    )
    rows = tuple(
        (
            text(name),
            number(joules, si(joules, "J")),
            number(joules / report.energy_j, share(joules / report.energy_j)),
        )
        for name, joules in found.items()
    )
    joules = sum(found.values())
    whole = joules / report.energy_j if report.energy_j else None
    total = (text("sum"), number(joules, si(joules, "J")), number(whole, share(whole)))
    return Table("What transforming adds", columns, rows, total if rows else ())


def against(report: Report, direct: Report) -> Table:
    """Energy by component of a direct run and this one, largest change first."""
    columns = (
        Column("component", numeric=False),
        Column("direct", "J", f"run of {direct.title} without a transformed layer"),
        Column("this run", "J"),
        Column("change", "J", "negative: saved"),
        Column("change / direct run", "%", "of the direct run's whole energy"),
    )
    changes = hfa.changes(report, direct)

    def line(name: str, before: float, after: float) -> tuple[Cell, ...]:
        off = after - before
        part = off / direct.energy_j
        return (
            text(name),
            number(before, si(before, "J")),
            number(after, si(after, "J")),
            number(off, _signed(off)),
            number(part, change(part)),
        )

    rows = tuple(line(*change) for change in changes)
    total = line("sum", direct.energy_j, report.energy_j)
    return Table("Energy against a direct run", columns, rows, total)


def _signed(joules: float) -> str:
    return f"{'+' if joules > 0 else ''}{si(joules, 'J')}".replace("-", "−")
