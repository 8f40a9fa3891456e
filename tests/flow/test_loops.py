"""Loops trip after trip: random networks, twins, refusals."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from compiler.arms import Trips
from compiler.emit.allocate import PAGE
from compiler.emit.dependencies import DependencyTracker as Tracker
from compiler.emit.flight import Flight
from compiler.flow import loops as flow_loops
from compiler.frontend import loops
from compiler.ir import CompilerError
from compiler.lower import trip_parts
from compiler.onnx_import import FileError, import_model
from compiler.policy import ALL, REUSE
from fuzz.structured import WIDTH, File, feeds
from hw.arch.config import AcceleratorConfig
from hw.arch.program import Program
from models.loops import UnsupportedGraph
from models.reference import Reference
from proof.build import build
from sim import host
from sim.backend import Options
from sim.backends import make_backend
from sim.build import Build
from sim.compare import compare
from sim.energy import EnergyTable
from sim.result import RunResult
from sim.run import reference_tensors, run_build
from tests.flow.structured import CODES
from tests.ladder.compare import differences
from tests.marks import large
from tests.models.net import Net
from tests.models.qdq import Q

TINY = AcceleratorConfig.load("tiny")
SEEDS = [
    *range(3),
    large(3),
    large(4),
    pytest.param(range(5, 400), marks=pytest.mark.slow, id="5 to 399"),
]


def made(seed, folder):
    model = File(seed, loops=True).model()
    onnx.save(model, folder / "net.onnx")
    done = build(folder / "net.onnx", TINY, folder / "build")
    return model, done, Build.load(folder / "build")


@pytest.mark.parametrize("seeds", SEEDS)
def test_random_networks(seeds, tmp_path):
    for seed in [seeds] if isinstance(seeds, int) else seeds:
        model, done, found = made(seed, tmp_path)
        assert not done.proof["unreachable"]
        table = EnergyTable.load("asic_45nm")
        inputs = feeds(model, seed)
        run = run_build(found, make_backend("cycle"), inputs, Options(), table, True)
        assert run.result.equal, run.result.first_difference


@pytest.mark.cosim
def test_random_networks_on_rtl(tmp_path):
    for seed in range(8):
        model, _, found = made(seed, tmp_path)
        memory = host.start_image(found.program, found.feeds(feeds(model, seed)))
        rtl, cycle = (
            make_backend(name).run(found.program, TINY, memory, Options())
            for name in ("rtl", "cycle")
        )
        assert differences(rtl, cycle) == []
        inside = [t for t in found.program.tensors if t.name in found.program.inside()]
        for tensor in inside:
            assert rtl.image.versions(tensor) == cycle.image.versions(tensor)
            for number in rtl.image.versions(tensor).values():
                mine, its = (each.image.read(tensor, number) for each in (rtl, cycle))
                assert np.array_equal(mine, its)
        assert inside


@pytest.mark.parametrize("seed", range(20))
def test_the_oracle_makes_the_trips_that_onnx_runtime_makes(seed):
    model = File(seed, loops=True).model()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    reference = Reference(model)
    equal = count = 0
    for k in range(3):
        given = feeds(model, k)
        ours = reference.run(given, keep=reference.output_names)
        theirs = session.run(reference.output_names, given)
        for name, other in zip(reference.output_names, theirs, strict=True):
            apart = np.abs(ours[name] - other) / CODES.scale
            assert apart.max() < 2.001, "another trip would be far away"
            count, equal = count + 1, equal + (apart.max() < 1e-3)
    assert equal > count / 2, "but for ties"


def counted(trips, rows=True, condition="", body=None, number=False):
    """c' = tanh(c + x) for some trips, from x on; rows of c.

    With `number` a trip's number is more than a place: the result is tanh(c + x + number / 16).
    """
    net = Net()
    x = net.quantize(net.input([1, WIDTH]), CODES)
    scale = [net.constant(np.float32(CODES.scale)), net.constant(np.uint8(CODES.zero))]
    nodes = [
        helper.make_node("DequantizeLinear", ["c", *scale], ["c_real"]),
        helper.make_node("DequantizeLinear", [x, *scale], ["x_real"]),
        helper.make_node("Add", ["c_real", "x_real"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", *scale], ["sum_codes"]),
        helper.make_node("DequantizeLinear", ["sum_codes", *scale], ["sum_real"]),
        *(_numbered(net) if number else [helper.make_node("Tanh", ["sum_real"], ["tanh"])]),
        helper.make_node("QuantizeLinear", ["tanh", *scale], ["c_next"]),
        *(body or [helper.make_node("Identity", ["go"], ["goes"])]),
    ]
    value = helper.make_tensor_value_info
    inputs = [value("trip", TensorProto.INT64, []), value("go", TensorProto.BOOL, [])]
    inputs.append(value("c", TensorProto.UINT8, [1, WIDTH]))
    outputs = [value("goes", TensorProto.BOOL, []), value("c_next", TensorProto.UINT8, [1, WIDTH])]
    if rows:
        nodes.append(helper.make_node("Identity", ["c_next"], ["row"]))
        outputs.append(value("row", TensorProto.UINT8, [1, WIDTH]))
    graph = helper.make_graph(nodes, "body", inputs, outputs)
    count = net.constant(np.int64(trips)) if isinstance(trips, int) else trips
    made = net.op("Loop", [count, condition, x], 2 if rows else 1, body=graph)
    last = made[0] if rows else made
    net.output(net.dequantize(last, CODES))
    if rows:
        net.output(net.dequantize(made[1], CODES))
    return net


def _numbered(net):
    net.constant(np.float32(16), "sixteen")
    return [
        helper.make_node("Cast", ["trip"], ["trip_real"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["trip_real", "sixteen"], ["part"]),
        helper.make_node("Add", ["sum_real", "part"], ["later"]),
        helper.make_node("Tanh", ["later"], ["tanh"]),
    ]


@pytest.mark.parametrize("mode", [REUSE, ALL])
def test_rows_have_room_for_all_trips(mode, tmp_path):
    """More than a page of them: nothing else lies there."""
    net = counted(PAGE // WIDTH)
    onnx.save(net.model(), tmp_path / "net.onnx")
    build(tmp_path / "net.onnx", TINY, tmp_path / "build", verify=False, dram=mode)
    program = Program.load(tmp_path / "build" / "program.bin")
    (stack,) = [t for t in program.tensors if t.shape[0] == PAGE // WIDTH]
    room = range(stack.address, stack.address + stack.layout.nbytes)
    assert len(room) > PAGE
    inside = {t.name for t in program.tensors if t.address in room}
    assert all(name == stack.name or name.startswith("row") for name in inside), inside


def test_a_loop_is_its_trips(tmp_path):
    """Rows by NumPy: each is the trip before, and the last one is what is carried out."""
    net = counted(5)
    onnx.save(net.model(), tmp_path / "net.onnx")
    done = build(tmp_path / "net.onnx", TINY, tmp_path / "build")
    given = {"x": np.random.default_rng(0).normal(0, 1, (1, WIDTH)).astype(np.float32)}
    found = Build.load(tmp_path / "build")
    table = EnergyTable.load("asic_45nm")
    run = run_build(found, make_backend("functional"), given, Options(), table, True)
    assert run.result.equal and done.proof["tensors"] >= 5
    last, rows = run.outputs.values()
    assert rows.shape == (5, 1, WIDTH) and np.array_equal(rows[-1], last)
    unit, zero = np.float32(CODES.scale), CODES.zero

    def coded(real):
        return np.clip(np.rint(real / unit) + zero, 0, 255)

    x = codes = coded(given["x"])
    for row in rows:
        summed = coded((codes - zero) * unit + (x - zero) * unit)
        codes = coded(np.tanh(((summed - zero) * unit).astype(np.float64)))
        assert np.abs(codes - zero - row / unit).max() < 1e-3


@pytest.mark.parametrize("numbered", [False, True], ids=["body once", "written out"])
def test_forms(numbered, tmp_path):
    """More trips take more instructions only where they are written out."""
    sizes = []
    for trips in (3, 5):
        onnx.save(counted(trips, number=numbered).model(), tmp_path / "net.onnx")
        build(tmp_path / "net.onnx", TINY, tmp_path / "build")
        program = Build.load(tmp_path / "build").program
        assert [loop.trips for loop in program.loops] == ([] if numbered else [trips])
        sizes.append(len(program.instructions))
    assert (sizes[1] > sizes[0]) == numbered


def test_a_trip_that_begins_anew_is_noticed(tmp_path, monkeypatch):
    trip = loops._Unrolling._trip
    monkeypatch.setattr(
        loops._Unrolling, "_trip", lambda self, n, carried, path: trip(self, n, self.initial, path)
    )
    onnx.save(counted(3, number=True).model(), tmp_path / "net.onnx")
    with pytest.raises(CompilerError, match="differs"):
        build(tmp_path / "net.onnx", TINY, tmp_path / "build")


TWINS = {
    "nothing is carried": (flow_loops._Looping, "_carry", lambda self, leaves: None, "differs"),
    "rows lie on one another": (trip_parts, "pace", lambda tensor, axis, size: 0, "differs"),
    "a trip waits for nothing": (Tracker, "flight", lambda self: Flight(), "race"),
    "one trip less": (
        Trips,
        "count",
        property(lambda self: self.ends[0].trips - 1),
        "oracle|differs",
    ),
}


@pytest.mark.parametrize("twin", TWINS)
def test_twins(twin, tmp_path, monkeypatch):
    where, name, other, words = TWINS[twin]
    monkeypatch.setattr(where, name, other)
    onnx.save(counted(4).model(), tmp_path / "net.onnx")
    with pytest.raises(CompilerError, match=words):
        build(tmp_path / "net.onnx", TINY, tmp_path / "build")


def test_a_wrong_element_of_a_trip_is_named(tmp_path):
    onnx.save(counted(4).model(), tmp_path / "net.onnx")
    build(tmp_path / "net.onnx", TINY, tmp_path / "build")
    found = Build.load(tmp_path / "build")
    given = {"x": np.random.default_rng(0).normal(0, 1, (1, WIDTH)).astype(np.float32)}
    memory = host.start_image(found.program, found.feeds(given))
    ran = make_backend("functional").run(found.program, TINY, memory, Options())
    reference = dict(reference_tensors(found, given))
    loop = found.program.loops[0].name
    third = f"c_next@{loop.removesuffix('*')}2"
    names = list(found.program.inside())
    equal = compare(found.program, ran.image, reference, ran.trace, names)
    assert equal.equal and equal.compared == 4 * len(names)
    reference[third] = reference[third].copy()
    reference[third][0, 3] ^= 1
    wrong = compare(found.program, ran.image, reference, ran.trace, names)
    assert wrong.differing == (third,) and wrong.first.index == (0, 3)
    del reference[third]
    wrong = compare(found.program, ran.image, reference, ran.trace, names)
    assert "other trips" in str(wrong.first)


def test_what_each_trip_took(tmp_path):
    """Trips are counted apart: inner ones take as long; behind the last, nothing is fetched."""
    onnx.save(counted(6).model(), tmp_path / "net.onnx")
    build(tmp_path / "net.onnx", TINY, tmp_path / "build")
    given = {"x": np.random.default_rng(0).normal(0, 1, (1, WIDTH)).astype(np.float32)}
    table = EnergyTable.load("asic_45nm")
    found = Build.load(tmp_path / "build")
    result = run_build(found, make_backend("cycle"), given, Options(), table, True).result
    assert len(result.trips) == 6 and result.equal
    cycles = [trip.cycles for trip in result.trips]
    assert len(set(cycles[1:-2])) == 1 and 0.5 * cycles[1] < cycles[-1] <= cycles[1]
    assert 0.8 * result.cycles < sum(cycles) < result.cycles
    assert len({trip.dram_bytes for trip in result.trips}) == 1
    assert sum(trip.dram_bytes for trip in result.trips) < result.dram_bytes
    assert 0 < sum(trip.energy_j for trip in result.trips) < result.energy_j
    assert {trip.path for trip in result.trips} == {()}
    result.save(tmp_path / "run.json")
    assert RunResult.load(tmp_path / "run.json").trips == result.trips
    inside = [layer for layer in result.layers if layer.executions == 6]
    assert sum(layer.cycles for layer in inside) == pytest.approx(sum(cycles), rel=0.2)


def test_reals_of_one_scale_go_round(tmp_path):
    """Carried reals, quantized at once in every trip; with another scale trips are written out."""
    for scale, whole in ((CODES, True), (Q(0.05, 118), False)):
        net = Net()
        x = net.input([1, WIDTH])
        scales = [net.constant(np.float32(scale.scale)), net.constant(np.uint8(scale.zero))]
        own = [net.constant(np.float32(CODES.scale)), net.constant(np.uint8(CODES.zero))]
        nodes = [
            helper.make_node("QuantizeLinear", ["c", *scales], ["c_codes"]),
            helper.make_node("DequantizeLinear", ["c_codes", *scales], ["c_real"]),
            helper.make_node("Tanh", ["c_real"], ["tanh"]),
            helper.make_node("QuantizeLinear", ["tanh", *own], ["next_codes"]),
            helper.make_node("DequantizeLinear", ["next_codes", *own], ["c_next"]),
            helper.make_node("Identity", ["go"], ["goes"]),
        ]
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes,
            "body",
            [
                value("trip", TensorProto.INT64, []),
                value("go", TensorProto.BOOL, []),
                value("c", TensorProto.FLOAT, [1, WIDTH]),
            ],
            [
                value("goes", TensorProto.BOOL, []),
                value("c_next", TensorProto.FLOAT, [1, WIDTH]),
            ],
        )
        first = net.dequantize(net.quantize(x, CODES), CODES)
        made = net.op("Loop", [net.constant(np.int64(3)), "", first], body=graph)
        net.output(made)
        onnx.save(net.model(), tmp_path / "net.onnx")
        build(tmp_path / "net.onnx", TINY, tmp_path / "build")
        assert bool(Build.load(tmp_path / "build").program.loops) == whole


def test_refusals():
    assert Reference(counted(65).model())
    cases = [(counted(65, number=True), "written out, up to 64 trips")]
    cases.append((counted(0), "0 trips; 1 to"))
    net = counted("trips")
    net.inputs.append(helper.make_tensor_value_info("trips", TensorProto.INT64, []))
    cases.append((net, "number of trips is not constant"))
    decides = [
        helper.make_node("Slice", ["sum_real", "zero", "one", "one"], ["element"]),
        helper.make_node("Less", ["element", "limit"], ["goes"]),
    ]
    net = counted(4, rows=True, body=decides)
    for name, value in (("zero", [0]), ("one", [1])):
        net.constant(np.array(value, np.int64), name)
    net.constant(np.float32(0.4), "limit")
    cases.append((net, "decides when it ends: their number is not constant"))
    for each, words in cases:
        with pytest.raises(FileError, match=words):
            import_model(each.model(), "net")
    for each, _ in cases[1:]:
        with pytest.raises(UnsupportedGraph):
            Reference(each.model())
