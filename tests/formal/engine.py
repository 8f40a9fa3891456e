"""Proofs about circuits: an Amaranth harness with claims, Yosys to an AIGER file, ABC's `pdr`.

`pdr` (property directed reachability) is unbounded: "proved" means for runs of every length. What
it does not decide within its time is an error, never a pass. Registers begin with their initial
values, inputs are free in every cycle, and assumptions hold in every cycle up to the judged one.
"""

from __future__ import annotations

import inspect
import subprocess
import types
from pathlib import Path
from typing import Any

import pyosys
from amaranth.back import rtlil
from amaranth.hdl import Cat, Module, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hw.boards.mapping import run_yosys

ABC = Path(pyosys.__file__).parent / "yosys-abc"
SCRIPT = """
read_rtlil top.il
hierarchy -check -top top
proc
flatten
opt_clean
memory
opt -full
setundef -undriven -anyseq
techmap
simplemap
dfflegalize -cell $_DFF_P_ 0 -mince 1000000 -minsrst 1000000
opt_clean
aigmap
design -save all
"""
ONE = """
design -load all
delete -port {others}
opt_clean -purge
write_aiger -zinit {name}.aig
"""


class UndecidedError(AssertionError):
    """Neither proved nor refuted in the time that there was."""


class Harness(wiring.Component):
    """A circuit under claims. Members of the signature are free inputs.

    `build(m)` adds the circuit and says `assume`, `claim` and `cover`.
    """

    def __init__(self, inputs: dict[str, wiring.Member]):
        self._claims: dict[str, Signal] = {}
        self._names = self.names()
        super().__init__({**inputs, **{name: Out(1) for name in self._names}})

    def names(self) -> list[str]:
        """Of all claims and covers."""
        raise NotImplementedError

    def build(self, m: Module) -> None:
        """The circuit, what is assumed of its inputs, and what is claimed."""
        raise NotImplementedError

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._assumed: list[Value] = [~ResetSignal()]
        self._said: dict[str, Value] = {}
        self.build(m)
        holds = Signal()
        before = Signal(init=1)
        m.d.comb += holds.eq(before & Cat(*self._assumed).all())
        m.d.sync += before.eq(holds)
        assert sorted(self._said) == sorted(self._names)
        for name, wrong in self._said.items():
            m.d.comb += getattr(self, name).eq(holds & wrong)
        return m

    def assume(self, condition: Value) -> None:
        """Of every cycle."""
        self._assumed.append(condition.bool())

    def claim(self, name: str, condition: Value) -> None:
        """True in every cycle."""
        self._said[name] = ~condition.bool()

    def cover(self, name: str, condition: Value) -> None:
        """True in some cycle of some run."""
        self._said[name] = condition.bool()


class Proof:
    """The claims of a harness, ready to be judged.

    Parameters
    ----------
    harness: the circuit. folder: for files.
    merge: find registers that are always equal first: counters and those that follow them.
    only: the one claim that will be judged.
    """

    def __init__(
        self, harness: Harness, folder: Path, *, merge: bool = False, only: str | None = None
    ):
        self._folder, self._merge = folder, merge
        (folder / "top.il").write_text(rtlil.convert(harness, name="top", emit_src=False))
        script = SCRIPT
        for name in harness.names() if only is None else [only]:
            others = " ".join(f"w:{other}" for other in harness.names() if other != name)
            script += ONE.format(name=name, others=others)
        run_yosys(script, folder, "aiger")

    def reachable(self, name: str, seconds: int = 300) -> int | None:
        """The cycle in which an output can be high, at the earliest that was found; None if never.

        Raises
        ------
        UndecidedError
            After so many seconds.
        """
        merge = "scorr; " if self._merge else ""
        script = f"read_aiger {name}.aig; strash; {merge}write_aiger left.aig; pdr -T {seconds}"
        said = subprocess.run(
            [str(ABC), "-c", script], cwd=self._folder, capture_output=True, text=True
        ).stdout
        # `pdr` calls a constant undecided, which is what may be left of a claim.
        if "Property proved" in said or self._nothing_left():
            return None
        for line in said.splitlines():
            if "was asserted in frame" in line:
                return int(line.split("in frame")[1].split(".")[0].split()[0])
        raise UndecidedError(f"{name}: {said[-400:]}")

    def _nothing_left(self) -> bool:
        """Whether the circuit that was judged is the constant 0."""
        head, output = (self._folder / "left.aig").read_bytes().split(b"\n")[:2]
        latches, outputs, gates = head.split()[3:6]
        assert outputs == b"1"
        return (latches, gates, output) == (b"0", b"0", b"0")


def prove(harness: Harness, folder: Path, *, covers: tuple[str, ...], merge: bool = False) -> None:
    """Prove every claim and reach every cover of a harness; `merge` as of `Proof`."""
    proof = Proof(harness, folder, merge=merge)
    for name in harness.names():
        frame = proof.reachable(name)
        if name in covers:
            assert frame is not None, f"{name} is never reached"
        else:
            assert frame is None, f"{name} is wrong in cycle {frame}"


def refute(harness: Harness, folder: Path, name: str, *, merge: bool = False) -> None:
    """The claim must be found wrong."""
    proof = Proof(harness, folder, merge=merge, only=name)
    assert proof.reachable(name) is not None, f"{name} holds all the same"


def mutant(module: types.ModuleType, old: str, new: str) -> Any:
    """The module with one piece of its source replaced; `old` must be there once."""
    source = getattr(module, "SOURCE_OF_MUTANT", None) or inspect.getsource(module)
    assert source.count(old) == 1, f"{old!r} is there {source.count(old)} times"
    changed = types.ModuleType(f"{module.__name__}_mutant")
    changed.__file__ = module.__file__
    changed.__dict__["SOURCE_OF_MUTANT"] = source = source.replace(old, new)
    exec(compile(source, str(module.__file__), "exec"), changed.__dict__)
    return changed
