"""State stays in DRAM from run to run: against the oracle, which carries its own."""

import json

import numpy as np
import onnx
import pytest

from compiler.__main__ import main as compiler_main
from compiler.flow import states as flow
from hw.arch.program import Program, State
from models.export import export
from sim import host, steps
from sim.__main__ import main as sim_main
from sim.build import Build
from sim.errors import InputError
from sim.result import RunResult
from tests.flow import recurrent
from tests.flow.recurrent import CELL, CODES, H
from tests.flow.stepping import STEPS, built, fed, rolled, zeros
from tests.models.net import U8, Net

WINDOW = {"window": "window_next"}
NETWORKS = {
    "cell": (recurrent.cell, CELL),
    "wide cell": (lambda: recurrent.cell(21, 3), CELL),
    "window along time": (recurrent.window, WINDOW),
    "window along positions": (lambda: recurrent.window(5, 3, axis=2), WINDOW),
    "states from each other's inputs": (recurrent.swapped, {"a": "a_next", "b": "b_next"}),
}


@pytest.mark.parametrize("backend", ["cycle", pytest.param("rtl", marks=pytest.mark.cosim)])
@pytest.mark.parametrize("name", NETWORKS)
def test_steps_are_the_oracle_s(name, backend, tmp_path, capsys):
    make, pairs = NETWORKS[name]
    net = make()
    assert built(net, pairs, tmp_path) == 0
    arrays = fed(net, pairs, tmp_path)
    rng = np.random.default_rng(7)
    first = {n: rng.normal(0, 1, v.shape).astype(np.float32) for n, v in zeros(net, pairs).items()}
    np.savez(tmp_path / "state.npz", **first)
    words = ["run", str(tmp_path / "build"), "-o", str(tmp_path / "run.json")]
    words += ["--on", backend, "--input", str(tmp_path / "in.npz")]
    words += ["--state", str(tmp_path / "state.npz"), "--outputs", str(tmp_path / "out.npz")]
    words += ["--steps", str(STEPS), "--check", "--json"]
    capsys.readouterr()
    assert sim_main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["equal"] and len(result["steps"]) == STEPS
    assert result["tensors_compared"] >= STEPS * len(pairs)
    expected, got = rolled(net, pairs, arrays, first), np.load(tmp_path / "out.npz")
    for output, value in expected.items():
        assert np.array_equal(got[output], value), output
    state = next(iter(pairs.values()))
    assert not np.array_equal(expected[state][0], expected[state][1]), "the state moves"
    saved = RunResult.load(tmp_path / "run.json")
    assert [s.cycles for s in saved.steps] == [saved.steps[0].cycles] * STEPS


def test_a_state_that_is_not_carried_is_noticed(tmp_path, monkeypatch):
    net = recurrent.cell()
    assert built(net, CELL, tmp_path) == 0
    fed(net, CELL, tmp_path)
    words = [
        "run",
        str(tmp_path / "build"),
        "-o",
        str(tmp_path / "run.json"),
        "--steps",
        "3",
        "--input",
        str(tmp_path / "in.npz"),
    ]
    assert sim_main([*words, "--check"]) == 0

    def forgetful(program, memory, fed, states):
        blank = {n: np.full_like(fed[n], s.initial) for n, s in program.state_tensors().items()}
        return host.start_image(program, fed | blank)

    monkeypatch.setattr(host, "next_image", forgetful)
    assert sim_main([*words, "--check"]) == 1
    result = RunResult.load(tmp_path / "run.json")
    assert result.steps[0].equal and not result.steps[1].equal
    assert result.first_difference.against == "step 1"


