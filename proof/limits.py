"""How far the integer definitions may be from the user's nodes, evaluated in float as written.

python -m proof.limits [FILE]     write the table into docs/numerics.md

A difference is *at a tie* where the file's own float, before the last rounding, lies within
`reach` steps of the middle between two codes: there float noise decides, and either code is right.
Everything else may differ in at most the share `beyond` of the elements, and nothing by more than
`steps`.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from shell import leave

PAGE = Path(__file__).resolve().parents[1] / "docs" / "numerics.md"
BEGIN, END = "<!-- limits: python -m proof.limits -->\n", "<!-- end of limits -->\n"


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """What one form of operator may differ by.

    Attributes
    ----------
    what: the operators, for people.
    steps: of the result's scale.
    reach: steps from a tie within which a difference needs no other reason; those that constants
        are moved by when they become integers count besides (`Group.lost`).
    beyond: share of the elements that may differ elsewhere.
    kernel: share that may differ where the file names ONNX Runtime's integer kernel itself
        (QOperator format), whose float is not to be seen.
    noisy: the file's own float may be noise: where it is, its nodes in double decide.
    """

    what: str
    steps: int = 0
    reach: float = 0.0
    beyond: float = 0.0
    kernel: float = 0.0
    noisy: bool = False


LIMITS: dict[str, Limit] = {
    "quantize": Limit("QuantizeLinear of a graph input, or of what the host computes"),
    "dequantize": Limit("float outputs of the graph"),
    "move": Limit("moves, maxima and clamps of integers"),
    "requantize": Limit("moves, maximum pools, changes of scale"),
    "Concat": Limit("Concat, each part at the scale of the result"),
    "extremum": Limit("Max, Min"),
    "product": Limit("Conv, Gemm, MatMul", 1, 2.0**-6, 1e-5),
    "softmax": Limit("Softmax", 1, 2.0**-6, 0.0, 0.2),
    "norm": Limit("LayerNormalization, and norms written out", 1, 2.0**-6, noisy=True),
    "mean": Limit("GlobalAveragePool, ReduceMean, ReduceSum", 1, 2.0**-6, 0.0),
    "AveragePool": Limit("AveragePool", 1, 2.0**-6, 0.0, 0.05),
    "Add": Limit("Add", 1, 2.0**-6, 1e-5),
    "Sub": Limit("Sub", 1, 2.0**-6, 1e-5),
    "Mul": Limit("Mul", 1, 2.0**-6, 1e-5),
    "Div": Limit("Div", 1, 2.0**-6, 1e-5),
    "Sum": Limit("Sum of three and more", 1, 2.0**-6, 1e-5),
    "channelwise": Limit(
        "a float factor or offset per channel, BatchNormalization", 1, 2.0**-6, 1e-5
    ),
    "PRelu": Limit("PRelu with a slope per channel", 1, 2.0**-6, 1e-5),
    "function": Limit("elementwise functions of one tensor, as tables", 1, 2.0**-6, 1e-3, 1e-3),
}
"""By the form that the oracle gives a group of nodes."""


def _share(value: float) -> str:
    return "0" if value == 0 else f"{value:.0e}" if value < 0.01 else f"{value:.0%}"


def table() -> str:
    """The limits as a table in Markdown, between its marks."""
    rows = [
        "| form | steps | a tie reaches | beyond it | QOperator form |",
        "|---|---|---|---|---|",
    ]
    for limit in LIMITS.values():
        reach = "–" if limit.reach == 0 else f"1/{round(1 / limit.reach)} step"
        row = [limit.what, limit.steps, reach, _share(limit.beyond), _share(limit.kernel)]
        rows.append("| " + " | ".join(str(cell) for cell in row) + " |")
    return BEGIN + "\n".join(rows) + "\n" + END


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table into the page."""
    parser = argparse.ArgumentParser(prog="python -m proof.limits", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=PAGE)
    path = parser.parse_args(arguments).file
    before, _, rest = path.read_text().partition(BEGIN)
    path.write_text(before + table() + rest.partition(END)[2])
    return 0


if __name__ == "__main__":
    leave(main)
