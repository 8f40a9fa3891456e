"""Run a build on a backend and compare: what `python -m sim run` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.program import FILE, Program
from hw.timeline.step import Step
from sim import host
from sim.backend import Backend, BackendResult, Options
from sim.build import OUTPUT, Arrays, Build
from sim.compare import Comparison, Difference, blame, compare, difference
from sim.energy import EnergyTable
from sim.errors import InputError
from sim.functional.backend import dynamic_trace
from sim.functional.hazards import check_hazards
from sim.image import Image
from sim.result import RunResult
from sim.tally import collect
from sim.trips import instances


def reference_tensors(build: Build, inputs: Arrays) -> Arrays:
    """What the PyTorch oracle computes for an input from the user's own file.

    Returns
    -------
    Codes of every stored tensor that the file has a name for (of a Loop's body: for every trip that
    is made), and the graph's outputs as the file types them.

    Raises
    ------
    InputError
        If the model is missing, or the oracle does not know one of the program's tensors.
    """
    from models.errors import ModelsError
    from models.reference import Reference

    inside = build.program.inside()
    named = [t.name for t in build.program.tensors if t.origin == FILE]
    wanted = {each for name in named for each in instances(name, inside.get(name, ()))}
    wanted |= {port.name for port in build.program.outputs}
    try:
        return dict(Reference(build.model).run(inputs, keep=sorted(wanted)))
    except ModelsError as error:
        raise InputError(f"{build.model}: {error}") from error


def _recorded(build: Build, wrong: Difference) -> Difference:
    """Say that the recorded run is what differs."""
    return dataclasses.replace(wrong, against=f"recorded run {build.recording}")


def outputs(program: Program, memory: npt.NDArray[np.uint8]) -> Arrays:
    """The graph's outputs by name, as the file types them."""
    return {port.name: host.result(program, memory, port) for port in program.outputs}


def _compare_outputs(
    build: Build,
    memory: npt.NDArray[np.uint8],
    trace: Sequence[Step],
    expected: Mapping[str, npt.NDArray[Any]],
) -> Comparison:
    """Compare the graph's outputs, as the file types them, with a reference's."""
    results = outputs(build.program, memory)
    compared, differing, first = 0, [], None
    for port in build.program.outputs:
        if port.name not in expected:
            continue
        compared += 1
        wrong = difference(port.name, expected[port.name], results[port.name])
        if wrong is not None:
            differing.append(port.name)
            first = first or blame(wrong, port, build.program, trace)
    return Comparison(compared, tuple(differing), first)


def _compare_states(
    program: Program,
    memory: npt.NDArray[np.uint8],
    trace: Sequence[Step],
    expected: Mapping[str, npt.NDArray[Any]],
) -> Comparison:
    """Compare what the next run will read with what a reference left for it."""
    differing, first = [], None
    for name, state in program.state_tensors().items():
        tensor = program.tensor(name)
        codes = host.codes(tensor, expected[state.output])
        wrong = difference(name, codes, host.read(memory, tensor))
        if wrong is not None:
            differing.append(name)
            first = first or blame(wrong, tensor, program, trace)
    return Comparison(len(program.state_tensors()), tuple(differing), first)


def _compare_recording(build: Build, image: Image, trace: Sequence[Step]) -> Comparison:
    """Compare recorded outputs, and whatever integer tensors were recorded beside them."""
    ports = {port.name: port for port in build.program.outputs}
    recorded = {
        key.removeprefix(OUTPUT): value
        for key, value in build.golden.items()
        if key.startswith(OUTPUT)
    }
    for name, port in ports.items():
        if name in recorded and recorded[name].shape != port.shape:
            raise InputError(
                f"{build.recording}: the output {name!r} has shape {list(recorded[name].shape)}, "
                f"the program's {list(port.shape)}; build it again"
            )
    found = _compare_outputs(build, image.memory, trace, recorded)
    names = [t.name for t in build.program.tensors if t.name in recorded and t.name not in ports]
    found = found.joined(compare(build.program, image, recorded, trace, names))
    if found.first is not None:
        found = dataclasses.replace(found, first=_recorded(build, found.first))
    return found


def check(
    build: Build,
    inputs: Arrays,
    image: Image,
    trace: Sequence[Step],
    reference: Mapping[str, npt.NDArray[Any]] | None,
) -> Comparison | None:
    """Compare a run with the reference (if there is one) and the recorded run.

    Returns None if there is nothing to compare with: another input and no reference.
    """
    found: Comparison | None = None
    if reference is not None:
        known = [t.name for t in build.program.tensors if t.origin == FILE]
        found = compare(build.program, image, reference, trace, known)
        # The outputs are stored tensors and counted as such; this is how they leave the host,
        # and what the next run reads.
        for bound in (
            _compare_outputs(build, image.memory, trace, reference),
            _compare_states(build.program, image.memory, trace, reference),
        ):
            found = found.joined(dataclasses.replace(bound, compared=0))
    if not build.is_recorded(inputs):
        return found
    recorded = _compare_recording(build, image, trace)
    if found is None:
        return recorded if recorded.compared else None
    return found.joined(dataclasses.replace(recorded, compared=0))


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """What came of a run.

    Attributes
    ----------
    result: for run.json.
    outputs: of the graph by name, as the file types them.
    memory: DRAM after the run.
    reference: what the oracle made, {} without one.
    waveform: the file, if one was asked for.
    """

    result: RunResult
    outputs: Arrays
    memory: npt.NDArray[np.uint8]
    reference: Mapping[str, npt.NDArray[Any]]
    waveform: Path | None = None


def run_build(
    build: Build,
    backend: Backend,
    inputs: Arrays,
    options: Options,
    table: EnergyTable,
    with_reference: bool = False,
    memory: npt.NDArray[np.uint8] | None = None,
) -> Finished:
    """Run a build and put everything together.

    Parameters
    ----------
    inputs: by graph name, states included.
    memory: DRAM before the start; None: as the inputs make it.
    with_reference: also run the oracle on the same input, compare every stored tensor, and prove
        that the program's waits suffice.

    Raises
    ------
    InputError
        If inputs or model do not fit.
    MachineError
        If the core stops with an error.
    HazardError
        If nothing orders two instructions that conflict.
    """
    program, config = build.program, build.config
    if memory is None:
        memory = host.start_image(program, build.feeds(inputs))
    reference = reference_tensors(build, inputs) if with_reference else None
    result: BackendResult = backend.run(program, config, memory, options)
    trace = result.trace if result.trace is not None else dynamic_trace(program, config, memory)
    if with_reference:
        check_hazards(trace, config, program.memory_bytes)
    comparison = check(build, inputs, result.image, trace, reference)
    collected = collect(
        program, config, backend.name, result, trace, comparison, with_reference, table
    )
    made = outputs(program, result.memory)
    return Finished(collected, made, result.memory, reference or {}, result.waveform)
