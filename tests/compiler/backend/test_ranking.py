"""What is not timed could not have been best."""

import dataclasses
import itertools

import pytest

from compiler import ranking
from compiler.array import choice as array_choice
from compiler.array.choice import direct_candidates, plan, transformed_candidates
from compiler.array.forms import jobs
from compiler.array.trial import trial_cycles as layer_cycles
from compiler.emit.transfers import at, tensor_of
from compiler.emit.trial import Trial
from compiler.policy import OBJECTIVES, Policy
from compiler.ranking import UNTOLD, least, timed
from compiler.regions.choice import _estimated, ranked
from compiler.regions.emission import RegionEmission
from compiler.regions.plan import Links
from compiler.regions.trial import trial_cycles as region_cycles
from hw.arch.isa import Load, Space
from tests.compiler.backend.hfa_cases import BASE as CONFIG
from tests.compiler.backend.test_chains import chain
from tests.compiler.backend.test_trial import CASES, SAME, layers
from tests.compiler.backend.trials import forget

PADDED = {"pad_begin": (1, 1, 1), "pad_end": (1, 1, 1)}
CASES = {
    **CASES,
    "few results": ((256, 1, 7, 7), (1, 3, 3), SAME, "off"),
    "one block, drained as long": ((16, 8, 56, 56), (3, 3, 3), PADDED, "off"),
}
CHAINS = {
    "short": {"shape": (64, 4, 14, 28), "mid": 64, "out": 64},
    "long": {"shape": (16, 8, 56, 56), "mid": 64, "out": 32},
    "deep": {"shape": (128, 4, 7, 7), "mid": 256, "out": 128},
    "residual": {"shape": (64, 4, 28, 28), "mid": 16, "out": 32, "trg": True},
}


@pytest.fixture(autouse=True)
def anew():
    """Neither does a case find what another one left, nor does it leave anything."""
    forget()
    yield
    forget()


@dataclasses.dataclass(frozen=True)
class Way:
    """One whose trial says `true`."""

    name: str
    cycles: float
    true: int
    energy: float = 0

    def merit(self, objective):
        return (self.cycles, 0) if objective == "cycles" else (self.energy, self.cycles)

    @property
    def floor(self):
        return self.cycles

    def in_cycles(self, cycles, config):
        return dataclasses.replace(self, cycles=cycles)


def best_of(ways, objective="cycles", most=4, **options):
    asked = []

    def trial(way):
        asked.append(way.name)
        return way.true

    found = timed(ways, trial, objective, CONFIG, kind=lambda w: w.name[0], most=most, **options)
    return [way.name for way in found], asked


def test_what_cannot_be_best_is_told_by_its_sums():
    far = 2 * 10**6
    ways = [Way("a1", 10**6, 990_000), Way("a2", 10**6 + 1, 980_000), Way("b1", far, 1)]
    assert best_of(ways) == (["a2", "a1", "b1"], ["a1", "a2"])
    near = dataclasses.replace(ways[2], cycles=1_050_000, true=970_000)
    assert best_of([*ways[:2], near]) == (["b1", "a2", "a1"], ["a1", "a2", "b1"])


def test_short_ones_are_timed_whatever_their_sums_say():
    ways = [Way("a1", 1_000, 1_000), Way("b1", 1_000 + UNTOLD, 900)]
    assert best_of(ways) == (["b1", "a1"], ["a1", "b1"])


def test_another_objective_than_cycles_has_its_own_bound():
    ways = [Way("a1", 10**6, 10**6, energy=1), Way("b1", 10**5, 10**5, energy=2)]
    assert best_of(ways, "energy") == (["a1", "b1"], ["a1"])


def test_a_kind_has_its_best_beyond_the_first_few():
    ways = [Way(name, 10**4, 10**4) for name in ("a1", "a2", "a3", "b1", "b2")]
    assert best_of(ways, most=2)[0] == ["a1", "a2", "b1"]


def test_the_best_one_is_one_that_instructions_hold():
    ways = [Way("a1", 10**4, 9_000), Way("a2", 10**4, 9_500)]
    assert best_of(ways, holds=lambda way: way.name != "a1")[0] == ["a2"]
    assert best_of(ways, holds=lambda way: False)[0] == []


