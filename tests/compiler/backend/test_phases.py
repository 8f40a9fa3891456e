"""Several neighbouring results in the columns of one pass, for layers of few output channels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.array import choice
from compiler.array.forms import axes_of, jobs
from compiler.array.phases import COUNTS, least_share, phases
from compiler.backend.build import generate
from compiler.emit.transfers import tensor_of
from compiler.policy import Policy
from compiler.regions.dense import forms
from compiler.tensor import CompilerError
from hw.arch.isa import Array, Permute
from hw.arch.layout import LaneMap
from sim.backend import Options
from sim.backends import make_backend
from sim.host import start_image
from tests.compiler.backend.group_cases import COMMON
from tests.compiler.backend.group_cases import CONFIGS as ATTENTIVE
from tests.compiler.backend.harness import CONFIGS, convolution, execute, feeds_of, kind, network
from tests.compiler.backend.test_chains import chain
from tests.ladder.compare import differences
from tests.marks import large

SQUARE = {n: c for n, c in ATTENTIVE.items() if c.array.cols == c.lane_block}


def layer(shape, out, kernel, signed=False, **attributes):
    x = kind(shape, 0.05, 9, signed)
    op, y = convolution(np.random.default_rng(1), x, out, kernel, signed=signed, **attributes)
    return network({"x": x}, [op], {"y": y})


def only(forms):
    """Nothing but forms of results together, of which `forms` says which."""

    def some(*args, **more):
        return [job for job in jobs(*args, **more) if job.phases is not None and forms(job)]

    return some


def same(kernel, stride=(1, 1, 1)):
    pads = tuple(n // 2 for n in kernel)
    return {"pad_begin": pads, "pad_end": pads, "stride": stride}


CASES = {
    "stem": ((3, 5, 12, 11), 2, (5, 7, 7), same((5, 7, 7), (1, 2, 2))),
    "odd results": ((2, 5, 9, 7), 1, (3, 3, 3), same((3, 3, 3))),
    "time": ((9, 7, 5, 6), 2, (3, 1, 1), same((3, 1, 1))),
    "lines": ((9, 1, 9, 7), 1, (1, 3, 3), same((1, 3, 3))),
    "no padding": ((6, 2, 10, 9), 2, (1, 3, 5), {}),
    "signed": ((9, 2, 6, 7), 1, (1, 3, 3), {**same((1, 3, 3)), "signed": True}),
    "stride": ((5, 1, 12, 13), 2, (1, 7, 7), same((1, 7, 7), (1, 3, 2))),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("machine", ["tiny", large("base")])
def test_every_form(machine, name, monkeypatch):
    """Along each axis, of each number of results, packed in every way."""
    shape, out, kernel, attributes = CASES[name]
    config, graph = SQUARE[machine], layer(shape, out, kernel, **attributes)
    (op,) = graph.ops
    source, target = (tensor_of(graph.type(n), config.lane_block) for n in "xy")
    forms = only(lambda job: True)(op, source, target, config)
    assert forms, "some win"
    for number in range(len(forms)):
        monkeypatch.setattr(
            choice, "jobs", lambda *a, n=number, **k: only(lambda job: True)(*a, **k)[n : n + 1]
        )
        try:
            program = generate(graph, config)
        except CompilerError as error:
            assert "no tile" in str(error)
            continue
        assert program.layers[0].tiling["together"]
        assert execute(graph, config, program).differing() == [], forms[number].phases


@st.composite
def layers(draw):
    kernel = tuple(draw(st.sampled_from([1, 2, 3, 5])) for _ in range(3))
    stride = tuple(draw(st.integers(1, 2)) for _ in range(3))
    pads = {side: tuple(draw(st.integers(0, k // 2)) for k in kernel) for side in ("begin", "end")}
    shape = draw(st.integers(1, 6)), *(k + draw(st.integers(0, 6)) for k in kernel)
    return shape, draw(st.integers(1, 2)), kernel, stride, pads


@settings(parent=COMMON, max_examples=30)
@given(layers(), st.sampled_from(sorted(SQUARE)))
def test_any_layer(case, machine):
    shape, out, kernel, stride, pads = case
    graph = layer(shape, out, kernel, stride=stride, pad_begin=pads["begin"], pad_end=pads["end"])
    config = SQUARE[machine]
    (op,) = graph.ops
    source, target = (tensor_of(graph.type(n), config.lane_block) for n in "xy")
    with pytest.MonkeyPatch.context() as patch:
        if only(lambda job: True)(op, source, target, config):
            patch.setattr(choice, "jobs", only(lambda job: True))
        assert execute(graph, config).differing() == []


def test_lanes_of_the_result_are_where_its_map_says():
    """A result whose channels lie in other lanes than the first."""
    config = SQUARE["base"]
    graph = layer((3, 4, 10, 9), 3, (3, 3, 3), **same((3, 3, 3)))
    (op,) = graph.ops
    source = tensor_of(graph.type("x"), 16)
    table = np.full((1, 16), -1)
    table[0, [5, 0, 2]] = [0, 1, 2]
    target = tensor_of(graph.type("y"), 16, LaneMap.of(table))
    (form, *_) = only(lambda job: job.packing is None)(op, source, target, config)
    columns = np.flatnonzero(form.weights[0].any(axis=(0, 1, 2, 3, 4))).tolist()
    assert (form.phases.count, columns) == (2, [0, 2, 5, 8, 10, 13])


# Twins ---------------------------------------------------------------------------------------


def together(monkeypatch):
    monkeypatch.setattr(choice, "jobs", only(lambda job: True))
    graph, config = layer((9, 2, 9, 7), 2, (1, 3, 3), **same((1, 3, 3))), SQUARE["tiny"]
    return graph, config, generate(graph, config)


@pytest.mark.parametrize(
    ("kind_of", "change"),
    [
        (Permute, lambda i: {"select": (i.select[0] ^ 1, *i.select[1:])}),
        (Permute, lambda i: {"valid": i.valid ^ 1}),
        (Array, lambda i: {"zero_point": 3}),
    ],
)
def test_a_twin_shows(kind_of, change, monkeypatch):
    graph, config, program = together(monkeypatch)
    code = tuple(
        dataclasses.replace(i, **change(i)) if isinstance(i, kind_of) else i
        for i in program.instructions
    )
    assert code != program.instructions
    wrong = dataclasses.replace(program, instructions=code)
    assert execute(graph, config, wrong).differing() == ["y"]


# Which layers -----------------------------------------------------------------------------------


def test_what_is_computed_one_by_one():
    config = SQUARE["base"]

    def ways(graph, machine=config):
        (op,) = graph.ops
        source, target = (tensor_of(graph.type(n), machine.lane_block) for n in "xy")
        return phases(op, target.layout, axes_of(op, source), machine)

    window = same((1, 3, 3))
    found = ways(layer((9, 1, 9, 7), 8, (1, 3, 3), **window))
    assert [(p.axis, p.count, p.lanes) for p in found] == [(0, 2, 8), (1, 2, 8)]
    found = ways(layer((9, 1, 9, 7), 4, (1, 3, 3), **window))
    assert {p.count for p in found} == set(COUNTS)
    assert ways(layer((9, 1, 9, 7), 9, (1, 3, 3), **window)) == []
    assert ways(layer((9, 1, 9, 7), 4, (1, 1, 1))) == []
    assert ways(layer((9, 1, 9, 9), 4, (1, 3, 3), stride=(1, 3, 3))) == []
    assert ways(layer((8, 1, 9, 7), 8, (1, 3, 3), groups=4, **window)) == []
    assert ways(layer((9, 1, 8, 8), 4, (1, 3, 3), pool=(1, 2, 2), **window)) == []
    graph = layer((9, 1, 9, 7), 4, (1, 3, 3), **window)
    assert ways(graph, CONFIGS["base"]) == [], "SELECT takes the feature fold"
    assert ways(graph, ATTENTIVE["wide"]) == [], "two rows of lanes in a row of columns"


@pytest.mark.parametrize("mid", [1, 2])
def test_a_chain_with_few_inner_channels_is_right(mid):
    """Its strips know results one by one only, whatever its temporal convolution could do alone."""
    graph, config = chain((4, 6, 7, 6), mid=mid, taps=5), SQUARE["tiny"]
    op, inner = graph.ops[0].stages[0], graph.ops[0].between[0]
    source, made = tensor_of(graph.type("x"), 4), tensor_of(inner, 4)
    assert only(lambda job: True)(op, source, made, config)
    found = list(forms(op, source, made, config, Policy(), leads=True))
    assert found and all(job.phases is None for job in found)
    assert execute(graph, config).differing() == []


@pytest.mark.parametrize("name", CASES)
def test_bounds_lie_below(name):
    shape, out, kernel, attributes = CASES[name]
    config, graph = SQUARE["tiny"], layer(shape, out, kernel, **attributes)
    assert 0 < least_share(graph.ops[0], config) < 1
    assert least_share(graph.ops[0], CONFIGS["tiny"]) == 1
    program = generate(graph, config)
    memory = start_image(program, feeds_of(graph))
    cycles = make_backend("cycle").run(program, config, memory, Options()).cycles
    assert program.layers[0].roofline_cycles <= cycles


def test_a_thin_stem_takes_two_thirds():
    """8 channels of 5×7×7: 49 blocks a position one by one, 31.5 together."""
    config = SQUARE["base"]
    graph = layer((3, 8, 56, 56), 8, (5, 7, 7), **same((5, 7, 7), (1, 2, 2)))
    (op,) = graph.ops
    source, target = (tensor_of(graph.type(n), 16) for n in "xy")
    best, _ = choice.plan(op, source, target, config)
    positions = 8 * 28 * 28
    assert best.job.phases is not None and best.tiling.sums.array < 36 * positions
    assert best.tiling.cycles < 0.8 * 49 * positions


@pytest.mark.cosim
@pytest.mark.parametrize("name", ["stem", "odd results", "time"])
def test_on_rtl(name, monkeypatch):
    """Values, and the times of every instruction."""
    shape, out, kernel, attributes = CASES[name]
    monkeypatch.setattr(choice, "jobs", only(lambda job: True))
    config, graph = SQUARE["tiny"], layer(shape, out, kernel, **attributes)
    program = generate(graph, config)
    memory = start_image(program, feeds_of(graph))
    rtl, model = (make_backend(b).run(program, config, memory, Options()) for b in ("rtl", "cycle"))
    assert differences(rtl, model) == []
    run = execute(graph, config, program)
    assert run.differing() == []
    assert np.array_equal(rtl.image.read(program.tensor("y")), run.reference["y"])
