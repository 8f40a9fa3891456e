"""Pieces of HTML: escaped words, tables, figures."""

from __future__ import annotations

import html

from reports.tables import Cell, Table

LONG = 24
"""Characters from which a cell may break into lines."""


def escape(words: str) -> str:
    """Words with the characters that HTML keeps for itself spelled out."""
    return html.escape(words, quote=True)


def table_html(table: Table, sortable: bool = False) -> str:
    """A table as HTML; with `sortable`, page.js sorts it when a title is clicked.

    A row and the note below it are one body, so that they stay together.
    """
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
        return f'<tr class="note"><td colspan="{len(table.columns)}">{escape(words)}</td></tr>'

    bodies = "".join(
        f"<tbody>{line(row)}{note(index)}</tbody>" for index, row in enumerate(table.rows)
    )
    foot = f"<tfoot>{line(table.total)}</tfoot>" if table.total else ""
    kind = ' class="sortable"' if sortable else ""
    remark = f'<p class="remark">{escape(table.remark)}</p>' if table.remark else ""
    return (
        f'<div class="scroll" tabindex="0"><table{kind}><thead><tr>{"".join(heads)}</tr></thead>'
        f"{bodies}{foot}</table></div>{remark}"
    )


def _key(cell: Cell) -> str:
    """What a number is sorted by; "" where there is none."""
    if cell.value is None:
        return ""
    return f"{cell.value:.9g}" if isinstance(cell.value, float) else escape(str(cell.value))


def figure(svg: str, caption: str) -> str:
    """A picture with the words below it; the caption is HTML."""
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"
