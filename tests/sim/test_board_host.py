"""The host of a board, in front of a model of bridge, bus and machine: whole runs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.board import BOARD_FILE, BoardError, BoardFile
from hw.arch.registers import Register
from sim import host
from sim.__main__ import main
from sim.backend import Options
from sim.board.backend import BoardBackend, check
from sim.board.host import BoardFaultError, BoardHost, stored_ranges
from sim.board.link import BoardResetError, Link, LinkError
from sim.board.transport import LossyTransport, SocTransport, TransportError
from sim.build import Build
from sim.errors import InputError
from sim.functional import MachineError
from sim.functional.backend import FunctionalBackend
from tests.board_model import BoardModel, ModelTransport, board_file


class Board:
    """A model, and hosts in front of it."""

    def __init__(self, config, *, share=0.0, tries=20, size=1 << 16, **faults):
        self.file = board_file(config, size)
        self.model = BoardModel(config, self.file, **faults)
        self.line = LossyTransport(ModelTransport(self.model), share, seed=3)
        self.tries = tries
        self.moved = []

    def host(self):
        self.link = Link(self.line, self.file.clock_hz / self.file.baud, 1000, self.tries)
        return BoardHost(self.link, self.file, lambda *step: self.moved.append(step))


@pytest.fixture
def relu(relu_build):
    """Build, DRAM before the start, DRAM after it by the functional simulator."""
    build = Build.load(relu_build())
    inputs = build.feeds({"clip": build.golden["input:clip"]})
    memory = host.start_image(build.program, inputs)
    after = FunctionalBackend().run(build.program, build.config, memory, Options()).memory
    return build, memory, after


@pytest.mark.parametrize("share", [0, 1e-3, 5e-3])
@pytest.mark.parametrize("base", [0, 0x4000])
def test_a_run_gives_what_the_simulator_gives(relu, share, base):
    """Bytes get lost on the line, and nothing of the result does."""
    build, memory, after = relu
    program = dataclasses.replace(build.program, dram_base=base)
    board = Board(build.config, share=share)
    for _ in range(3):
        ran = board.host().run(program, build.config, memory)
        for low, high in stored_ranges(program):
            assert np.array_equal(ran.memory[low:high], after[low:high])
        assert ran.counters["cycles"] == (1 << 33) + 5 and ran.counters["fetch_beats"] == 7
    assert board.model.runs == 3
    assert (board.link.counts.repeated > 0) == (board.line.lost > 0) == (share > 0)


def test_a_wrong_clamp_is_seen(relu_build, relu):
    """The twin: another program's result is another one."""
    build, _, after = relu
    wrong = Build.load(relu_build(low=120)).program
    image = host.start_image(wrong, build.feeds({"clip": build.golden["input:clip"]}))
    ran = Board(build.config).host().run(wrong, build.config, image)
    ((low, high),) = stored_ranges(wrong)
    assert not np.array_equal(ran.memory[low:high], after[low:high])


def test_what_the_board_holds_is_not_sent_again(relu):
    build, memory, _ = relu
    board = Board(build.config)
    one = board.host()
    one.run(build.program, build.config, memory)
    written = board.model.written
    other = memory.copy()
    other[0x1000] ^= 1
    one.run(build.program, build.config, other)
    assert 0 < board.model.written - written <= 2 * 255  # an input's block and what was stored over


def test_progress_is_told(relu):
    build, memory, _ = relu
    board = Board(build.config)
    board.host().run(build.program, build.config, memory)
    for what in ("load", "read back"):
        steps = [(done, total) for kind, done, total in board.moved if kind == what]
        assert steps[-1][0] == steps[-1][1] > 0
        assert sorted(steps) == steps


def test_a_reset_of_the_board_is_noticed(relu):
    """A reset in the middle of loading: nothing is started, and a new run is right."""
    build, memory, after = relu
    board = Board(build.config, reset_at=120)
    one = board.host()
    with pytest.raises(BoardResetError):
        one.run(build.program, build.config, memory)
    assert board.model.runs == 0
    ran = one.run(build.program, build.config, memory)
    ((low, high),) = stored_ranges(build.program)
    assert np.array_equal(ran.memory[low:high], after[low:high])


def test_memory_that_does_not_hold_is_refused(relu):
    build, memory, _ = relu
    with pytest.raises(BoardFaultError, match=r"DRAM does not hold .* at 0x0, not 9e3779b9"):
        Board(build.config, stuck=1 << 3).host().run(build.program, build.config, memory)


