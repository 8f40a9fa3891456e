"""Compare two runs of a program: every byte of DRAM, every issue and done, every counter."""

from __future__ import annotations

import numpy as np

from hw.arch.isa import Unit
from hw.arch.program import Program
from hw.arch.registers import COUNTERS
from sim.backend import BackendResult


def differences(rtl: BackendResult, model: BackendResult, limit: int = 8) -> list[str]:
    """One line per difference, the first `limit` of each kind; empty if the runs are equal."""
    lines = []
    wrong = np.flatnonzero(rtl.memory != model.memory)
    if wrong.size:
        lines.append(f"{wrong.size} bytes of DRAM differ, the first at {int(wrong[0]):#x}")
    a, b = rtl.timeline, model.timeline
    assert a is not None and b is not None and len(a.pc) == len(b.pc) > 0
    late = np.flatnonzero((a.issue != b.issue) | (a.end != b.end))
    lines += [
        f"instruction {b.pc[i]} ({Unit(int(b.unit[i])).name}): issue {a.issue[i]} in RTL, "
        f"{b.issue[i]} in the model; done {a.end[i]} and {b.end[i]}"
        for i in late[:limit]
    ]
    lines += [
        f"counter {name}: {rtl.counters[name]} in RTL, {model.counters[name]} in the model"
        for name in COUNTERS
        if rtl.counters[name] != model.counters[name]
    ]
    return lines


def layer_errors(program: Program, rtl: BackendResult, model: BackendResult) -> list[str]:
    """Per layer: cycles in RTL and in the model, and their relative difference."""
    a, b = rtl.timeline, model.timeline
    assert a is not None and b is not None
    lines = []
    for layer in program.layers:
        inside = (b.pc >= layer.first) & (b.pc < layer.last)
        if not inside.any():
            continue
        spans = [int(t.end[inside].max() - t.issue[inside].min()) for t in (a, b)]
        error = spans[1] / spans[0] - 1
        lines.append(f"{layer.name:40} {spans[0]:>10} {spans[1]:>10} {error:+.4%}")
    return lines
