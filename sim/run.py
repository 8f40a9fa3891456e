"""Run a build on a backend and compare: what `python -m sim run` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sim import host
from sim.backend import Backend, BackendResult, Options
from sim.build import INPUT, OUTPUT, Arrays, Build
from sim.collect import collect
from sim.compare import Comparison, Difference, blame, compare, difference, overwritten
from sim.energy import EnergyTable
from sim.errors import InputError
from sim.functional.backend import dynamic_trace
from sim.functional.hazards import check_hazards
from sim.functional.sequencer import Step
from sim.result import RunResult


def reference_tensors(build: Build, inputs: Arrays) -> Arrays:
    """Integer tensors that the PyTorch oracle computes for an input, from the user's own file.

    Raises
    ------
    InputError
        If the model is missing, or the oracle does not know one of the program's tensors.
    """
    from models.errors import ModelsError
    from models.reference import Reference

    wanted = [t.name for t in build.program.tensors]
    try:
        return dict(Reference(build.model).run(inputs, keep=wanted))
    except ModelsError as error:
        raise InputError(f"{build.model}: {error}") from error


def recorded_tensors(build: Build) -> Arrays:
    """Integer tensors of the recorded run that golden.npz holds, outputs included."""
    result = {}
    for tensor in build.program.tensors:
        for key in (tensor.name, INPUT + tensor.name, OUTPUT + tensor.name):
            if key in build.golden and build.golden[key].dtype == host.dtype(tensor):
                result[tensor.name] = build.golden[key]
    return result


def _recorded(build: Build, wrong: Difference) -> Difference:
    """Say that the recorded run is what differs."""
    return dataclasses.replace(wrong, against=f"recorded run {build.recording}")


def _check_outputs(
    build: Build,
    memory: npt.NDArray[np.uint8],
    trace: Sequence[Step],
    found: Comparison | None,
) -> Comparison | None:
    """Compare outputs with the recorded ones: float32 where floats were recorded."""
    compared, first = 0, None
    differing = []
    names = build.names(OUTPUT)
    if not names:
        return found
    for name, tensor in zip(names, build.program.outputs, strict=True):
        expected = build.golden[OUTPUT + name]
        got = host.read(memory, tensor)
        if expected.dtype.kind == "f":
            got = host.dequantize(tensor, got)
        if expected.shape != got.shape:
            raise InputError(
                f"{build.recording}: the output {name!r} has shape {list(expected.shape)}, the "
                f"program's {list(got.shape)}; build it again"
            )
        compared += 1
        wrong = difference(name, expected, got)
        if wrong is not None:
            differing.append(name)
            first = first or _recorded(build, blame(wrong, tensor, build.program, trace))
    if found is None:
        return Comparison(compared, (), tuple(differing), first)
    # Outputs are stored tensors too: they count once, the recorded run is a second opinion.
    return dataclasses.replace(
        found,
        differing=(*found.differing, *differing),
        first=found.first or first,
    )


def check(
    build: Build,
    inputs: Arrays,
    memory: npt.NDArray[np.uint8],
    trace: Sequence[Step],
    reference: Mapping[str, npt.NDArray[Any]] | None,
) -> Comparison | None:
    """Compare a final image with the reference (if there is one) and the recorded run.

    Returns None if there is nothing to compare with: another input and no reference.
    """
    found: Comparison | None = None
    if reference is not None:
        found = compare(build.program, memory, reference, trace)
    if not build.is_recorded(inputs):
        return found
    if reference is None:
        recorded = recorded_tensors(build)
        lost = overwritten(build.program)
        names = {name for name in recorded if name not in lost}
        if names:
            some = dataclasses.replace(
                build.program, tensors=tuple(t for t in build.program.tensors if t.name in names)
            )
            found = compare(some, memory, recorded, trace)
            if found.first is not None:
                found = dataclasses.replace(found, first=_recorded(build, found.first))
    return _check_outputs(build, memory, trace, found)


def run_build(
    build: Build,
    backend: Backend,
    inputs: Arrays,
    options: Options,
    table: EnergyTable,
    with_reference: bool = False,
) -> RunResult:
    """Run a build and put everything together.

    Parameters
    ----------
    inputs: by graph name.
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
    named = {tensor.name: inputs[name] for name, tensor in zip(inputs, program.inputs, strict=True)}
    memory = host.start_image(program, named)
    reference = reference_tensors(build, inputs) if with_reference else None
    result: BackendResult = backend.run(program, config, memory, options)
    trace = result.trace if result.trace is not None else dynamic_trace(program, config, memory)
    if with_reference:
        check_hazards(trace, config, program.memory_bytes)
    comparison = check(build, inputs, result.memory, trace, reference)
    return collect(program, config, backend.name, result, trace, comparison, with_reference, table)