def test_another_circuit_is_refused(relu, tiny_direct):
    build, memory, _ = relu
    with pytest.raises(InputError, match=r"the board's circuit is not \w+: its fingerprint is"):
        Board(tiny_direct).host().run(build.program, build.config, memory)
    board = Board(build.config)
    board.model.registers[Register.ID] = 0
    with pytest.raises(BoardFaultError, match="there is no accelerator on the board"):
        board.host().run(build.program, build.config, memory)


def test_a_program_that_does_not_fit_is_refused(relu):
    build, memory, _ = relu
    board = Board(build.config, size=1 << 13)
    with pytest.raises(InputError, match=r"needs DRAM up to byte 12,288, model has 8,192"):
        board.host().run(build.program, build.config, memory)


def test_a_line_that_is_dead_is_given_up(relu):
    build, memory, _ = relu
    with pytest.raises(LinkError, match=r"does not answer \(4 tries\)"):
        Board(build.config, share=1, tries=4).host().run(build.program, build.config, memory)
    with pytest.raises(LinkError, match="READ of 1 words at 0x40010000: BUS_ERROR"):
        board = Board(build.config)
        one = board.host()
        one.begin(build.config)
        board.link.read(0x4001_0000, 1)


def test_an_error_of_the_core_is_told(relu):
    build, memory, _ = relu
    program = dataclasses.replace(build.program, store_window=(0x2000, 0x2004))
    ran = Board(build.config).host().run(program, build.config, memory)
    with pytest.raises(MachineError, match="the core stopped"):
        check(ran)


def test_the_command_line(relu_build, tmp_path, capsys):
    folder = str(relu_build())
    assert main(["run", folder, "--on", "board"]) == 2
    assert "needs --port" in capsys.readouterr().err
    assert main(["run", folder, "--port", "x"]) == 2
    assert "--port and --board need --on board" in capsys.readouterr().err
    words = ["run", folder, "--on", "board", "--port", str(tmp_path / "none")]
    assert main([*words, "--board", str(tmp_path)]) == 2
    assert "`hw bitstream` writes it" in capsys.readouterr().err
    board_file(Build.load(relu_build()).config).save(tmp_path / BOARD_FILE)
    assert main([*words, "--board", str(tmp_path)]) == 1
    assert "cannot open" in capsys.readouterr().err


def test_descriptions_are_kept(tiny, tmp_path):
    file = board_file(tiny)
    file.save(tmp_path / BOARD_FILE)
    assert BoardFile.load(tmp_path / BOARD_FILE) == file
    (tmp_path / BOARD_FILE).write_text('{"version": 1, "clock": 3}')
    with pytest.raises(BoardError, match="is no description of a board"):
        BoardFile.load(tmp_path / BOARD_FILE)
    (tmp_path / BOARD_FILE).write_text('{"version": 0}')
    with pytest.raises(BoardError, match="of another version"):
        BoardFile.load(tmp_path / BOARD_FILE)
    assert BoardBackend("port").name == "board"


def test_an_image_for_other_hosts(relu, relu_build, tmp_path, capsys):
    """The file is DRAM before the start, and what is printed starts the program."""
    _, memory, _ = relu
    folder, path = relu_build(), tmp_path / "memory.bin"
    assert main(["image", str(folder), "-o", str(path)]) == 0
    assert np.array_equal(np.fromfile(path, np.uint8), memory)
    printed = capsys.readouterr().out
    assert "PROGRAM_LENGTH 0x00000005" in printed and "STORE_LIMIT    0x00003000" in printed
    assert main(["image", str(folder), "-o", str(tmp_path / "no" / "file")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_simulated_line_ends_with_its_user(tmp_path):
    """Records of bytes and of time; the process ends when it is closed or nobody holds it."""
    model, heard = tmp_path / "model", tmp_path / "heard"
    model.write_text(f"#!/bin/sh\nprintf 'T\\0BxT\\0'\nexec cat > {heard}\n")
    model.chmod(0o755)
    line = SocTransport(model, 4)
    assert line.receive(10**6) == b"x" and line.cycles == 2 * 2048
    line.send(b"abc")
    line.close()
    line.close()
    assert heard.read_text() == "abc"
    assert line._process.returncode == 0
    with pytest.raises(TransportError, match="the simulated SoC ended"):
        line.send(b"d")
    process = SocTransport(model, 4)._process
    assert process.returncode == 0
