"""Branches through every room: random structured networks, decisions, and twins that must fail."""

import dataclasses
import itertools

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from compiler.flow import blocks, joins
from compiler.frontend import control
from compiler.ir import CompilerError, Predicate
from compiler.onnx_import import import_model
from fuzz.arms import forgetful, twin
from fuzz.structured import WIDTH, File, feeds
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Begin, Halt
from hw.arch.layout import TensorLayout
from hw.arch.program import Program, Tensor
from models import branches
from models.reference import Reference
from proof.arms import forced
from proof.build import build
from sim import host, path
from sim.backend import Options
from sim.backends import make_backend
from sim.build import Build
from sim.energy import EnergyTable
from sim.functional.backend import dynamic_trace
from sim.functional.hazards import HazardError, check_hazards
from sim.functional.sequencer import Sequencer
from sim.run import run_build
from tests.flow.structured import CODES
from tests.ladder.compare import differences
from tests.models.net import Net

TINY = AcceleratorConfig.load("tiny")
SEEDS = [*range(6), pytest.param(range(6, 1000), marks=pytest.mark.slow, id="6 to 999")]


def made(seed, folder):
    """A random network, and its build; all arms were proven."""
    model = File(seed).model()
    onnx.save(model, folder / "net.onnx")
    done = build(folder / "net.onnx", TINY, folder / "build")
    return model, done, Build.load(folder / "build")


@pytest.mark.parametrize("seeds", SEEDS)
def test_random_networks_on_every_arm(seeds, tmp_path):
    for seed in [seeds] if isinstance(seeds, int) else seeds:
        model, done, found = made(seed, tmp_path)
        program = found.program
        arms = {i for block in program.blocks if block.condition for i in block.following}
        entered = set(itertools.chain.from_iterable(done.proof["paths"]))
        missed = [b.name for b in program.blocks if b.first in arms and b.name not in entered]
        assert missed == done.proof["unreachable"] == []
        assert done.proof["forms"]["decision"]["operators"] > 0
        inputs = feeds(model, seed)
        table = EnergyTable.load("asic_45nm")
        run = run_build(found, make_backend("cycle"), inputs, Options(), table, True)
        assert run.result.equal, run.result.first_difference
        ran = {layer.name for layer in run.result.layers if layer.executions}
        assert len(run.result.path) >= 4 and 0 < len(ran) <= len(program.layers)


@pytest.mark.cosim
@pytest.mark.parametrize("seeds", [range(k, k + 10) for k in range(0, 50, 10)], ids=str)
def test_random_networks_on_rtl_on_every_arm(seeds, tmp_path):
    """Values, and the times of every instruction, along each path that the proof took."""
    for seed in seeds:
        model, _, found = made(seed, tmp_path)
        program = found.program
        memory = host.start_image(program, found.feeds(feeds(model, seed)))
        seen = set()
        decisions = {block.condition for block in program.blocks if block.condition}
        for values in itertools.islice(itertools.product((True, False), repeat=len(decisions)), 8):
            variant = forced(program, dict(zip(sorted(decisions), values, strict=True)))
            for each in (program, variant) if not seen else (variant,):
                start = memory.copy()
                code = each.code()
                start[each.code_address : each.code_address + len(code)] = np.frombuffer(
                    code, np.uint8
                )
                rtl = make_backend("rtl").run(each, TINY, start, Options())
                model_ = make_backend("cycle").run(each, TINY, start, Options())
                assert differences(rtl, model_) == []
                seen.add(path.names(each, rtl.trace))
        assert len(seen) > 1


@pytest.mark.parametrize("seed", range(30))
def test_the_oracle_takes_the_arms_that_onnx_runtime_takes(seed):
    model = File(seed).model()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    reference = Reference(model)
    equal = count = 0
    for k in range(4):
        given = feeds(model, k)
        ours = reference.run(given, keep=reference.output_names)
        for name, other in zip(
            reference.output_names, session.run(reference.output_names, given), strict=True
        ):
            apart = np.abs(ours[name] - other) / CODES.scale
            assert apart.max() < 1.001, "another arm would be far away"
            count, equal = count + 1, equal + (apart.max() < 1e-3)
    assert equal > count / 2, "but for ties"


# Twins ---------------------------------------------------------------------------------------


def test_a_join_without_its_wait_is_a_race(tmp_path):
    """What the join waits for left out: the hazard checker notices wherever it matters."""
    caught = 0
    for seed in range(40):
        model, _, found = made(seed, tmp_path)
        memory = host.start_image(found.program, found.feeds(feeds(model, 0)))
        noticed = twin(found.program, TINY, memory)
        assert noticed is not False
        caught += noticed is True
        if caught == 3:
            break
    assert caught == 3


