"""The ladder's upper rungs with hFA: values and times of the RTL equal the models'. Exactly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from sim.backend import Options
from sim.cosim.backend import RtlBackend
from sim.cycle.backend import CycleBackend
from tests.ladder import linking
from tests.ladder.compare import differences
from tests.ladder.hfa_layer import Shape, direct, make, program
from tests.ladder.transformed_programs import LateProgram, TransformedProgram

pytestmark = pytest.mark.cosim

TINY = AcceleratorConfig.load("tiny")
TILED = dataclasses.replace(TINY, features=tuple(dict.fromkeys([*TINY.features, "hfa_depthwise"])))
BASE = AcceleratorConfig.load("base")
ONE = {"before": (1, 1, 1), "after": (1, 1, 1)}
SHAPES = {
    "F(4×4)": Shape(size=(1, 7, 9), channels=9, filters=6, before=(0, 1, 1)),
    "F(2×2)": Shape(spatial=1, size=(1, 5, 6), signed=1, zero_point=-77, channels=7),
    "F(4,3)": Shape(2, 0, (5, 2, 3), before=(1, 0, 0), after=(1, 0, 0), channels=6),
    "F(2,3)": Shape(1, 0, (2, 2, 3), before=(1, 0, 0), after=(1, 0, 0), filters=7),
    "3×F(4×4)": Shape(0, 2, (3, 4, 5), taps=3, channels=5, filters=4, **ONE),
    "F(2)⊗F(4×4)": Shape(1, 2, (3, 4, 4), count=(2, 4, 3), channels=12, **ONE),
    "F(2)⊗F(2×2)": Shape(1, 1, (3, 3, 2), signed=1, zero_point=5, **ONE),
    "F(4)⊗F(2×2)": Shape(2, 1, (6, 2, 2), channels=5, **ONE),
    "several parts": Shape(size=(1, 6, 8), channels=40, parts=3),
    "pooled": Shape(size=(1, 6, 10), window=(1, 2, 4)),
    "pooled in time": Shape(1, 1, (4, 4, 4), window=(2, 2, 2), count=(2, 4, 4), **ONE),
}


def both(linked, config):
    memory = linked.memory()
    rtl = RtlBackend(max_cycles=1_000_000).run(linked, config, memory, Options())
    return rtl, CycleBackend().run(linked, config, memory, Options())


def stored(result, case):
    size = case.expected.size
    found = result.memory[linking.OUTPUT : linking.OUTPUT + size]
    return found.reshape(case.expected.shape)


@pytest.mark.parametrize("config", [TINY, BASE], ids=["tiny", "base"])
@pytest.mark.parametrize("name", SHAPES)
def test_layers_equal_torch_and_the_models(name, config):
    case = make(SHAPES[name], config, seed=4)
    rtl, model = both(program(case), config)
    assert differences(rtl, model) == []
    assert np.array_equal(stored(rtl, case), case.expected)


@pytest.mark.parametrize("name", ["F(4×4)", "F(4,3)", "F(2)⊗F(4×4)"])
def test_direct_and_transformed_layers_are_equal_on_rtl(name):
    case = make(SHAPES[name], TINY, seed=5)
    results = []
    for form in (case, direct(case)):
        rtl, _ = both(program(form), TINY)
        results.append(stored(rtl, case))
    assert np.array_equal(*results)
    assert not np.array_equal(results[0], make(SHAPES[name], TINY, seed=6).expected)


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_on_tiny(seed):
    assert differences(*both(TransformedProgram(TINY, seed).build(), TINY)) == []


@pytest.mark.parametrize("seed", range(20))
def test_random_programs_with_depthwise_tiles(seed):
    assert differences(*both(TransformedProgram(TILED, seed).build(), TILED)) == []


@pytest.mark.parametrize("seed", range(20))
def test_random_programs_whose_accumulators_are_awaited_late(seed):
    linked = LateProgram(TINY, seed, steps=40).build()
    assert sum(getattr(i, "late", 0) for i in linked.instructions) >= 5
    assert differences(*both(linked, TINY)) == []


@pytest.mark.parametrize("seed", range(2))
def test_long_programs_on_tiny(seed):
    linked = TransformedProgram(TINY, 1000 + seed, steps=200).build()
    assert differences(*both(linked, TINY)) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_random_programs_on_base(seed):
    linked = TransformedProgram(BASE, seed, steps=40).build()
    assert differences(*both(linked, BASE)) == []


def test_twin_a_wrong_weight_is_seen():
    case = make(SHAPES["F(4×4)"], TINY, seed=4)
    wrong = bytearray(case.weights)
    wrong[7] ^= 0x40
    rtl, _ = both(program(dataclasses.replace(case, weights=bytes(wrong))), TINY)
    assert not np.array_equal(stored(rtl, case), case.expected)
