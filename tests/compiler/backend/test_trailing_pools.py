"""Attention pools that trail the convolution which makes the last of their operand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.backend.build import emit, lay_out
from compiler.cost import NEVER, Cost
from compiler.emit.emitter import RefusedError
from compiler.flow import liveness, trailers
from compiler.ir import Concat, verify
from compiler.policy import OBJECTIVES, Policy
from compiler.tile import attention_pool as tilings
from compiler.tile.attention_pool import Sizes, trailing
from hw.arch.isa import Array, Fold, FoldOp, Load, Unit
from sim.backend import Options
from sim.backends import make_backend
from sim.functional.backend import dynamic_trace
from sim.functional.hazards import HazardError, check_hazards
from sim.host import start_image
from tests.compiler.backend.group_cases import COMMON, CONFIGS
from tests.compiler.backend.harness import convolution, execute, feeds_of, kind, network
from tests.compiler.backend.test_attention_pool import apart, joined
from tests.ladder.compare import differences

EIGHT_BANKS = [name for name in CONFIGS if CONFIGS[name].memory.activation_banks >= 8]


@pytest.fixture
def always(monkeypatch):
    """Whatever fits trails."""
    monkeypatch.setattr(trailers, "apart_cost", lambda *_: NEVER)


def unit(shape, read=7, left=0, seed=0, **attributes):
    """The pool of x, which a convolution of z makes; `left` channels another one before it.

    All of them are read again, as the sum behind a context does.
    """
    rng, pooled = np.random.default_rng(seed), joined(apart(shape, **attributes))
    x = pooled.type("x")
    z = kind((read, *shape[1:]), 0.05, 9)
    ops, types = [], {"x": x, "y": pooled.type("y")}
    makes = {"l": left, "m": shape[0] - left} if left else {"x": shape[0]}
    for output, count in makes.items():
        op, made = convolution(
            rng, z, count, (1, 1, 1), name=output, inputs=("z",), output=output, signed=x.signed
        )
        ops.append(op)
        types[output] = x.with_shape((1, *made.shape))
    if left:
        joins = Concat(name="join", inputs=("l", "m"), output="x", axis=0, tables=(None, None))
        ops.append(joins)
    last, types["v"] = convolution(rng, x, 5, (1, 1, 1), name="last", inputs=("x",), output="v")
    graph = network({"z": z}, [*ops, *pooled.ops, last], types)
    port = dataclasses.replace(graph.outputs[0], value="y", onnx_name="y")
    return dataclasses.replace(graph, outputs=(*graph.outputs, port))


def trailed(graph, config):
    """Its program, and what trails what."""
    settled = lay_out(graph, config, Policy())
    return emit(settled, config), dict(settled.followers)


CASES = {
    "frames": ((9, 3, 4, 5), {}),
    "behind a concat": ((12, 3, 4, 5), {"left": 5}),
    "blocks that are full": ((16, 2, 6, 4), {"left": 8}),
    "one position": ((9, 3, 1, 1), {}),
    "many groups": ((5, 9, 2, 3), {}),
    "many tiles": ((6, 12, 7, 8), {"left": 2}),
    "a clip": ((6, 2, 4, 5), {"clip": True}),
    "signed": ((9, 2, 4, 5), {"signed": True, "left": 4}),
    "weights come first": ((9, 2, 4, 5), {"leads": False}),
    "a prime of positions": ((20, 2, 1, 53), {}),
    "many blocks": ((70, 2, 4, 4), {"left": 35}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("machine", EIGHT_BANKS)
def test_equal_to_both_apart(machine, name, always):
    shape, attributes = CASES[name]
    graph, config = unit(shape, **attributes), CONFIGS[machine]
    program, found = trailed(graph, config)
    if config.name == "tiny" and name in ("a prime of positions",):
        assert found == {}
        return
    assert found == {"y": "m" if attributes.get("left") else "x"}
    run = execute(graph, config, program)
    assert run.differing() == []
    layers = {layer.name: layer for layer in program.layers}
    first = layers[found["y"]]
    assert layers["product"].first == layers["product"].last
    assert first.tensors == (found["y"], "y") and first.op == "conv + attention_pool"


@settings(parent=COMMON, max_examples=30)
@given(st.data())
def test_any_shape(data):
    """Whatever fits is right, in a ring of as few pieces as can be, too."""
    draw = data.draw
    channels, *space = (draw(st.integers(a, b)) for a, b in ((2, 30), (1, 9), (1, 7), (1, 8)))
    graph = unit(
        (channels, *space), draw(st.integers(1, 9)), draw(st.integers(0, channels - 1)),
        seed=draw(st.integers(0, 9)), leads=draw(st.booleans()),
    )  # fmt: skip
    config = CONFIGS[draw(st.sampled_from(EIGHT_BANKS))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trailers, "apart_cost", lambda *_: NEVER)
        patch.setattr(tilings, "PIECE_ROWS", draw(st.sampled_from([8, 64, 512])))
        patch.setattr(tilings, "LEAST_POSITIONS", draw(st.sampled_from([1, 16, 48])))
        if draw(st.booleans()):
            ring = tilings._ring
            patch.setattr(tilings, "SLOTS", 2)
            patch.setattr(
                tilings, "_ring",
                lambda rows, wanted, c: ring(rows, max(wanted // 2 + 1, min(wanted, 2)), c),
            )  # fmt: skip
        program, _ = trailed(graph, config)
        assert execute(graph, config, program).differing() == []


def layer_cycles(graph, config, joining=None):
    """From the end of the first layer of x to that of y, and the layers."""
    program = emit(lay_out(graph, config, joining), config)
    memory = start_image(program, feeds_of(graph))
    timeline = make_backend("cycle").run(program, config, memory, Options()).timeline

    def end(number):
        mine = (timeline.pc >= 0) & (timeline.pc < program.layers[number].last)
        return timeline.end[mine].max()

    numbers = [n for n, layer in enumerate(program.layers) if {"m", "y"} & {*layer.tensors}]
    return end(numbers[-1]) - end(numbers[0] - 1), [program.layers[n] for n in numbers]


STAGE = ((88, 4, 28, 28), {"read": 44, "left": 44})
"""A unit of XwiseNet's first stage, of fewer frames."""


