"""The page: one HTML file with everything inside, no request to anywhere.

Text and structure only; numbers come from the report and its tables, pictures from `figures`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reports import advice, hfa_page, parts, paths, tables
from reports.figures.common import MOST_ROWS
from reports.markup import escape, figure, table_html
from reports.report import Report
from reports.units import count, ratio, share, si

ASSETS = Path(__file__).parent / "assets"


def page(report: Report, figures: Mapping[str, str], direct: Report | None = None) -> str:
    """Write the page of one run.

    Parameters
    ----------
    report: the run.
    figures: name → inline SVG, for every name in `reports.figures.drawn`.
    direct: a run of the same network without transformed layers, if there is one.
    """
    sections = [
        ("layers", "Layer by layer", _layers(report, figures)),
        ("advice", "What would make it faster", _advice(report)),
        ("hfa", "Direct or transformed", hfa_page.section(report, figures, direct)),
        ("roofline", "Roofline", _roofline(report, figures)),
        ("timeline", "Timeline", _timeline(report, figures)),
        ("units", "Who waited for whom", _units(report, figures)),
        ("memory", "Memory", _memory(report, figures)),
        ("energy", "Energy", _energy(report, figures)),
        ("tiling", "Tiling", _tiling(report)),
        ("method", "How these figures were made", _method(report)),
    ]
    shown = [(key, title, body) for key, title, body in sections if body]
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, _ in shown)
    parts = "".join(
        f'<section id="{key}"><h2>{title}</h2>{body}</section>' for key, title, body in shown
    )
    footer = (
        "<footer>Written by <code>python -m reports</code>. The same figures for machines: "
        "<code>report.json</code>, <code>layers.csv</code>; the figures: <code>*.svg</code>; the "
        "timeline for ui.perfetto.dev: <code>trace.json</code>.</footer>"
    )
    body = f"{_header(report)}<nav>{links}</nav>{_cards(report)}{parts}{footer}"
    return document(report.title, body)


def document(title: str, body: str) -> str:
    """A whole page: everything that it needs is inside."""
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>"
        f"<style>{(ASSETS / 'page.css').read_text()}</style></head>\n"
        f"<body><main>{body}</main>"
        f"<script>{(ASSETS / 'page.js').read_text()}</script></body></html>\n"
    )


def _header(report: Report) -> str:
    look = {None: "open", True: "good", False: "bad"}[report.equal]
    sign = {None: "?", True: "✓", False: "✗"}[report.equal]
    words = report.verdict
    warning = ""
    if report.halt_code:
        warning = f'<p class="verdict bad">The program halted with code {report.halt_code}</p>'
    return (
        f"<header><h1>{escape(report.network)}</h1>"
        f"<p>configuration <b>{escape(report.config)}</b>, "
        f"{count(report.multipliers)} multipliers, {report.port_bytes} bytes per cycle to memory, "
        f"{escape(report.backend)} simulation</p>"
        f'<p class="verdict {look}">{sign} {escape(words[:1].upper() + words[1:])}</p>{warning}'
        "</header>"
    )


def _card(title: str, value: str, words: str) -> str:
    return (
        f'<div class="card"><span>{escape(title)}</span><b>{escape(value)}</b>'
        f"<p>{escape(words)}</p></div>"
    )


def _cards(report: Report) -> str:
    per_mac = report.energy_j / report.macs if report.macs else 0.0
    per_cycle = report.dram_bytes / report.cycles
    cards = [
        _card(
            "cycles",
            si(report.cycles, digits=4),
            f"{count(report.cycles)} clock cycles from start to interrupt: "
            f"{si(report.seconds, 's')}; {report.speed}.",
        ),
        _card(
            "of the bound",
            share(report.roofline_share),
            f"The roofline allows {si(report.roofline_cycles, 'cycles', 4)}; at 100 % the "
            "multipliers or the memory port would be busy all the time, in every layer.",
        ),
        _card(
            "MAC per multiplier and cycle",
            ratio(report.rate, 3),
            f"{si(report.macs, 'MAC')} in all. 1 means that every multiplier did useful work in "
            "every cycle; fast convolution algorithms may exceed it.",
        ),
        _card(
            "DRAM traffic",
            si(report.dram_bytes, "B"),
            f"{ratio(per_cycle)} of {report.port_bytes} bytes per cycle: the memory port is "
            f"{share(per_cycle / report.port_bytes, 0)} busy.",
        ),
    ]
    if report.energy_j:
        words = (
            f"{si(per_mac, 'J')} per multiply-accumulate. An estimate: action counts times an "
            "energy table whose sources stand at the end of the page."
        )
        cards.append(_card("energy", si(report.energy_j, "J"), words))
    speed = "Too short to tell a speed."
    if report.sim_khz:
        speed = f"{si(report.sim_khz * 1e3, 'Hz')}: simulated clock cycles per second of waiting."
    cards.append(_card("simulated in", si(report.wall_s, "s"), speed))
    return f'<div class="cards">{"".join(cards)}</div>'


def _path(report: Report, figures: Mapping[str, str]) -> str:
    """Which arms ran, and which way consecutive runs went."""
    if not report.path:
        return ""
    idle = sum(not layer.executions for layer in report.layers)
    steps = paths.taken(report)
    words = f"<p>The accelerator decided: {escape(paths.decisions(report.path))}. "
    if steps:
        words = f"<p>The accelerator decided in each of {count(len(steps))} steps. "
    words += f"{count(idle)} layers of other arms did not run.</p>"
    if not steps:
        return words
    caption = "A step is one of consecutive runs, or a trip of the clip's Loop."
    return words + figure(figures["decisions"], caption) + table_html(paths.paths(report))


def _layers(report: Report, figures: Mapping[str, str]) -> str:
    slowest = sorted(report.layers, key=lambda x: -x.cycles)[:3]
    taken = sum(x.cycles for x in slowest) / report.cycles
    names = ", ".join(escape(x.label) for x in slowest)
    lead = f'<p class="lead">{names} take {share(taken, 0)} of the run.</p>'
    many = len(report.layers) > MOST_ROWS
    return (
        _path(report, figures)
        + lead
        + figure(
            figures["layers"],
            "Left: cycles that the run spent in each layer; the orange mark is the layer's bound, "
            "so the blue beyond it is what could still be saved. Right: share of these cycles in "
            "which the multiplier array took an activation vector."
            + (" Of many layers the largest; the table has all." if many else ""),
        )
        + "<p>Click a title to sort; hold the pointer over it for what it means. What joins "
        "several operators opens into them.</p>"
        + table_html(tables.layers(report), sortable=True, opened=parts.opened(report))
    )


def _advice(report: Report) -> str:
    words = advice.lines(report)
    if not words:
        return ""
    items = "".join(f"<li>{escape(line)}.</li>" for line in words)
    lead = (
        "<p>At most, from the cycles of this run: what is then the next limit is not looked at.</p>"
    )
    return f"{lead}<ul>{items}</ul>"


def _roofline(report: Report, figures: Mapping[str, str]) -> str:
    roof = report.roof
    bound = {"memory": 0, "multipliers": 0}
    for layer in report.layers:
        if layer.macs and layer.dram_bytes:
            bound[roof.limit(layer.intensity)] += layer.cycles
    lead = (
        f"<p>A layer that does many multiply-accumulates per byte is bounded by the "
        f"{count(report.multipliers)} multipliers (the flat part), one that does few by the memory "
        f"port (the slope). The corner lies at {ratio(roof.ridge, 0)} MAC per byte. "
        f"{share(bound['memory'] / report.cycles, 0)} of the run's cycles belong to layers left of "
        f"it, {share(bound['multipliers'] / report.cycles, 0)} to layers right of it.</p>"
    )
    return lead + figure(
        figures["roofline"],
        "One dot per layer; its area is its share of the run's cycles, its colour the operator. "
        "The distance to the line above it is what is lost. A dot above the line did a part of its "
        "work ahead of time, under an earlier layer, or multiplies by a fast algorithm (the dashed "
        "line). Layers without multiplications or without DRAM traffic have no place here.",
    )


def _timeline(report: Report, figures: Mapping[str, str]) -> str:
    if not report.spans:
        return ""
    return figure(
        figures["timeline"],
        f"{count(len(report.spans))} instructions. Above: for each unit, how much of the time an "
        "instruction was inside; the orange bands are the windows below. Below: single "
        "instructions; hold the pointer over one for its name and cycles; darker where a unit has "
        "accepted the next one before the last has ended. Transfers that lie under array "
        "instructions cost nothing; a gap in ARRAY is lost time. Open "
        "<code>trace.json</code> in Perfetto to move about freely (1 µs there is 1 cycle).",
    )


def _units(report: Report, figures: Mapping[str, str]) -> str:
    if not report.units:
        return ""
    return figure(
        figures["stalls"],
        "From the hardware's performance counters. <b>Working</b>: an instruction is inside and "
        "moves on. <b>Waiting on memory</b>: it is stalled on the memory port. <b>Waiting on a "
        "token</b>: the next instruction needs something another unit has not finished. "
        "<b>Idle</b>: nothing in the queue.",
    ) + table_html(tables.units(report))


def _memory(report: Report, figures: Mapping[str, str]) -> str:
    body = ""
    if "dram" in figures:
        body += figure(
            figures["dram"],
            "A field is a region of memory while it holds what something later reads; where the "
            "compiler uses memory again, fields stand one behind the other at equal addresses.",
        )
    if "scratchpads" in figures:
        body += figure(
            figures["scratchpads"],
            "Blue: rows that hold what something still reads, at that time. Behind it: rows that "
            "the instructions of a layer read or write, over all of its tiles. Where blue stays "
            "far below, a smaller scratchpad, or larger tiles, would do.",
        )
    return body


def _energy(report: Report, figures: Mapping[str, str]) -> str:
    if not report.energy_j:
        return ""
    return figure(
        figures["energy"],
        "Action counts of the run times the energy of one action. Shares are more trustworthy "
        "than absolute values.",
    ) + table_html(tables.energy(report), sortable=True)


def _tiling(report: Report) -> str:
    table = tables.tiling(report)
    if not table.rows:
        return ""
    words = (
        "<p>How the compiler cut each layer so that its tiles fit the scratchpads, and how well it "
        "foresaw the time. The tilings that it passed over stand in <code>report.json</code>.</p>"
    )
    return words + table_html(table, sortable=True)


_BACKENDS = {
    "functional": "The functional simulator computes values; its times are not the circuit's.",
    "cycle": "The cycle model: an event simulation by the timing rules that the RTL shares.",
    "rtl": "The circuit itself: its Verilog under Verilator, with the memory model compiled in.",
    "soc": "The board's SoC under Verilator, with its memory controller and a model of its SDRAM, "
    "driven over its serial line.",
    "board": "A board, driven over its serial line.",
}


_ATTRIBUTION = (
    "from the end of all earlier layers to the end of this one, so that they add up; work done "
    "ahead, under an earlier layer, does not count"
)


def _method(report: Report) -> str:
    facts = [
        ("backend", f"{report.backend}. {_BACKENDS.get(report.backend, '')}"),
        ("configuration", f"{report.config}, fingerprint {report.fingerprint}"),
        ("comparison", report.verdict),
        ("layer's cycles", _ATTRIBUTION),
        ("bound", "sum over layers of max(array cycles with whole tiles, bytes / port width)"),
        ("energy table", f"{report.energy_table.name}. {report.energy_table.technology}"),
        ("uncertainty", report.energy_table.uncertainty),
    ]
    terms = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts if v)
    body = f"<dl>{terms}</dl>"
    if report.energy_table.numbers:
        body += "<h3>Energy reference table</h3>" + table_html(tables.energy_numbers(report))
    for title, table in (
        ("Action counts", tables.actions(report)),
        ("Performance counters", tables.counters(report)),
    ):
        if table.rows:
            body += f"<details><summary>{title}</summary>{table_html(table)}</details>"
    return body
