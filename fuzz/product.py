"""The toolkit as its users call it: the only module here that knows its Python interfaces."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import os
import re
import tempfile
import traceback
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from compiler.check import check as compiler_check
from compiler.pipeline import Options, build
from compiler.policy import Policy
from compiler.tensor import CompilerError
from hw.arch.config import AcceleratorConfig
from hw.arch.program import FILE
from models.errors import ModelsError
from models.reference import Reference
from proof.prove import prove_and_run
from sim import host
from sim.__main__ import main as sim_main
from sim.backend import BackendResult
from sim.backend import Options as RunOptions
from sim.backends import make_backend
from sim.build import Build
from sim.errors import InputError, SimulatorError
from sim.functional.backend import dynamic_trace
from sim.functional.errors import MachineError
from sim.functional.hazards import HazardError, check_hazards
from sim.inputs import given
from sim.path import unmade
from sim.run import outputs

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
REFUSALS = (CompilerError, InputError, ModelsError)
STOPS = (MachineError, SimulatorError, HazardError)


class Crash(Exception):  # noqa: N818 - a traceback that a user would see
    """Something that no user may see.

    Attributes
    ----------
    where: command, and the line of the toolkit that raised.
    """

    def __init__(self, command: str, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        inside = [
            f for f in frames if "site-packages" not in f.filename and "fuzz/" not in f.filename
        ]
        last = inside[-1] if inside else frames[-1]
        parts = Path(last.filename).parts[-3:]
        self.where = f"{command}: {type(error).__name__} in {'/'.join(parts)} {last.name}"
        super().__init__(f"{self.where}, line {last.lineno}: {error}")


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A tensor that a program left in memory: codes in the file's shape, and what they mean."""

    codes: Array
    scale: float
    zero: int


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """What a run left.

    Attributes
    ----------
    tensors: every stored tensor of the file by name.
    outputs: the graph's outputs by name, as the file types them.
    layers: operator that stores a tensor, by the tensor's name.
    """

    tensors: dict[str, Stored]
    outputs: Arrays
    layers: dict[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How to build and run.

    Attributes
    ----------
    config, fuse, hfa: as the compiler's options of these names.
    command: build with the proof and run `sim run --check --outputs`, as a user would.
    rtl: also run on RTL.
    """

    config: str = "tiny"
    fuse: bool = True
    hfa: str = "auto"
    command: bool = True
    rtl: bool = False

    def words(self) -> str:
        """As arguments of ``python -m fuzz``."""
        rtl = " --rtl 100" if self.rtl else ""
        return f"--config {self.config} --fuse {'on' if self.fuse else 'off'} --hfa {self.hfa}{rtl}"


def workplace() -> tempfile.TemporaryDirectory[str]:
    """A folder for small files that live shortly: in memory, where the system offers that."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix="fuzz-", dir=place)


@functools.cache
def configuration(name: str) -> AcceleratorConfig:
    """A preset, or a file."""
    return AcceleratorConfig.load(name)


class Product:
    """Check, build, run and reference of one file.

    Parameters
    ----------
    settings: how.
    folder: for files; they are replaced by the next.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.config = configuration(settings.config)
        folder.mkdir(parents=True, exist_ok=True)

    def check(self, file: Path) -> str:
        """`compiler check`: empty if all is supported, else the first finding.

        Raises
        ------
        Crash
        """
        try:
            with _strictly():
                report = compiler_check(file, self.config, self.settings.fuse)
        except CompilerError as error:
            return str(error)
        except Exception as error:
            raise Crash("check", error) from error
        if report.unsupported:
            first = report.unsupported[0]
            return f"node {first.node} ({first.op}): {first.reason}"
        return report.remark

    def build(self, file: Path) -> str:
        """`compiler build`: empty if it succeeds, else the message.

        Raises
        ------
        Crash
        """
        options = Options(fuse=self.settings.fuse, policy=Policy(hfa=self.settings.hfa))
        verify = prove_and_run if self.settings.command else None
        try:
            with _strictly():
                build(file, self.config, self.folder / "build", options, verify=verify)
        except CompilerError as error:
            return str(error)
        except Exception as error:
            raise Crash("build", error) from error
        return ""

    def run(self, feeds: Mapping[str, Array], backend: str = "functional") -> Run | str:
        """`sim run --input`: what it left, or its message.

        Raises
        ------
        Crash
        """
        path = self.folder / "feeds.npz"
        save(path, feeds)
        return self.run_file(path, backend)

    def run_file(self, path: Path, backend: str = "functional") -> Run | str:
        """As `run`, with the inputs of a file.

        Raises
        ------
        Crash
        """
        try:
            with _strictly():
                return _collect(*_simulate(self.folder / "build", path, backend))
        except (*REFUSALS, *STOPS) as error:
            return f"{type(error).__name__}: {error}"
        except Exception as error:
            raise Crash("run", error) from error

    def command(self) -> tuple[str, Arrays]:
        """`sim run --check --outputs` on what `run` ran: its message if it fails, the outputs.

        Raises
        ------
        Crash
        """
        results = self.folder / "outputs.npz"
        words = ["run", self.folder / "build", "--input", self.folder / "feeds.npz", "--check"]
        words += ["--outputs", results]
        said = io.StringIO()
        try:
            with _strictly(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code = sim_main([str(word) for word in words])
        except Exception as error:
            raise Crash("sim run", error) from error
        if code:
            lines = said.getvalue().strip().splitlines()
            return next((x for x in lines if x.startswith("error:")), "\n".join(lines)), {}
        return "", load(results)

    def reference(
        self, model: onnx.ModelProto, feeds: Mapping[str, Array], keep: Iterable[str]
    ) -> Arrays | str:
        """The oracle on the file: the tensors named, or its message.

        Raises
        ------
        Crash
        """
        try:
            with _strictly():
                return dict(Reference(model).run(dict(feeds), keep=sorted(keep)))
        except REFUSALS as error:
            return str(error)
        except Exception as error:
            raise Crash("reference", error) from error


@contextlib.contextmanager
def _strictly() -> Iterator[None]:
    """A warning that a user would see is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _simulate(folder: Path, feeds: Path, backend: str) -> tuple[Build, BackendResult]:
    """Load, bind, run, and prove that the waits suffice: as `sim run --check` does."""
    made = Build.load(folder)
    image = host.start_image(made.program, made.feeds(given(made, feeds).arrays))
    options = RunOptions(check_reads=True)
    result = make_backend(backend).run(made.program, made.config, image, options)
    trace = result.trace or dynamic_trace(made.program, made.config, image)
    check_hazards(trace, made.config, made.program.memory_bytes)
    return made, result


def _collect(made: Build, result: BackendResult) -> Run:
    program = made.program
    skipped = unmade(program, result.trace)
    tensors = {
        t.name: Stored(result.image.read(t), float(t.scale), int(t.zero_point))
        for t in program.tensors
        if t.origin == FILE and t.name not in skipped
    }
    layers = {t: layer.op for layer in program.layers for t in layer.tensors}
    return Run(tensors, outputs(program, result.memory), layers)


def save(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an .npz whose names may be anything (``file`` is an argument of numpy.savez)."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def load(path: Path) -> Arrays:
    """Read an .npz whose names may be anything (``x.npy`` is the member of ``x`` to numpy.load)."""
    with zipfile.ZipFile(path) as archive:
        return {
            name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(archive.read(name)))
            for name in archive.namelist()
        }


NUMBERS = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")
TYPES = re.compile(r"\b(u?int|float)N")
LISTS = re.compile(r"N(, N)+")


def normal(message: str, model: onnx.ModelProto) -> str:
    """A message without the names and numbers of one file, so that kinds can be counted."""
    message = re.sub(r"\S*/(graph|feeds|damaged)\.", r"\1.", message)
    names = {n for node in model.graph.node for n in (node.name, *node.input, *node.output)}
    names |= {v.name for v in (*model.graph.input, *model.graph.output)}
    for name in sorted(names - {""}, key=len, reverse=True):
        if len(name) > 2:
            message = message.replace(name, "NAME")
    return TYPES.sub("TYPE", LISTS.sub("N", NUMBERS.sub("N", message)))


def names_a_node(message: str, model: onnx.ModelProto) -> bool:
    """Whether a message names something of the file."""
    graph = model.graph
    names = {n for node in graph.node for n in (node.name, *node.output)}
    names |= {v.name for v in (*graph.input, *graph.output)} | {t.name for t in graph.initializer}
    return any(name in message for name in names if name)


__all__ = ["Crash", "Product", "Run", "Settings", "Stored", "names_a_node", "normal", "save"]