def test_sums_run_under_the_convolution():
    """What VECTOR and the port do for a frame is hidden, the last one's left alone."""
    config, (shape, attributes) = CONFIGS["base"], STAGE
    graph = unit(shape, **attributes)
    together, (one,) = layer_cycles(graph, config, Policy())
    separate, two = layer_cycles(graph, config)
    assert one.op == "conv + attention_pool" == " + ".join(layer.op for layer in two)
    frame = 28 * 28
    # Softmax and sums of three frames of four, of which the array had nothing to do for a third.
    assert together < separate - 3 * 2 * frame
    array = (3 * 3 + 6) * 4 * frame
    last = (2 + 2 + 6) * frame  # two drains, two passes of the softmax, sums
    assert together < 1.04 * (array + last)


def test_estimates_are_near():
    config, (shape, attributes) = CONFIGS["base"], STAGE
    measured, (layer,) = layer_cycles(unit(shape, **attributes), config, Policy())
    assert abs(layer.tiling["estimate"] / measured - 1) < 0.1


def test_pieces_lie_in_banks_of_their_own():
    """Where a bank holds two of them and a part of a third, that part stays empty."""
    config = CONFIGS["base"]
    tiling = trailing(Sizes(6, 784, 16), config)
    assert tiling.groups == tiling.piece == 1
    assert tiling.places == tuple(2048 * n + row for n in range(4) for row in (0, 784))
    # VECTOR works on one tile while pieces of the next one arrive: at least one more than a tile.
    assert trailing(Sizes(8, 784, 16), config) is None
    assert len(trailing(Sizes(8, 784, 1), config).places) == 8
    assert len(trailing(Sizes(12, 196, 8), config).places) == 2 * 6
    assert trailing(Sizes(6, 784, 16), CONFIGS["ecp5"]) is None
    assert trailing(Sizes(6, 1040, 16), config) is None


# Twins ---------------------------------------------------------------------------------------


def small():
    """Several tiles behind several of the convolution's; its program."""
    graph, config = unit((12, 8, 7, 8), left=4), CONFIGS["tiny"]
    program, found = trailed(graph, config)
    assert found == {"y": "m"}
    return graph, config, program


def changed(program, chosen, change):
    """With other fields in some of the instructions of the layer that makes m and y."""
    layer = next(layer for layer in program.layers if "y" in layer.tensors)
    code = list(program.instructions)
    places = [n for n in range(layer.first, layer.last) if chosen(code[n])]
    for n in places:
        code[n] = dataclasses.replace(code[n], **change(code[n]))
    assert tuple(code) != program.instructions
    return dataclasses.replace(program, instructions=tuple(code))


def without(unit_of):
    def change(i):
        waits = list(i.waits)
        waits[unit_of] = 0
        return {"waits": tuple(waits)}

    return change


