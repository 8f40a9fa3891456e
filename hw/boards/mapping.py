"""A netlist of ECP5 cells, unit by unit, with Yosys.

Units are modules that are mapped on their own, at the same time, and kept by the content of their
RTLIL, so that a change costs the mapping of what it touched. Their netlists are linked and
flattened afterwards. Between units lie registers; what optimisation across their borders would find
is little, and ABC9 takes many times longer on the flat design.

All eight flip-flops of a logic tile share one reset, so that a few hundred reset nets would tear
apart what belongs together. Where fewer than `LEAST_RESET` flip-flops of a unit use a reset it
becomes a gate in front of D, and data registers of the circuit have none (`latch.register_of`).
Clock enables that fewer than `LEAST_ENABLED` flip-flops use are gates, too.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hw.boards.ecp5 import multiplier_map

__all__ = ["SynthesisError", "count_units", "map_netlist", "run_tool", "run_yosys"]

LEAST_ENABLED = 6
LEAST_RESET = 100
PRODUCT = re.compile(r"^module \\\S*\bproduct\d+(\$\d+)?$", re.MULTILINE)
"""Modules of hw.compute.parts.product."""
NO_CHECK = re.compile(
    r"^  attribute \\no_rw_check 1\n(?:  attribute .*\n)*  memory .* (\\\S+)$", re.MULTILINE
)
READ_PORT = re.compile(r"^  cell \$memrd_v2 .*\n(?:    .*\n)*", re.MULTILINE)
COLLISIONS = re.compile(r"(parameter \\COLLISION_X_MASK \d+')([01x]+)")
INSIDE, BLACK_BOX = "attribute \\keep_hierarchy 1", "attribute \\blackbox 1"
"""Of a unit inside another one: ABC leaves it alone; ABC9 needs both."""
RUN = "import sys; from pyosys import libyosys as y; y.run_pass(sys.argv[1], y.Design())"
"""Yosys from the package index as a program."""

UNIT_SCRIPT = """
read_rtlil {name}.il
read_verilog -lib -specify +/lattice/cells_sim_ecp5.v +/lattice/cells_bb_ecp5.v
hierarchy -check -top {top}
{multipliers}
proc
flatten
opt_expr
opt_clean
opt -nodffe -nosdff
opt
wreduce
peepopt
opt_clean
techmap -map +/cmp2lut.v -D LUT_WIDTH=4
opt_expr
opt_clean
techmap -map +/mul2dsp.v -D DSP_A_MAXWIDTH=18 -D DSP_B_MAXWIDTH=18 -D DSP_A_MINWIDTH=2 \
  -D DSP_B_MINWIDTH=2 -D DSP_NAME=$__MUL18X18
chtype -set $mul t:$__soft_mul
techmap -map +/lattice/dsp_map_18x18.v
alumacc
opt
memory -nomap
opt_clean
memory_libmap -lib +/lattice/lutrams_trellis.txt -lib +/lattice/brams_16kd.txt
techmap -map +/lattice/lutrams_map_trellis.v -map +/lattice/brams_map_16kd.v
opt -fast -mux_undef -undriven -fine
memory_map
opt -undriven -fine -mux_undef
techmap -map +/techmap.v -map +/lattice/arith_map_ccu2c.v
opt -fast
opt_clean
dfflegalize -cell $_DFF_?_ 01 -cell $_DFFE_??_ 01 -cell $_SDFF_?P?_ r -cell $_SDFFE_?P??_ r \
  -mince {least} -minsrst {least_reset}
opt_merge
techmap -D NO_LUT -map +/lattice/cells_map_trellis.v
opt_expr -undriven -mux_undef
simplemap
lattice_gsr
opt_clean
{abc}
clean
techmap -map +/lattice/cells_map_trellis.v
opt_lut_ins -tech lattice
clean
select {top}
write_rtlil -selected {name}.mapped.il
"""
"""Yosys' own `synth_ecp5`, but for resets, enables, and resource sharing, which costs wires."""

LINK_SCRIPT = """
{units}
read_verilog -lib +/lattice/cells_sim_ecp5.v +/lattice/cells_bb_ecp5.v
{more}
hierarchy -check -top {top}
tee -q -o units.json stat -json
flatten
clean
autoname
check -noinit
tee -q -o cells.json stat -json
blackbox =A:whitebox
write_json design.json
"""


