"""Consecutive runs of one build: states stay in DRAM from step to step.

Inputs of steps come as arrays ``steps:input:<name>`` (or ``steps:<name>``) with the steps along a
new first axis; an input that has none is the same in every step. Where the oracle runs, it carries
its own states: equal tensors in every step prove what the accelerator carried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from hw.arch.arrays import write_arrays
from sim import host
from sim.backend import Backend, Options
from sim.build import INPUT, OUTPUT, STEPS, Arrays, Build, named_inputs, read_npz
from sim.compare import Comparison, difference
from sim.energy import EnergyTable
from sim.errors import InputError
from sim.inputs import RECORDED, Given
from sim.result import RunResult, StepResult
from sim.run import Finished, run_build


@dataclasses.dataclass(frozen=True, slots=True)
class Stepping:
    """What a user asks for.

    Attributes
    ----------
    steps: runs.
    file: states by the names of their inputs, an .npz file: read before the first step if it is
        there, written after the last one.
    reset: None: never; 0: before the first step, whatever states are given; n: also before every
        n-th one.
    """

    steps: int
    file: Path | None = None
    reset: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What the host does.

    Attributes
    ----------
    source: of the inputs: a file, or ``recorded``.
    inputs: of every step by the graph's names, as the file types them, without states.
    states: before the first step.
    resets: steps before which the host writes the initial states.
    """

    source: str
    inputs: Sequence[Arrays]
    states: Arrays
    resets: frozenset[int]

    def given(self) -> Given:
        """The inputs of all steps as those of one run; steps lie along a new first axis."""
        stacked = {name: np.stack([each[name] for each in self.inputs]) for name in self.inputs[0]}
        return Given(stacked | self.states, self.source, {})


def plan(build: Build, source: Path | None, wanted: Stepping) -> Plan:
    """Read the inputs of steps.

    Parameters
    ----------
    source: an .npz archive; None: the recorded steps. States of `wanted.file` stand before its.

    Raises
    ------
    InputError
        If an input is missing, or has another shape or fewer steps.
    """
    if source is None and not build.golden:
        raise InputError(f"{build.folder} has no recorded input; give one with --input")
    if source is not None and source.suffix != ".npz":
        raise InputError(f"{source}: inputs of steps are an .npz archive")
    if not build.program.states and (wanted.file is not None or wanted.reset is not None):
        raise InputError(f"{build.folder} has no states (build --state input=output makes some)")
    steps, kept = wanted.steps, dict[str, npt.NDArray[Any]]()
    if wanted.file is not None and wanted.file.exists():
        kept = read_states(build, wanted.file)
    path = build.recording if source is None else source
    arrays = dict(build.golden) if source is None else read_npz(path)
    try:
        inputs, before = _read(build, arrays, steps)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    initial = build.initial_states()
    every = wanted.reset
    resets = frozenset(() if every is None else range(0, steps, every or steps))
    states = initial if 0 in resets else initial | before | kept
    return Plan(RECORDED if source is None else str(source), inputs, states, resets)


def _read(build: Build, arrays: Arrays, steps: int) -> tuple[list[Arrays], Arrays]:
    """Inputs of every step without states, and the states before the first."""
    program = build.program
    states = {state.input for state in program.states}
    stacked = {
        port.name: arrays[key]
        for port in program.inputs
        for key in (f"{STEPS}{INPUT}{port.name}", f"{STEPS}{port.name}")
        if key in arrays
    }
    for port in program.inputs:
        if port.name not in stacked:
            continue
        shape = stacked[port.name].shape
        if shape[1:] != port.shape or not shape or (port.name not in states and shape[0] < steps):
            raise InputError(
                f"steps of {port.name!r} have the shape {list(shape)}; {steps} steps of "
                f"{list(port.shape)} are needed"
            )
    single = [port for port in program.inputs if port.name not in stacked]
    others = dataclasses.replace(program, inputs=tuple(single))
    given = {k: v for k, v in arrays.items() if k.removeprefix(INPUT) not in stacked}
    same = named_inputs(given, others) if single else {}
    if stacked:  # what a recording says beside its steps is of the last one
        same = {name: value for name, value in same.items() if name not in states}
    before = {name: value for name, value in same.items() if name in states}
    before |= {name: value[0] for name, value in stacked.items() if name in states}
    inputs = [
        {name: value for name, value in same.items() if name not in states}
        | {name: value[n] for name, value in stacked.items() if name not in states}
        for n in range(steps)
    ]
    return [_typed(build, each) for each in inputs], _typed(build, before)


def _typed(build: Build, given: Arrays) -> Arrays:
    """Arrays of inputs as the file types them."""
    ports = {port.name: port for port in build.program.inputs}
    for name, value in given.items():
        host.check(ports[name], value)
    return given


