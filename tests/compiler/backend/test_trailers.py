"""A pool that trails a convolution: it reads what is stored while the array goes on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from compiler.backend.build import generate
from compiler.ir import CompilerError, Pool, PoolKind, Region, Window, verify
from compiler.passes.region import FUSE_REGIONS
from hw.arch.isa import Array, Load, Reduce, ReduceOp, Unit
from sim.backend import Options
from sim.backends import make_backend
from sim.functional.backend import dynamic_trace
from sim.functional.hazards import HazardError, check_hazards
from sim.host import start_image
from tests.compiler.backend.harness import CONFIGS, convolution, execute, feeds_of, kind, network
from tests.compiler.backend.hfa_cases import CONFIGS as HFA
from tests.compiler.backend.hfa_cases import FULL, SAME
from tests.compiler.backend.test_vector import mean_of
from tests.ladder.compare import differences

STEM = Window((1, 3, 3), (1, 2, 2), (0, 1, 1), (0, 1, 1))
COMMON = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def apart(shape, out, kernel, window, *, average=False, seed=0, **attributes):
    """x to a convolution, its result to a pool."""
    rng = np.random.default_rng(seed)
    x = kind(shape, 0.05, 9)
    conv, made = convolution(rng, x, out, kernel, output="c", signed=bool(seed % 2), **attributes)
    size = (out, *window.output(made.shape[1:]))
    y = kind(size, 0.04 if average else made.scale, made.zero_point, made.signed)
    low = -128 if made.signed else 0
    pool = Pool(
        name="pool", inputs=("c",), output="y", window=window,
        kind=PoolKind.AVERAGE if average else PoolKind.MAX,
        mean=mean_of(made, y, int(np.prod(window.kernel))) if average else None,
        low=low + 2, high=low + 240,
    )  # fmt: skip
    return network({"x": x}, [conv, pool], {"c": made, "y": y})


def joined(graph):
    """That as one region."""
    outcome = FUSE_REGIONS.run(graph, lambda op, inputs, output: None)
    assert [type(op) for op in outcome.graph.ops] == [Region]
    verify(outcome.graph)
    return outcome.graph


CASES = {
    "stem": ((3, 1, 24, 26), 20, (1, 7, 7), STEM, {"pad_begin": (0, 3, 3), "pad_end": (0, 3, 3),
                                                   "stride": (1, 2, 2)}),
    "3x3, many tiles": ((9, 2, 20, 18), 24, (1, 3, 3), STEM, SAME),
    "merged axes": ((20, 1, 20, 20), 24, (1, 1, 1), STEM, {}),
    "3x3x3": ((6, 5, 8, 9), 9, (3, 3, 3), Window((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1)), FULL),
    "mean": ((9, 1, 12, 11), 10, (1, 3, 3), STEM, {**SAME, "average": True}),
    "grouped": ((16, 1, 12, 11), 32, (1, 3, 3), STEM, {**SAME, "groups": 4}),
    "whole maps": ((9, 1, 6, 7), 10, (1, 1, 1), Window((1, 6, 7), (1, 1, 1)), {}),
}  # fmt: skip
MACHINES = {name: CONFIGS[name] for name in CONFIGS} | {f"{name}, hfa": HFA[name] for name in HFA}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("machine", ["tiny", "base", "tiny, hfa"])
def test_equal_to_its_parts(machine, name):
    shape, out, kernel, window, attributes = CASES[name]
    graph = joined(apart(shape, out, kernel, window, **attributes))
    assert execute(graph, MACHINES[machine]).differing() == []


@COMMON
@given(st.data())
def test_random_pools(data):
    draw = data.draw
    shape = draw(st.tuples(*(st.integers(a, b) for a, b in ((1, 9), (1, 4), (4, 16), (4, 16)))))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(3))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(3))
    pads = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    window = Window(kernel, stride, pads, pads)
    assume(min(window.output(shape[1:])) >= 1)
    conv = draw(st.sampled_from([((1, 1, 1), {}), ((1, 3, 3), SAME)]))
    graph = joined(
        apart(
            shape, draw(st.integers(1, 20)), conv[0], window, seed=draw(st.integers(0, 99)),
            average=draw(st.booleans()), **conv[1],
        )
    )  # fmt: skip
    try:
        run = execute(graph, MACHINES[draw(st.sampled_from(sorted(MACHINES)))])
    except CompilerError as error:
        assume("tile fits" not in str(error) and "a window of" not in str(error))
        raise
    assert run.differing() == []


def many_tiles():
    """A case whose convolution has several tiles, its program and the pool's loads."""
    shape, out, kernel, window, attributes = CASES["3x3, many tiles"]
    graph, config = joined(apart(shape, out, kernel, window, **attributes)), CONFIGS["tiny"]
    program = generate(graph, config)
    y = program.tensor("y")
    made = range(y.address + y.layout.nbytes, program.store_window[1])
    loads = [
        n for n, i in enumerate(program.instructions) if isinstance(i, Load) and i.dram in made
    ]
    return graph, config, program, loads


