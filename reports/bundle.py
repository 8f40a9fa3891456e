"""Write a report's files: all of them, or none."""

from __future__ import annotations

import contextlib
import gc
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from reports import tables
from reports.figures import NAMES, drawn
from reports.page import page
from reports.report import Report, ReportError
from reports.summary import summary
from reports.trace import trace

KINDS = ("svg", "png")
"""Of files that a figure may be in."""


def write(
    report: Report, output: Path, direct: Report | None = None, *, png: bool = False
) -> list[Path]:
    """Write page, figures, data and trace into a folder.

    Everything is drawn in a temporary folder beside `output` first and moved when it is complete.
    Figures of an earlier report that this one has not are removed; other files in `output` stay.

    Parameters
    ----------
    report: the run.
    output: folder.
    direct: a run of the same network without transformed layers, to compare with.
    png: write the figures as PNG, too.

    Returns
    -------
    Paths of the files, the page last.

    Raises
    ------
    ReportError
        If the folder cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".report-", dir=output.parent) as folder:
            with _uncollected():
                names = _draw(report, Path(folder), direct, png)
            output.mkdir(exist_ok=True)
            for old in {f"{name}.{kind}" for name in NAMES for kind in KINDS} - set(names):
                (output / old).unlink(missing_ok=True)
            return [(Path(folder) / name).replace(output / name) for name in names]
    except OSError as error:
        raise ReportError(f"cannot write the report to {output}: {error.strerror}") from error


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without looking for garbage: drawing makes hundreds of thousands of objects that stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _draw(report: Report, folder: Path, direct: Report | None, png: bool) -> list[str]:
    pictures = {}
    names = []
    for name, (draw, description) in drawn(report).items():
        picture = draw(report)
        (folder / f"{name}.svg").write_text(picture.file(description), encoding="utf-8")
        pictures[name] = picture.inline(description)
        names.append(f"{name}.svg")
        if png:
            from reports.drawing.png import save  # Matplotlib, which nothing else here needs

            save(picture, folder / f"{name}.png")
            names.append(f"{name}.png")
    (folder / "layers.csv").write_text(tables.csv(tables.layers(report)), encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(summary(report, direct), indent=1) + "\n")
    (folder / "trace.json").write_text(json.dumps(trace(report), separators=(",", ":")))
    (folder / "index.html").write_text(page(report, pictures, direct), encoding="utf-8")
    return [*names, "layers.csv", "report.json", "trace.json", "index.html"]
