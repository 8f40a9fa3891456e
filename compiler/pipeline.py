"""The way from an ONNX file to a build folder. Read this file first.

    import → fold → hoist → fuse → chains → regions →
    assign layout → tile → schedule → allocate → emit → link → proof → golden

Each stage up to `regions` makes a new graph, which is verified and dumped to
`stages/NN-name.txt`. The stages behind it happen inside the back end
(`compiler.backend.build`) and are dumped from the program that it makes. A build folder
appears complete, proven and equal to its recording, or not at all.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compiler import golden, output, printer
from compiler.backend.build import emit, lay_out
from compiler.foreseen import with_foreseen
from compiler.ir import AnyOperation, CompilerError, Graph, GraphError, TensorType, verify
from compiler.lower import refusal
from compiler.onnx_import import Imported, import_onnx
from compiler.passes.base import Accept, Outcome, Pass, accept_all
from compiler.passes.chain import FUSE_CHAINS
from compiler.passes.compose import COMPOSE
from compiler.passes.extrema import FUSE_EXTREMA
from compiler.passes.fold import DEAD_CODE, FOLD
from compiler.passes.fuse import FUSE_CLAMPS, FUSE_POOLS, FUSE_RESIDUALS
from compiler.passes.hoist import HOIST
from compiler.passes.region import FUSE_REGIONS
from compiler.passes.steps import FUSE_STEPS
from compiler.policy import REUSE, SHARING, Policy
from hw.arch.config import AcceleratorConfig
from hw.arch.listing import listing
from hw.arch.program import HOST_MODEL, Program
from hw.arch.program_check import ADDRESS_SPACE
from hw.arch.registers import DRAM_ALIGNMENT

LEGALIZE: tuple[Pass, ...] = (FOLD, DEAD_CODE, HOIST)
"""Always run. FOLD makes code dead, and what is dead keeps HOIST away from what it reads."""
FUSE: tuple[Pass, ...] = (
    FUSE_CLAMPS,
    COMPOSE,
    FUSE_EXTREMA,
    FUSE_POOLS,
    FUSE_RESIDUALS,
    FUSE_STEPS,
)
"""Only with `fuse`. Clamps first: a clamp may stand between convolution and pool, and costs nothing
in a convolution."""

CHAINS: tuple[Pass, ...] = (FUSE_CHAINS, FUSE_REGIONS)
"""Only with `fuse`, and where the back end says what is worth it."""

Progress = Callable[[str, int], None]
"""Told each step before it starts, and how many steps there are (0: not known yet; PART: what
starts is a part of the step before)."""
PART = -1
Dump = Callable[[str, str], None]
Verify = Callable[[Path, Graph], tuple[Mapping[str, Any], Mapping[str, Any]]]
"""Proves a staged build folder (all but build.json is there) right against the user's file.

Returns what was proven, for build.json, and by name what the program made of recorded tensors.
Raises CompilerError where it is not right."""


STAGES = 5
"""Steps beside the back end's operators: import, optimize, golden, write, proof."""


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How to build.

    Attributes
    ----------
    fuse: join operators; off, every operator stores its result.
    golden: how a recording is compared, one of golden.MODES; or golden.RECORD.
    policy: how layers choose between direct and transformed (hFA).
    dram_base: where the program's DRAM begins in the memory map, a multiple of 4 KiB.
    states: (input, output) of states, beside those that the file declares.
    dram: how tensors share memory, one of policy.SHARING.
    """

    fuse: bool = True
    golden: str = golden.CHECK
    policy: Policy = Policy()  # noqa: RUF009 (frozen)
    dram_base: int = 0
    states: tuple[tuple[str, str], ...] = ()
    dram: str = REUSE


@dataclasses.dataclass(frozen=True, slots=True)
class Built:
    """What `build` made; the fields of build.json.

    Attributes
    ----------
    network, config, fuse, hfa, objective, dram: what was built, for which configuration, how.
    output: the build folder.
    golden: ``equal``, ``differs`` (by rounding, as accepted), ``skipped`` (asked for),
        ``recorded`` (by the proof) or ``absent`` (nothing recorded beside the file).
    golden_differences: what differs from the recording: elements, differing elements, by name.
    proof: what was proven, and on which input; None if nothing was.
    instructions: in the program.
    weight_bytes: weights, parameters and tables in the DRAM image.
    dram_bytes: DRAM that a run uses.
    macs: multiply-accumulates of one run.
    cycles_estimated: what a run takes (compiler/foreseen.py).
    wall_s, peak_mib: time and memory that building took.
    removed: runs of an older build that went with it.
    """

    network: str
    config: str
    fuse: bool
    hfa: str
    objective: str
    dram: str
    output: str
    golden: str
    golden_differences: Mapping[str, tuple[int, int]]
    proof: Mapping[str, Any] | None
    instructions: int
    weight_bytes: int
    dram_bytes: int
    macs: int
    cycles_estimated: int
    wall_s: float
    peak_mib: float
    removed: tuple[str, ...] = ()


def back_end_accepts(config: AcceleratorConfig, policy: Policy | None = None) -> Accept:
    """The back end's word on single operators, and on whether a chain is worth it."""
    wishes = policy or Policy()

    def accept(op: AnyOperation, inputs: Sequence[TensorType], result: TensorType) -> str | None:
        return refusal(op, list(inputs), result, config, wishes)

    return accept