def test_the_pool_runs_while_the_array_works():
    """Most of its tiles come before the last of the convolution's."""
    _, _, program, loads = many_tiles()
    code = program.instructions
    last = max(n for n, i in enumerate(code) if isinstance(i, Array))
    pools = [n for n, i in enumerate(code) if isinstance(i, Reduce) and i.op == ReduceOp.MAX]
    assert len(loads) == len(pools) > 4
    assert sum(n < last for n in pools) > len(pools) / 2


def cycles(graph, config):
    """Of a program, by the cycle model."""
    program = generate(graph, config)
    memory = start_image(program, feeds_of(graph))
    return make_backend("cycle").run(program, config, memory, Options()).cycles


def test_a_stem_does_not_wait_for_its_pool():
    """VECTOR packs the operand, too: the pool's tiles may not keep it from that for long.

    What is left is the pool of the last frame's last lines, of six frames.
    """
    _, _, kernel, window, attributes = CASES["stem"]
    graph = apart((3, 6, 64, 64), 64, kernel, window, **attributes)
    port = dataclasses.replace(graph.outputs[0], value="c")
    alone = dataclasses.replace(graph, ops=graph.ops[:1], outputs=(port,))
    assert cycles(joined(graph), CONFIGS["base"]) < 1.06 * cycles(alone, CONFIGS["base"])


def test_a_tile_from_elsewhere_shows():
    graph, config, program, loads = many_tiles()
    code = list(program.instructions)
    first, other = code[loads[0]], code[loads[-1]]
    code[loads[-1]] = dataclasses.replace(other, dram=first.dram)
    twin = dataclasses.replace(program, instructions=tuple(code))
    assert execute(graph, config, twin).differing() == ["y"]


def test_a_tile_that_does_not_wait_for_the_store_is_a_race():
    _, config, program, loads = many_tiles()
    check_hazards(dynamic_trace(program, config, program.memory()), config, program.memory_bytes)
    code = list(program.instructions)
    place = next(n for n in loads if code[n].waits[Unit.STORE])
    waits = list(code[place].waits)
    waits[Unit.STORE] = 0
    code[place] = dataclasses.replace(code[place], waits=tuple(waits))
    twin = dataclasses.replace(program, instructions=tuple(code))
    with pytest.raises(HazardError, match="dram"):
        check_hazards(dynamic_trace(twin, config, twin.memory()), config, twin.memory_bytes)


def test_a_result_that_others_read_stays():
    graph = apart((9, 1, 12, 11), 10, (1, 3, 3), STEM, **SAME)
    shown = dataclasses.replace(
        graph, outputs=(*graph.outputs, dataclasses.replace(graph.outputs[0], value="c"))
    )
    outcome = FUSE_REGIONS.run(shown, lambda op, inputs, output: None)
    assert outcome.graph.ops == shown.ops and not outcome.applied


@pytest.mark.cosim
def test_on_rtl():
    """Values, and the times of every instruction."""
    shape, out, kernel, window, attributes = CASES["3x3, many tiles"]
    graph, config = joined(apart(shape, out, kernel, window, **attributes)), HFA["tiny"]
    program = generate(graph, config)
    memory = start_image(program, feeds_of(graph))
    rtl, model = (make_backend(b).run(program, config, memory, Options()) for b in ("rtl", "cycle"))
    assert differences(rtl, model) == []
    run = execute(graph, config, program)
    assert run.differing() == []
    y = program.tensor("y")
    assert np.array_equal(rtl.image.read(y), run.reference["y"])