class SynthesisError(RuntimeError):
    """A tool failed; the message holds the end of its log."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Module:
    """RTLIL of one module: all of it, only its ports, and what it instantiates."""

    name: str
    text: str
    ports: str
    cells: tuple[str, ...]


def collisions_do_not_matter(module: str) -> str:
    """RTLIL of a module whose memories marked `no_rw_check` say so at their read ports.

    Amaranth's read ports are clocked already, and Yosys looks at the attribute only where it merges
    a register into a port; unsaid, every block RAM gets registers and comparators that keep the
    old value for a read of the row that is being written.

    Raises
    ------
    SynthesisError
        If a marked memory has a transparent read port: its collisions do matter.
    """
    marked = set(NO_CHECK.findall(module))

    def mask(match: re.Match[str]) -> str:
        port = match[0]
        (memory,) = re.findall(r'parameter \\MEMID "(.*)"', port)
        if memory.replace("\\\\", "\\") not in marked:
            return port
        if "1" in re.findall(r"parameter \\TRANSPARENCY_MASK \d+'(\S+)", port)[0]:
            raise SynthesisError(f"{memory} is marked no_rw_check and has a transparent read port")
        return COLLISIONS.sub(lambda m: m[1] + "1" * len(m[2]), port)

    return READ_PORT.sub(mask, module)


def _modules(rtlil: str) -> dict[str, _Module]:
    """Modules of a design by name, as they come: children first."""
    result = {}
    for match in re.finditer(
        r"^(?:attribute [^\n]*\n)*module (\\\S+)\n(.*?)^end\n", rtlil, re.MULTILINE | re.DOTALL
    ):
        name, body = match[1], match[2]
        lines = body.splitlines()
        ports = [line for line in lines if re.match(r"  wire .*\b(input|output|inout) \d+ ", line)]
        cells = dict.fromkeys(re.findall(r"^  cell (\\\S+) ", body, re.MULTILINE))
        stub = "\n".join([INSIDE, f"module {name}", *ports, "end", ""])
        result[name] = _Module(name, collisions_do_not_matter(match[0]), stub, tuple(cells))
    return result


def run_tool(command: Sequence[str], directory: Path, log: str) -> str:
    """Run a program in `directory`; return what it printed, which is also in the file `log` there.

    Raises
    ------
    SynthesisError
        If it fails; with the end of the log.
    """
    path = directory / log
    with path.open("w") as stream:
        code = subprocess.run(
            command, stdout=stream, stderr=subprocess.STDOUT, check=False, cwd=directory
        ).returncode
    text = path.read_text()
    if code:
        tail = "\n".join(text.splitlines()[-12:])
        raise SynthesisError(f"{Path(command[0]).name} failed ({code}), see {path}:\n{tail}")
    return text


def run_yosys(script: str, directory: Path, name: str) -> str:
    """Run a script of Yosys' in `directory`; return its log, also in `NAME.log` there.

    Raises
    ------
    SynthesisError
        If it fails.
    """
    (directory / f"{name}.ys").write_text(script)
    return run_tool([sys.executable, "-c", RUN, f"script {name}.ys"], directory, f"{name}.log")


def _closure(modules: dict[str, _Module], top: str, units: set[str]) -> str:
    """RTLIL of a unit: its own modules whole, units inside it as ports only."""
    texts, found, todo = [], {top}, [top]
    while todo:
        module = modules[todo.pop()]
        own = module.name == top or module.name not in units
        texts.append(module.text if own else module.ports)
        if own:
            new = [cell for cell in module.cells if cell in modules and cell not in found]
            found.update(new)
            todo += new
    return "\n".join(texts)


@dataclasses.dataclass(frozen=True, slots=True)
class _Job:
    """A unit to be mapped: where it is kept, its RTLIL, and the template of its multipliers."""

    folder: Path
    text: str
    multipliers: str


def _jobs(
    rtlil: str,
    top: str,
    cache: Path,
    is_unit: Callable[[str], bool],
    operands: tuple[int, int] | None,
    outer: bool = False,
) -> dict[str, _Job]:
    """Units of a design by name; parameters as those of `map_netlist`."""
    cache.mkdir(parents=True, exist_ok=True)
    modules = _modules(rtlil)
    # In the order of the design: that of a set differs from run to run, and with it the netlist.
    units = [name for name in modules if name == f"\\{top}" or is_unit(name[1:])]
    multipliers = _multipliers(modules, operands) if operands else ""
    jobs = {}
    for name in units:
        text = _closure(modules, name, set(units))
        if outer and name == f"\\{top}":
            text = text.replace(INSIDE, f"{INSIDE}\n{BLACK_BOX}")
        settings = f"{LEAST_ENABLED} {LEAST_RESET}"
        # A unit without products is the same whatever the operands of those elsewhere.
        own = multipliers if PRODUCT.search(text) else ""
        content = "\n".join((text, UNIT_SCRIPT, settings, own))
        key = hashlib.sha256(content.encode()).hexdigest()[:24]
        jobs[name] = _Job(cache / key, text, own)
    return jobs


def _multipliers(modules: dict[str, _Module], operands: tuple[int, int]) -> str:
    """Template that makes the modules `product...` multiplier blocks with their registers."""
    products = {name[1:]: m for name, m in modules.items() if PRODUCT.search(m.text)}
    ports = {port for m in products.values() for port in re.findall(r"\\(\w+)$", m.ports, re.M)}
    for module in products.values():
        ends = re.findall(r"wire width (\d+) .*\\([ab])$", module.ports, re.M)
        found = tuple(int(width) for width, _ in sorted(ends, key=lambda end: end[1]))
        if found != operands:
            raise SynthesisError(f"{module.name} multiplies {found} bits, not {operands}")
    resets = sorted(ports - {"clk", "load", "a", "b", "product"})
    return multiplier_map(products, *operands, resets)


def map_netlist(
    rtlil: str,
    top: str,
    directory: Path,
    cache: Path,
    *,
    is_unit: Callable[[str], bool],
    operands: tuple[int, int] | None = None,
    wrapper: str = "",
    outer: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Map a design to ECP5 cells: `design.json`, `cells.json` and `units.json` in `directory`.

    The latter two count cells by type, of the whole and of each module.

    Parameters
    ----------
    rtlil: the design.
    top: name of its top module.
    directory: where results and logs go.
    cache: where mapped units are kept.
    is_unit: whether the module of this name is mapped on its own.
    operands: widths of the modules `product...` (hw.compute.parts.product), which become multiplier
        blocks with their registers; None if there are none.
    wrapper: Verilog around the top module; its last module is the top then.
    outer: the top module holds logic of its own, on the longest paths: ABC9 maps it, too.
    say: told each unit when it is mapped.

    Raises
    ------
    SynthesisError
        If Yosys fails.
    """
    directory.mkdir(parents=True, exist_ok=True)
    jobs = _jobs(rtlil, top, cache, is_unit, operands, outer)
    # Python's threads wait for processes; the largest first.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        order = sorted(jobs, key=lambda name: -len(jobs[name].text))
        mapped = pool.map(lambda name: _map_unit(name, jobs[name]), order)
        for number, (name, _) in enumerate(zip(order, mapped, strict=True), start=1):
            say(f"mapped {number} of {len(order)}: {name[1:]}")
    say("link")
    top_module = top
    more = []
    if wrapper:
        (directory / "wrapper.v").write_text(wrapper)
        top_module = re.findall(r"^module (\w+)", wrapper, re.MULTILINE)[-1]
        more = ["read_verilog wrapper.v", f"hierarchy -top {top_module}", f"proc {top_module}",
                f"opt {top_module}", f"simplemap {top_module}",
                f"dfflegalize -cell $_DFF_P_ 01 {top_module}",
                f"abc -lut 4 {top_module}",
                f"techmap -map +/lattice/cells_map_trellis.v {top_module}"]  # fmt: skip
    folders = [os.path.relpath(job.folder, directory) for job in jobs.values()]
    run_yosys(
        LINK_SCRIPT.format(
            units="\n".join(f"read_rtlil {folder}/unit.mapped.il" for folder in folders),
            more="\n".join(more),
            top=top_module,
        ),
        directory,
        "link",
    )