def optimize(
    graph: Graph,
    fuse: bool = True,
    accept: Accept = accept_all,
    dump: Dump = lambda name, text: None,
) -> Graph:
    """Run the passes, each verified and dumped."""
    holds: frozenset[str] = frozenset()
    chains = CHAINS if fuse and accept is not accept_all else ()
    for step in (*LEGALIZE, *(FUSE if fuse else ()), *chains):
        missing = step.requires - holds
        if missing:
            raise GraphError(f"pass {step.name} requires {', '.join(sorted(missing))}")
        outcome = step.run(graph, accept)
        graph = outcome.graph
        try:
            verify(graph)
        except GraphError as error:
            raise GraphError(f"pass {step.name} broke the graph: {error}") from error
        holds |= step.ensures
        dump(step.name, _report(outcome) + printer.print_graph(graph))
    return graph


def _report(outcome: Outcome) -> str:
    """What a pass did and what it left alone, as comment lines."""
    lines = [f"# applied  {text}" for text in outcome.applied]
    lines += [f"# refused  {where}: {why}" for where, why in outcome.refused]
    return "\n".join(lines) + "\n\n" if lines else "# nothing to do\n\n"


def build(
    source: Path,
    config: AcceleratorConfig,
    target: Path,
    options: Options | None = None,
    progress: Progress = lambda step, total: None,
    verify: Verify | None = None,
) -> Built:
    """Compile a quantized ONNX file into a build folder.

    Parameters
    ----------
    source: ONNX file; a .npz of the same name beside it holds its recorded input and outputs.
    config: the accelerator.
    target: build folder; replaced if it is one already.
    options: see `Options`.
    progress: see `Progress`; every stage, and every operator of the back end, is a step.
    verify: see `Verify`; the package `proof` has one.

    Raises
    ------
    CompilerError
        The file cannot be read or compiled, its recorded outputs differ, what was built is not
        right, or the policy names what does not exist. Nothing is written.
    """
    options = options or Options()
    options.policy.check(config)
    if options.dram not in SHARING:
        raise CompilerError(f"dram {options.dram!r}; there are {', '.join(SHARING)}")
    start = time.perf_counter()
    output.check_target(target)
    progress("import", 0)
    imported = import_onnx(source, dict(options.states))
    graph = _graph_of(imported, source)
    with output.staging(target) as folder:
        stages = output.Stages(folder / "stages")
        stages.dump("import", printer.print_graph(graph))
        progress("optimize", 0)
        graph = optimize(graph, options.fuse, back_end_accepts(config, options.policy), stages.dump)
        steps = len(graph.ops) + STAGES
        progress("golden", steps)
        opened = options.golden in (golden.CHECK, golden.REPORT, golden.ADOPT)
        recorded = golden.adopt(graph, source, folder) if opened else None
        settled = lay_out(graph, config, options.policy if options.fuse else None)
        program = emit(
            settled, config, lambda name: progress(name, steps), options.policy, options.dram
        )
        program, cycles = with_foreseen(_placed(program, options.dram_base), config)
        progress("write", steps)
        _write(program, config, folder, stages)
        output.copy_model(source, folder / "model.onnx")
        output.copy_preprocessing(source, folder / "preprocessing.json")
        if graph.host:
            (folder / HOST_MODEL).write_bytes(graph.host)
        progress("proof", steps)
        proof, made = (None, None) if verify is None else verify(folder, settled.assigned.graph)
        verdict = _judged(graph, made, recorded, source, folder, options.golden)
        stages.dump("golden", verdict.text)
        built = _summary(graph, program, cycles, config, options, target, verdict, proof, start)
        (folder / "build.json").write_text(json.dumps(dataclasses.asdict(built), indent=2) + "\n")
    return built


