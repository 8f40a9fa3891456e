"""docs/configuration.md: every field of a configuration, its values, and what they cost.

python -m hw.arch.config_guide [FILE]     write the page (default docs/configuration.md)
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hw.arch.codes import ADDRESS_BITS, FEATURES, LOCAL_BITS
from hw.arch.config import (
    CENTRED_WEIGHT_BITS,
    CONFIG_DIRECTORY,
    NEEDS,
    TRANSFORM_BITS,
    AcceleratorConfig,
)
from hw.arch.config_sizes import sizes
from hw.arch.parts import (
    LEAST_RATE,
    MOST_GAP,
    ArrayConfig,
    LaneConfig,
    MemoryConfig,
    PortConfig,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
PARTS = {"array": ArrayConfig, "memory": MemoryConfig, "port": PortConfig, "lanes": LaneConfig}


@dataclasses.dataclass(frozen=True, slots=True)
class Guide:
    """What a user needs to know of a field.

    Attributes
    ----------
    field: ``part.name``, or the name of a field of the whole.
    values: what it may be.
    costs: what more of it costs and brings.
    agrees: what it must agree with.
    good, bad: examples that `base` takes, and that no configuration takes (for the tests).
    """

    field: str
    values: str
    costs: str
    agrees: str = ""
    good: tuple[Any, ...] = ()
    bad: tuple[Any, ...] = ()


GUIDES = (
    Guide(
        "array.rows",
        "4, 8, 16, 32",
        "rows × cols multipliers; also the lane block: every pixel is stored in rows bytes, so few "
        "channels leave lanes idle",
        "`port.bytes` is equal; `cols` is a multiple; `lanes` divide it",
        bad=(2, 12, 64),
    ),
    Guide(
        "array.cols",
        "a power of two and multiple of rows, up to 32",
        "multipliers, adder trees and accumulators",
        "at most `memory.parameter_columns`",
        good=(16, 32),
        bad=(8, 48, 64),
    ),
    Guide(
        "array.activation_bits",
        "9 to 18",
        f"width of one multiplier operand: 9 direct; at least {TRANSFORM_BITS['hfa'][0]} with hfa, "
        f"{TRANSFORM_BITS['hfa_nested'][0]} with hfa_nested",
        "the features' transforms",
        good=(17, 18),
        bad=(8, 19),
    ),
    Guide(
        "array.weight_bits",
        "8 to 18",
        f"width of the other operand: 8 direct; at least {TRANSFORM_BITS['hfa'][1]} with hfa, "
        f"{TRANSFORM_BITS['hfa_nested'][1]} with hfa_nested, {CENTRED_WEIGHT_BITS} with attention",
        "the features' transforms",
        good=(16, 18),
        bad=(7, 19),
    ),
    Guide(
        "array.weight_rows_per_cycle",
        "1, 2, 4 ... rows",
        "a new weight block takes rows / this cycles, which short streams do not hide; widens the "
        "weight scratchpad",
        "",
        good=(1, 16),
        bad=(3, 32),
    ),
    Guide(
        "memory.activation_banks",
        "a power of two",
        "block RAM; each bank has a read and a write port with one owner at a time, so more banks "
        "let more units work at once",
        f"banks × rows is at most {1 << ADDRESS_BITS}",
        good=(4, 16),
        bad=(0, 3, 64),
    ),
    Guide(
        "memory.activation_bank_rows",
        "a power of two",
        "block RAM; larger tiles, less traffic",
        f"banks × rows is at most {1 << ADDRESS_BITS}",
        good=(1024, 4096),
        bad=(1000, 16384),
    ),
    Guide(
        "memory.weight_bytes",
        f"a power of two, up to {1 << LOCAL_BITS} beats of port.bytes",
        "block RAM; kernels of more taps than half of it holds are summed in several passes",
        "holds whole weight blocks of rows × cols bytes (with attention in each of its banks)",
        good=(65536, 262144),
        bad=(1000, 128, 16 << LOCAL_BITS + 1),
    ),
    Guide(
        "memory.accumulator_rows",
        "a power of two up to 2048",
        "two banks of cols × accumulator_bits each; larger tiles of results",
        "",
        good=(256, 2048),
        bad=(100, 4096),
    ),
    Guide(
        "memory.accumulator_bits",
        "32 to 48; up to 36 with hfa",
        "width of sums; 36 is a native width of block RAM",
        "the exact division of hfa takes at most 36",
        good=(32, 36),
        bad=(31, 49),
    ),
    Guide(
        "memory.parameter_columns",
        "a power of two, at least cols",
        "8 bytes per output channel; channels of a layer beyond it are loaded in turns",
        f"at least `array.cols`; up to {1 << LOCAL_BITS} beats",
        good=(16, 2048),
        bad=(8, 100),
    ),
    Guide(
        "memory.tables",
        "1, 2, 4, 8",
        "256 bytes each: functions of one tensor (SiLU, sigmoid)",
        "8 with feature fold",
        good=(8,),
        bad=(1, 3, 16),
    ),
    Guide(
        "memory.line_pixels",
        "a power of two up to 4096",
        "line buffer of depthwise windows, in every column; wider maps are cut",
        "",
        good=(128, 4096),
        bad=(100, 8192),
    ),
    Guide(
        "memory.transformed_rows",
        "0 without hfa; else a power of two up to 4096",
        "two halves of U, the transformed activations",
        "at least the points of a tile: 36 with hfa, 144 with hfa_nested",
        good=(256, 4096),
        bad=(0, 128, 8192),
    ),
    Guide("port.bytes", "array.rows", "bandwidth: bytes a cycle", "`array.rows`", bad=(8, 32)),
    Guide(
        "port.max_burst",
        "a power of two up to 256",
        "long bursts waste fewer cycles; the store FIFO holds two of them",
        "holds one instruction of 64 bytes",
        good=(4, 64),
        bad=(2, 3, 512),
    ),
    Guide(
        "port.outstanding",
        "1 to 16",
        "bursts in flight: hides the latency of memory",
        "",
        good=(1, 16),
        bad=(0, 17),
    ),
    Guide(
        "port.store_fifo",
        "a power of two, two bursts to 4096",
        "rows that STORE reads ahead",
        "at least 2 × `port.max_burst`",
        good=(128, 4096),
        bad=(64, 100, 8192),
    ),
    Guide(
        "port.rate",
        f"{LEAST_RATE} to 1",
        "no part of the circuit: beats a cycle that the compiler expects of the memory; "
        "`compiler build --memory BOARD` takes a board's",
        "",
        good=(0.01, 0.5, 1.0),
        bad=(0.0, 1.01, -1.0),
    ),
    Guide(
        "port.gap",
        f"0 to {MOST_GAP} cycles",
        "no part of the circuit: what the compiler expects the memory to lose between two bursts; "
        "tiles of few columns have short ones",
        "",
        good=(7, 64),
        bad=(-1, 65),
    ),
    Guide(
        "lanes.requantize",
        "divides rows; 8 bytes each fill a beat",
        "requantizers: DRAIN takes rows × window × cols / this cycles",
        "`array.rows`; a multiple of `lanes.output_transform`",
        good=(16,),
        bad=(0, 1, 3),
    ),
    Guide(
        "lanes.vector",
        "divides rows",
        "VECTOR takes source rows × rows / this cycles",
        "`array.rows`; at least 2 with feature fold",
        good=(2, 16),
        bad=(0, 1, 3, 32),
    ),
    Guide(
        "lanes.output_transform",
        "0 without hfa; else divides lanes.requantize",
        "output transforms of DRAIN",
        "`lanes.requantize`",
        good=(1, 16),
        bad=(0, 3, 32),
    ),
    Guide(
        "queue_depth",
        "2, 4, 8, 16",
        "instructions that each unit's queue holds: how far LOAD runs ahead",
        "",
        good=(2, 16),
        bad=(1, 3, 32),
    ),
    Guide(
        "features",
        "any of " + ", ".join(FEATURES),
        "see below",
        "; ".join(f"{name} needs {' and '.join(needed)}" for name, needed in NEEDS.items()),
        bad=(("hfa", "hfa"), ("none",)),
    ),
)

BRING = {
    "depthwise": "depthwise windows in the columns of the array (mode DEPTHWISE)",
    "vector": "the vector unit: elementwise, pools, tables, means",
    "hfa": "exact integer Winograd in space or time: F(2,3), F(4,3), F(2×2,3×3), F(4×4,3×3)",
    "hfa_nested": "transforms in space and time at once",
    "hfa_depthwise": "F(2×2,3×3) of depthwise layers",
    "fold": "softmax, norms and ArgMax on VECTOR",
    "attention": "products of two activations: weights with a zero point, four weight banks",
}


def default(field: str) -> str:
    """Its default, or that it has none."""
    part, _, name = field.rpartition(".")
    kind: Any = PARTS[part] if part else AcceleratorConfig
    value = next(f.default for f in dataclasses.fields(kind) if f.name == name)
    if value is dataclasses.MISSING:
        return "–"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


def _page() -> Iterator[str]:
    yield "# Configuration"
    yield ""
    yield "Written by `python -m hw.arch.config_guide`; do not edit."
    yield ""
    yield (
        "A configuration is a YAML file. `--config` takes its path, or the name of a preset: "
        + ", ".join(sorted(path.stem for path in CONFIG_DIRECTORY.glob("*.yaml")))
        + ". `python -m hw config FILE` prints what follows from one: derived sizes, and what fits "
        "where. Simulators, compiler and circuit are made from the same file, and a program "
        "carries its fingerprint: it runs on nothing else."
    )
    yield ""
    yield "This is `base`:"
    yield ""
    yield "```yaml"
    yield (CONFIG_DIRECTORY / "base.yaml").read_text().rstrip()
    yield "```"
    yield ""
    yield "## Fields"
    yield ""
    head = ("field", "values", "default", "costs and brings", "must agree with")
    fields = [
        (f"`{g.field}`", g.values, default(g.field), g.costs, g.agrees or "–") for g in GUIDES
    ]
    yield from _table(head, fields)
    yield "`name` is 1 to 64 letters, digits, - and _; a file without it lends its own."
    yield ""
    yield "## Features"
    yield ""
    yield from _table(("feature", "brings"), [(f"`{name}`", BRING[name]) for name in FEATURES])
    yield "## Presets"
    yield ""
    presets = [AcceleratorConfig.load(p) for p in sorted(CONFIG_DIRECTORY.glob("*.yaml"))]
    names = [name for name, _ in sizes(presets[0])][:9]
    rows: list[Sequence[str]] = [
        (f"`{config.name}`", *(dict(sizes(config))[name].split(":")[0] for name in names))
        for config in presets
    ]
    yield from _table(("preset", *names), rows)


def page() -> str:
    """The page's text."""
    return "\n".join(_page()).rstrip() + "\n"


def main(arguments: Sequence[str]) -> None:
    """Write the page."""
    path = Path(arguments[0]) if arguments else PAGE
    path.write_text(page())


if __name__ == "__main__":
    main(sys.argv[1:])
