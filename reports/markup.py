"""Pieces of HTML: escaped words, tables, figures."""

from __future__ import annotations

import html
from collections.abc import Mapping

from reports.tables import Cell, Table

NOTHING: Mapping[int, Table] = {}
LONG = 24
"""Characters from which a cell may break into lines."""


def escape(words: str) -> str:
    """Words with the characters that HTML keeps for itself spelled out."""
    return html.escape(words, quote=True)


def table_html(table: Table, sortable: bool = False, opened: Mapping[int, Table] = NOTHING) -> str:
    """A table as HTML; with `sortable`, page.js sorts it when a title is clicked.

    A row and the note below it are one body, so that they stay together. `opened`: by number of a
    row with a note, the table that opens when the note is clicked.
    """
    remark = f'<p class="remark">{escape(table.remark)}</p>' if table.remark else ""
    inner = _table(table, sortable, opened)
    return f'<div class="scroll" tabindex="0">{inner}</div>{remark}'


def _table(table: Table, sortable: bool = False, opened: Mapping[int, Table] = NOTHING) -> str:
    heads = []
    for column in table.columns:
        title = escape(column.title)
        inner = f"<button type=button>{title}</button>" if sortable else title
        kind = "" if column.numeric else ' class="words"'
        meaning = f' title="{escape(column.meaning)}"' if column.meaning else ""
        heads.append(f'<th scope="col"{kind}{meaning}>{inner}</th>')

    def line(row: tuple[Cell, ...]) -> str:
        cells = []
        for cell, column in zip(row, table.columns, strict=True):
            kinds = ([] if column.numeric else ["words"]) + ["long"] * (len(cell.text) > LONG)
            look = f' class="{" ".join(kinds)}"' if kinds else ""
            value = f' data-value="{_key(cell)}"' if sortable and column.numeric else ""
            cells.append(f"<td{look}{value}>{escape(cell.text)}</td>")
        return f"<tr>{''.join(cells)}</tr>"

    def note(index: int) -> str:
        words = table.notes.get(index)
        if words is None:
            return ""
        said = escape(words)
        if index in opened:
            said = f"<details><summary>{said}</summary>{_table(opened[index])}</details>"
        return f'<tr class="note"><td colspan="{len(table.columns)}">{said}</td></tr>'

    bodies = "".join(
        f"<tbody>{line(row)}{note(index)}</tbody>" for index, row in enumerate(table.rows)
    )
    foot = f"<tfoot>{line(table.total)}</tfoot>" if table.total else ""
    kind = ' class="sortable"' if sortable else ""
    return f"<table{kind}><thead><tr>{''.join(heads)}</tr></thead>{bodies}{foot}</table>"


def _key(cell: Cell) -> str:
    """What a number is sorted by; "" where there is none."""
    if cell.value is None:
        return ""
    return f"{cell.value:.9g}" if isinstance(cell.value, float) else escape(str(cell.value))


def figure(svg: str, caption: str) -> str:
    """A picture with the words below it; the caption is HTML."""
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"
