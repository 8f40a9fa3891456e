"""Constants run ahead of the layer that needs them; what they bring is what it finds."""

import dataclasses
import itertools

import numpy as np
import pytest

from compiler.backend.build import generate
from compiler.emit import ahead
from compiler.flow.waits import filled
from hw.arch.isa import Load, Space, UnitInstruction
from hw.arch.program import Block
from tests.compiler.backend.harness import CONFIGS, convolution, execute, kind, network

CONFIG = CONFIGS["tiny"]


def stack(layers, seed=0):
    """Pointwise convolutions of few positions, whose weights fill the memory again and again."""
    rng = np.random.default_rng(seed)
    values = {"v0": kind((64, 1, 1, 3))}
    ops = []
    for number in range(layers):
        op, made = convolution(
            rng,
            values[f"v{number}"],
            64,
            (1, 1, 1),
            name=f"conv{number}",
            inputs=(f"v{number}",),
            output=f"v{number + 1}",
        )
        ops.append(op)
        values[f"v{number + 1}"] = made
    return network({"v0": values.pop("v0")}, ops, values)


def constants(program):
    """Numbers of the LOADs of weights, parameters and tables."""
    code = program.instructions
    return [n for n, i in enumerate(code) if isinstance(i, Load) and i.space != Space.ACTIVATION]


@pytest.fixture
def stays(monkeypatch):
    """Makes constants stay where they are emitted, as long as it is asked to."""

    def stay():
        monkeypatch.setattr(ahead._Piece, "order", lambda self: [*self._numbers])

    return stay


def test_constants_come_earlier_and_results_stay(monkeypatch, stays):
    monkeypatch.setattr(ahead, "LEAST_GAP", 1)
    graph = stack(4)
    after = generate(graph, CONFIG)
    assert execute(graph, CONFIG).differing() == []
    stays()
    before = generate(graph, CONFIG)
    assert sum(constants(after)) < sum(constants(before))
    one, other = (
        sorted(
            str(dataclasses.replace(i, waits=()) if isinstance(i, UnitInstruction) else i)
            for i in program.instructions
        )
        for program in (before, after)
    )
    assert one == other


def test_weights_that_come_before_their_place_is_free_are_noticed(monkeypatch):
    """The twin: all constants come first."""

    def first(piece):
        places = range(len(piece._code))
        return sorted(places, key=lambda place: not piece._constant[place])

    monkeypatch.setattr(ahead._Piece, "_placed", first)
    assert execute(stack(16), CONFIG).differing()


def test_nothing_leaves_its_block():
    """Whatever a block's first constants are, they stay behind what the sequencer does there."""
    program = generate(stack(4), CONFIG)
    code = filled([*program.instructions], (), {}, CONFIG)
    middle = len(code) // 2
    blocks = [
        Block(0, middle, "", (middle,), None),
        Block(middle, len(code), "", (), None),
    ]
    order = ahead.run_ahead(code, blocks, program.image[0][0], CONFIG)
    assert sorted(order[:middle]) == list(range(middle))
    assert sorted(order) == list(range(len(code)))


def test_layers_keep_what_is_theirs(monkeypatch):
    """Each layer's other instructions, none of another one's; all of them together are the code."""
    monkeypatch.setattr(ahead, "LEAST_GAP", 1)
    program = generate(stack(5), CONFIG)
    layers = program.layers
    for one, next_one in itertools.pairwise(layers):
        assert one.last == next_one.first
    for layer in layers:
        kinds = [type(i).__name__ for i in program.instructions[layer.first : layer.last]]
        assert kinds.count("Drain") >= 1
        assert kinds[-1] in ("Store", "Drain"), kinds
