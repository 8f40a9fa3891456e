"""Tensors share DRAM where they are not needed at once; an interval cut too short is found."""

import dataclasses
import itertools

import numpy as np
import onnx
import pytest

from compiler.backend import placement
from compiler.backend.build import lay_out
from compiler.emit.allocate import PAGE, Piece, best_fit
from compiler.flow import liveness
from compiler.ir import CompilerError
from compiler.onnx_import import import_model
from fuzz.structured import File, feeds
from hw.arch.config import AcceleratorConfig
from proof.build import build
from sim import host
from sim.backend import Options
from sim.backends import make_backend
from sim.build import Build
from sim.energy import EnergyTable
from sim.run import run_build
from tests.flow import recurrent
from tests.models.net import Net
from tests.models.qdq import Q

TINY = AcceleratorConfig.load("tiny")


def pieces(rng, count):
    """Random needs."""
    for number in range(count):
        first = int(rng.integers(0, 20))
        yield Piece(
            (str(number),), int(rng.integers(1, 90)), first, first + int(rng.integers(0, 6))
        )


@pytest.mark.parametrize("seed", range(20))
def test_what_is_needed_at_once_lies_apart(seed):
    needs = list(pieces(np.random.default_rng(seed), 40))
    places, end = best_fit(needs, 8)
    for a, b in itertools.combinations(needs, 2):
        apart = places[a.key] + a.size <= places[b.key] or places[b.key] + b.size <= places[a.key]
        assert apart or not a.meets(b)
    assert all(place % 8 == 0 for place in places.values())
    live = [sum(p.size for p in needs if p.first <= t <= p.last) for t in range(26)]
    assert max(live) <= end <= 1.5 * max(live) + 8 * 40
    assert max(places[p.key] + p.size for p in needs) <= end


def test_the_smallest_gap_that_fits_is_taken():
    needs = [
        Piece(("low",), 50, 0, 9),
        Piece(("wide",), 40, 0, 0),
        Piece(("middle",), 30, 0, 9),
        Piece(("narrow",), 20, 0, 0),
        Piece(("high",), 18, 0, 9),
        Piece(("late",), 15, 5, 5),
    ]
    places, end = best_fit(needs)
    assert (places["middle",], places["high",], end) == (90, 140, 158)
    assert places["late",] == 120


def tower() -> onnx.ModelProto:
    """Convolutions of several tiles one after another, a shortcut around them, and a view."""
    net = Net()
    x = net.start((1, 8, 20, 32))
    kept = y = net.through(net.op("Conv", [x, net.weight((8, 8, 1, 1))]), Q(0.11, 7, np.int8))
    for _ in range(3):
        y = net.op("Conv", [y, net.weight((8, 8, 3, 3))], pads=[1, 1, 1, 1])
        y = net.through(net.op("Relu", [y]), Q(0.4, -128, np.int8))
    s = net.through(net.op("Add", [y, kept]), Q(0.45, 5, np.int8))
    v = net.op("Reshape", [s, net.ints([1, 8, 32, 20])])
    m = net.op("MaxPool", [v], kernel_shape=[2, 2], strides=[2, 2])
    net.output(net.through(net.op("Sigmoid", [m]), Q(1 / 256, -128, np.int8)))
    return net.model()


def made(folder, model=None, **options):
    """A build, which its proof has compared tensor by tensor."""
    onnx.save(tower() if model is None else model, folder / "net.onnx")
    return build(folder / "net.onnx", TINY, folder / "build", **options)


def addresses(program):
    """Where the program's results lie."""
    names = {name for layer in program.layers for name in layer.tensors}
    return [t.address for t in program.tensors if t.name in names]


