"""Cycles of layers that are timed to be compared, against those of whole programs."""

import dataclasses

import numpy as np
import pytest

from compiler.array import depthwise_trial
from compiler.backend.build import generate
from compiler.cost import Cost
from compiler.emit import stream_trial
from compiler.emit.emitter import Emitter
from compiler.emit.transfers import at, tensor_of
from compiler.emit.trial import BESIDE, SOURCE
from compiler.foreseen import foreseen
from compiler.ir import Pool, PoolKind, Window
from compiler.lower import compare, lowering
from compiler.policy import OBJECTIVES, OFF, Policy
from hw.arch.isa import Load, Reduce
from tests.compiler.backend.harness import convolution, kind, network
from tests.compiler.backend.hfa_cases import BASE as CONFIG
from tests.compiler.backend.test_chains import chain
from tests.compiler.backend.trials import forget

SAME = {"pad_begin": (0, 1, 1), "pad_end": (0, 1, 1)}
NEAR = 0.05


@pytest.fixture(autouse=True)
def anew():
    """Neither does a case find what another one left, nor does it leave anything."""
    forget()
    yield
    forget()


def depthwise(name, number, source):
    return convolution(
        np.random.default_rng(number), source, source.shape[0], (1, 3, 3), name=f"o{number}",
        inputs=(name,), output=f"y{number}", groups=source.shape[0], **SAME,
    )  # fmt: skip


def pool(name, number, source):
    window = Window(kernel=(1, 3, 3), stride=(1, 1, 1), pad_begin=(0, 1, 1), pad_end=(0, 1, 1))
    op = Pool(
        name=f"o{number}", inputs=(name,), output=f"y{number}", kind=PoolKind.MAX, window=window,
        low=source.low, high=source.high,
    )  # fmt: skip
    return op, source


def pointwise(name, number, source):
    return convolution(
        np.random.default_rng(number), source, source.shape[0], (1, 1, 1), name=f"o{number}",
        inputs=(name,), output=f"y{number}",
    )  # fmt: skip


def in_a_row(shape, *makers):
    """The layers one after another, as a graph."""
    source, ops, kinds, name = kind(shape), [], {}, "x"
    last = source
    for number, maker in enumerate(makers):
        op, last = maker(name, number, last)
        name = op.output
        ops.append(op)
        kinds[name] = last
    return network({"x": source}, ops, kinds)


def program_cycles(graph):
    return foreseen(generate(graph, CONFIG), CONFIG).cycles


def laid(graph):
    """Each operator with what knows it and its tensors, none of which meets another one."""
    names = ["x", *(op.output for op in graph.ops)]
    tensors = {
        name: at(tensor_of(graph.type(name), CONFIG.lane_block), SOURCE + n * BESIDE)
        for n, name in enumerate(names)
    }
    return [
        (lowering(op), op, [tensors[name] for name in op.inputs], tensors[op.output])
        for op in graph.ops
    ]


def costs(graph):
    return [each.cost(*layer, CONFIG, Policy()).cycles for each, *layer in laid(graph)]


CASES = {
    "depthwise": ((64, 8, 28, 28), depthwise),
    "depthwise, long": ((64, 16, 56, 56), depthwise),
    "pool": ((64, 4, 28, 28), pool),
    "pool, long": ((64, 8, 112, 112), pool),
}
LONG = {"depthwise, long": (depthwise_trial, 50), "pool, long": (stream_trial, 4)}
"""What times them, and how much of them is emitted for each part."""