TWINS = {
    "shares of another row": (
        lambda i: isinstance(i, Fold) and i.op == FoldOp.DOT, lambda i: {"source1": i.source1 - 1},
        ["y"],
    ),
    "scores that are not those": (
        lambda i: isinstance(i, Array) and i.counts[7] > 1 and i.counts[1:7] == (1,) * 6,
        lambda i: {"zero_point": i.zero_point ^ 64},
        ["y"],
    ),
    "a context that is no code of any": (
        lambda i: isinstance(i, Fold) and i.op == FoldOp.DOT, lambda i: {"high": i.low}, ["y"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_shows(name, always):
    graph, config, program = small()
    chosen, change, shows = TWINS[name]
    assert sorted(execute(graph, config, changed(program, chosen, change)).differing()) == shows


@pytest.mark.parametrize(
    ("kind_of", "unit_of"), [(Load, Unit.STORE), (Load, Unit.VECTOR), (Fold, Unit.DRAIN)]
)
def test_a_wait_left_out_is_a_race(kind_of, unit_of, always):
    _, config, program = small()
    check_hazards(dynamic_trace(program, config, program.memory()), config, program.memory_bytes)
    racing = changed(
        program, lambda i: isinstance(i, kind_of) and i.waits[unit_of], without(unit_of)
    )
    with pytest.raises(HazardError):
        check_hazards(dynamic_trace(racing, config, racing.memory()), config, racing.memory_bytes)


def test_the_result_takes_memory_from_the_convolutions_layer_on(always):
    settled = lay_out(unit((12, 8, 7, 8), left=4), CONFIGS["tiny"], Policy())
    spans = liveness.intervals(settled)
    apart_from_it = liveness.intervals(dataclasses.replace(settled, followers={}))
    # y leaves the network, and x is two others; m is the one that is made there.
    ends = {name: spans[name] for name in spans}
    assert settled.followers == {"y": "m"} and ends["l"].last >= ends["m"].first
    assert ends == apart_from_it


# What trails ----------------------------------------------------------------------------------


def test_what_does_not_trail(always):
    config = CONFIGS["tiny"]

    def found(graph):
        return trailed(graph, config)[1]

    graph = unit((12, 3, 4, 5), left=4)
    assert found(graph) == {"y": "m"}
    number = next(n for n, op in enumerate(graph.ops) if op.output == "m")
    conv = graph.ops[number]
    ones = np.ones((8, 7, 1, 3, 3), np.int8)
    wide = dataclasses.replace(conv, weight=ones, pad_begin=(0, 1, 1), pad_end=(0, 1, 1))
    ops = (*graph.ops[:number], wide, *graph.ops[number + 1 :])
    other = dataclasses.replace(graph, ops=ops)
    verify(other)
    assert found(other) == {}
    # In an arm of which the convolution is no part.
    settled = lay_out(graph, config)
    arm = dataclasses.replace(settled.assigned.graph, paths={"y": (("b", True),)})
    assigned = dataclasses.replace(settled.assigned, graph=arm)
    elsewhere = dataclasses.replace(settled, assigned=assigned)
    assert trailers.trail(elsewhere, config, Policy()).followers == {}
    # The convolution itself follows another one's sum.
    taken = dataclasses.replace(settled, followers={"m": "l"})
    assert trailers.trail(taken, config, Policy()).followers == {"m": "l"}
    assert trailers.trail(settled, config, Policy()).followers == {"y": "m"}


def test_what_both_take_decides(monkeypatch):
    config, (shape, attributes) = CONFIGS["base"], STAGE
    graph = unit(shape, **attributes)
    found = {each: lay_out(graph, config, Policy(objective=each)).followers for each in OBJECTIVES}
    # With tiles of least energy both together take more of it (0.01 %), and 12 % more cycles.
    joined = {"y": "m"}
    assert found == {"cycles": joined, "energy": {}, "multiplications": joined}
    assert lay_out(graph, config).followers == {}
    monkeypatch.setattr(trailers, "apart_cost", lambda *_: Cost(1, 1, 1, 1))
    assert lay_out(graph, config, Policy()).followers == {}


def test_few_banks_hold_no_pair(always):
    assert trailed(unit((9, 3, 4, 5)), CONFIGS["ecp5"])[1] == {}


def test_constants_of_both_have_to_fit(always):
    """Parameters of the convolution, and one more of every column."""
    config = CONFIGS["tiny"]
    columns = config.memory.parameter_columns
    fits = unit((columns - config.array.cols, 1, 2, 3))
    assert trailed(fits, config)[1] == {"y": "x"}
    graph = unit((columns, 1, 2, 3))
    assert trailed(graph, config)[1] == {}


def test_what_does_not_fit_is_refused(always, monkeypatch):
    graph, config = unit((9, 3, 4, 5)), CONFIGS["tiny"]
    settled = lay_out(graph, config, Policy())
    monkeypatch.setattr(trailers, "trailing", lambda *_: None)
    with pytest.raises(Exception, match="they do not fit together") as caught:
        emit(settled, config)
    assert isinstance(caught.value.__cause__, RefusedError)


@pytest.mark.cosim
@pytest.mark.parametrize("name", ["many tiles", "behind a concat", "signed"])
def test_on_rtl(name, always):
    """Values, and the times of every instruction."""
    config, (shape, attributes) = CONFIGS["tiny"], CASES[name]
    graph = unit(shape, **attributes)
    program, found = trailed(graph, config)
    assert "y" in found
    memory = start_image(program, feeds_of(graph))
    rtl, model = (make_backend(b).run(program, config, memory, Options()) for b in ("rtl", "cycle"))
    assert differences(rtl, model) == []
    run = execute(graph, config, program)
    assert run.differing() == []
    for tensor in program.tensors:
        if tensor.name in run.reference:
            assert np.array_equal(rtl.image.read(tensor), run.reference[tensor.name])
