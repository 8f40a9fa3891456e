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
    """A table as HTML; with `sortable`, its titles are buttons for page.js."""
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

    body = "".join(map(line, table.rows))
    foot = f"<tfoot>{line(table.total)}</tfoot>" if table.total else ""
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{body}</tbody>{foot}</table></div>"
    )


def figure(svg: str, caption: str) -> str:
    """A picture with the words below it; the caption is HTML."""
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"
