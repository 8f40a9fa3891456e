"""Cycles of candidates that are emitted to be timed, against those of whole programs."""

import dataclasses

import numpy as np
import pytest

from compiler.array import choice, trial
from compiler.backend.build import generate
from compiler.emit.transfers import tensor_of
from compiler.emit.trial import layer_cycles, timed
from compiler.foreseen import foreseen
from compiler.policy import Policy
from hw.arch.isa import Fence, Unit
from tests.compiler.backend import trials
from tests.compiler.backend.harness import convolution, kind, network
from tests.compiler.backend.hfa_cases import BASE as CONFIG

SAME = {"pad_begin": (0, 1, 1), "pad_end": (0, 1, 1)}
CASES = {
    "weights stream": ((512, 1, 7, 7), (1, 1, 1), {}, "off"),
    "short": ((64, 1, 14, 14), (1, 3, 3), SAME, "off"),
    "long": ((64, 8, 112, 112), (1, 3, 3), SAME, "off"),
    "long, transformed": ((64, 16, 112, 112), (1, 3, 3), SAME, "F(4x4,3x3)"),
}
SAMPLED = {name: CASES[name] for name in ("long", "long, transformed")}


@pytest.fixture(autouse=True)
def forget():
    """Neither does a case find what another one left, nor does it leave anything."""
    trials.forget()
    yield
    trials.forget()


def layers(case, count):
    """The same layer once or several times in a row."""
    shape, kernel, attributes, _ = case
    source, ops, kinds = kind(shape), [], {}
    last, name = source, "x"
    for number in range(count):
        op, last = convolution(
            np.random.default_rng(number), last, shape[0], kernel,
            name=f"conv{number}", inputs=(name,), output=f"y{number}", **attributes,
        )  # fmt: skip
        name = op.output
        ops.append(op)
        kinds[name] = last
    return network({"x": source}, ops, kinds)


def chosen(case):
    graph = layers(case, 1)
    (op,) = graph.ops
    source, target = (tensor_of(graph.type(n), CONFIG.lane_block) for n in ("x", "y0"))
    target = dataclasses.replace(target, address=1 << 24)
    best, _ = choice.plan(op, source, target, CONFIG, Policy(case[3]))
    forced = Policy(case[3]).forced
    assert best.direct if forced is None else best.algorithm == forced
    return best


def program_cycles(case, count):
    return foreseen(generate(layers(case, count), CONFIG, policy=Policy(case[3])), CONFIG).cycles


@pytest.mark.parametrize("name", CASES)
def test_a_trial_takes_as_long_as_a_layer_of_a_program(name):
    """One more layer in a row takes what the trial says."""
    case = CASES[name]
    best = chosen(case)
    more = program_cycles(case, 2) - program_cycles(case, 1)
    assert abs(best.cycles - more) < 0.04 * more
    # Not so one whose array does nothing.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial._Sampled, "_array", lambda self, *places: None)
        trials.forget()
        other = trial.trial_cycles(best.job, best.tiling, CONFIG)
    assert abs(other - more) > 0.04 * more


@pytest.mark.parametrize("name", SAMPLED)
def test_some_tiles_stand_for_all(name, monkeypatch):
    best = chosen(SAMPLED[name])
    some = trial.trial_cycles(best.job, best.tiling, CONFIG)
    trials.forget()
    with monkeypatch.context() as patch:
        patch.setattr(trial._Sampled, "left", lambda self, stored: 0)
        begun = trial.trial_cycles(best.job, best.tiling, CONFIG)
    trials.forget()
    monkeypatch.setattr(trial, "SAMPLED", 1 << 30)
    whole = trial.trial_cycles(best.job, best.tiling, CONFIG)
    assert some != whole, "nothing was left out"
    assert abs(some - whole) < 0.02 * whole
    assert begun < 0.98 * whole


def test_addresses_do_not_matter_and_are_not_asked_twice():
    best = chosen(CASES["short"])
    job = best.job
    moved = dataclasses.replace(
        job, source=dataclasses.replace(job.source, address=job.source.address + (1 << 22))
    )
    before = layer_cycles.cache_info()
    assert trial.trial_cycles(moved, best.tiling, CONFIG) == best.cycles
    after = layer_cycles.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)
    # A tiling that differs is another question.
    trial.trial_cycles(job, dataclasses.replace(best.tiling, input_slots=1), CONFIG)
    assert layer_cycles.cache_info().misses == after.misses + 1


def test_what_decides_is_not_timed():
    with pytest.raises(TypeError, match="no place in a trial"):
        timed([Fence(units=frozenset({Unit.LOAD}))], CONFIG)