def test_a_state_left_elsewhere_is_noticed(tmp_path, monkeypatch):
    """Twin: what the next run reads is not written where it reads."""
    monkeypatch.setattr(flow._Settling, "state", lambda self, state: state)
    net = recurrent.cell()
    assert built(net, CELL, tmp_path, "--no-verify") == 0
    fed(net, CELL, tmp_path)
    words = [
        "run",
        str(tmp_path / "build"),
        "-o",
        str(tmp_path / "run.json"),
        "--steps",
        "2",
        "--input",
        str(tmp_path / "in.npz"),
    ]
    assert sim_main([*words, "--check"]) == 1
    found = RunResult.load(tmp_path / "run.json").first_difference
    assert found.against == "step 0"


def late_reader() -> Net:
    """h' = tanh(h + x); `y` = h · h' reads h after h' is made."""
    net = Net()
    x, h = net.start([1, 9], CODES), net.start([1, 9], H, "h")
    made = net.through(net.op("Tanh", [net.through(net.op("Add", [h, x]), CODES)]), H)
    net.op("Identity", [made], output="h_next")
    net.output("h_next")
    net.end(net.op("Mul", [h, made]), U8)
    return net


def test_what_is_read_later_is_not_written_over(tmp_path, monkeypatch, capsys):
    pairs = {"h": "h_next"}
    assert built(late_reader(), pairs, tmp_path) == 0
    program = Program.load(tmp_path / "build" / "program.bin")
    assert [layer.op for layer in program.layers][-1] == "slice", "a copy, made last"
    monkeypatch.setattr(flow._Settling, "_is_written_there", lambda self, source, target: True)
    assert built(late_reader(), pairs, tmp_path) == 2
    assert "differs" in capsys.readouterr().err


def test_the_last_operator_writes_where_nothing_reads_any_more(tmp_path):
    assert built(recurrent.window(5, 3, axis=2), WINDOW, tmp_path) == 0
    program = Program.load(tmp_path / "build" / "program.bin")
    assert len(program.layers) == 3, "slice, concat, tanh: no copy"
    state = program.tensor(next(iter(program.state_tensors())))
    output = next(port for port in program.outputs if port.name == "window_next")
    assert program.tensor(output.tensor).address == state.address


@pytest.mark.parametrize("given", ["file", "array", "nothing"])
def test_where_states_begin(given, tmp_path):
    net = recurrent.cell()
    assert built(net, CELL, tmp_path) == 0
    arrays = fed(net, CELL, tmp_path, 3)
    rng = np.random.default_rng(1)
    first = zeros(net, CELL)
    if given != "nothing":
        first = {name: rng.uniform(-1, 1, v.shape).astype(np.float32) for name, v in first.items()}
    words = [
        "run",
        str(tmp_path / "build"),
        "-o",
        str(tmp_path / "run.json"),
        "--steps",
        "3",
        "--input",
        str(tmp_path / "in.npz"),
    ]
    words += ["--outputs", str(tmp_path / "out.npz"), "--check"]
    if given == "file":
        np.savez(tmp_path / "state.npz", **first)
        words += ["--state", str(tmp_path / "state.npz")]
    elif given == "array":
        stacked = {f"steps:input:{name}": value[None] for name, value in first.items()}
        np.savez(tmp_path / "in.npz", **arrays, **stacked)
    assert sim_main(words) == 0
    expected, got = rolled(net, CELL, arrays, first), np.load(tmp_path / "out.npz")
    assert all(np.array_equal(got[name], value) for name, value in expected.items())
    if given == "file":  # holds what the last step left
        left = np.load(tmp_path / "state.npz")
        assert all(np.array_equal(left[n], expected[out][-1]) for n, out in CELL.items())
        assert sim_main([*words, "--reset-state"]) == 0
        got, expected = np.load(tmp_path / "out.npz"), rolled(net, CELL, arrays, zeros(net, CELL))
        assert all(np.array_equal(got[name], value) for name, value in expected.items())