def _placed(program: Program, base: int) -> Program:
    """The program at a place of the memory map; its own addresses stay relative to it."""
    if base < 0 or base % DRAM_ALIGNMENT:
        raise CompilerError(
            f"dram_base is {base:#x}; it must be a multiple of {DRAM_ALIGNMENT:#x}, not below 0"
        )
    if base + program.memory_bytes > ADDRESS_SPACE:
        raise CompilerError(
            f"{program.memory_bytes} bytes of DRAM from {base:#x} on leave the address space"
        )
    return dataclasses.replace(program, dram_base=base)


def _judged(
    graph: Graph,
    made: Mapping[str, Any] | None,
    recorded: Mapping[str, Any] | None,
    source: Path,
    folder: Path,
    mode: str,
) -> golden.Verdict:
    """The recording against the program's results, or the interpreter's if nothing was proven."""
    if mode == golden.OFF:
        return golden.Verdict("skipped", "a recording was not looked for\n")
    if mode == golden.RECORD:
        return golden.Verdict("recorded", "recorded by the proof\n")
    if recorded is None:
        return golden.Verdict("absent", "nothing was recorded beside the ONNX file\n")
    if mode == golden.ADOPT:
        return golden.Verdict("skipped", "adopted, not compared\n")
    if made is None and graph.host:
        return golden.Verdict("skipped", "not compared\n")
    made = golden.interpreted(graph, recorded) if made is None else made
    return golden.judge(graph, made, recorded, source.with_suffix(".npz"), folder, mode)


def _graph_of(imported: Imported, source: Path) -> Graph:
    """The graph, or one message about the first of the findings."""
    if imported.graph is not None:
        return imported.graph
    if imported.remark:
        raise CompilerError(f"{source}: {imported.remark}")
    first, *others = imported.unsupported
    rest = f" (and {len(others)} more: python -m compiler check {source})" if others else ""
    raise CompilerError(f"{first}{rest}")


def _write(
    program: Program, config: AcceleratorConfig, folder: Path, stages: output.Stages
) -> None:
    """The program, and what the back end decided."""
    stages.dump("layout", printer.print_layout(program))
    stages.dump("tile", printer.print_tiles(program))
    stages.dump("schedule", printer.print_schedule(program))
    stages.dump("hfa", printer.print_choices(program))
    program.save(folder / "program.bin")
    with (folder / "program.asm").open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in listing(program))
    output.write_config(config, folder / "config.yaml")


def _summary(
    graph: Graph,
    program: Program,
    cycles: int,
    config: AcceleratorConfig,
    options: Options,
    target: Path,
    verdict: golden.Verdict,
    proof: Mapping[str, Any] | None,
    start: float,
) -> Built:
    return Built(
        network=graph.name,
        config=config.name,
        fuse=options.fuse,
        hfa=options.policy.hfa,
        objective=options.policy.objective,
        dram=options.dram,
        output=str(target),
        golden=verdict.state,
        golden_differences=verdict.differences,
        proof=proof,
        instructions=len(program.instructions),
        weight_bytes=sum(len(data) for _, data in program.image),
        dram_bytes=program.memory_bytes,
        macs=graph.macs(),
        cycles_estimated=cycles,
        wall_s=round(time.perf_counter() - start, 3),
        peak_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        removed=output.runs(target),
    )
