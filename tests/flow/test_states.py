"""State stays in DRAM from run to run: against the oracle, which carries its own."""

import dataclasses
import json

import numpy as np
import onnx
import pytest

from compiler.__main__ import main as compiler_main
from compiler.flow import states as flow
from hw.arch.isa import ErrorCode, Store
from hw.arch.program import Program, State
from models.export import export
from models.reference import Reference
from sim import host, steps
from sim.__main__ import main as sim_main
from sim.backend import Options
from sim.backends import make_backend
from sim.build import Build
from sim.cosim import job
from sim.errors import InputError
from sim.functional.errors import MachineError
from sim.functional.machine import FunctionalMachine
from sim.result import RunResult
from tests.flow import recurrent
from tests.flow.recurrent import CELL, CODES, H
from tests.models.net import U8, Net

STEPS = 5
WINDOW = {"window": "window_next"}
NETWORKS = {
    "cell": (recurrent.cell, CELL),
    "wide cell": (lambda: recurrent.cell(21, 3), CELL),
    "window along time": (recurrent.window, WINDOW),
    "window along positions": (lambda: recurrent.window(5, 3, axis=2), WINDOW),
    "states from each other's inputs": (recurrent.swapped, {"a": "a_next", "b": "b_next"}),
}


def built(net, pairs, folder, *words):
    """Exit code; the build lies in `folder`/build."""
    onnx.save(recurrent.declared(net, pairs), folder / "net.onnx")
    target = str(folder / "build")
    return compiler_main(
        ["build", str(folder / "net.onnx"), "--config", "tiny", "-o", target, *words]
    )


def fed(net, pairs, folder, count=STEPS, seed=0):
    names = [v.name for v in net.inputs if v.name not in pairs]
    arrays = recurrent.feeds(net, names, count, seed)
    np.savez(folder / "in.npz", **arrays)
    return arrays


def rolled(net, pairs, arrays, states):
    """Outputs of every step by the oracle, from its own states on."""
    reference, made = Reference(net.model()), []
    for n in range(len(next(iter(arrays.values())))):
        inputs = {k.removeprefix("steps:input:"): v[n] for k, v in arrays.items()}
        made.append(reference.run(inputs | states, keep=reference.output_names))
        states = {name: made[-1][output] for name, output in pairs.items()}
    return {name: np.stack([each[name] for each in made]) for name in made[0]}


def zeros(net, pairs):
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in net.inputs}
    return {name: np.zeros(shapes[name], np.float32) for name in pairs}


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


# Errors and aborts -----------------------------------------------------------------------------


def test_after_an_error_states_are_the_host_s_to_write(tmp_path):
    """A run that stops early leaves old, new or mixed states; written again, all is well."""
    net = recurrent.cell()
    assert built(net, CELL, tmp_path) == 0
    build = Build.load(tmp_path / "build")
    arrays = fed(net, CELL, tmp_path, 2)
    program, config = build.program, build.config
    inputs = [build.initial_states() | {"x": arrays["steps:input:x"][n]} for n in range(2)]
    functional = make_backend("functional")
    memory = host.start_image(program, build.feeds(inputs[0]))
    done = functional.run(program, config, memory, Options()).memory
    tensors = [program.tensor(name) for name in program.state_tensors()]
    after = [host.read(done, t) for t in tensors]
    # The last STORE, of the second state, leaves the window and stops the run.
    wrong = list(program.instructions)
    place = max(i for i, each in enumerate(wrong) if isinstance(each, Store))
    wrong[place] = dataclasses.replace(wrong[place], dram=0)
    half = host.next_image(program, done, build.feeds(inputs[1]))
    machine = FunctionalMachine(config, half.copy(), program.store_window)
    with pytest.raises(MachineError) as stopped:
        machine.run(wrong)
    assert stopped.value.code == ErrorCode.STORE_WINDOW
    left = [host.read(machine.memory, t) for t in tensors]
    same = [np.array_equal(a, b) for a, b in zip(left, after, strict=True)]
    assert not all(same), "neither the old states ..."
    whole = functional.run(program, config, half, Options()).memory
    same = [np.array_equal(host.read(whole, t), b) for t, b in zip(tensors, left, strict=True)]
    assert not all(same), "... nor the new ones"
    again = host.next_image(program, machine.memory, build.feeds(inputs[0]), list(CELL))
    assert all(
        np.array_equal(host.read(functional.run(program, config, again, Options()).memory, t), b)
        for t, b in zip(tensors, after, strict=True)
    )


def test_an_error_ends_the_steps_and_keeps_the_file_of_states(tmp_path, capsys):
    net = recurrent.cell()
    assert built(net, CELL, tmp_path) == 0
    fed(net, CELL, tmp_path, 2)
    np.savez(tmp_path / "state.npz", **zeros(net, CELL))
    before = (tmp_path / "state.npz").read_bytes()
    path = tmp_path / "build" / "program.bin"
    program = Program.load(path)
    place = max(i for i, each in enumerate(program.instructions) if isinstance(each, Store))
    wrong = list(program.instructions)
    wrong[place] = dataclasses.replace(wrong[place], beats=0)
    dataclasses.replace(program, instructions=tuple(wrong)).save(path)
    words = [
        "run",
        str(tmp_path / "build"),
        "-o",
        str(tmp_path / "run.json"),
        "--input",
        str(tmp_path / "in.npz"),
        "--steps",
        "2",
    ]
    assert sim_main([*words, "--state", str(tmp_path / "state.npz")]) == 1
    assert "the core stopped" in capsys.readouterr().err
    assert (tmp_path / "state.npz").read_bytes() == before


@pytest.mark.cosim
def test_after_an_abort_on_rtl_states_are_the_host_s_to_write(tmp_path):
    from sim.cosim import verilate
    from sim.cosim.backend import job_of

    net = recurrent.cell()
    assert built(net, CELL, tmp_path) == 0
    build = Build.load(tmp_path / "build")
    arrays = fed(net, CELL, tmp_path, 2)
    program = build.program
    inputs = [build.initial_states() | {"x": arrays["steps:input:x"][n]} for n in range(2)]
    model = verilate.build(build.config)
    memory = host.start_image(program, build.feeds(inputs[0]))
    whole = job.run(model, job_of(program), memory)
    begun = host.next_image(program, whole.memory, build.feeds(inputs[1]))
    tensors = [program.tensor(name) for name in program.state_tensors()]
    old = [host.read(begun, t) for t in tensors]
    finished = job.run(model, job_of(program), begun)
    new = [host.read(finished.memory, t) for t in tensors]
    seen = set()
    for cycle in range(100, finished.counters["cycles"], 40):
        stopped = job.run(model, job_of(program), begun, job.Settings(abort_at=cycle))
        assert stopped.registers["error_code"] == ErrorCode.ABORTED
        left = [host.read(stopped.memory, t) for t in tensors]
        for t, (value, a, b) in zip(tensors, zip(left, old, new, strict=True), strict=True):
            seen.add((t.name, np.array_equal(value, a), np.array_equal(value, b)))
        reset = host.next_image(program, stopped.memory, build.feeds(inputs[0]), list(CELL))
        fresh = job.run(model, job_of(program), reset)
        assert fresh.registers["error_code"] == 0
        assert all(
            np.array_equal(host.read(fresh.memory, t), host.read(whole.memory, t)) for t in tensors
        )
    assert {(name, False, True) for name, *_ in seen} & seen, "some abort leaves a new state"
    assert {(name, True, False) for name, *_ in seen} & seen, "some abort leaves an old state"


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
