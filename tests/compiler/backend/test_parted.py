"""Sums and products whose result is parted by reader: blocks of one half each, filled by SELECT."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.backend.build import generate, lay_out
from compiler.emit.select import Merge
from compiler.ir import Pairwise, Rearrange
from compiler.lower.parted import MOST_SOURCES, Parting, alternating, parted
from hw.arch.axes import standard
from hw.arch.isa import Permute
from hw.arch.layout import LaneMap
from tests.compiler.backend.group_cases import COMMON
from tests.compiler.backend.harness import CONFIGS, FOLDING, execute
from tests.compiler.backend.test_views import Joining

MACHINES = {**CONFIGS, **FOLDING}


class Shuffling(Joining):
    """Units of a shuffled network."""

    def shuffle(self, x: str) -> str:
        """Interleave the two halves of the channels."""
        axes = standard((1, *self.type(x).shape))
        ((size, stride),) = axes[0]
        half = size // 2
        target = (((half, stride), (2, half * stride)), *axes[1:])
        y = self.type(x).with_shape((1, *self.type(x).shape), target)
        op = Rearrange(name="", inputs=(x,), output="", source=axes, target=target)
        return self.add(op, y)

    def unit(self, x: str, gate: str | None, multiply: bool) -> str:
        """Half of the channels stay, the others are convolved; then gated, and shuffled."""
        count = self.type(x).shape[0]
        left = self.slice(x, 0, 0, count // 2)
        right = self.conv(self.slice(x, 0, count // 2, count), count // 2)
        self.values[right] = dataclasses.replace(
            self.values[right], type=self.type(left).with_shape((1, *self.type(right).shape))
        )
        y = self.join(left, right)
        other = self.mean(y) if gate == "channels" else self.join(y) if gate == "all" else None
        return self.shuffle(y if other is None else self.binary(y, other, multiply))


def shuffled(channels: int, units: int, gate: str, multiply: bool, shape=(3, 4, 5)) -> Shuffling:
    net = Shuffling((4, *shape))
    x = net.conv("v0", channels)
    for _ in range(units):
        x = net.unit(x, gate, multiply)
    net.conv(x, 5)
    return net


def laid(graph, config) -> list[LaneMap]:
    """Maps of the results that are parted."""
    ops = lay_out(graph, config).assigned.graph.ops
    return [op.lane_map for op in ops if isinstance(op, Pairwise) and op.lane_map is not None]


@settings(parent=COMMON, max_examples=15)
@given(
    st.sampled_from([6, 12, 20, 22, 44, 70]),
    st.sampled_from(["channels", "all"]),
    st.booleans(),
    st.sampled_from([*FOLDING, "tiny"]),
)
def test_shuffled_units(channels, gate, multiply, name):
    graph = shuffled(channels, 3, gate, multiply).graph()
    run = execute(graph, MACHINES[name])
    assert run.differing() == []
    assert laid(graph, MACHINES[name]) == [] or name != "tiny"


def test_blocks_that_meet_lie_in_two_banks():
    """As in XwiseNet's first stage: in the order of use, the last two would lie in one."""
    made = [Merge(n, blocks, ()) for n, blocks in enumerate(((0, 1, 2), (2, 3), (0, 1), (1, 3)))]

    def together(kept):
        banks = {block: place % 2 for place, block in enumerate(kept)}
        return [part.blocks for part in made if banks[part.blocks[0]] == banks[part.blocks[1]]]

    assert together((0, 1, 2, 3)) == [(1, 3)]
    kept = alternating(made)
    assert sorted(kept) == [0, 1, 2, 3] and together(kept) == []
    # No better than that: three blocks of which each meets both others.
    triangle = [Merge(n, blocks, ()) for n, blocks in enumerate(((0, 1), (1, 2), (0, 2)))]
    assert alternating(triangle) == [0, 1, 2]


def test_halves_stay_dense():
    """44 channels each: three blocks for either reader, however many units came before."""
    graph = shuffled(88, 4, "channels", False, (3, 14, 14)).graph()
    config = FOLDING["folding_base"]
    maps = laid(graph, config)
    assert len(maps) == 3  # what the last unit makes is read as a whole
    assert {len(m.blocks) for m in maps} == {6}
    run = execute(graph, config)
    assert run.differing() == []
    blocks = [t.layout.blocks for t in run.program.tensors if t.layout.channels == 44]
    assert sorted(blocks) == [3] * (len(blocks) - 1) + [4]  # the first unit's: of a dense result


@settings(parent=COMMON, max_examples=30)
@given(st.data())
def test_blocks_hold_channels_of_one_part(data):
    lanes = data.draw(st.sampled_from([4, 8, 16]))
    widths = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    source = LaneMap.joined([LaneMap.dense(width, lanes) for width in widths])
    owner = np.array(
        data.draw(st.lists(st.integers(0, 2), min_size=source.channels, max_size=source.channels))
    )
    parts = [np.flatnonzero(owner == n) for n in range(3) if (owner == n).any()]
    result = parted(source, parts)
    assert result.channels == source.channels
    table = result.table()
    assert np.sort(table[table >= 0]).tolist() == list(range(source.channels))
    for row in table:
        assert len({int(owner[channel]) for channel in row if channel >= 0}) == 1
    parting = Parting(source, result)
    assert all(1 <= len(part.blocks) <= MOST_SOURCES for part in parting.made)
    made = {part.block for part in parting.made} | {block for _, block in parting.direct}
    assert made == set(range(len(result.blocks)))


@pytest.mark.parametrize("change", ["select", "source0"])
def test_a_wrong_lane_is_seen(change):
    """The twin: one SELECT of the sum's takes another lane, or another row."""
    graph = shuffled(44, 2, "channels", False).graph()
    config = FOLDING["folding_base"]
    program = generate(graph, config)
    layer = next(each for each in program.layers if each.op == "subtract")
    instructions = list(program.instructions)
    number = next(n for n in range(layer.first, layer.last) if isinstance(instructions[n], Permute))
    found = instructions[number]
    value = found.source0 + 1
    if change == "select":
        value = (found.select[0] ^ 1, *found.select[1:])
    instructions[number] = dataclasses.replace(found, **{change: value})
    wrong = dataclasses.replace(program, instructions=tuple(instructions))
    assert execute(graph, config, wrong).differing() != []
