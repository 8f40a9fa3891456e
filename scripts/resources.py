"""hw/boards/resources.json: what units take, fitted to what Yosys counts.

    python -m scripts.resources [CONFIGURATION ...]

synthesises what is named (minutes each): a configuration of those below, a preset, or a board's SoC
to count what is around its core; keeps what was counted in scripts/resources.json; and fits anew.
Without a name it only fits. Presets are held out: nothing is fitted to them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from hw.accelerator import Accelerator
from hw.arch.boards import BOARDS
from hw.arch.config import AcceleratorConfig
from hw.boards.mapping import count_units
from hw.boards.resources import FITTED, KINDS, fit, grouped, predict, total
from hw.synthesis import (
    CACHE,
    TOP,
    Resources,
    is_unit,
    resources_of,
    synthesise,
    units_of,
)

COUNTED = Path(__file__).with_name("resources.json")
WORK = Path("build/resources")
HELD_OUT = ("tiny", "tiny_direct", "wide", "ecp5_85k", "ecp5_85k_direct")
"""Presets that the model is judged by."""
INSIDE = "ecp5_85k_direct"
"""A core of the usual port, for the SoC that is mapped to count what is around it."""
DIRECT = ("depthwise", "vector")
HFA = {"activation_bits": 15, "weight_bits": 14}
NESTED = {"activation_bits": 16, "weight_bits": 16}
ATTENTION = {"weight_bits": 9}
EVERY = (*DIRECT, "hfa", "hfa_nested", "hfa_depthwise", "fold", "attention")


def sample(
    rows: int,
    cols: int,
    lanes: tuple[int, int, int],
    features: Sequence[str],
    *,
    bits: Mapping[str, int] | None = None,
    groups: int = 1,
    depth: int = 4,
    **memory: int,
) -> dict[str, Any]:
    """A configuration's content: shape, lanes (requantize, vector, output transform), features."""
    sizes = {
        "activation_banks": 4,
        "activation_bank_rows": 1024,
        "weight_bytes": 8192,
        "accumulator_rows": 256,
        "parameter_columns": 128,
        "tables": 8 if "fold" in features else 2,
    }
    return {
        "array": {"rows": rows, "cols": cols, "weight_rows_per_cycle": groups, **(bits or {})},
        "memory": sizes | memory,
        "port": {"bytes": rows},
        "lanes": dict(zip(("requantize", "vector", "output_transform"), lanes, strict=True)),
        "queue_depth": depth,
        "features": list(features),
    }


SAMPLES = {
    "r4": sample(4, 4, (4, 4, 0), DIRECT),
    "r4_cols": sample(4, 16, (4, 4, 0), DIRECT, activation_banks=8),
    "r4_fold": sample(4, 4, (4, 4, 0), (*DIRECT, "fold")),
    "r4_hfa": sample(4, 4, (4, 1, 4), (*DIRECT, "hfa"), bits=HFA, transformed_rows=256),
    "r4_half": sample(4, 4, (4, 1, 2), (*DIRECT, "hfa"), bits=HFA, transformed_rows=256),
    "r4_every": sample(4, 4, (4, 2, 4), EVERY, bits=NESTED, transformed_rows=256),
    "r4_attention": sample(
        *(4, 8, (4, 2, 0), (*DIRECT, "fold", "attention")), bits=ATTENTION, line_pixels=512
    ),
    "r8": sample(
        *(8, 8, (8, 4, 0), DIRECT),
        groups=2,
        activation_banks=8,
        accumulator_rows=512,
        parameter_columns=512,
    ),
    "r8_hfa_fold": sample(
        *(8, 8, (4, 4, 4), (*DIRECT, "hfa", "fold")),
        bits=HFA,
        accumulator_rows=512,
        parameter_columns=512,
        transformed_rows=512,
    ),
}
"""What the model is fitted to: each shape, lane count and feature next to one without it."""


def configuration(name: str) -> AcceleratorConfig:
    """A sample, or a preset that is held out."""
    if name in SAMPLES:
        return AcceleratorConfig.from_mapping({"name": name, **SAMPLES[name]})
    return AcceleratorConfig.load(name)


def counted() -> dict[str, Any]:
    """What was kept: cells by unit of each configuration, and what boards put around a core."""
    empty: dict[str, Any] = {"configurations": {}, "around": {}}
    return json.loads(COUNTED.read_text()) if COUNTED.exists() else empty


