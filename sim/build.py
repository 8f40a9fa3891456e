"""The build directory as the compiler leaves it, and the inputs that a user brings."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.config import AcceleratorConfig, ConfigError
from hw.arch.encoding import EncodingError
from hw.arch.program import Program, ProgramError
from sim import host
from sim.errors import InputError

Arrays = dict[str, npt.NDArray[Any]]
INPUT = "input:"
OUTPUT = "output:"
GOLDEN = "golden.npz"


@dataclasses.dataclass(frozen=True, slots=True)
class Build:
    """A compiled network.

    Attributes
    ----------
    folder: where it lies.
    program, config: they belong together.
    golden: recorded run, {} if there is none: ``input:<name>`` and ``output:<name>`` by the
        graph's names in the graph's order (float32), and again by the names of the integer
        tensors behind them (codes).
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
            machine.require_built()
        except ConfigError as error:
            raise InputError(str(error)) from error
        if machine.fingerprint != program.fingerprint:
            raise InputError(
                f"{folder} was built for configuration {program.config!r} "
                f"({program.fingerprint:016x}), not for {machine.name!r} "
                f"({machine.fingerprint:016x}); build it again"
            )
        path = folder / GOLDEN
        build = cls(folder, program, machine, read_npz(path) if path.is_file() else {})
        for prefix, tensors in ((INPUT, program.inputs), (OUTPUT, program.outputs)):
            names = build.names(prefix)
            if names and len(names) != len(tensors):
                raise InputError(
                    f"{path} holds {len(names)} {prefix}* arrays ({', '.join(names)}) for "
                    f"{len(tensors)} tensors of the program"
                )
        return build

    @property
    def recording(self) -> Path:
        """The recorded run."""
        return self.folder / GOLDEN

    @property
    def model(self) -> Path:
        """The user's ONNX file."""
        return self.folder / "model.onnx"

    def names(self, prefix: str) -> list[str]:
        """Recorded graph names of the inputs (`INPUT`) or outputs (`OUTPUT`), in their order."""
        keys = [key.removeprefix(prefix) for key in self.golden if key.startswith(prefix)]
        tensors = self.program.inputs if prefix == INPUT else self.program.outputs
        integers = [tensor.name for tensor in tensors]
        # A graph whose inputs are integers themselves has only those names.
        return [key for key in keys if key not in integers] or [n for n in integers if n in keys]

    def is_recorded(self, inputs: Arrays) -> bool:
        """Whether inputs are those of the recorded run."""
        names = self.names(INPUT)
        return list(inputs) == names and all(
            np.array_equal(self.golden[INPUT + name], inputs[name]) for name in names
        )

    def inputs(self, source: Path | None) -> Arrays:
        """Inputs by graph name in the graph's order: the recorded ones, or those of a file.

        Parameters
        ----------
        source: ``.npz`` with an array per input (``name`` or ``input:name``), or a video file.

        Raises
        ------
        InputError
            If the file does not fit; names the input, and expected and given shapes.
        """
        names = self.names(INPUT)
        if source is None:
            if not names:
                raise InputError(
                    f"{self.folder} has no recorded input ({GOLDEN}); give one with --input"
                )
            return self._fit(self.recording, {n: self.golden[INPUT + n] for n in names})
        if not source.is_file():
            raise InputError(f"no input file {source}")
        given = read_npz(source) if source.suffix == ".npz" else self._video(source, names)
        given = {k.removeprefix(INPUT): v for k, v in given.items() if not k.startswith(OUTPUT)}
        if not names:  # nothing recorded says how the graph names them: the file's order does
            names = list(given)
        if len(names) != len(self.program.inputs):
            raise InputError(
                f"{source} holds {len(names)} arrays for {len(self.program.inputs)} inputs"
            )
        for name, tensor in zip(names, self.program.inputs, strict=True):
            if name not in given:
                raise InputError(
                    f"{source} has no array {name!r} of shape {list(tensor.shape)}; it holds "
                    f"{', '.join(given) or 'nothing'}"
                )
        return self._fit(source, {name: given[name] for name in names})

    def _fit(self, source: Path, inputs: Arrays) -> Arrays:
        """Check inputs, which come in the program's order."""
        for (name, value), tensor in zip(inputs.items(), self.program.inputs, strict=True):
            try:
                host.check(tensor, value, name)
            except InputError as error:
                raise InputError(f"{source}: {error}") from error
        return inputs

    def _video(self, source: Path, names: list[str]) -> Arrays:
        shapes = [tensor.shape for tensor in self.program.inputs]
        shape = shapes[0]
        if len(shapes) != 1 or len(shape) != 5 or shape[1] != 3:
            raise InputError(
                f"{source} is not an .npz archive, and a video does not fit the inputs "
                f"{', '.join(names)} of shape {', '.join(str(list(s)) for s in shapes)}"
            )
        from models.data import load_clip
        from models.errors import ModelsError

        try:
            return {(names or ["clip"])[0]: load_clip(source, *shape[2:])}
        except ModelsError as error:
            raise InputError(str(error)) from error


def read_npz(path: Path) -> Arrays:
    """Arrays of an .npz file.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    if path.is_file() and not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not an .npz archive of arrays, or it is truncated")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not an .npz archive of arrays: {error}") from error