def test_a_decision_without_its_wait_is_a_race(tmp_path):
    """A decision that waits for nothing: SCALAR reads what LOAD has not brought yet."""
    for seed in range(3):
        model, _, found = made(seed, tmp_path)
        program = found.program
        memory = host.start_image(program, found.feeds(feeds(model, 0)))
        decision = next(n for n, block in enumerate(program.blocks) if block.condition)
        wrong = forgetful(program, decision)
        with pytest.raises(HazardError):
            check_hazards(dynamic_trace(wrong, TINY, memory), TINY, program.memory_bytes)


def test_arms_that_change_places_are_noticed(tmp_path, monkeypatch):
    linked = blocks.linked
    monkeypatch.setattr(
        blocks, "linked", lambda code, arms: linked(code, {True: arms[False], False: arms[True]})
    )
    with pytest.raises(CompilerError, match=r"different arms|differs"):
        made(0, tmp_path)


def test_a_misread_decision_is_noticed(tmp_path, monkeypatch):
    """Compiler and oracle agree about the wrong arm; the file's own nodes do not."""
    by_code, by_index = control.by_code, control.by_index
    turned = branches.Decision.__call__

    def negated(*arguments):
        which = by_index if len(arguments) == 4 else by_code
        found = which(*arguments)
        return dataclasses.replace(found, negated=not found.negated)

    monkeypatch.setattr(control, "by_code", negated)
    monkeypatch.setattr(control, "by_index", negated)
    monkeypatch.setattr(branches.Decision, "__call__", lambda self, codes: not turned(self, codes))
    with pytest.raises(CompilerError, match="the file's own nodes make"):
        made(0, tmp_path)


def test_an_arm_that_writes_elsewhere_is_noticed(tmp_path, monkeypatch):
    """One arm's result does not lie where the join's does."""

    def run(self):
        for join in [op for op in self.ops if isinstance(op, joins.Join)]:
            arms = tuple(self._arm(join, place) for place in (0, 1))
            changed = dataclasses.replace(join, inputs=(*arms, join.inputs[2]))
            self.ops[self.ops.index(join)] = changed

    monkeypatch.setattr(joins._Joining, "run", run)
    with pytest.raises(CompilerError, match="differs"):
        made(1, tmp_path)


def test_a_run_that_takes_another_arm_than_the_oracle_is_a_difference(tmp_path, monkeypatch):
    model, _, found = made(0, tmp_path)
    turned = branches.Decision.__call__
    table = EnergyTable.load("asic_45nm")
    inputs = feeds(model, 0)
    assert run_build(found, make_backend("functional"), inputs, Options(), table, True).result.equal
    monkeypatch.setattr(branches.Decision, "__call__", lambda self, codes: not turned(self, codes))
    result = run_build(found, make_backend("functional"), inputs, Options(), table, True).result
    assert not result.equal
    assert "different arms" in str(result.first_difference) or result.first_difference.differences


# Decisions -----------------------------------------------------------------------------------


def decided(predicate, codes, signed):
    """The arm that the sequencer takes, one row of codes on chip."""
    layout = TensorLayout.dense((len(codes), 1, 1, 1), 4)
    axes = (((len(codes), 1),), (), (), ())
    tensor = Tensor("t", 0, layout, signed, 1.0, 0, (len(codes),), axes)
    decision = blocks.decide(predicate, {0: 0, 4: 1, 8: 2}, tensor)
    then = len(decision) + 1
    program = [
        Begin(TINY.fingerprint),
        *blocks.linked(decision, {True: then, False: then + 1}),
        Halt(code=1),
        Halt(code=2),
    ]
    sequencer = Sequencer.of(program, TINY, lambda s: int(codes[4 * s.row + s.lane]))
    list(sequencer.steps())
    return {1: True, 2: False}[sequencer.halt_code]


def places(count):
    return tuple((i, 0, 0, 0) for i in range(count))


@pytest.mark.parametrize("signed", [False, True])
def test_every_code_takes_its_arm(signed):
    rng = np.random.default_rng(3)
    codes = np.arange(-128, 128) if signed else np.arange(256)
    for trial in range(12):
        ends = np.sort(rng.choice(codes, 2 * int(rng.integers(1, 4)), replace=False))
        if trial == 0:
            ends = np.array([codes[0], codes[-1]])
        intervals = tuple((int(a), int(b)) for a, b in ends.reshape(-1, 2))
        predicate = Predicate(places(1), intervals, negated=bool(trial % 2))
        for code in codes:
            inside = any(a <= code <= b for a, b in intervals)
            assert decided(predicate, [code], signed) == (inside != predicate.negated)
            assert predicate(np.full((1, 1, 1, 1), code)) == (inside != predicate.negated)
    nothing = Predicate(places(1))
    assert not decided(nothing, [codes[0]], signed)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("count", [2, 3, 11])