def convolution_ways(case):
    """Every form and algorithm of a layer with its best tiling."""
    graph = layers(case, 1)
    (op,) = graph.ops
    source, target = (tensor_of(graph.type(n), CONFIG.lane_block) for n in ("x", "y0"))
    forms = jobs(op, source, target, CONFIG)
    return (op, source, target), [
        *direct_candidates(forms, CONFIG, Policy()),
        *transformed_candidates(op, source, target, forms, CONFIG, Policy(), {}),
    ]


@pytest.mark.parametrize("case", CASES)
def test_no_layer_takes_less_than_its_sums_allow(case):
    _, ways = convolution_ways(CASES[case])
    assert ways
    for way in ways:
        assert layer_cycles(way.job, way.tiling, CONFIG) >= least(way.floor)


def region(case):
    graph = chain(**CHAINS[case])
    (op,) = graph.ops
    ends = op.inputs[0], op.output
    source, target = (tensor_of(graph.type(name), CONFIG.lane_block) for name in ends)
    return Links.of(op, source, target)


@pytest.mark.parametrize("case", CHAINS)
def test_no_region_takes_less_than_its_sums_allow(case):
    plans = _estimated(region(case), CONFIG, Policy())
    assert len(plans) > 4
    for plan_ in itertools.islice(plans, 0, None, max(1, len(plans) // 8)):
        assert region_cycles(plan_, CONFIG) >= least(plan_.floor)


def test_what_one_slot_lets_wait_may_be_hidden():
    """VECTOR and the array do not take turns where the array has other stages to compute."""
    plans = _estimated(region("residual"), CONFIG, Policy())
    alone = [plan_ for plan_ in plans if plan_.slots[1] == 1]
    found = [(region_cycles(plan_, CONFIG), plan_) for plan_ in alone]
    assert found and all(cycles >= least(plan_.floor) for cycles, plan_ in found)
    assert any(cycles < least(plan_.cycles) for cycles, plan_ in found)


def loads(links):
    """DRAM addresses of activations that the best plan loads; the mean frame lies at 0."""
    emitter = Trial(CONFIG)
    emitter.scratch = {links.target.name: 0}
    RegionEmission(emitter, ranked(links, CONFIG, Policy())[0]).emit()
    every = [i for i in emitter.instructions if isinstance(i, Load)]
    return [i.dram for i in every if i.space == Space.ACTIVATION]


def test_a_plan_that_is_kept_reads_where_its_region_lies():
    """The first region is planned, the second one is like it and lies elsewhere."""
    graph = chain((16, 8, 56, 56), mid=64, out=32, trg=True)
    (op,) = graph.ops
    ends = op.inputs[0], op.output
    source, target = (tensor_of(graph.type(name), CONFIG.lane_block) for name in ends)
    first, second = (
        loads(Links.of(op, at(source, begin), at(target, 1 << 28))) for begin in (1 << 20, 3 << 20)
    )
    mean = [dram for dram in first if dram < 1 << 20]
    assert mean and len(mean) < len(first)
    assert second == [dram if dram < 1 << 20 else dram + (2 << 20) for dram in first]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("case", CHAINS)
def test_a_region_is_planned_as_if_all_were_timed(case, objective, monkeypatch):
    links, policy = region(case), Policy(objective=objective)
    found = ranked(links, CONFIG, policy)[0]
    forget()
    monkeypatch.setattr(ranking, "TOLD", 0)
    (every,) = ranked(links, CONFIG, policy)[:1]
    assert (found.cost, found.lines, found.frames) == (every.cost, every.lines, every.frames)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("case", CASES)
def test_a_layer_is_planned_as_if_all_were_timed(case, objective, monkeypatch):
    """The twin, for which nothing is timed, says other cycles."""
    (op, source, target), _ = convolution_ways(CASES[case])
    policy = Policy(objective=objective)
    found, _ = plan(op, source, target, CONFIG, policy)
    monkeypatch.setattr(ranking, "TOLD", 0)
    every, _ = plan(op, source, target, CONFIG, policy)
    assert (found.algorithm, found.tiling) == (every.algorithm, every.tiling)
    monkeypatch.setattr(array_choice, "trial_cycles", lambda job, tiling, config: tiling.cycles)
    untimed, _ = plan(op, source, target, CONFIG, policy)
    assert untimed.cycles != found.cycles