def test_a_host_that_resets_every_other_step(tmp_path):
    net = recurrent.cell()
    assert built(net, CELL, tmp_path) == 0
    arrays = fed(net, CELL, tmp_path, 4)
    words = [
        "run",
        str(tmp_path / "build"),
        "-o",
        str(tmp_path / "run.json"),
        "--steps",
        "4",
        "--input",
        str(tmp_path / "in.npz"),
    ]
    words += ["--outputs", str(tmp_path / "out.npz"), "--check", "--reset-state", "2"]
    assert sim_main(words) == 0
    got = np.load(tmp_path / "out.npz")
    for begin in (0, 2):
        part = {name: value[begin : begin + 2] for name, value in arrays.items()}
        expected = rolled(net, CELL, part, zeros(net, CELL))
        assert all(np.array_equal(got[n][begin : begin + 2], v) for n, v in expected.items())


# What cannot be a state ---------------------------------------------------------------------


def refused(net, words, tmp_path, capsys, *, pairs=None):
    assert built(net, pairs or {}, tmp_path, *words) == 2
    return capsys.readouterr().err


def test_refusals(tmp_path, capsys):
    net = recurrent.cell()
    said = refused(net, ["--state", "h=y"], tmp_path, capsys)
    assert "state h=y: the graph has no output 'y'" in said
    said = refused(net, ["--state", "z=h_next"], tmp_path, capsys)
    assert "no input 'z'" in said and "'h'" in said
    said = refused(net, ["--state", "h=c_next"], tmp_path, capsys)
    assert "quantized as uint8 with scale 0.0078125, zero point 128" in said
    assert "scale 0.03" in said.replace("0.0299999993", "0.03")
    assert "zero point 117" in said and "one scale" in said
    said = refused(net, ["--state", "x=h_next"], tmp_path, capsys)
    assert "has shape [1, 5], h_next has [1, 6]" in said
    said = refused(net, ["--state", "h=h_next"], tmp_path, capsys, pairs={"h": "c_next"})
    assert "the file itself says h=c_next" in said
    twice = ["--state", "h=h_next", "--state", "h=c_next"]
    assert "stands there 2 times" in refused(net, twice, tmp_path, capsys)


def test_a_state_that_the_host_computes_with_is_refused(tmp_path, capsys):
    net = Net()
    x = net.start([1, 6], CODES)
    net.input([1, 6], "h")
    halved = net.through(net.op("Mul", ["h", net.floats(0.5)]), CODES)
    made = net.through(net.op("Add", [x, halved]), CODES)
    net.op("Identity", [made], output="h_next")
    net.output("h_next")
    said = refused(net, ["--state", "h=h_next"], tmp_path, capsys)
    assert "no QuantizeLinear reads it directly" in said


def test_the_command_line_names_states_too(tmp_path):
    net = recurrent.cell()
    assert built(net, {}, tmp_path, "--state", "h=h_next", "--state", "c=c_next") == 0
    program = Program.load(tmp_path / "build" / "program.bin")
    assert program.states == (State("h", "h_next", 128), State("c", "c_next", 117))


def test_inputs_of_steps_that_do_not_fit(tmp_path, capsys):
    net = recurrent.cell()
    assert built(net, CELL, tmp_path) == 0
    fed(net, CELL, tmp_path, 3)
    words = [
        "run",
        str(tmp_path / "build"),
        "-o",
        str(tmp_path / "run.json"),
        "--input",
        str(tmp_path / "in.npz"),
        "--steps",
    ]
    assert sim_main([*words, "4"]) == 2
    assert "4 steps of [1, 5] are needed" in capsys.readouterr().err
    build = Build.load(tmp_path / "build")
    np.savez(tmp_path / "state.npz", h=np.zeros((1, 6), np.float32))
    with pytest.raises(InputError, match=r"holds \['h'\]; the states are \['c', 'h'\]"):
        steps.read_states(build, tmp_path / "state.npz")


def test_a_network_without_states_has_none_to_reset(tmp_path, capsys):
    net = Net()
    net.end(net.op("Tanh", [net.start([1, 6], CODES)]), U8)
    assert built(net, {}, tmp_path) == 0
    np.savez(tmp_path / "in.npz", x=np.zeros((1, 6), np.float32))
    words = [
        "run",
        str(tmp_path / "build"),
        "-o",
        str(tmp_path / "run.json"),
        "--input",
        str(tmp_path / "in.npz"),
    ]
    assert sim_main([*words, "--reset-state"]) == 2
    assert "has no states" in capsys.readouterr().err
    assert sim_main([*words, "--steps", "2", "--check"]) == 0, "the same input twice"


