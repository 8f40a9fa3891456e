"""Build and prove: what `python -m compiler build` is thin over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compiler import golden as recordings
from compiler import pipeline
from compiler.ir import Graph
from compiler.pipeline import PART, Built, Options, Progress
from compiler.policy import AUTO, OBJECTIVES, REUSE, Policy
from compiler.tensor import CompilerError
from hw.arch.boards import BOARDS
from hw.arch.config import AcceleratorConfig
from proof.prove import prove_and_run


def build(
    onnx: Path | str,
    config: AcceleratorConfig | Path | str = "base",
    output: Path | None = None,
    *,
    fuse: bool = True,
    hfa: str = AUTO,
    objective: str = OBJECTIVES[0],
    golden: str | None = None,
    record: Path | None = None,
    states: Mapping[str, str] | None = None,
    verify: bool = True,
    dram_base: int = 0,
    dram: str = REUSE,
    memory: str | None = None,
    progress: Progress = lambda step, total: None,
) -> Built:
    """Compile a quantized ONNX file into a build folder, and prove it.

    Parameters
    ----------
    onnx: the file; ``NAME.npz`` beside it is its recording, ``NAME.preprocessing.json`` says how
        pixels become numbers.
    config: a configuration, a preset's name, or a YAML file.
    output: the build folder, replaced if it is one already; default: build/NAME.
    fuse: join operators.
    hfa: which layers are transformed: ``auto``, ``off``, or an algorithm's name.
    objective: what ``auto`` minimizes: ``cycles``, ``energy`` or ``multiplications``.
    golden: how the recording is compared: ``check``, ``report`` (may differ by a step), ``adopt``
        (not at all) or ``off`` (not opened); default: check, without the proof adopt.
    record: an input (`sim.inputs.given`) that becomes the build's recording, in place of that
        beside the file.
    states: outputs that are the next run's inputs, by these; beside those that the file declares.
    verify: prove that the program computes what the file says.
    dram_base: where the program's DRAM begins in the memory map, a multiple of 4 KiB.
    dram: how tensors share memory: ``reuse``, or ``all`` have memory of their own.
    memory: a board (`hw.arch.boards.BOARDS`) for whose memory tiles and chains are planned;
        default: what the configuration's `port` expects of it.
    progress: told each step before it starts; see `compiler.pipeline.Progress`.

    Returns
    -------
    What build.json holds.

    Raises
    ------
    CompilerError
        The file cannot be read or compiled, its recorded outputs differ, what was built is not
        right, or there is no such board. Nothing is written.
    ConfigError
        The configuration is no configuration.
    """
    source = Path(onnx)
    machine = config if isinstance(config, AcceleratorConfig) else AcceleratorConfig.load(config)
    if memory is not None:
        if memory not in BOARDS:
            raise CompilerError(f"no board {memory!r}; there are {', '.join(BOARDS)}")
        machine = BOARDS[memory].behind(machine)
    if record is not None and not verify:
        raise CompilerError("a recording is made by the proof: --record and --no-verify exclude")
    if record is not None and not record.exists():
        raise CompilerError(f"no input {record} to record")

    if golden is None:
        golden = recordings.CHECK if verify else recordings.ADOPT

    def prove(folder: Path, graph: Graph) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        return prove_and_run(folder, graph, lambda s, _: progress(f"proof: {s}", PART), record)

    options = Options(
        fuse=fuse,
        golden=recordings.RECORD if record is not None else golden,
        policy=Policy(hfa, objective),
        dram_base=dram_base,
        dram=dram,
        states=tuple((states or {}).items()),
    )
    target = output or Path("build") / source.stem
    return pipeline.build(source, machine, target, options, progress, prove if verify else None)


__all__ = ["Built", "build"]