def test_the_greatest_of_several_takes_its_arm(count, last):
    rng = np.random.default_rng(count)
    for _ in range(60):
        codes = rng.integers(-3, 4, count)
        index = int(rng.integers(count))
        wins = np.flatnonzero(codes == codes.max())[-1 if last else 0] == index
        for negated in (False, True):
            predicate = Predicate(places(count), index=index, last=last, negated=negated)
            assert decided(predicate, codes, True) == (wins != negated)
            assert predicate(codes.reshape(-1, 1, 1, 1)) == (wins != negated)


# What is refused -------------------------------------------------------------------------------


def arm(net, name, source):
    """An arm that hands a tensor on."""
    out = f"{name}_result"
    nodes = [helper.make_node("Identity", [source], [out])]
    kind = helper.make_tensor_value_info(out, TensorProto.FLOAT, None)
    return helper.make_graph(nodes, name, [], [kind])


def chosen(net, condition, then, otherwise):
    arms = {
        "then_branch": arm(net, "then", then),
        "else_branch": arm(net, "else", otherwise),
    }
    net.end(net.op("If", [condition], **arms), CODES)
    return net.model()


def said(model):
    """Why compiler and oracle refuse a model."""
    with pytest.raises(branches.UnsupportedGraph) as by_oracle:
        Reference(model)
    found = import_model(model, "net")
    assert found.graph is None
    return " / ".join(f.reason for f in found.unsupported), str(by_oracle.value)


def test_refusals_say_why():
    def start():
        net = Net()
        x = net.start([1, WIDTH], CODES)
        return net, x, net.through(net.op("Tanh", [x]), CODES)

    net, x, y = start()
    several = net.op("Greater", [x, net.floats(0.1)])
    ours, oracle = said(chosen(net, several, x, y))
    assert "not one bool" in ours and "not one bool" in oracle

    net, x, y = start()
    one = net.op("Slice", [x, net.ints([0]), net.ints([1]), net.ints([1])])
    decision = net.op("Greater", [one, net.floats(0.1)])
    other = net.through(net.op("Tanh", [x]), dataclasses.replace(CODES, scale=0.02))
    ours, oracle = said(chosen(net, decision, y, other))
    assert "one scale" in ours and "scale 0.0199999" in ours and "one scale" in oracle

    net, x, y = start()
    one = net.op("Slice", [x, net.ints([0]), net.ints([1]), net.ints([1])])
    decision = net.op("Greater", [one, net.floats(0.1)])
    ours, oracle = said(chosen(net, decision, y, net.op("Exp", [x])))
    assert "models/control.py" in ours and "in float" in oracle

    net, x, y = start()
    index = net.op("ArgMax", [x], axis=1, keepdims=0)
    decision = net.op("Less", [index, net.ints(3)])
    model = chosen(net, decision, x, y)
    found = import_model(model, "net")
    assert "3 of 7 indices decide" in found.unsupported[0].reason
    assert Reference(model), "the oracle decides by any set of indices"

    net, x, y = start()
    net.inputs.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    ours, oracle = said(chosen(net, "flag", x, y))
    assert "the host makes its condition" in ours


def test_a_float_body_is_refused_with_a_way_out():
    """What quantize_static leaves: a Conv in float inside an arm."""
    net = Net()
    x = net.start([1, WIDTH], CODES)
    one = net.op("Slice", [x, net.ints([0]), net.ints([1]), net.ints([1])])
    decision = net.op("Greater", [one, net.floats(0.1)])
    weight = net.floats(np.ones((WIDTH, WIDTH)))
    nodes = [helper.make_node("MatMul", [x, weight], ["product"], "inner")]
    kind = helper.make_tensor_value_info("product", TensorProto.FLOAT, None)
    arms = {
        "then_branch": helper.make_graph(nodes, "then", [], [kind]),
        "else_branch": arm(net, "else", x),
    }
    net.end(net.op("If", [decision], **arms), CODES)
    found = import_model(net.model(), "net")
    assert found.graph is None
    assert any("quantizers leave the bodies of If in float" in f.reason for f in found.unsupported)


def test_a_program_says_where_it_may_go(tmp_path):
    _, _, found = made(0, tmp_path)
    program = found.program
    firsts = {block.first for block in program.blocks}
    assert [b.first for b in program.blocks[1:]] == [b.last for b in program.blocks[:-1]]
    assert all(set(block.following) <= firsts for block in program.blocks)
    wrong = dataclasses.replace(program.blocks[0], following=(1,))
    broken = dataclasses.replace(program, blocks=(wrong, *program.blocks[1:]))
    with pytest.raises(Exception, match="no block begins"):
        broken.save(tmp_path / "program.bin")
    assert Program.load(tmp_path / "build" / "program.bin") == program
