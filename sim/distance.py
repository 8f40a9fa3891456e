"""How far a quantized network's answer is from that of the float model it was made from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.program import Program
from sim.answers import class_axis, reals
from sim.build import Arrays
from sim.errors import InputError


@dataclasses.dataclass(frozen=True, slots=True)
class Distance:
    """One output against the float model's.

    Attributes
    ----------
    output: its name.
    largest: greatest absolute difference.
    rms: root of the mean square difference.
    sqnr_db: energy of the float output over that of the difference, in decibels; None where there
        is no difference, or nothing but zeros.
    agree: items of the batch whose largest class is the same, and all items; None for maps.
    """

    output: str
    largest: float
    rms: float
    sqnr_db: float | None
    agree: tuple[int, int] | None

    def __str__(self) -> str:
        words = (
            f"{self.output}: at most {self.largest:.4g} from the float model, rms {self.rms:.4g}"
        )
        if self.sqnr_db is not None:
            words += f", SQNR {self.sqnr_db:.1f} dB"
        if self.agree is None:
            return words
        same, items = self.agree
        if items == 1:
            return f"{words}; {'the same' if same else 'ANOTHER'} class"
        return f"{words}; the same class in {same} of {items}"


def distances(
    program: Program, inputs: Arrays, outputs: Arrays, model: Path
) -> tuple[Distance, ...]:
    """Run a float model on the same inputs, and compare.

    Inputs and outputs are paired by name; where there is one only on either side, by place.

    Raises
    ------
    InputError
        If the model does not run, or its inputs and outputs are not those of the program.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        ours = [port.name for port in program.outputs]
        theirs = _paired([port.name for port in session.get_outputs()], ours, "output", model)
        known = list(inputs)
        names = _paired(known, [port.name for port in session.get_inputs()], "input", model)
        given = {theirs_: inputs[mine] for theirs_, mine in names.items()}
        results = dict(zip(ours, session.run([theirs[name] for name in ours], given), strict=True))
    except InputError:
        raise
    except Exception as error:  # whatever its kernels raise
        first = str(error).strip().splitlines()[0]
        raise InputError(f"the float model {model} does not run: {first}") from error
    found = []
    for port in program.outputs:
        wanted = np.asarray(results[port.name])
        got = reals(program, port, outputs[port.name])
        if wanted.shape != got.shape:
            raise InputError(
                f"{model}: output {port.name!r} has shape {list(wanted.shape)}, the program's "
                f"{list(got.shape)}"
            )
        found.append(_distance(port.name, wanted.astype(np.float64), got.astype(np.float64)))
    return tuple(found)


def _paired(have: list[str], wanted: list[str], what: str, model: Path) -> Mapping[str, str]:
    """For each wanted name one of `have`."""
    if len(have) == len(wanted) == 1:
        return {wanted[0]: have[0]}
    missing = [name for name in wanted if name not in have]
    if missing:
        raise InputError(
            f"{model}: no {what} {missing[0]!r} in common; there are {', '.join(map(repr, have))}"
        )
    return {name: name for name in wanted}


def _distance(name: str, wanted: npt.NDArray[Any], got: npt.NDArray[Any]) -> Distance:
    apart = got - wanted
    noise, signal = float(np.square(apart).sum()), float(np.square(wanted).sum())
    axis = class_axis(wanted.shape)
    agree = None
    if axis is not None and wanted.shape[axis] > 1:
        items = wanted.shape[0] if axis > 0 else 1
        one, other = (np.argmax(a.reshape(items, -1), axis=1) for a in (wanted, got))
        agree = int(np.count_nonzero(one == other)), items
    return Distance(
        name,
        float(np.abs(apart).max(initial=0.0)),
        math.sqrt(noise / max(apart.size, 1)),
        10 * math.log10(signal / noise) if noise and signal else None,
        agree,
    )
