"""The build directory as the compiler leaves it, and the inputs that a user brings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.arrays import ArraysError, read_arrays
from hw.arch.config import AcceleratorConfig, ConfigError
from hw.arch.encoding import EncodingError
from hw.arch.program import HOST_MODEL, Program, ProgramError
from sim import host
from sim.errors import InputError

Arrays = dict[str, npt.NDArray[Any]]
INPUT = "input:"
OUTPUT = "output:"
STEPS = "steps:"
GOLDEN = "golden.npz"
PREPROCESSING = "preprocessing.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Build:
    """A compiled network.

    Attributes
    ----------
    folder: where it lies.
    program, config: they belong together.
    golden: recorded run, {} if there is none: ``input:<name>`` and ``output:<name>`` by the
        graph's names, as the file types them; beyond these, ``output:<name>`` of integer tensors.
    """

    folder: Path
    program: Program
    config: AcceleratorConfig
    golden: Mapping[str, npt.NDArray[Any]]

    @classmethod
    def load(cls, folder: Path, config: str | Path | None = None) -> Build:
        """Read program.bin, config.yaml and golden.npz.

        Parameters
        ----------
        config: another configuration (a file or a preset) instead of the build's own.

        Raises
        ------
        InputError
            If something is missing, damaged, or does not belong together.
        """
        if not folder.is_dir():
            raise InputError(f"no build directory {folder}; make one with `python -m compiler`")
        code = folder / "program.bin"
        try:
            program = Program.load(code)
        except ProgramError as error:  # names the file
            raise InputError(f"{error}; `python -m compiler build` makes a new one") from error
        except (EncodingError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{code}: {error}") from error
        try:
            machine = AcceleratorConfig.load(config or folder / "config.yaml")
        except ConfigError as error:
            raise InputError(str(error)) from error
        if machine.fingerprint != program.fingerprint:
            raise InputError(
                f"{folder} was built for configuration {program.config!r} "
                f"({program.fingerprint:016x}), not for {machine.name!r} "
                f"({machine.fingerprint:016x}); build it again"
            )
        path = folder / GOLDEN
        return cls(folder, program, machine, read_npz(path) if path.is_file() else {})

    @property
    def recording(self) -> Path:
        """The recorded run."""
        return self.folder / GOLDEN

    @property
    def model(self) -> Path:
        """The user's ONNX file."""
        return self.folder / "model.onnx"

    @property
    def preprocessing(self) -> Path:
        """How pixels become numbers, if the network came with it."""
        return self.folder / PREPROCESSING

    @property
    def host_model(self) -> Path | None:
        """The host's part of the graph, if it has one."""
        path = self.folder / HOST_MODEL
        return path if path.is_file() else None

    def is_recorded(self, inputs: Arrays) -> bool:
        """Whether inputs are those of the recorded run."""
        if not self.golden:
            return False
        recorded = named_inputs(self.golden, self.program)
        return all(
            name in recorded and np.array_equal(recorded[name], value)
            for name, value in inputs.items()
        )

    def inputs(self) -> Arrays:
        """The recorded inputs by the graph's names, as the file types them.

        A state that was not recorded holds its initial value.

        Raises
        ------
        InputError
            If nothing is recorded, or it does not fit; `sim.inputs.given` reads others.
        """
        if not self.golden:
            raise InputError(
                f"{self.folder} has no recorded input ({GOLDEN}); give one with --input"
            )
        try:
            arrays = named_inputs(self.golden, self.program)
            for port in self.program.inputs:
                if port.name in arrays:
                    host.check(port, arrays[port.name])
        except InputError as error:
            raise InputError(f"{self.recording}: {error}") from error
        return self.initial_states() | arrays

    def initial_states(self) -> Arrays:
        """States before the first run, by the names of their inputs, as the file types them."""
        return {s.input: host.initial(self.program, s) for s in self.program.states}

    def feeds(self, inputs: Arrays) -> Arrays:
        """Codes of every tensor that the host writes; see `host.feeds`."""
        return host.feeds(self.program, inputs, self.host_model)


def named_inputs(arrays: Mapping[str, npt.NDArray[Any]], program: Program) -> Arrays:
    """The arrays of the graph's inputs, by their names.

    An archive holds ``input:<name>`` for every input that is read (a recording), or else ``<name>``
    or ``input:<name>`` for each; states may be left out. ``output:<name>`` and ``steps:...`` are
    passed over.

    Raises
    ------
    InputError
        If an input that is read has no array or two, or an array belongs to no input.
    """
    names = [port.name for port in program.inputs]
    states = {state.input for state in program.states}
    needed = [port for port in program.inputs if port.used and port.name not in states]
    recording = bool(needed) and all(INPUT + port.name in arrays for port in needed)
    result = {}
    left = dict(arrays)
    for name in names:
        keys = (INPUT + name,) if recording else (name, INPUT + name)
        for key in keys:
            if key in left and name not in result:
                result[name] = left.pop(key)
    for port in needed:
        if port.name not in result:
            raise InputError(
                f"no array {port.name!r} of shape {list(port.shape)}; it holds "
                f"{', '.join(map(repr, arrays)) or 'nothing'}"
            )
    both = [name for name in result if name in left or INPUT + name in left]
    if both:
        raise InputError(f"two arrays for one input: {both[0]!r} and {INPUT + both[0]!r}")
    unknown = [key for key in left if not key.startswith((OUTPUT, STEPS))]
    if unknown:
        raise InputError(
            f"the array {unknown[0]!r} belongs to no input; the graph has "
            f"{', '.join(map(repr, names))}"
        )
    return result


def read_npz(path: Path) -> Arrays:
    """Arrays of an .npz file.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    try:
        return read_arrays(path)
    except ArraysError as error:
        raise InputError(str(error)) from error