def count_units(
    rtlil: str,
    top: str,
    cache: Path,
    *,
    is_unit: Callable[[str], bool],
    operands: tuple[int, int] | None = None,
    outer: bool = False,
    wanted: Callable[[str], bool] = lambda name: True,
) -> dict[str, dict[str, int]]:
    """Cells of every wanted unit by type, without those of units inside it; nothing is linked.

    Of units whose names differ by a number at their end (columns, lanes) one is mapped and stands
    for all. Other parameters as those of `map_netlist`.

    Raises
    ------
    SynthesisError
        If Yosys fails.
    """
    jobs = _jobs(rtlil, top, cache, is_unit, operands, outer)
    counts: dict[str, dict[str, int]] = {}
    alike: dict[str, dict[str, int]] = {}
    for name, job in sorted(jobs.items()):
        if not wanted(name[1:]):
            continue
        kind = re.sub(r"\d+$", "", re.sub(r"\$\d+$", "", name))
        if kind not in alike:
            _map_unit(name, job)
            mapped = (job.folder / "unit.mapped.il").read_text()
            cells = re.findall(r"^  cell \\(\S+) ", mapped, re.MULTILINE)
            alike[kind] = dict(collections.Counter(c for c in cells if f"\\{c}" not in jobs))
        counts[name[1:]] = alike[kind]
    return counts


def _map_unit(name: str, job: _Job) -> None:
    """Map a unit unless that has been done; `unit.mapped.il` is written last."""
    folder, text = job.folder, job.text
    if (folder / "unit.mapped.il").exists():
        return
    folder.mkdir(exist_ok=True)
    (folder / "unit.il").write_text(text)
    commands: Sequence[str] = ()
    if job.multipliers:
        (folder / "multiplier.v").write_text(job.multipliers)
        commands = ("techmap -map multiplier.v",)
    # ABC9 stumbles over the core, whose units it takes for boxes of its own; there is little logic
    # between units.
    plain = INSIDE in text and BLACK_BOX not in text
    script = UNIT_SCRIPT.format(
        name="unit",
        top=name,
        multipliers="\n".join(commands),
        least=LEAST_ENABLED,
        least_reset=LEAST_RESET,
        abc="abc -lut 4 -dress" if plain else "abc9 -W 300",
    )
    text = run_yosys(script, folder, "unit")
    if commands and "Using template _product_to_multiplier" not in text:
        (folder / "unit.mapped.il").unlink()
        raise SynthesisError(f"the multipliers of {name} were not mapped to blocks, see {folder}")
