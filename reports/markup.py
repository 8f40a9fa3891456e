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
        kind = "number" if column.numeric else "words"
        heads.append(
            f'<th scope="col" class="{kind}" data-kind="{kind}" '
            f'title="{escape(column.meaning)}">{inner}</th>'
        )

    def line(row: tuple[Cell, ...]) -> str:
        cells = []
        for cell, column in zip(row, table.columns, strict=True):
            long = " long" if len(cell.text) > LONG else ""
            kind = "number" if column.numeric else "words"
            value = "" if cell.value is None else escape(str(cell.value))
            cells.append(f'<td class="{kind}{long}" data-value="{value}">{escape(cell.text)}</td>')
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


def figure(svg: str, caption: str) -> str:
    """A picture with the words below it; the caption is HTML."""
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"
