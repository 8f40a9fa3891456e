"""docs/program-format.md and docs/run-json.md with their schemas, written from the classes.

python -m sim.formats     write them
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hw.arch import program
from hw.arch.formats import schema, table
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.program import Block, Feed, Input, Layer, Output, State, Tensor, Trips
from sim.answers import Answer, Entry
from sim.compare import Difference
from sim.distance import Distance
from sim.memory import Region
from sim.result import VERSION, Instructions, LayerResult, RunResult

DOCS = Path(__file__).resolve().parents[1] / "docs"
HEADER = (
    program.Header,
    Input,
    Feed,
    Output,
    Tensor,
    TensorLayout,
    LaneMap,
    Layer,
    Block,
    Trips,
    State,
)
RESULT = (RunResult, LayerResult, Instructions, Difference, Region, Answer, Entry, Distance)


def _classes(kinds: tuple[Any, ...]) -> Iterator[str]:
    for kind in kinds:
        yield f"### {kind.__name__.lstrip('_')}"
        yield ""
        yield (kind.__doc__ or "").strip().split("\n")[0]
        yield ""
        yield from table(kind, program.Program if kind is program.Header else None)


PROGRAM = f"""
Written by `python -m sim.formats`; do not edit. `hw/arch/program.py` reads and writes it;
[program.schema.json](program.schema.json) is the header's schema. Version {program.VERSION}: a
reader refuses another one.

A compiler ends, and a simulator or a host begins, at this file (`program.bin` of a build):
instructions, the image of DRAM, and where everything lies.
"""
HOST = """
A host runs it so: put code and image into DRAM at their addresses (all relative to `dram_base`),
quantize the inputs as `feeds` and `tensors` say and write them, start the core ([isa.md](isa.md),
registers), wait for its interrupt, read the outputs' tensors. The instructions are those of
[isa.md](isa.md), 64 bytes each. Equal programs are equal bytes.
"""
RUN = f"""
Written by `python -m sim.formats`; do not edit. `sim/result.py` reads and writes it;
[run.schema.json](run.schema.json) is its schema. Version {VERSION}: a reader refuses another one,
and fields may be added within a version.

`python -m sim run BUILD` writes it to BUILD/runs/BACKEND-INPUT/run.json, outputs.npz beside it.
Cycles count from the start of the run; where time was not simulated, everything that needs it is
null, never zero.
"""


def program_page() -> str:
    """docs/program-format.md."""
    layout = (program.__doc__ or "").split("\n\n")[2].split("\n")
    bare = "\n".join(line.removeprefix("    ") for line in layout)
    head = f"# The program file\n{PROGRAM}\n```\n{bare}\n```\n{HOST}\n## Header\n\n"
    return (head + "\n".join(_classes(HEADER))).rstrip() + "\n"


def result_page() -> str:
    """docs/run-json.md."""
    return (f"# run.json\n{RUN}\n" + "\n".join(_classes(RESULT))).rstrip() + "\n"


def files() -> dict[str, str]:
    """Contents by name, below docs/."""
    schemas = {
        "program.schema.json": schema(program.Header, "header of program.bin"),
        "run.schema.json": schema(RunResult, "run.json"),
    }
    texts = {name: json.dumps(content, indent=1) + "\n" for name, content in schemas.items()}
    return {"program-format.md": program_page(), "run-json.md": result_page(), **texts}


if __name__ == "__main__":
    for name, text in files().items():
        (DOCS / name).write_text(text, encoding="utf-8")
