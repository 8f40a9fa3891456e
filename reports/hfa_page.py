"""The page's section on hFA: what was transformed, what it saved, what it costs."""

from __future__ import annotations

from collections.abc import Mapping

from reports import hfa, hfa_tables, hfa_words
from reports.figures.common import MOST_ROWS
from reports.figures.hfa import compared
from reports.markup import escape, figure, table_html
from reports.report import Report

_CAPTION = (
    "Each layer for which the compiler compared ways, as a share of its direct form (the line at "
    "100 %). Blue is saved, orange is spent on top; grey layers stay direct or cost the same. "
    "Estimates of the compiler; its energy leaves out what both ways share."
)


def section(report: Report, figures: Mapping[str, str], direct: Report | None) -> str:
    """The section's body; "" for a run without any record of a choice.

    Parameters
    ----------
    report: the run.
    figures: name → inline SVG; "hfa" is needed only where ways were compared.
    direct: a run of the same network without transformed layers, if there is one.
    """
    if not hfa.recorded(report):
        return ""
    body = f'<p class="lead">{escape(hfa_words.lead(report))}</p>'
    if "hfa" in figures:
        many = len(compared(report)) > MOST_ROWS
        more = f" The {MOST_ROWS} layers with most cycles; the table has all." if many else ""
        body += figure(figures["hfa"], _CAPTION + more)
    body += table_html(hfa_tables.layers(report), sortable=True)
    body += _energy(report, direct)
    every = table_html(hfa_tables.ways(report), sortable=True)
    return (
        body + f"<details><summary>All ways, and why some were refused</summary>{every}</details>"
    )


def _energy(report: Report, direct: Report | None) -> str:
    words = hfa_words.energy(report)
    if direct is not None:
        words.insert(0, hfa_words.against(report, direct))
    if not words:
        return ""
    body = "<h3>Does it save energy?</h3>" + "".join(f"<p>{escape(w)}</p>" for w in words)
    if direct is not None:
        body += table_html(hfa_tables.against(report, direct), sortable=True)
    parts = hfa_tables.parts(report)
    if parts.rows:
        body += "<h3>What transforming adds</h3>" + table_html(parts, sortable=True)
    return body
