"""How many cells a configuration takes, without synthesis: a model by unit.

Cells of a unit are a sum of terms, each a product of the configuration's parameters with a
coefficient that was fitted to what Yosys counts (`python -m scripts.resources`; the coefficients
are in resources.json). None is negative: what grows cannot take fewer cells. Memories are counted
by their shapes: how many block RAMs hold them follows from the block's sizes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from hw.arch.config import AcceleratorConfig
from hw.synthesis import Resources

__all__ = ["FITTED", "KINDS", "UNITS", "block_rams", "fit", "grouped", "predict", "total"]

FITTED = Path(__file__).with_name("resources.json")
"""Coefficients by unit, kind of cell and term; and what a board puts around the core."""
KINDS = ("lut", "ff", "bram", "dsp")
BLOCK_BITS, NARROW = 1 << 14, {1: 1, 2: 2, 4: 4, 9: 8, 18: 16, 36: 32}
"""A block RAM's bits, without its parity; its widths, and the bits that its depth divides by."""
RAM_CELL_ROWS, RAM_CELL_BITS, RAM_CELL_COST, BLOCK_COST = 16, 4, 4, 128
"""Of a memory cell of four tables, and what Yosys takes one and a block for (its share/lattice)."""


def block_rams(width: int, depth: int) -> int:
    """Block RAMs (DP16KD) of a memory with one read and one write port, as Yosys maps it.

    Parameters
    ----------
    width: bits of a row. depth: rows.
    """
    blocks = min(
        -(-width // data) * -(-depth // (BLOCK_BITS // size)) for data, size in NARROW.items()
    )
    return 0 if _ram_luts(width, depth) < BLOCK_COST * blocks else blocks


def _ram_luts(width: int, depth: int) -> int:
    """Tables that hold a memory, where it needs no block RAM."""
    return RAM_CELL_COST * -(-width // RAM_CELL_BITS) * -(-depth // RAM_CELL_ROWS)


def _memories(c: AcceleratorConfig) -> dict[str, int]:
    """Block RAMs (or tables) of memories whose shape the configuration says, all copies."""
    m, rows, beat = c.memory, c.array.rows, 8 * c.port.bytes
    window = c.array.cols if "depthwise" in c.features else 0
    group = c.weight_group_beats
    return {
        "accumulators": 2 * c.array.cols * block_rams(m.accumulator_bits, m.accumulator_rows),
        "lines": window * block_rams(18, m.line_pixels),
        "transformed": block_rams(rows * c.array.activation_bits, 2 * m.transformed_rows),
        "activations": m.activation_banks * block_rams(8 * rows, m.activation_bank_rows),
        "weights": c.weight_banks * group * block_rams(beat, c.weight_bank_beats // group),
        "parameters": c.parameter_row_beats * block_rams(beat, c.parameter_rows),
        "tables": c.lanes.vector * block_rams(beat, m.tables * c.table_beats),
        "fifo": block_rams(beat, c.port.store_fifo),
        "parameter_luts": 0
        if block_rams(beat, c.parameter_rows)
        else c.parameter_row_beats * _ram_luts(beat, c.parameter_rows),
    }


def _terms(c: AcceleratorConfig) -> dict[str, float]:
    """Every term's value."""
    array, lanes, memory = c.array, c.lanes, c.memory
    sizes: dict[str, float] = {
        "one": 1,
        "rows": array.rows,
        "cols": array.cols,
        "requantize": lanes.requantize,
        "output": lanes.output_transform,
        "vector": lanes.vector,
        "multipliers": array.multipliers,
        "operands": array.multipliers * (array.activation_bits + array.weight_bits),
        "sums": array.cols * memory.accumulator_bits,
        "banks": memory.activation_banks,
        "crossbar": memory.activation_banks * array.rows,
        "groups": array.weight_rows_per_cycle * array.cols,
        "depth": c.queue_depth,
    }
    values: dict[str, float] = dict(sizes)
    for feature in ("depthwise", "vector", "hfa", "hfa_nested", "fold", "attention"):
        here = float(feature in c.features)
        values |= {f"{feature}*{name}": here * size for name, size in sizes.items()}
    return values | _memories(c)


MEMORIES = frozenset(
    (
        "accumulators",
        "lines",
        "transformed",
        "activations",
        "weights",
        "parameters",
        "tables",
        "fifo",
    )
)
"""Terms that are block RAMs already."""
Terms = tuple[str, ...]
CORE: Terms = ("one", "rows", "vector*one", "fold*one", "hfa*one", "attention*one")
ARRAY: Terms = (
    *("one", "rows", "cols", "operands", "sums"),
    *("hfa*one", "hfa*rows", "hfa*cols", "hfa*multipliers", "hfa_nested*one", "hfa_nested*rows"),
    *("attention*one", "attention*rows"),
)
DRAIN: Terms = (
    *("one", "cols", "sums", "requantize", "hfa*one", "hfa*output", "hfa*requantize"),
    *("hfa*sums", "hfa_nested*one", "hfa_nested*output"),
)
VECTOR: Terms = (
    *("vector*one", "vector*rows", "vector*vector", "fold*one", "fold*rows", "fold*vector"),
    *("attention*one", "attention*rows"),
)
UNITS: Mapping[str, Mapping[str, Terms]] = {
    "array": {
        "lut": ARRAY,
        "ff": ARRAY,
        "bram": ("accumulators", "lines", "transformed", "hfa*rows", "hfa_nested*rows"),
        "dsp": ("multipliers", "one", "hfa*one"),
    },
    "drain": {
        "lut": DRAIN,
        "ff": DRAIN,
        "bram": ("hfa*one", "hfa*output"),
        "dsp": ("one", "requantize", "hfa*one", "hfa*output"),
    },
    "vector": {
        "lut": VECTOR,
        "ff": VECTOR,
        "bram": ("tables", "fold*one", "attention*one"),
        "dsp": ("vector*one", "vector*vector", "fold*one", "fold*vector"),
    },
    "scratchpad": {
        "lut": ("one", "rows", "banks", "crossbar", "vector*crossbar"),
        "ff": ("one", "rows", "banks", "crossbar", "vector*crossbar"),
        "bram": ("activations",),
    },
    "weights": {
        "lut": ("one", "groups", "attention*one", "attention*groups"),
        "ff": ("one", "groups", "attention*one", "attention*groups"),
        "bram": ("weights",),
    },
    "queues": {
        "lut": ("one", "depth", "vector*one", "hfa*one", "fold*one"),
        "ff": ("one", "depth", "vector*one", "hfa*one", "fold*one"),
    },
    "rest": {
        "lut": (*CORE, "parameter_luts"),
        "ff": CORE,
        "bram": ("parameters", "fifo"),
        "dsp": ("one",),
    },
}
"""Terms of each unit's cells; `rest` is all else of the core, and what lies between units."""


def grouped(units: Mapping[str, Resources], used: Resources) -> dict[str, Resources]:
    """Cells by the model's units, of those that synthesis counts and of the whole."""
    result = {name: Resources(0, 0, 0, 0) for name in UNITS}

    def add(name: str, cells: Resources, sign: int) -> None:
        values = {k: getattr(result[name], k) + sign * getattr(cells, k) for k in KINDS}
        result[name] = Resources(**values)

    for name, cells in units.items():
        group = "queues" if name.startswith("queue_") else name
        if group in UNITS:
            add(group, cells, 1)
    add("rest", used, 1)
    for name in UNITS:
        if name != "rest":
            add("rest", result[name], -1)
    return result


def total(parts: Iterable[Resources]) -> Resources:
    """Sum of cells."""
    rows = list(parts)
    return Resources(**{kind: sum(getattr(row, kind) for row in rows) for kind in KINDS})


Coefficients = dict[str, dict[str, dict[str, float]]]


def fit(samples: Sequence[tuple[AcceleratorConfig, Mapping[str, Resources]]]) -> Coefficients:
    """Coefficients that bring every unit nearest to what was counted.

    Parameters
    ----------
    samples: configurations and their cells by unit (`grouped`). A cell of a small design weighs
        more than one of a large one: errors are meant in shares of the whole.
    """
    values = [_terms(config) for config, _ in samples]
    result: Coefficients = {}
    for kind in KINDS:
        whole = np.array([getattr(total(u.values()), kind) for _, u in samples], float)
        for unit, kinds in UNITS.items():
            if kind in kinds:
                goal = np.array([getattr(u[unit], kind) for _, u in samples], float)
                found = _solved(kinds[kind], values, goal, 1 / np.maximum(1, whole))
                result.setdefault(unit, {})[kind] = found
    return result


def _solved(
    terms: Terms, values: Sequence[Mapping[str, float]], goal: np.ndarray, weight: np.ndarray
) -> dict[str, float]:
    """Coefficients of one sum: memories count as they are, the others take what is left."""
    known = {term: 1.0 for term in terms if term in MEMORIES}
    free = [term for term in terms if term not in known]
    if not free:
        return known
    left = goal - [sum(value[term] for term in known) for value in values]
    matrix = np.array([[value[term] for term in free] for value in values])
    # Columns of one size, so that the solver's tolerance means the same for each.
    scale = np.maximum(matrix.max(axis=0), 1e-9)
    found, _ = nnls(matrix / scale * weight[:, None], left * weight)
    pairs = zip(free, found / scale, strict=True)
    return known | {term: float(f"{value:.6g}") for term, value in pairs if value > 1e-6}


@cache
def _fitted() -> tuple[Coefficients, dict[str, Resources]]:
    content = json.loads(FITTED.read_text())
    around = {name: Resources(**cells) for name, cells in content["around"].items()}
    return content["coefficients"], around


def predict(
    config: AcceleratorConfig, board: str | None = None, coefficients: Coefficients | None = None
) -> dict[str, Resources]:
    """Cells of each unit of a configuration.

    Parameters
    ----------
    config: the accelerator.
    board: adds the row `around`, the SoC of this board.
    coefficients: other ones than the project's.
    """
    known, around = _fitted() if coefficients is None else (coefficients, {})
    values = _terms(config)
    rows = {}
    for unit, kinds in UNITS.items():
        cells = dict.fromkeys(KINDS, 0)
        for kind in kinds:
            terms = known[unit][kind]
            cells[kind] = round(sum(share * values[term] for term, share in terms.items()))
        rows[unit] = Resources(**cells)
    if board is not None:
        rows["around"] = around[board]
    return rows