@pytest.mark.parametrize("name", CASES)
def test_a_trial_takes_as_long_as_a_layer_of_a_program(name, monkeypatch):
    """One more layer in a row takes what the trial says, where nothing stays on chip between."""
    shape, maker = CASES[name]
    monkeypatch.setattr(Emitter, "end_layer", lambda *_: None)
    more = program_cycles(in_a_row(shape, maker, maker)) - program_cycles(in_a_row(shape, maker))
    (told,) = costs(in_a_row(shape, maker))
    assert abs(told - more) < NEAR * more
    # Not so where what takes longest is left out.
    forget()
    emit, longest = Emitter.emit, Reduce if maker is pool else Load

    def others(emitter, instruction):
        if not isinstance(instruction, longest):
            emit(emitter, instruction)

    monkeypatch.setattr(Emitter, "emit", others)
    (other,) = costs(in_a_row(shape, maker))
    assert abs(other - more) > NEAR * more


@pytest.mark.parametrize("name", LONG)
def test_some_tiles_stand_for_all(name, monkeypatch):
    shape, maker = CASES[name]
    (module, size), graph = LONG[name], in_a_row(shape, maker)
    monkeypatch.setattr(module, "SAMPLED", size)
    (some,) = costs(graph)
    forget()
    with monkeypatch.context() as patch:
        patch.setattr(module._Sampled, "left", lambda self, stored: 0)
        (begun,) = costs(graph)
    forget()
    monkeypatch.setattr(module, "SAMPLED", 1 << 30)
    (whole,) = costs(graph)
    assert abs(some - whole) < 0.02 * whole
    assert begun < 0.98 * whole


@pytest.mark.parametrize("shape", [(64, 2, 14, 14), (176, 1, 14, 14)])
def test_layers_are_timed_one_after_another(shape, monkeypatch):
    """Two more layers in a row take what is told of both."""
    pair = in_a_row(shape, pool, pointwise)
    twice = in_a_row(shape, pool, pointwise, pool, pointwise)
    more = program_cycles(twice) - program_cycles(pair)

    def told():
        forget()
        return compare.one_after_another(laid(pair), CONFIG, Policy()).cycles

    assert abs(told() - more) < NEAR * more
    # Not so where the second one is forgotten.
    emit = compare._emit
    monkeypatch.setattr(compare, "_emit", lambda emitter, layers: emit(emitter, layers[:1]))
    assert abs(told() - more) > NEAR * more


CHAINS = {
    "in strips": ((32, 4, 20, 28), {"mid": 32, "out": 64}),
    "with a residual": ((20, 8, 20, 24), {"mid": 32, "trg": True}),
    "small": ((20, 4, 6, 8), {"pool": (1, 2, 2)}),
}


def judged(op, graph, policy):
    compare._part_cost.cache_clear()
    return compare.better_cut(op, graph.type("x"), graph.type("y"), CONFIG, policy)


@pytest.mark.parametrize("hfa", ["auto", OFF])
@pytest.mark.parametrize("name", CHAINS)
def test_the_least_is_no_more_than_what_is_timed(name, hfa, monkeypatch):
    """What is not timed could not have been better: the word on a chain is the same without."""
    shape, options = CHAINS[name]
    graph, policy = chain(shape, **options), Policy(hfa)
    (op,) = graph.ops
    links = tuple(op.links([graph.type("x")], graph.type("y")))
    ways = [[links], *compare._ways(links)]
    assert len(ways) > 1
    for part in (part for way in ways for part in way):
        cost = compare._part_cost(part, CONFIG, policy)
        assert cost is not None
        assert compare._least(part, CONFIG, policy) <= cost.merit("cycles")[0]
    word = judged(op, graph, policy)
    monkeypatch.setattr(compare, "_least", lambda *_: 0)
    assert judged(op, graph, policy) == word


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_between_equals_operators_are_joined(objective):
    """A trial does not tell the last per cent of cycles; what is better apart stays apart."""
    policy, apart = Policy(objective=objective), Cost(1000, 800, 90, 5e6)

    def joined(factor):
        scaled = [factor * value for value in dataclasses.astuple(apart)]
        return compare.better_joined(Cost(*scaled), apart, policy)

    assert joined(0.9) and joined(1) and not joined(1.011)
    assert joined(1.009) is (objective == "cycles")
