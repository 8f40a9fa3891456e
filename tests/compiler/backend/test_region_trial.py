"""Cycles of a region's plan that is emitted to be timed, against those of whole programs."""

import dataclasses

import pytest

from compiler.backend.build import generate
from compiler.emit.transfers import tensor_of
from compiler.emit.trial import _alone
from compiler.foreseen import foreseen
from compiler.policy import Policy
from compiler.regions import trial
from compiler.regions.choice import best
from compiler.regions.plan import Links
from hw.arch.isa import Array, ArrayMode
from hw.arch.timing import array_occupancy, array_sets
from hw.arch.transform_timing import array_slot
from tests.compiler.backend import trials
from tests.compiler.backend.hfa_cases import BASE as CONFIG
from tests.compiler.backend.test_chains import chain

CASES = {
    "one strip": ((20, 4, 6, 8), {"pool": (1, 2, 2)}),
    "strips": ((32, 8, 20, 56), {"mid": 32, "out": 64, "pool": (1, 2, 2)}),
    "residual": ((20, 16, 20, 24), {"mid": 32, "trg": True}),
    "long": ((16, 16, 56, 56), {"mid": 32, "out": 32}),
    "long, no temporal": ((16, 8, 112, 112), {"temporal": False, "out": 24}),
}
SAMPLED = {name: CASES[name] for name in ("long", "long, no temporal")}
START = 100
"""Cycles of a program beside its layer."""


@pytest.fixture(autouse=True)
def forget():
    """Neither does a case find what another one left, nor does it leave anything."""
    trials.forget()
    yield
    trials.forget()


def planned(case):
    shape, options = case
    graph = chain(shape, **options)
    (op,) = graph.ops
    source, target = (tensor_of(graph.type(n), CONFIG.lane_block) for n in ("x", "y"))
    plan = best(Links.of(op, source, target), CONFIG, Policy())
    assert plan is not None
    return graph, plan


def timed_anew(plan):
    trials.forget()
    return trial.trial_cycles(plan, CONFIG)


@pytest.mark.parametrize("name", CASES)
def test_a_trial_takes_as_long_as_a_program(name, monkeypatch):
    graph, plan = planned(CASES[name])
    cycles = foreseen(generate(graph, CONFIG), CONFIG).cycles

    def near(estimate):
        return abs(estimate - cycles) < 0.02 * cycles + START

    assert near(plan.cost.cycles)
    # Not so where nothing is computed.
    monkeypatch.setattr(trial.Sampled, "_computed", lambda self, turn: trial.Step({}, _nothing))
    monkeypatch.setattr(trial.Sampled, "_sample", lambda self, steps: None)
    assert not near(timed_anew(plan))


@pytest.mark.parametrize("name", CASES)
def test_the_array_streams_for_each_stage_as_recorded(name):
    """Of all stages together; without any one of them it is not so."""
    graph, plan = planned(CASES[name])
    program = generate(graph, CONFIG)
    arrays = [each for each in program.instructions if isinstance(each, Array)]
    slots = [array_cycles(each) for each in arrays]
    recorded = program.layers[0].tiling["streamed"]
    assert list(recorded) == [stage.name for stage in plan.array]

    def near(cycles):
        return sum(slots) <= cycles <= 1.05 * sum(slots) + 4 * len(slots)

    assert near(sum(recorded.values()))
    assert not any(near(sum(recorded.values()) - one) for one in recorded.values())


def array_cycles(instruction):
    """From one ARRAY to the next where nothing else waits."""
    if instruction.mode == ArrayMode.HFA:
        return array_sets(instruction) * array_slot(instruction, CONFIG)
    return array_occupancy(instruction, CONFIG)


def _nothing(slots):
    """No computation."""


@pytest.mark.parametrize("name", SAMPLED)
def test_some_strips_stand_for_all(name, monkeypatch):
    _, plan = planned(SAMPLED[name])
    some = timed_anew(plan)
    with monkeypatch.context() as patch:
        patch.setattr(trial.Sampled, "left", lambda self, stored: 0)
        begun = timed_anew(plan)
    monkeypatch.setattr(trial, "SAMPLED", 1 << 30)
    whole = timed_anew(plan)
    assert begun < 0.9 * whole, "nothing was left out"
    assert abs(some - whole) < 0.02 * whole


@pytest.mark.parametrize("shape", [(16, 2, 8, 8), (32, 1, 14, 14)])
def test_programs_confirm_the_choice(shape):
    """What the record says of direct and transformed windows is what programs take."""
    graph = chain(shape, mid=16, out=16, temporal=False)
    ways = generate(graph, CONFIG).layers[0].tiling["hfa"]
    found = {
        way: foreseen(generate(graph, CONFIG, policy=Policy(hfa)), CONFIG).cycles
        for way, hfa in (("direct", "off"), ("F(2×2,3×3)", "F(2x2,3x3)"))
    }
    said = {way: ways["candidates"][way]["cycles"] for way in found}
    assert min(said, key=said.get) == min(found, key=found.get) == ways["chosen"]
    assert max(abs(said[way] - found[way]) for way in found) < START


def test_addresses_do_not_matter_and_are_not_asked_twice():
    _, plan = planned(CASES["one strip"])
    before = _alone.cache_info()
    _, again = planned(CASES["one strip"])
    after = _alone.cache_info()
    assert again.cost == plan.cost
    assert after.misses == before.misses
    assert after.hits > before.hits
    # Another number of strips on chip is another question.
    slots = (1, *plan.slots[1:])
    assert slots != plan.slots
    trial.trial_cycles(dataclasses.replace(plan, slots=slots), CONFIG)
    assert _alone.cache_info().misses == after.misses + 1
