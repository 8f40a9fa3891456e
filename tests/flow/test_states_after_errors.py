"""States after a run that ended in an error or was aborted."""

import dataclasses

import numpy as np
import pytest

from hw.arch.isa import ErrorCode, Store
from hw.arch.program import Program
from sim import host
from sim.__main__ import main as sim_main
from sim.backend import Options
from sim.backends import make_backend
from sim.build import Build
from sim.cosim import job
from sim.functional.errors import MachineError
from sim.functional.machine import FunctionalMachine
from tests.flow import recurrent
from tests.flow.recurrent import CELL
from tests.flow.stepping import built, fed, zeros


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