def _as_json(units: Mapping[str, Resources]) -> dict[str, dict[str, int]]:
    return {name: dataclasses.asdict(cells) for name, cells in units.items()}


def units(entry: Mapping[str, Any]) -> dict[str, Resources]:
    """Cells by unit of a kept configuration."""
    return {name: Resources(**cells) for name, cells in entry["units"].items()}


def count(config: AcceleratorConfig, work: Path, cache: Path) -> dict[str, Any]:
    """Synthesise a whole configuration: its fingerprint, and its cells by the model's units."""
    used = synthesise(config, work, cache)
    return _entry(config, grouped(units_of(work), used))


def count_parts(config: AcceleratorConfig, cache: Path) -> dict[str, Any]:
    """The same from its units alone, one of each kind: less than half of the time.

    Nothing is linked, which adds up to a percent of what synthesis finds to be the same or unused.
    """
    cells = count_units(
        rtlil.convert(Accelerator(config), name=TOP, emit_src=False),
        TOP,
        cache,
        is_unit=is_unit,
        operands=(config.array.activation_bits, config.array.weight_bits),
    )
    parts: dict[str, Resources] = {}
    for name, types in cells.items():
        names = name.partition("$")[0].split(".")
        part = names[2] if names[1:2] == ["core"] and len(names) > 2 else names[-1]
        parts[part] = total([parts.get(part, Resources(0, 0, 0, 0)), resources_of(types)])
    return _entry(config, grouped(parts, total(parts.values())))


def _entry(config: AcceleratorConfig, units: Mapping[str, Resources]) -> dict[str, Any]:
    return {"fingerprint": f"{config.fingerprint:016x}", "units": _as_json(units)}


def around(name: str) -> dict[str, int]:
    """Cells of a board's SoC without the core."""
    from hw.boards.soc import SHELL, board_parts  # LiteX is needed for this only
    from hw.boards.soc_netlist import is_board_unit, soc_rtlil

    config, board, directory = AcceleratorConfig.load(INSIDE), BOARDS[name], WORK / name
    directory.mkdir(parents=True, exist_ok=True)
    parts = board_parts(config, board, board.clock_hz)
    cells = count_units(
        soc_rtlil(parts, directory),
        parts.top,
        CACHE,
        is_unit=is_board_unit,
        operands=(config.array.activation_bits, config.array.weight_bits),
        outer=True,
        wanted=lambda unit: not unit.startswith(f"{SHELL}.accelerator"),
    )
    return dataclasses.asdict(total(map(resources_of, cells.values())))


def errors(entry: Mapping[str, Any], name: str) -> dict[str, float]:
    """By how much the prediction is off what was counted, in shares of it, by kind of cell."""
    predicted, there = total(predict(configuration(name)).values()), total(units(entry).values())
    return {k: getattr(predicted, k) / max(1, getattr(there, k)) - 1 for k in KINDS}


def fitted(content: Mapping[str, Any]) -> dict[str, Any]:
    """Content of resources.json."""
    samples = [(configuration(n), units(content["configurations"][n])) for n in SAMPLES]
    return {"coefficients": fit(samples), "around": content["around"]}


def main(words: Sequence[str] | None = None) -> int:
    """Count what is named, fit, print how far off the configurations are."""
    parser = argparse.ArgumentParser(description=__doc__)
    known = (*SAMPLES, *HELD_OUT, *BOARDS)
    parser.add_argument("names", nargs="*", metavar="CONFIGURATION", help=", ".join(known))
    parser.add_argument("--whole", action="store_true", help="link, and count the whole")
    options = parser.parse_args(words)
    for name in options.names:
        content = counted()
        if name in BOARDS:
            content["around"][name] = around(name)
        else:
            config = configuration(name)
            whole = options.whole
            entry = count(config, WORK / name, CACHE) if whole else count_parts(config, CACHE)
            content["configurations"][name] = entry
        COUNTED.write_text(json.dumps(content, indent=1) + "\n")
    content = counted()
    FITTED.write_text(json.dumps(fitted(content), indent=1) + "\n")
    for name, entry in content["configurations"].items():
        part = "held out" if name in HELD_OUT else "fitted"
        shown = ", ".join(f"{kind} {off:+.1%}" for kind, off in errors(entry, name).items())
        print(f"{name:<16}{part:<10}{shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