@dataclasses.dataclass(frozen=True, slots=True)
class Steps:
    """What came of consecutive runs.

    Attributes
    ----------
    result: of the last step, with all steps' summaries.
    outputs: of every step along a new first axis, by the graph's names.
    last, fed: outputs and inputs of the last step.
    states: what the last step left, by the names of their inputs, as the file types them.
    """

    result: RunResult
    outputs: Arrays
    last: Arrays
    fed: Arrays
    states: Arrays


def run_steps(
    build: Build,
    backend: Backend,
    planned: Plan,
    options: Options,
    table: EnergyTable,
    with_reference: bool = False,
) -> Steps:
    """Run a build step by step, and put everything together.

    Raises
    ------
    As `run_build`. States are then undefined, and nothing is returned.
    """
    program, initial = build.program, build.initial_states()
    carried, memory = planned.states, None
    results: list[Finished] = []
    steps: list[StepResult] = []
    inputs: Arrays = {}
    quiet = dataclasses.replace(options, progress=False)
    for number, given in enumerate(tqdm(planned.inputs, unit="step", disable=not options.progress)):
        written: list[str] = []
        if memory is not None and number in planned.resets:
            carried, written = initial, list(initial)
        inputs = given | carried
        fed = build.feeds(inputs)
        if memory is None:
            memory = host.start_image(program, fed)
        else:
            memory = host.next_image(program, memory, fed, written)
        done = run_build(build, backend, inputs, quiet, table, with_reference, memory)
        recorded = _recorded(build, planned, number, done.outputs)
        result = done.result if recorded is None else _joined(done.result, recorded, number)
        results.append(dataclasses.replace(done, result=result))
        steps.append(StepResult.of(result))
        memory = done.memory
        made = done.reference if with_reference else done.outputs
        carried = {state.input: made[state.output] for state in program.states}
    return _finished(build, results, steps, inputs)


def _recorded(build: Build, planned: Plan, number: int, outputs: Arrays) -> Comparison | None:
    """Outputs against those of the recorded steps; None where it is another sequence."""
    arrays = build.golden
    if planned.resets - {0}:
        return None
    keys = {port.name: f"{STEPS}{INPUT}{port.name}" for port in build.program.inputs}
    for name, value in planned.states.items():
        if keys[name] not in arrays or not np.array_equal(arrays[keys[name]][0], value):
            return None
    for step in range(number + 1):
        for name, value in planned.inputs[step].items():
            if keys[name] not in arrays or step >= len(arrays[keys[name]]):
                return None
            if not np.array_equal(arrays[keys[name]][step], value):
                return None
    differing, first, compared = [], None, 0
    for name, value in outputs.items():
        recorded = arrays.get(f"{STEPS}{OUTPUT}{name}")
        if recorded is None or number >= len(recorded):
            continue
        compared += 1
        wrong = difference(name, recorded[number], value)
        if wrong is not None:
            differing.append(name)
            against = f"step {number} of the recorded run {build.recording}"
            first = first or dataclasses.replace(wrong, against=against)
    return Comparison(compared, tuple(differing), first) if compared else None


def _joined(result: RunResult, recorded: Comparison, number: int) -> RunResult:
    """A step's result with its comparison with the recorded one."""
    counted = result.tensors_compared if result.checked else recorded.compared
    return dataclasses.replace(
        result,
        equal=result.equal is not False and recorded.first is None,
        tensors_compared=counted,
        first_difference=result.first_difference or recorded.first,
    )


def _finished(
    build: Build, results: Sequence[Finished], steps: Sequence[StepResult], inputs: Arrays
) -> Steps:
    last = results[-1]
    firsts = [(n, r.result.first_difference) for n, r in enumerate(results)]
    first = next((_at(n, wrong) for n, wrong in firsts if wrong is not None), None)
    judged = [step.equal for step in steps if step.equal is not None]
    result = dataclasses.replace(
        last.result,
        equal=all(judged) if judged else None,
        tensors_compared=sum(step.tensors_compared for step in steps),
        first_difference=first,
        wall_s=sum(done.result.wall_s for done in results),
        steps=tuple(steps),
    )
    outputs = {name: np.stack([r.outputs[name] for r in results]) for name in last.outputs}
    states = {state.input: last.outputs[state.output] for state in build.program.states}
    return Steps(result, outputs, last.outputs, inputs, states)


def _at(step: int, wrong: Any) -> Any:
    """A difference that says in which step it is."""
    return dataclasses.replace(wrong, against=wrong.against or f"step {step}")


def read_states(build: Build, path: Path) -> Arrays:
    """States that an earlier call wrote.

    Raises
    ------
    InputError
        If one is missing, unknown, or does not fit.
    """
    arrays = read_npz(path)
    names = {state.input for state in build.program.states}
    if set(arrays) != names:
        raise InputError(f"{path} holds {sorted(arrays)}; the states are {sorted(names)}")
    try:
        return _typed(build, arrays)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write_states(path: Path, states: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write states for `read_states`."""
    try:
        write_arrays(path, dict(states))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