# Exported files --------------------------------------------------------------------------------


def test_our_exporter_says_which_output_is_which_input(tmp_path):
    done = export("vtn_online", tmp_path / "n.onnx", "tiny")
    properties = {p.key: p.value for p in onnx.load(done.onnx).metadata_props}
    assert properties == {"state:window": "window_next"}


def test_recorded_steps_are_compared(tmp_path):
    """A file with recorded steps beside it, as the exporter writes them."""
    net = recurrent.cell()
    arrays = fed(net, CELL, tmp_path, 3)
    made = rolled(net, CELL, arrays, zeros(net, CELL))
    recording = arrays | {f"steps:output:{name}": value for name, value in made.items()}
    recording |= {f"steps:input:{n}": zeros(net, CELL)[n][None] for n in CELL}
    for name, output in CELL.items():
        before = np.concatenate([zeros(net, CELL)[name][None], made[output][:-1]])
        recording[f"steps:input:{name}"] = before
        recording[f"input:{name}"] = before[-1]
    recording |= {"input:x": arrays["steps:input:x"][-1]}
    recording |= {f"output:{name}": value[-1] for name, value in made.items()}
    np.savez(tmp_path / "net.npz", **recording)
    assert built(net, CELL, tmp_path) == 0
    words = ["run", str(tmp_path / "build"), "-o", str(tmp_path / "run.json"), "--steps", "3"]
    assert sim_main(words) == 0
    assert RunResult.load(tmp_path / "run.json").equal
    assert sim_main(words[:4]) == 0, "a single run: the last step's"
    golden = dict(np.load(tmp_path / "build" / "golden.npz"))
    golden["steps:output:h_next"][1, 0, 0] += 1
    np.savez(tmp_path / "build" / "golden.npz", **golden)
    assert sim_main(words) == 1
    found = RunResult.load(tmp_path / "run.json").first_difference
    assert found.tensor == "h_next" and "step 1 of the recorded run" in found.against


@pytest.mark.parametrize(
    "cell",
    [
        "lstm",
        pytest.param("gru", marks=pytest.mark.slow),
        pytest.param("sru", marks=pytest.mark.slow),
    ],
)
def test_cells_step_by_step(cell, tmp_path, capsys):
    """Exported, built and run as a user does; the recorded steps and the oracle's are the same."""
    export("recurrent", tmp_path / "cell.onnx", "tiny", variant=f"cell={cell}")
    words = [str(tmp_path / "cell.onnx"), "--config", "tiny", "-o", str(tmp_path / "build")]
    assert compiler_main(["build", *words]) == 0
    program = Program.load(tmp_path / "build" / "program.bin")
    states = {"lstm": ["h", "c"], "gru": ["h"], "sru": ["c"]}[cell]
    assert [state.input for state in program.states] == states
    words = ["run", str(tmp_path / "build"), "--on", "cycle", "--steps", "4", "--check", "--json"]
    capsys.readouterr()
    assert sim_main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["equal"] and [step["equal"] for step in result["steps"]] == [True] * 4


def test_a_recurrent_node_is_refused_with_a_way_out(tmp_path, capsys):
    net = Net()
    x = net.start([3, 1, 5], CODES)
    weights = [net.floats(np.ones(shape)) for shape in ((1, 16, 5), (1, 16, 4))]
    made = net.op("LSTM", [x, *weights], 3, hidden_size=4)
    net.end(made[1], CODES)
    onnx.save(net.model(), tmp_path / "net.onnx")
    assert compiler_main(["check", str(tmp_path / "net.onnx")]) == 1
    assert "models export recurrent" in capsys.readouterr().out
