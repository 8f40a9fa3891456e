"""Run a build on an input, and keep what came of it: what `python -m sim run` is thin over."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hw.arch.arrays import write_arrays
from models.preprocessing import Preprocessing
from sim.answers import TOP, Answer, answers, check_labels
from sim.backend import Backend, Options, silent
from sim.backends import make_backend
from sim.build import Arrays, Build
from sim.distance import Distance, distances
from sim.energy import EnergyTable
from sim.errors import InputError
from sim.folders import name_of, parts, write_table
from sim.inputs import RECORDED, Given, given
from sim.result import RunResult
from sim.run import run_build
from sim.steps import Stepping, plan, run_steps, write_states

RUNS = "runs"
RESULT = "run.json"
OUTPUTS = "outputs.npz"
ANSWERS = "answers.csv"
TRACE = "trace.vcd"


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    """What came of a run.

    Attributes
    ----------
    result: as run.json holds it.
    outputs: of the graph by name, as the file types them.
    given: the inputs.
    answers, distances: of every output.
    files: what was written; run.json first.
    """

    result: RunResult
    outputs: Arrays
    given: Given
    answers: tuple[Answer, ...]
    distances: tuple[Distance, ...]
    files: tuple[Path, ...]


def folder_of(build: Path, backend: str, inputs: Given) -> Path:
    """Where the result of a run goes: one folder for each backend and input."""
    if inputs.source == RECORDED:
        return build / RUNS / f"{backend}-{RECORDED}"
    stem = re.sub(r"[^\w.-]+", "_", Path(inputs.source).stem)
    return build / RUNS / f"{backend}-{stem}-{inputs.digest}"


def run(
    build: Path | Build,
    on: str = "functional",
    input: Path | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    codes: bool = False,
    check: bool = False,
    labels: Sequence[str] = (),
    top: int = TOP,
    float_model: Path | None = None,
    energy: str = "asic_45nm",
    output: Path | None = None,
    outputs: Path | None = None,
    trace_window: tuple[int, int] | None = None,
    progress: bool = False,
    say: Callable[[str], None] = silent,
    backend: Backend | None = None,
    stepping: Stepping | None = None,
) -> Ran:
    """Run a build.

    Parameters
    ----------
    build: its folder.
    on: ``functional``, ``cycle`` or ``rtl``.
    input, preprocessing, codes: see `sim.inputs.given`.
    check: compare every stored tensor with the PyTorch reference.
    labels: of classes, for the answers. top: values of each answer.
    float_model: an ONNX file; how far its outputs are from the run's is told.
    energy: reference table, a name or a file.
    output: where the result goes, a .json file; default: BUILD/runs/BACKEND-INPUT/run.json.
    outputs: where the outputs go, an .npz file; default: outputs.npz beside the result.
    trace_window: RTL: first and last cycle of a waveform.
    progress: a bar on standard error.
    say: told the steps of the first compilation of a circuit.
    backend: a simulator in place of that called `on`.
    stepping: run several times, states kept in DRAM; `input` is then an archive with
        ``steps:input:NAME``, and the outputs of all steps lie along a new first axis. Answers and
        distances are of the last step.

    Returns
    -------
    See `Ran`. Whether everything compared is equal: ``result.equal``.

    Raises
    ------
    InputError
        If build, input, labels or float model do not fit. Nothing is written.
    EnergyError
        If there is no such table.
    MachineError
        If the core stops with an error.
    SimulatorError
        If the simulator cannot be built.
    HazardError
        With `check`: if nothing orders two instructions that conflict.
    """
    if trace_window is not None and on != "rtl":
        raise InputError("--trace-window needs --on rtl: other simulators have no waveform")
    loaded = build if isinstance(build, Build) else Build.load(build)
    table = EnergyTable.load(energy)
    planned = None if stepping is None else plan(loaded, input, stepping)
    if planned is None:
        inputs = given(loaded, input, preprocessing, codes)
    elif trace_window is not None:
        raise InputError("--trace-window is of a single run, not of --steps")
    else:
        inputs = planned.given()
    target = output or folder_of(loaded.folder, on, inputs) / RESULT
    _check(target, output is None, loaded, labels, float_model)
    trace = target.with_suffix(".vcd") if output is not None else target.parent / TRACE
    options = Options(
        progress=progress,
        check_reads=check,
        trace_window=trace_window,
        trace_file=trace if trace_window else None,
        say=say,
    )
    if trace_window:
        _make(target.parent)
    machine = backend or make_backend(on)
    made: Arrays
    if planned is None:
        done = run_build(loaded, machine, inputs.arrays, options, table, check)
        last = made = done.outputs
        waveform, fed, outcome = done.waveform, inputs.arrays, done.result
    else:
        steps = run_steps(loaded, machine, planned, options, table, check)
        last, made, waveform, outcome = steps.last, steps.outputs, None, steps.result
        fed = steps.fed
    found = tuple(answers(loaded.program, last, labels, top))
    apart: tuple[Distance, ...] = ()
    if float_model is not None:
        apart = distances(loaded.program, fed, last, float_model)
    result = dataclasses.replace(
        outcome,
        input=inputs.record(),
        answers=tuple(dataclasses.asdict(a) for a in found),
        distances=tuple(dataclasses.asdict(d) for d in apart),
    )
    arrays = outputs or target.with_name(OUTPUTS if output is None else f"{target.stem}.{OUTPUTS}")
    _save(target, result, arrays, loaded, made)
    files = (target, arrays, *((waveform,) if waveform else ()))
    if planned is not None and stepping is not None and stepping.file is not None:
        write_states(stepping.file, steps.states)
        files = (*files, stepping.file)
    return Ran(result, made, inputs, found, apart, files)


@dataclasses.dataclass(frozen=True, slots=True)
class RanEach:
    """Runs over the images of a folder.

    Attributes
    ----------
    folder: holds them: BUILD/runs/BACKEND-FOLDER-DIGEST/IMAGE/.
    runs: by image, or by the first image of a batch.
    table: the answers of all of them (CSV).
    """

    folder: Path
    runs: Mapping[str, Ran]
    table: Path


def run_each(
    build: Path | Build,
    on: str,
    source: Path,
    *,
    preprocessing: Preprocessing | None = None,
    done: Callable[[str, Ran], None] = lambda name, ran: None,
    **options: Any,
) -> RanEach | None:
    """Run a build on every image of a folder, if it takes fewer at once.

    Parameters
    ----------
    build, on, preprocessing: as of `run`.
    source: the folder.
    done: told of each run when it has ended.
    options: further ones of `run`; but `output`, `outputs` and `stepping`.

    Returns
    -------
    None where the folder is a single input: `run` takes it.

    Raises
    ------
    InputError
        The images do not fit; what `run` raises.
    """
    loaded = build if isinstance(build, Build) else Build.load(build)
    found = parts(loaded, source, preprocessing)
    if not found:
        return None
    folder = loaded.folder / RUNS / f"{on}-{name_of(source, found)}"
    runs = {}
    for part in found:
        _make(folder / part.name)
        target = folder / part.name / RESULT
        ran = run(
            loaded,
            on,
            part.source,
            preprocessing=part.how,
            output=target,
            outputs=target.with_name(OUTPUTS),
            **options,
        )
        done(part.name, ran)
        runs[part.name] = ran
    table = folder / ANSWERS
    write_table(table, [(part, runs[part.name].answers) for part in found])
    return RanEach(folder, runs, table)


def _check(
    target: Path, own: bool, build: Build, labels: Sequence[str], float_model: Path | None
) -> None:
    """Refuse before the run what would be refused after it."""
    if not own and not target.parent.is_dir():
        raise InputError(f"no directory {target.parent} for the result")
    if float_model is not None and not float_model.is_file():
        raise InputError(f"no float model {float_model}")
    check_labels(build.program, labels)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from error


def _save(target: Path, result: RunResult, arrays: Path, build: Build, outputs: Arrays) -> None:
    """The result, and every output by the graph's name with the step of its quantization."""
    content = dict(outputs)
    for port in build.program.outputs:
        key = f"{port.name}:scale"
        if key in outputs:
            raise InputError(f"the graph has an output {key!r}, so {port.name!r} has no scale key")
        content[key] = np.asarray(build.program.tensor(port.tensor).scale, np.float32)
    _make(target.parent)
    try:
        result.save(target)
        write_arrays(arrays, content)
    except OSError as error:
        raise InputError(f"cannot write {error.filename or arrays}: {error.strerror}") from error
