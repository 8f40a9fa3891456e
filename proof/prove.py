"""Proof of one build: the emitted program against the oracle, the oracle against the user's file.

(a) The program runs on the functional simulator; every tensor that it stores is compared, to the
bit: those of the file with the oracle, those of the compiler's own with its interpreter. Where
there are branches both run again, with decisions forced, until every arm has run; of Loops
whose decisions are forced a few trips, of which the tensors of their bodies are compared. (b) The
oracle, operator by operator, keeps the limits of `proof.limits` against the file's own nodes. So
neither a wrong instruction nor a misreading that compiler and oracle share goes unnoticed.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from compiler.ir import COMPILER, Graph
from compiler.tensor import CompilerError
from compiler.trips import unrolled
from hw.arch.arrays import write_arrays
from hw.arch.program import Program, Tensor, Trips
from hw.timeline.step import Step
from models.errors import ModelsError
from models.quantgraph import QuantizedGraph
from models.reference import Reference
from models.values import Constant
from proof import arms, inner
from proof.arms import Forced
from proof.inputs import RECORDED, inputs_of
from proof.written import DECISION, Written
from sim import host
from sim.backend import BackendResult, Options
from sim.backends import make_backend
from sim.build import GOLDEN, INPUT, OUTPUT, Arrays, Build
from sim.compare import blame, difference
from sim.cycle.backend import timed
from sim.errors import InputError, SimulatorError
from sim.functional.errors import MachineError
from sim.functional.hazards import HazardError, check_hazards
from sim.path import executed, names, unmade
from sim.trips import instances, trips_made

CODES = ("int8", "uint8")
Array = npt.NDArray[Any]
Progress = Callable[[str, int], None]
"""Told each step before it starts, and how many steps there are."""


def prove(
    folder: Path, graph: Graph, progress: Progress = lambda step, total: None
) -> dict[str, Any]:
    """Prove a build.

    Parameters
    ----------
    folder: program.bin, config.yaml, model.onnx and, where there is one, golden.npz and host.onnx.
    graph: what the program was made from.

    Returns
    -------
    What was proven: ``input``; ``cycles`` of the run on it, by the cycle model; ``tensors`` and
    ``elements`` compared to the bit, ``compiler`` of them the compiler's own; ``passes``, what was
    forced in each, and trips of what Loop if not all; ``forms``, the figures of (b) by form;
    ``unproven`` nodes that ONNX Runtime does not run; ``seconds``.

    Raises
    ------
    CompilerError
        Something differs: names node or layer, element and both values.
    """
    return prove_and_run(folder, graph, progress)[0]


def prove_and_run(
    folder: Path,
    graph: Graph,
    progress: Progress = lambda step, total: None,
    record: Path | None = None,
) -> tuple[dict[str, Any], Arrays]:
    """`prove`, and what the program made of whatever the recording beside it holds, by name.

    Parameters
    ----------
    record: an input (see `sim.inputs.given`) to prove the build on; it and the outputs, which equal
        the oracle's, become the build's recording.
    """
    try:
        proof = _Proof(folder, graph, progress, record)
        found = proof.run()
        if record is not None:
            proof.save(folder / GOLDEN)
        return found, proof.recorded()
    except ModelsError as error:
        raise CompilerError(f"the oracle does not read the file: {error}") from error
    except (InputError, SimulatorError, MachineError) as error:
        raise CompilerError(f"the program does not run: {error}") from error
    except HazardError as error:
        raise CompilerError(f"a race in the program: {error}") from error


class _Proof:
    """The state of one proof."""

    def __init__(self, folder: Path, graph: Graph, progress: Progress, record: Path | None) -> None:
        self.build = Build.load(folder)
        self.graph = graph
        self.progress = progress
        self.inputs, self.origin = inputs_of(self.build, record)
        self.seconds: dict[str, float] = {}
        self.inside = self.program.inside()
        self.versions: dict[str, tuple[Tensor, int]] = {}
        self.stored: dict[str, Tensor] = {}
        self.now: dict[str, Tensor] = {}
        self.own: set[str] = set()
        self.compared: dict[str, int] = {}
        self.results: list[BackendResult] = []
        self.traces: list[Sequence[Step]] = []
        # The cycle model is Python, the oracle mostly kernels of PyTorch: one core each.
        self.beside = ThreadPoolExecutor(1)
        self.times: Future[BackendResult] | None = None
        self.passes: list[dict[str, Any]] = []
        self.short: Trips | None = None

    @property
    def program(self) -> Program:
        """The emitted one."""
        return self.build.program

    def run(self) -> dict[str, Any]:
        """See `prove`."""
        try:
            return self._run()
        finally:
            self.beside.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> dict[str, Any]:
        reference = Reference(self.build.model)
        steps = len(reference.groups) + 1
        self.progress("simulate", steps)
        self.fed = self.build.feeds(self.inputs)
        self.written = Written(reference.graph)
        forced: Forced | None = {}
        while forced is not None:
            self.short = arms.within(self.program, forced)
            self._pass(reference, steps, forced)
            trips = {self.short.name: arms.TRIPS} if self.short else {}
            self.passes.append({"forced": dict(forced), "trips": trips})
            forced = arms.untaken(self.program, self.graph, self.traces)
        self.result = self.results[0]
        missing = set(self.stored) - set(self.compared) - set(self.fed)
        if missing:
            raise CompilerError(
                f"the program stores {min(missing)}, which neither the file nor the compiler makes"
            )
        return self._report()

    def _pass(self, reference: Reference, steps: int, forced: Forced) -> None:
        """Run and compare once, with some decisions forced; each arm has to run in some pass."""
        began = time.perf_counter()
        program = arms.forced(self.program, forced)
        if self.short:
            program = arms.shortened(program, self.short)
        memory = host.start_image(program, self.fed)
        self.result = make_backend("functional").run(
            program, self.build.config, memory, Options(check_reads=True)
        )
        self._took("simulator", began)
        assert self.result.trace is not None
        trace = self.result.trace
        if self.times is None:
            self.times = self.beside.submit(timed, self.result, program, self.build.config)
        self.results.append(self.result)
        self.traces.append(trace)
        check_hazards(trace, self.build.config, program.memory_bytes)
        skipped = unmade(program, trace)
        stored = {t.name: t for t in program.tensors if t.name not in skipped}
        stored = {name: t for name, t in stored.items() if name not in self.inside}
        self.versions = self._versions()
        if self.short:  # what lies behind the Loop is compared where all trips are made
            stored = {}
        stored |= {
            name: dataclasses.replace(t, name=name) for name, (t, _) in self.versions.items()
        }
        self.now = stored
        own = {name for name, t in stored.items() if t.origin == COMPILER} - set(self.fed)
        graph, skipped = self._straight(trace, skipped)
        operators, sources = inner.needed(graph, own, skipped)
        kept = {name: self.fed[name] for name in sources & set(self.fed)}
        every = arms.in_every_trip(self.program, forced)
        kept |= self._follow(reference, steps, sources - set(self.fed), every)
        made = inner.constants(graph, own) | inner.evaluate(graph, operators, kept)
        for name in own & set(made):
            self._same(stored[name], made[name])
        self.stored |= stored
        self.own |= own
        ran = {name for layer in executed(program, trace) for name in layer.tensors}
        ran |= set(self.versions)
        absent = (set(stored) & ran) - set(self.compared)
        if absent and program.blocks:
            raise CompilerError(f"tensor {min(absent)}: program and oracle take different arms")

    def _versions(self) -> dict[str, tuple[Tensor, int]]:
        """Tensors of Loops' bodies as this pass's trips made them, by the file's names."""
        tensors = {t.name: t for t in self.program.tensors if t.name in self.inside}
        if self.short:
            tensors = {n: t for n, t in tensors.items() if self.inside[n][0] == self.short}
        return {
            each: (tensor, execution)
            for tensor in tensors.values()
            for each, execution in self.result.image.versions(tensor).items()
        }

    def _straight(self, trace: Sequence[Step], skipped: set[str]) -> tuple[Graph, set[str]]:
        """The graph with the trips that were made, and what no arm or trip has made."""
        if not self.inside:
            return self.graph, skipped
        made = trips_made(self.program, trace)
        graph = unrolled(self.graph, lambda loop, around: made.get((loop, around), 0))
        all_trips = {n for name, loops in self.inside.items() for n in instances(name, loops)}
        return graph, skipped | (all_trips - set(self.versions))

    def _took(self, what: str, began: float) -> None:
        self.seconds[what] = round(self.seconds.get(what, 0) + time.perf_counter() - began, 3)

    def _follow(
        self, reference: Reference, steps: int, sources: set[str], forced: Forced
    ) -> Arrays:
        """Run the oracle and compare what it makes with both sides; the codes of `sources`."""
        feeds = {n: v for n, v in self.inputs.items() if n in set(reference.input_names)}
        written = self.written
        named, constants = self._places(reference.graph, sources)
        kept: Arrays = {}

        def settle(name: str, codes: Array) -> None:
            if name in sources:
                kept[name] = codes
            if name in self.now:
                self._same(self.now[name], codes)
            self._output(name, codes)

        for name, codes in constants.items():
            settle(name, codes)
        for place, value in feeds.items():
            for name in named.get(place, ()):
                settle(name, value)
        groups = reference.groups
        needs = {g.output: written.reads(g) for g in groups if written.concerns(g)}
        uses = Counter(name for names in needs.values() for name in names)
        # What the file's nodes go back to.
        alive = {n: torch.from_numpy(v) for n, v in feeds.items() if uses[n]}
        taken: dict[str, bool] = {}
        began, apart = time.perf_counter(), 0.0
        for group, made, tensors in reference.steps(
            feeds,
            progress=lambda g: self.progress(g.name, steps),
            forced=forced,
            trips=(self.short.name, arms.TRIPS) if self.short else None,
        ):
            codes = made.numpy()
            if group.form == DECISION:
                taken[group.output] = bool(codes)
            if group.final:
                self._output(group.output, codes)
            else:
                for name in named.get(group.output, ()):
                    settle(name, codes)
            if written.concerns(group) and group.output not in forced:
                start = time.perf_counter()
                alive |= {n: tensors[n] for n in needs[group.output] if n in tensors}
                known = {n: alive[n].numpy() for n in needs[group.output] if n in alive}
                written.check(group, codes, known, taken)
                uses.subtract(needs[group.output])
                apart += time.perf_counter() - start
            if uses[group.output] and not group.final:
                alive[group.output] = made
            alive = {name: tensor for name, tensor in alive.items() if uses[name]}
        self._took("oracle", began + apart)
        self._took("written", time.perf_counter() - apart)
        return kept

    def _places(
        self, read: QuantizedGraph, sources: set[str]
    ) -> tuple[dict[str, list[str]], Arrays]:
        """Names of tensors to look at by where the oracle has their codes; and constants."""
        wanted = {t.name for t in self.now.values() if t.origin != COMPILER} | sources
        wanted |= {port.name for port in self.program.outputs if port.dtype in CODES}
        named: dict[str, list[str]] = {}
        constants: Arrays = {}
        for name in sorted(wanted):
            place = read.names.get(name)
            if place is None:
                raise CompilerError(f"the file has no codes under the name {name}")
            if isinstance(place, Constant):
                constants[name] = place.array
            else:
                named.setdefault(place, []).append(name)
        return named, constants

    def _same(self, tensor: Tensor, codes: Array) -> None:
        """Compare a stored tensor to the bit."""
        stored, execution = self.versions.get(tensor.name, (tensor, None))
        image = self.result.image
        got = image.read(stored, execution)
        if codes.shape != got.shape or codes.dtype != got.dtype:
            raise CompilerError(
                f"tensor {tensor.name} is stored as {got.dtype} {list(got.shape)}; it is "
                f"{codes.dtype} {list(codes.shape)}"
            )
        found = difference(tensor.name, codes, got)
        if found is not None:
            trace, copy = self.result.trace or (), image.copy(stored, execution)
            before = trace if copy is None else trace[: copy.steps]
            blamed = blame(found, stored, self.program, before)
            raise CompilerError(str(dataclasses.replace(blamed, tensor=tensor.name)))
        self.compared[tensor.name] = got.size

    def _output(self, name: str, value: Array) -> None:
        """Compare an output of the graph as the user gets it, if the name is one's."""
        port = next((port for port in self.program.outputs if port.name == name), None)
        if self.short or port is None or (port.dtype in CODES) != (value.dtype.name in CODES):
            return
        got = host.result(self.program, self.result.memory, port)
        if value.shape != got.shape or value.dtype != got.dtype:
            raise CompilerError(
                f"output {name} is {got.dtype} {list(got.shape)}; the file makes {value.dtype} "
                f"{list(value.shape)}"
            )
        found = difference(name, value, got)
        if found is not None:
            raise CompilerError(str(blame(found, port, self.program, self.result.trace or ())))

    def recorded(self) -> Arrays:
        """Outputs as the file types them, and stored tensors that were recorded."""
        names = {key.removeprefix(OUTPUT) for key in self.build.golden if key.startswith(OUTPUT)}
        memory = self.result.memory
        values = {n: self.result.image.read(t) for n, t in self.stored.items() if n in names}
        ports = [port for port in self.program.outputs if self.origin == RECORDED]
        return values | {port.name: host.result(self.program, memory, port) for port in ports}

    def save(self, path: Path) -> None:
        """Write inputs and outputs as the file types them."""
        arrays = {INPUT + name: value for name, value in self.inputs.items()}
        for port in self.program.outputs:
            arrays[OUTPUT + port.name] = host.result(self.program, self.result.memory, port)
        write_arrays(path, arrays)

    def _report(self) -> dict[str, Any]:
        assert self.times is not None
        return {
            "input": self.origin,
            "cycles": self.times.result().cycles,
            "tensors": len(self.compared),
            "compiler": len(self.own),
            "elements": sum(self.compared.values()),
            "passes": self.passes,
            "paths": [list(names(self.program, trace)) for trace in self.traces],
            "unreachable": arms.unreachable(self.program, self.graph, self.traces),
            "forms": {
                form: dataclasses.asdict(figures)
                for form, figures in sorted(self.written.figures.items())
            },
            "unproven": self.written.unproven,
            "seconds": self.seconds,
        }


__all__ = ["prove"]