@pytest.mark.parametrize("backend", ["cycle", pytest.param("rtl", marks=pytest.mark.cosim)])
def test_every_tensor_is_compared_though_they_share_memory(backend, tmp_path):
    shared = made(tmp_path)
    found = Build.load(tmp_path / "build")
    program = found.program
    assert len(set(addresses(program))) < len(addresses(program)) - 1
    rng = np.random.default_rng(3)
    inputs = {p.name: rng.normal(0, 1, p.shape).astype(np.float32) for p in program.inputs}
    table = EnergyTable.load("asic_45nm")
    run = run_build(found, make_backend(backend), inputs, Options(), table, True)
    named = shared.proof["tensors"] - shared.proof["compiler"]
    assert run.result.equal and run.result.tensors_compared == named
    memory = host.start_image(program, found.feeds(inputs))
    result = make_backend(backend).run(program, TINY, memory, Options())
    regions = sorted(run.result.memory, key=lambda region: region["first"])
    for a, b in itertools.combinations([m for m in regions if m["kind"] == "tensor"], 2):
        apart = (
            a["address"] + a["bytes"] <= b["address"] or b["address"] + b["bytes"] <= a["address"]
        )
        view = "view" in {program.layers[m["first"]].op for m in (a, b)}
        assert apart or view or -2 != a["last"] < b["first"], "the map of the report"
    lost = [t for t in program.tensors if result.image.copy(t) is not None]
    assert lost
    assert any(not np.array_equal(host.read(result.memory, t), result.image.read(t)) for t in lost)


def test_all_tensors_stay_there_if_asked(tmp_path):
    shared = made(tmp_path)
    every = made(tmp_path, dram="all")
    found = Build.load(tmp_path / "build")
    assert (shared.dram, every.dram) == ("reuse", "all")
    assert shared.dram_bytes < every.dram_bytes
    # One of them nobody loads.
    assert shared.proof["tensors"] == every.proof["tensors"] - 1
    views = sum(layer.op == "view" for layer in found.program.layers)
    own = {t.address: t.address + t.layout.nbytes for t in found.program.tensors}
    assert len(own) == len(found.program.tensors) - views and views == 1
    assert all(own[a] <= b for a, b in itertools.pairwise(sorted(own)))
    with pytest.raises(CompilerError, match="dram 'some'; there are reuse, all"):
        made(tmp_path, dram="some")


def shortened(by):
    """Intervals that end some operators too early."""
    plain = liveness.intervals

    def cut(settled):
        return {
            name: dataclasses.replace(each, last=max(each.first, each.last - by))
            for name, each in plain(settled).items()
        }

    return cut


def test_an_interval_cut_one_layer_short_is_caught(tmp_path, monkeypatch):
    made(tmp_path)
    monkeypatch.setattr(placement, "intervals", shortened(1))
    with pytest.raises(CompilerError, match="differs at"):
        made(tmp_path)


@pytest.mark.parametrize("seed", [2])
def test_arms_share_memory(seed, tmp_path):
    """On every path; the proof takes them all."""
    model = File(seed).model()
    shared = made(tmp_path, model)
    found = Build.load(tmp_path / "build")
    inputs = feeds(model, seed)
    table = EnergyTable.load("asic_45nm")
    run = run_build(found, make_backend("cycle"), inputs, Options(), table, True)
    assert run.result.equal
    assert shared.dram_bytes < made(tmp_path, model, dram="all").dram_bytes
    graph = import_model(model, "net").graph
    settled = lay_out(graph, TINY)
    spans = liveness.intervals(settled)
    lies = liveness.homes(settled)
    kept = {home for name in graph.kept() for home in lies[name]}
    assert spans and not kept & set(spans)
    places = {n: t.address for n, t in placement.place(settled, PAGE).tensors.items()}
    arms = [(places[n], graph.path(n)[0]) for n in spans if graph.path(n)]
    assert any(
        place == other and branch == its and taken != met
        for (place, (branch, taken)), (other, (its, met)) in itertools.combinations(arms, 2)
    )


def test_states_and_outputs_keep_their_places():
    """What comes from outside a run or outlives it has no interval, whoever reads it last."""
    graph = import_model(recurrent.cell().model(), "net", recurrent.CELL).graph
    settled = lay_out(graph, TINY)
    graph, lies = settled.assigned.graph, liveness.homes(settled)
    spans = liveness.intervals(settled)
    pinned = [port.value for port in (*graph.inputs, *graph.outputs)]
    pinned += [name for state in graph.states for name in (state.source, state.target)]
    homes = {home for name in pinned for home in lies[name]}
    assert len(graph.states) == 2 and spans and not homes & set(spans)
    tensors = placement.place(settled, PAGE).tensors
    assert all(tensors[s.source].address == tensors[s.target].address for s in graph.states)
    ends = sorted((tensors[n].address, tensors[n].layout.nbytes) for n in homes)
    assert all(a + size <= b for (a, size), (b, _) in itertools.pairwise(ends))
